"""A label that sets the pitch of a tone is learnt, and the pitch that is asked for comes out."""

import math
import re
from pathlib import Path

import pytest
import runs
import torch

import audiodiff
from audiodiff.io import audio as audio_io
from audiodiff.models.synthesizer import Synthesizer

RATE = 4000
PITCHES = {"low": 300.0, "middle": 550.0, "high": 1000.0}
WAVEFORM = ("recipes=fsdd/waveform", "network.channels=32", "network.n_fft=128", "network.hop_length=32")
LOG_MEL = ("recipes=fsdd/mel", "audio.n_fft=128", "audio.win_length=128", "audio.hop_length=32", "audio.n_mels=24")


def tones(folder: Path, counts: tuple[int, int, int] = (12, 6, 9)) -> Path:
    """Write tones of three pitches, in a folder each, of unequal lengths, numbers and phases."""
    generator = torch.Generator().manual_seed(0)
    for (name, pitch), n in zip(PITCHES.items(), counts, strict=True):
        for index in range(n):
            n_samples = int(torch.randint(800, 1600, (1,), generator=generator))
            phase = 2 * math.pi * float(torch.rand(1, generator=generator))
            tone = 0.1 * torch.sin(2 * math.pi * pitch * torch.arange(n_samples) / RATE + phase)
            audio_io.write(folder / name / f"{index}.wav", tone[None], sample_rate=RATE)
    return folder


def test_clips_in_tensorboard_are_named_by_their_labels(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs.trained(
        tones(tmp_path / "tones", (2, 2, 2)),
        tmp_path / "run",
        *WAVEFORM,
        f"audio.sample_rate={RATE}",
        "data.labels={digit: folder}",
        "~data.labels.speaker",
        "network.n_layers=1",
        "logger=tensorboard",
        "data.crop_frames=null",
        "data.crop_seconds=0.2",
        "train.steps=1",
        "train.batch_size=1",
        "train.validate_every=1",
        "validation.n_examples=3",
        "sampler.n_steps=1",
    )
    tags = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload().Tags()["audio"]
    assert tags
    for tag in tags:
        assert re.fullmatch(r"clip_[0-2]_digit-(low|middle|high)/generated", tag)


@pytest.mark.slow
@pytest.mark.parametrize("system", [WAVEFORM, (*LOG_MEL, "audio.f_max=2000.0")], ids=["waveform", "mel"])
def test_the_pitch_that_is_asked_for_comes_out(system: tuple[str, ...], tmp_path: Path):
    runs.trained(
        tones(tmp_path / "tones"),
        tmp_path / "run",
        *system,
        f"audio.sample_rate={RATE}",
        "data.labels={digit: folder}",
        "~data.labels.speaker",
        "data.balance=digit",
        "data.crop_frames=null",
        "data.crop_seconds=0.4",
        "data.alike=8",
        "network.channels=32",
        "network.n_layers=4",
        "network.dilation_cycle=4",
        "train.batch_size=8",
        "train.steps=250",
        "train.ema_decay=0.97",
        "optimizer.lr=5e-3",
        "sampler.n_steps=8",
        "model.n_iterations=16",
    )
    model = audiodiff.load(tmp_path / "run")
    assert isinstance(model, Synthesizer)
    rows = [{"digit": name} for name in PITCHES for _ in range(3)]
    made = model.generate(labels=rows, n_samples=1280)
    for row, audio in zip(rows, made, strict=True):
        window = torch.hann_window(1280, periodic=True)
        heard = float(torch.fft.rfft(audio[0] * window, n=8 * 1280).abs().argmax()) * RATE / (8 * 1280)
        # A third of the way to the next pitch.
        assert abs(math.log2(heard / PITCHES[row["digit"]])) < 0.28
