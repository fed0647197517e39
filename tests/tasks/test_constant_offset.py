"""A constant offset of a recording: no job hears it, and where samples are known it stays."""

import io

import numpy as np
import pytest
import sounds
import tiny
import torch

from audiodiff.dsp.mel import dialect
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.error_profile import ProfileSpec, error_profile
from audiodiff.tasks.editing.edit import edit
from audiodiff.tasks.features import features
from audiodiff.tasks.generation.live import run_live
from audiodiff.tasks.restoration import declip, enhance, extend, inpaint

RATE = 16000
OFFSET = 0.25
RESTORING = [*tiny.DEGRADED, "audio.sample_rate=16000"]


@pytest.fixture(scope="module")
def model() -> Synthesizer:
    return tiny.synthesizer(RESTORING)


def centred(seconds: float = 0.5, *, n_channels: int = 2) -> torch.Tensor:
    """Return noise without an offset, (channels, time), with headroom for one."""
    audio = torch.cat([0.5 * sounds.white(channel, seconds=seconds, rate=RATE) for channel in range(n_channels)])
    return audio - audio.mean(dim=-1, keepdim=True)


@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize(
    "job",
    [
        enhance,
        lambda model, audio, **how: extend(model, audio, cutoff=3000.0, **how),
        lambda model, audio, **how: inpaint(model, audio, gaps=[(0.1, 0.15)], **how),
        lambda model, audio, **how: declip(model, audio, threshold=0.9, **how),
    ],
    ids=["enhance", "extend", "inpaint", "declip"],
)
def test_restoration_gives_the_same_and_the_offset_stays(model: Synthesizer, job, rate: int):
    audio = centred()
    if "extend" in str(job):
        audio = audio.cumsum(-1) * 0.1
    plain = job(model, audio, sample_rate=rate)
    torch.testing.assert_close(job(model, audio + OFFSET, sample_rate=rate), plain + OFFSET, rtol=0, atol=1e-4)


def test_known_samples_stay_to_the_bit_whatever_the_offset(model: Synthesizer):
    audio = centred() + OFFSET
    made = inpaint(model, audio, sample_rate=RATE, gaps=[(0.1, 0.15)])
    assert torch.equal(made[:, :1600], audio[:, :1600])
    assert torch.equal(made[:, 2400:], audio[:, 2400:])


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_edits_are_the_same_and_the_offset_stays(model: Synthesizer, strength: float):
    audio = centred()
    plain, other = (edit(model, each, sample_rate=RATE, strength=strength) for each in (audio, audio + OFFSET))
    torch.testing.assert_close(other, plain + OFFSET, rtol=0, atol=1e-4)


def test_features_and_errors_are_those_of_the_recording_without_its_offset(model: Synthesizer):
    audio = centred()
    plain, other = (features(model, each, sample_rate=RATE) for each in (audio, audio + OFFSET))
    torch.testing.assert_close(other, plain, rtol=1e-3, atol=1e-3)
    spec = ProfileSpec(n_levels=4, first=1, last=3, n_draws=1, n_bands=4)
    plain, other = (error_profile(model, each, sample_rate=RATE, spec=spec) for each in (audio, audio + OFFSET))
    torch.testing.assert_close(other, plain, rtol=1e-2, atol=1e-4)


def test_a_stream_settles_on_the_recording_without_its_offset():
    """After 2 s, less than a twentieth of the hum is left: 0.5 % of the peak, and 1 / (pi 48 Hz 2 s)."""
    own = MelInverter(dialect=dialect("hifigan"), n_iterations=2)
    audio = centred(3.0, n_channels=1)

    def hum(samples: torch.Tensor) -> float:
        target = io.BytesIO()
        data = (32768 * samples[0]).round().numpy().astype("<i2").tobytes()
        run_live(
            own.open_stream(),
            dialect=own.dialect,
            source=io.BytesIO(data),
            target=target,
            kind="pcm",
            in_rate=22050,
            out_rate=22050,
        )
        made = torch.from_numpy(np.frombuffer(target.getvalue(), "<i2").astype(np.float32))[-22050:] / 32768
        power = torch.fft.rfft(made * torch.hann_window(22050)).abs().square()
        return float(power[1:60].sum()) ** 0.5  # below 60 Hz

    assert hum(audio + OFFSET) < 1.5 * hum(audio) + 0.05 * hum_of_constant(own)


def hum_of_constant(own: MelInverter) -> float:
    """Return what the model makes below 60 Hz of the offset alone."""
    made = own.generate(own.mel(torch.full((1, 22528), OFFSET)))[0, :22050]
    power = torch.fft.rfft(made * torch.hann_window(22050)).abs().square()
    return float(power[1:60].sum()) ** 0.5
