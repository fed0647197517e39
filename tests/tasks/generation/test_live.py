"""`generate-wav - --out -`: what comes on standard input goes out as sound, as soon as it can."""

import io
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sounds
import torch
import typer
from typer.testing import CliRunner

import audiodiff
from audiodiff.cli.generate import generate_command
from audiodiff.dsp.mel import dialect
from audiodiff.dsp.resample import resample
from audiodiff.errors import AudioFileError, MelError
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.generation.live import run_live

ITERATIONS = 3
PCM = 1.5 / 32768  # a step of 16 bits, and a half


class Trickle(io.BytesIO):
    """Give a few bytes at a time, which end within samples and frames."""

    def __init__(self, data: bytes, *, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read1(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        return super().read1(min(size, self._size) if size > 0 else self._size)


def model(name: str = "hifigan") -> MelInverter:
    return MelInverter(dialect=dialect(name), n_iterations=ITERATIONS)


def pcm(n_samples: int, *, rate: int = 22050) -> tuple[torch.Tensor, bytes]:
    """Return a sound of whole 16-bit samples, (1, time), and its bytes."""
    integers = (sounds.tones(n_samples, sample_rate=rate) * 32768).round()
    return integers / 32768, integers[0].numpy().astype("<i2").tobytes()


def heard(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(data, "<i2").astype(np.float32)) / 32768


def live(data: bytes, kind, *, own: MelInverter, size: int = 10**6, in_rate: int = 22050, out_rate: int = 22050, **how):
    target = io.BytesIO()
    stream = own.open_stream(**how)
    source = Trickle(data, size=size)
    try:
        run_live(
            stream, dialect=own.dialect, source=source, target=target, kind=kind, in_rate=in_rate, out_rate=out_rate
        )
    finally:
        sound = heard(target.getvalue())
    return sound


def at_once(audio: torch.Tensor, *, own: MelInverter | Synthesizer, in_rate: int, out_rate: int) -> torch.Tensor:
    resampled = resample(audio, from_rate=in_rate, to_rate=own.sample_rate)
    assert own.dialect is not None
    padded = torch.nn.functional.pad(resampled, (0, -resampled.shape[-1] % own.dialect.hop_length))
    result = own.generate(own.mel(padded[None]), n_samples=padded.shape[-1])[0, 0]
    result = resample(result, from_rate=own.sample_rate, to_rate=out_rate)
    return result[: math.ceil(audio.shape[-1] * out_rate / in_rate)].clamp(-1, 1)


@pytest.mark.parametrize(("in_rate", "out_rate"), [(22050, 22050), (16000, 22050), (22050, 48000), (44100, 8000)])
@pytest.mark.parametrize(("n_samples", "size"), [(1, 1), (300, 7), (22_000, 999), (22_528, 10**6)])
def test_samples_live_are_the_recording_at_once(in_rate: int, out_rate: int, n_samples: int, size: int):
    own = model()
    audio, data = pcm(n_samples, rate=in_rate)
    expected = at_once(audio, own=own, in_rate=in_rate, out_rate=out_rate)
    sound = live(data, "pcm", own=own, size=size, in_rate=in_rate, out_rate=out_rate)
    assert sound.shape == expected.shape
    assert (sound - expected).abs().max() < PCM + 1e-4


@pytest.mark.parametrize("name", ["hifigan", "vocos"])
@pytest.mark.parametrize("ahead", [0, 5])
def test_the_length_is_that_of_the_input_whatever_the_look_ahead(name: str, ahead: int):
    own = model(name)
    for n_samples in (255, 256, 257, 5000, 16 * 256):
        rate = own.sample_rate
        data = pcm(n_samples, rate=rate)[1]
        sound = live(data, "pcm", own=own, in_rate=rate, out_rate=rate, ahead_frames=ahead, chunk_frames=4)
        assert len(sound) == n_samples


@pytest.mark.parametrize("name", ["hifigan", "vocos"])
@pytest.mark.parametrize("size", [7, 5000, 10**6])
def test_frames_live_are_the_mel_at_once(name: str, size: int):
    own = model(name)
    mel = own.mel(pcm(20_000)[0][None])
    expected = own.generate(mel)[0, 0].clamp(-1, 1)
    data = mel[0].T.contiguous().numpy().astype("<f4").tobytes()
    rate = own.sample_rate
    sound = live(data, "mel", own=own, size=size, in_rate=rate, out_rate=rate)
    assert sound.shape == expected.shape
    assert (sound - expected).abs().max() < PCM + 1e-4


@pytest.mark.parametrize("kind", ["pcm", "mel"])
def test_an_input_that_ends_early_gives_what_it_can_and_says_so(kind, capsys: pytest.CaptureFixture[str]):
    own = model()
    whole = pcm(3000)[1] if kind == "pcm" else np.full((10, 80), -5.0, "<f4").tobytes()
    target = io.BytesIO()
    with pytest.raises(AudioFileError, match=r"ended within a (sample|frame), after 1 of its \d+ bytes"):
        run_live(
            own.open_stream(),
            dialect=own.dialect,
            source=io.BytesIO(whole + b"x"),
            target=target,
            kind=kind,
            in_rate=22050,
            out_rate=22050,
        )
    assert len(heard(target.getvalue())) == (3000 if kind == "pcm" else 2560)
    assert "ms later" in capsys.readouterr().err
    for data, said in ((b"", "after nothing"), (b"x", "after 1 of the")):
        with pytest.raises(AudioFileError, match=said):
            live(data, kind, own=own)


def test_frames_that_are_none_of_the_dialect_end_it_in_words():
    with pytest.raises(MelError, match="NaN"):
        live(np.full((10, 80), np.nan, "<f4").tobytes(), "mel", own=model())


def test_sound_above_full_scale_is_clipped_with_a_word(capsys: pytest.CaptureFixture[str]):
    own = model()
    loud = own.dialect.mel(sounds.tones(20_000, sample_rate=22050, peak=1.2))
    sound = live(loud[0].T.contiguous().numpy().tobytes(), "mel", own=own)
    assert float(sound.abs().max()) > 0.9999
    assert "clipped" in capsys.readouterr().err


def test_the_stated_latency_is_had(capsys: pytest.CaptureFixture[str]):
    """The first sound comes with the read that brings as much as is said; resampling is earlier by up to its period."""
    own = model()

    class Watched(Trickle):
        n_read = 0

        def read1(self, size: int | None = -1, /) -> bytes:
            data = super().read1(size)
            self.n_read += len(data) // 2
            return data

    class Target(io.BytesIO):
        first: int | None = None

        def write(self, data, /) -> int:
            self.first = source.n_read if self.first is None else self.first
            return super().write(data)

    for rate, earlier in ((22050, 0.0), (16000, 320 / 16000 + 441 / 22050)):
        source, target = Watched(pcm(4000)[1], size=32), Target()
        stream = own.open_stream(chunk_frames=2, ahead_frames=3)
        run_live(stream, dialect=own.dialect, source=source, target=target, kind="pcm", in_rate=rate, out_rate=rate)
        stated = float(capsys.readouterr().err.split(" ms later")[0].split()[-1]) / 1000
        assert target.first is not None
        rounding = 0.0005
        assert stated - earlier - rounding <= target.first / rate <= stated + rounding + 16 / rate


def run(*arguments: str, data: bytes = b""):
    application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    application.command()(generate_command)
    return CliRunner().invoke(application, arguments, input=data)


def test_the_command_writes_samples_and_nothing_else(vocoder: Path, tmp_path: Path):
    audio, data = pcm(6000)
    done = run("-", "-o", "-", "--model", str(vocoder), "--chunk-frames", "4", "--rate", "16000", data=data)
    assert done.exit_code == 0, done.exception
    own = audiodiff.load(vocoder)
    expected = at_once(audio, own=own, in_rate=22050, out_rate=16000)
    sound = heard(done.stdout_bytes)
    assert sound.shape == expected.shape
    assert (sound - expected).abs().max() < PCM + 1e-4 * max(1.0, float(expected.abs().max()))
    assert "takes s16le mono at 22050 Hz, gives s16le mono at 16000 Hz" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-",), "give --out -"),
        (("a.wav", "-o", "-"), "with other inputs give a file"),
        (("-o", "-"), "with other inputs give a file"),
        (("-", "a.wav", "-o", "-"), "must be the only one"),
        (("a.wav", "--stdin", "mel"), "--stdin has no meaning without the input -"),
        (("a.wav", "--look-ahead", "0"), "--look-ahead has no meaning without"),
        (("-", "-o", "-", "--stdin", "mp3"), "--stdin mp3 must be one of pcm, mel"),
        (("-", "-o", "-", "--stdin", "mel", "--stdin-rate", "8000"), "--stdin-rate 8000 has no meaning"),
        (("-", "-o", "-", "--stdin-rate", "0"), "from_rate=0"),
        (("-", "-o", "-", "--float"), "--float has no meaning with the input -"),
        (("-", "-o", "-", "--guidance", "2"), "--guidance has no meaning with the input -"),
        (("-", "-o", "-", "--batch-size", "2"), "--batch-size has no meaning with the input -"),
        (("-", "-o", "-", "--steps", "2"), "steps=2 has no meaning for model 'none'"),
        (("-", "-o", "-", "--chunk-frames", "0"), "chunk_frames=0"),
        (("-", "-o", "-", "--look-ahead", "-1"), "ahead_frames=-1"),
        (("-", "-o", "-"), "ended after nothing"),
    ],
)
def test_what_cannot_be_live_is_refused_in_words(arguments: tuple[str, ...], reason: str):
    done = run(*arguments)
    assert isinstance(done.exception, audiodiff.errors.AudiodiffError)
    assert reason in str(done.exception)
    assert done.stdout_bytes == b""


def test_a_model_that_takes_no_mel_is_refused(unconditional: Path):
    assert "takes no mel" in str(run("-", "-o", "-", "--model", str(unconditional), data=b"xx").exception)


def started(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from audiodiff.cli.main import generate_wav; generate_wav()", "-", "-o", "-"]
    return subprocess.Popen(
        [*command, "--iterations", "2", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_sound_comes_while_the_input_is_open_and_ctrl_c_ends_it_quietly():
    process = started("--chunk-frames", "4", "--look-ahead", "2")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pcm(256 * 10)[1])
    process.stdin.flush()
    assert len(process.stdout.read(2 * 4 * 256)) == 2 * 4 * 256
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.count(b"\n") == 1
    assert b"ms later" in said


def test_a_reader_that_leaves_ends_it_quietly():
    process = started()
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(pcm(60_000)[1], timeout=60)
    assert process.returncode == 128 + signal.SIGPIPE
    assert said.count(b"\n") == 1
    assert b"ms later" in said
