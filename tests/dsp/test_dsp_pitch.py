"""Pitch from mels: of pulse trains whose pitch is known, of noise, and of windows of a long mel."""

import math

import pytest
import torch

from audiodiff.dsp.dialects import DIALECTS
from audiodiff.dsp.excitation import excitation_receptive_field, excite
from audiodiff.dsp.mel import MelDialect, dialect
from audiodiff.dsp.pitch import CONTEXT_FRAMES, pulse_train, track_pitch
from audiodiff.errors import ParameterError

NAMES = sorted(DIALECTS)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pulses(d: MelDialect, hz: torch.Tensor) -> torch.Tensor:
    """Make pulses below 4 kHz of a frequency for every sample."""
    phase = (2.0 * math.pi * hz.double().cumsum(-1) / d.sample_rate) % (2.0 * math.pi)
    return 0.02 * pulse_train(phase, (4000.0 / hz.double()).floor()).float()


def test_pulses_are_a_sum_of_cosines():
    phase = torch.linspace(0.0, 2.0 * math.pi, 301, dtype=torch.float64)
    expected = sum(torch.cos(k * phase) for k in range(1, 13))
    torch.testing.assert_close(pulse_train(phase, torch.full_like(phase, 12.0)), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hz", [110.0, 163.0, 220.0, 301.0, 390.0])
def test_the_pitch_of_pulses_is_found(name: str, hz: float):
    d = dialect(name)
    pitch = track_pitch(d.mel(pulses(d, torch.full((1, d.sample_rate), hz))), dialect=d)
    middle = slice(8, -8)
    assert pitch.frequency[:, middle].median() == pytest.approx(hz, rel=0.01)
    assert (pitch.frequency[:, middle] / hz - 1.0).abs().max() < 0.03
    assert pitch.salience[:, middle].min() > 0.5


def test_the_pitch_of_a_glide_follows_it():
    d = dialect("hifigan")
    hz = torch.linspace(120.0, 240.0, 3 * d.sample_rate)
    pitch = track_pitch(d.mel(pulses(d, hz[None])), dialect=d)
    centres = (torch.arange(pitch.frequency.shape[-1]) + 0.5) * d.hop_length
    off = (pitch.frequency[0] / hz[centres.long()] - 1.0).abs()[8:-8]
    assert off.mean() < 0.01
    assert off.max() < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_noise_and_silence_have_no_pitch(name: str):
    d = dialect(name)
    of_noise = track_pitch(d.mel(0.1 * noise(1, d.sample_rate)), dialect=d)
    assert of_noise.salience.median() < 0.3
    of_silence = track_pitch(torch.full((1, d.n_mels, 20), d.floor), dialect=d)
    assert of_silence.salience.max() < 0.05
    assert torch.isfinite(of_silence.frequency).all()


@pytest.mark.parametrize("changes", [{"f_min": 3000.0}, {"n_mels": 8}], ids=["above_speech", "few_bands"])
def test_bands_that_do_not_resolve_harmonics_have_no_pitch(changes: dict[str, float]):
    d = dialect("hifigan", **changes)
    pitch = track_pitch(d.mel(pulses(d, torch.full((1, 20000), 200.0))), dialect=d)
    assert pitch.salience.max() < 0.25
    assert torch.isfinite(pitch.frequency).all()


def test_a_mel_without_a_batch_is_one_of_a_batch():
    d = dialect("hifigan")
    mel = d.mel(pulses(d, torch.full((1, 20000), 200.0)))
    alone, batched = track_pitch(mel[0], dialect=d), track_pitch(mel, dialect=d)
    torch.testing.assert_close(alone.frequency, batched.frequency[0])
    torch.testing.assert_close(alone.salience, batched.salience[0])


def test_a_window_of_a_mel_has_the_pitch_of_the_whole():
    d = dialect("hifigan")
    mel = d.mel(pulses(d, torch.linspace(100.0, 300.0, 40000)[None]) + 0.01 * noise(1, 40000)).double()
    whole = track_pitch(mel, dialect=d).frequency[:, 40:80]
    window = track_pitch(mel[..., 40 - CONTEXT_FRAMES : 80 + CONTEXT_FRAMES], dialect=d)
    torch.testing.assert_close(window.frequency[:, CONTEXT_FRAMES:-CONTEXT_FRAMES], whole)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_pitch_the_excitation_is_the_noise(name: str):
    d = dialect(name)
    white = noise(1, d.n_samples(20))
    assert torch.equal(excite(white, torch.full((1, d.n_mels, 20), d.floor), dialect=d), white)


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "vocos"])
def test_an_excitation_has_the_pitch_and_a_flat_spectrum(name: str):
    d = dialect(name)
    hz = 200.0
    mel = d.mel(pulses(d, torch.full((1, d.n_samples(120)), hz)))
    made = excite(noise(1, d.n_samples(120)), mel, dialect=d)
    spectrum = torch.fft.rfft(made[0].double() * torch.hann_window(made.shape[-1], dtype=torch.float64)).abs().square()
    frequency = torch.linspace(0.0, d.sample_rate / 2.0, len(spectrum), dtype=torch.float64)
    near = ((frequency / hz - (frequency / hz).round()).abs() < 0.1) & (frequency > 100.0) & (frequency < 3000.0)
    between = ((frequency / hz) % 1.0 - 0.5).abs() < 0.2
    between &= (frequency > 100.0) & (frequency < 3000.0)
    assert spectrum[near].mean() > 20.0 * spectrum[between].mean()
    # No pulses, whose peaks would be 6.3 times the root of their power.
    assert float(made.abs().max() / made.square().mean().sqrt()) < 4.5
    # As much power in 1 kHz as white noise of variance 1 has.
    white = torch.fft.rfft(noise(1, made.shape[-1], seed=1)[0].double() * torch.hann_window(made.shape[-1]).double())
    for low in (0.0, 1000.0, 2000.0):
        inside = (frequency >= low + 100.0) & (frequency < low + 1100.0)
        ratio = spectrum[inside].sum() / white[inside].abs().square().sum()
        assert 0.5 < ratio < 2.0


@pytest.mark.parametrize("name", NAMES)
def test_the_excitation_of_a_window_is_that_of_the_whole_to_the_bit(name: str):
    d = dialect(name)
    n_frames, first = 200, 53
    n_samples = n_frames * d.hop_length
    hz = 150.0 + 60.0 * torch.sin(torch.arange(n_samples) / 9000.0)
    audio = pulses(d, hz[None]) * (torch.sin(torch.arange(n_samples) / 6000.0) > -0.5)
    mel, white = d.mel(audio + 1e-4 * noise(1, n_samples)), noise(1, n_samples)
    n_samples = d.n_samples(mel.shape[-1])
    white = (
        white[:, :n_samples]
        if white.shape[-1] >= n_samples
        else torch.cat([white, noise(1, n_samples)], dim=1)[:, :n_samples]
    )
    whole = excite(white, mel, dialect=d)
    last = 160
    n_window = d.n_samples(last - first)
    window = excite(white[:, first * d.hop_length :][:, :n_window], mel[..., first:last], dialect=d, first_frame=first)
    before, after = excitation_receptive_field(d)
    kept = slice((first + before) * d.hop_length, (last - after - 2) * d.hop_length)
    inside = slice(before * d.hop_length, (last - after - 2 - first) * d.hop_length)
    assert kept.stop > kept.start
    assert torch.equal(window[:, inside], whole[:, kept])


def test_noise_of_another_length_than_the_mel_is_refused():
    d = dialect("hifigan")
    with pytest.raises(ParameterError, match="give 5120 samples"):
        excite(noise(1, 4000), torch.full((1, 80, 20), d.floor), dialect=d)
