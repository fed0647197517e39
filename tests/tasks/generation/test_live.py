"""Live generation: the same audio as at once, with the stated delay."""

import io
import math

import numpy as np
import pytest
import sounds
import torch

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


def live(
    data: bytes,
    kind,
    *,
    own: MelInverter,
    size: int = 10**6,
    in_rate: int = 22050,
    out_rate: int = 22050,
    report=lambda _: None,
    **how,
):
    target = io.BytesIO()
    stream = own.open_stream(**how)
    source = Trickle(data, size=size)
    try:
        run_live(
            stream,
            dialect=own.dialect,
            source=source,
            target=target,
            kind=kind,
            in_rate=in_rate,
            out_rate=out_rate,
            report=report,
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
def test_an_input_that_ends_early_gives_its_whole_samples_and_fails(kind):
    own = model()
    whole = pcm(3000)[1] if kind == "pcm" else np.full((10, 80), -5.0, "<f4").tobytes()
    target = io.BytesIO()
    lines: list[str] = []
    with pytest.raises(AudioFileError, match=r"ended within a (sample|frame), after 1 of its \d+ bytes"):
        run_live(
            own.open_stream(),
            dialect=own.dialect,
            source=io.BytesIO(whole + b"x"),
            target=target,
            kind=kind,
            in_rate=22050,
            out_rate=22050,
            report=lines.append,
        )
    assert len(heard(target.getvalue())) == (3000 if kind == "pcm" else 2560)
    assert "ms later" in lines[0]
    for data, said in ((b"", "after nothing"), (b"x", "after 1 of the")):
        with pytest.raises(AudioFileError, match=said):
            live(data, kind, own=own)


def test_frames_of_another_dialect_are_refused():
    with pytest.raises(MelError, match="NaN"):
        live(np.full((10, 80), np.nan, "<f4").tobytes(), "mel", own=model())


def test_audio_above_full_scale_is_clipped_and_reported():
    lines: list[str] = []
    own = model()
    loud = own.dialect.mel(sounds.tones(20_000, sample_rate=22050, peak=1.2))
    sound = live(loud[0].T.contiguous().numpy().tobytes(), "mel", own=own, report=lines.append)
    assert float(sound.abs().max()) > 0.9999
    assert "clipped" in lines[1]


def test_the_reported_latency_is_that_of_the_first_audio():
    """The first audio comes with the read that completes the stated delay; resampling is earlier, up to its period."""
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
        lines: list[str] = []
        run_live(
            stream,
            dialect=own.dialect,
            source=source,
            target=target,
            kind="pcm",
            in_rate=rate,
            out_rate=rate,
            report=lines.append,
        )
        stated = float(lines[0].split(" ms later")[0].split()[-1]) / 1000
        assert target.first is not None
        rounding = 0.0005
        assert stated - earlier - rounding <= target.first / rate <= stated + rounding + 16 / rate
