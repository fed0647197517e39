"""`audiodiff generate` on files longer than a chunk: constant memory, and the same sound as at once."""

import os
import subprocess
import sys
from pathlib import Path

import commands
import numpy as np
import pytest
import soundfile
import sounds
import torch

import audiodiff
from audiodiff.cli.generate import generate_command
from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.mel import dialect
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.io.mel import load_mel, save_mel
from audiodiff.models import checkpoint
from audiodiff.models import chunking as pieces
from audiodiff.models.synthesizer import Synthesizer

FULL_SCALE = 1e-4
"""What a cut may change, of full scale."""


run, made, _ = commands.of(generate_command)


@pytest.fixture(autouse=True)
def short_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Cut into pieces, blocks and stretches that a sound of seconds has many of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pieces, "CHUNK_SECONDS", 0.3)
    monkeypatch.setattr(audio_io, "_BLOCK_SAMPLES", 5000)
    monkeypatch.setattr("audiodiff.io.readers._CHUNK_FRAMES", 50)
    monkeypatch.setattr("audiodiff.io.writers._BLOCK_SAMPLES", 3000)


def at_once(audio: torch.Tensor, *, rate: int, out_rate: int, model, **how) -> torch.Tensor:
    """Make what the command makes, of the whole: (channels, time)."""
    hop = model.dialect.hop_length
    resampled = resample(audio, from_rate=rate, to_rate=model.sample_rate)
    level = max(1.0, float(resampled.abs().max()))
    padded = torch.nn.functional.pad(resampled / level, (0, -resampled.shape[-1] % hop))
    before, pieces.CHUNK_SECONDS = pieces.CHUNK_SECONDS, 1000.0
    try:
        pairs = ChannelPairs(len(padded)) if len(padded) > 1 else None
        mels = model.mel((padded if pairs is None else pairs.mixed(padded))[:, None])
        chunks = model.generate_chunks(
            [mels], batch=len(padded), items=range(len(padded)), n_samples=padded.shape[-1], pairs=pairs, **how
        )
        result = torch.cat(list(chunks), dim=-1)[:, 0]
    finally:
        pieces.CHUNK_SECONDS = before
    n_written = -(-audio.shape[-1] * out_rate // rate)
    return level * resample(result, from_rate=model.sample_rate, to_rate=out_rate)[:, :n_written]


@pytest.mark.parametrize(("name", "rate", "out_rate"), [("hifigan", 44100, 16000), ("vocos", 24000, 24000)])
def test_a_long_stereo_recording_is_inverted_as_at_once(name: str, rate: int, out_rate: int):
    audio = sounds.tones(3 * rate + 17, sample_rate=rate, n_channels=2)
    audio_io.write("in.wav", audio, sample_rate=rate, subtype="FLOAT")
    made("in.wav", "-o", "out.wav", "--float", "--dialect", name, "--rate", out_rate, "--iterations", 4, "--seed", 3)
    model = checkpoint.load("none", device=torch.device("cpu"), dialect=name)
    expected = at_once(audio, rate=rate, out_rate=out_rate, model=model, iterations=4, seed=3)
    result, _ = audio_io.read("out.wav")
    assert result.shape == (2, -(-audio.shape[-1] * out_rate // rate))
    # Pieces are resampled to the last digit but one, and an inversion of steady tones amplifies that a thousand times.
    rounded = audio + 1e-7 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    moved = at_once(rounded, rate=rate, out_rate=out_rate, model=model, iterations=4, seed=3) - expected
    assert (result - expected).abs().max() < max(FULL_SCALE, 2.0 * float(moved.abs().max()))


def test_a_long_recording_through_a_model_is_what_it_is_at_once(vocoder: Path):
    audio = sounds.tones(3 * 22050 + 5, sample_rate=22050, peak=3.0)
    audio_io.write("in.wav", audio, sample_rate=22050, subtype="FLOAT")
    made("in.wav", "-o", "out.wav", "--float", "--model", vocoder)
    model = checkpoint.load(str(vocoder), device=torch.device("cpu"))
    expected = at_once(audio, rate=22050, out_rate=22050, model=model)
    result, _ = audio_io.read("out.wav")
    assert expected.abs().max() > 1
    assert (result - expected).abs().max() < FULL_SCALE * expected.abs().max()
    assert "scaled down" in made("in.wav", "-o", "fixed.wav", "--model", vocoder)
    fixed, _ = audio_io.read("fixed.wav")
    assert (fixed - expected / expected.abs().max()).abs().max() < 2**-14  # 16 bits, of the peak itself


def test_files_of_other_rates_and_kinds_share_a_batch():
    """Signals of one length come in stretches of other lengths from files of other rates."""
    own = dialect("hifigan")
    audio = sounds.tones(256 * 200, sample_rate=22050)
    save_mel("in/a.npz", own.mel(audio[0]), own)
    sounds.write(Path("in/b.wav"), 256 * 200)
    sounds.write(Path("in/c.wav"), 512 * 200, sample_rate=44100, n_channels=2)
    for size in (1, 4):
        made("in", "-o", f"out{size}", "--float", "--iterations", 3, "--batch-size", size)
    for name in ("a.wav", "b.wav", "c.wav"):
        one, four = (audio_io.read(Path(f"out{size}", name))[0] for size in (1, 4))
        assert one.shape == (2 if name == "c.wav" else 1, 256 * 200)
        assert torch.equal(one, four)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt"])
def test_a_long_mel_file_is_inverted_as_at_once(suffix: str):
    model = checkpoint.load("none", device=torch.device("cpu"), dialect="hifigan")
    mel = model.mel(sounds.tones(256 * 300, sample_rate=22050)[None])
    save_mel(f"mel{suffix}", mel[0], dialect("hifigan"))
    before = Path(f"mel{suffix}").read_bytes()
    made(f"mel{suffix}", "-o", "out.wav", "--float", "--iterations", 8)
    assert (audio_io.read("out.wav")[0] - model.generate(mel, iterations=8)[0]).abs().max() < FULL_SCALE
    assert Path(f"mel{suffix}").read_bytes() == before


def test_a_bare_array_stays_on_disk():
    np.save("mel.npy", np.zeros((80, 7), np.float32))
    mel, _ = load_mel("mel.npy")
    mel += 1.0
    assert float(load_mel("mel.npy")[0].max()) == 0.0


@pytest.mark.parametrize("kind", ["unconditional", "log_mel"])
def test_a_long_sound_without_an_input_is_what_it_is_at_once(kind: str, request: pytest.FixtureRequest):
    where = request.getfixturevalue(kind)
    made("--model", where, "--seconds", 3, "-n", 2, "-o", "out", "--float")
    model = checkpoint.load(str(where), device=torch.device("cpu"))
    assert isinstance(model, Synthesizer)
    pieces.CHUNK_SECONDS = 1000.0
    for index in range(2):
        result, _ = audio_io.read(f"out/generated_{index}.wav")
        expected = model.generate(seconds=3.0, items=[64 * index])[0]
        assert (result - expected).abs().max() < FULL_SCALE * expected.abs().max()


def test_a_recording_that_is_damaged_at_its_end_leaves_nothing():
    samples = np.zeros(60_000, np.float32)
    samples[-1] = np.nan
    soundfile.write("in.wav", samples, 22050, subtype="FLOAT")
    assert "holds NaN" in str(run("in.wav", "-o", "out/a.wav", "--iterations", 1).exception)
    assert not list(Path("out").iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_stop_in_the_middle_leaves_nothing(error: BaseException, monkeypatch: pytest.MonkeyPatch):
    sounds.write(Path("in.wav"), 3 * 22050)
    calls = 0
    transformed = audiodiff.dsp.stft.Stft.transformed

    def stopping(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error
        return transformed(*arguments, **options)

    monkeypatch.setattr(audiodiff.dsp.stft.Stft, "transformed", stopping)
    result = run("in.wav", "-o", "out/a.wav", "--iterations", 1)
    assert calls == 2
    assert result.exit_code != 0
    assert not list(Path("out").iterdir())


# Not ru_maxrss, which begins with the memory of the process that starts this one.
PEAK = """
import os
from audiodiff.cli.main import generate_wav
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # one worker: each holds a chunk of its own
try:
    generate_wav()
except SystemExit as ended:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    print(ended.code, peak.split()[1])
"""


def peak_megabytes(*arguments: str | Path) -> float:
    # One arena: how much the allocator keeps in several differs from run to run.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)], capture_output=True, text=True, check=True, env=environment
    )
    code, kilobytes = map(int, done.stdout.split())
    assert code == 0, done.stderr
    return kilobytes / 1000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("model", ["none", "vocoder"])
def test_ten_minutes_take_little_more_memory_than_one(model: str, request: pytest.FixtureRequest):
    """Held whole, nine minutes of stereo take 95 MB each time they are copied, and their mels 60 MB.

    A minute has enough chunks that every buffer is in use.
    """
    where = model if model == "none" else request.getfixturevalue(model)
    peaks = []
    for seconds in (60, 600):
        sounds.write(Path("in.wav"), seconds * 22050, n_channels=2)
        peaks.append(peak_megabytes("in.wav", "-o", "out.wav", "--force", "--model", where, "--iterations", "1"))
    assert peaks[1] < peaks[0] + 60
