"""Error profiles against closed forms, and levels of recordings."""

import math

import pytest
import tiny
import torch
from sounds import silences, white

from audiodiff.models import chunking
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.error_profile import SILENCE_DB, ProfileSpec, error_profile, frame_seconds, level_db

RATE = 8000
SIGMA_DATA = 0.1
SPEC = ProfileSpec(n_levels=4, first=0, last=4, n_draws=2, n_bands=5)


def test_errors_on_white_noise_are_the_posterior_variance(exact: Synthesizer):
    """E |D - x0|^2 = s^2 sigma^2 / (s^2 + sigma^2) in every band."""
    audio = white(0, seconds=4.0)
    errors = error_profile(exact, audio, sample_rate=RATE, spec=SPEC)[0].double()
    sigmas = exact.sampler.grid(SPEC.n_levels)[:-1]
    power = SIGMA_DATA**2
    expected = power * sigmas**2 / (power + sigmas**2) / 0.1**2
    frames = errors.mean(dim=1)[:, ::4]  # Hann windows of 32 ms, 40 ms apart: independent
    standard_error = frames.std(dim=-1) / math.sqrt(frames.shape[-1])
    assert ((frames.mean(dim=-1) - expected).abs() < 4.5 * standard_error).all()
    assert (errors.mean(dim=-1) / expected[:, None] - 1).abs().max() < 0.25


def test_errors_in_chunks_equal_those_of_the_whole_recording(monkeypatch: pytest.MonkeyPatch):
    for overrides in (tiny.UNCONDITIONAL, tiny.LOG_MEL, tiny.VOCODER):
        model = tiny.synthesizer(overrides)
        audio = white(0, seconds=1.0, rate=model.sample_rate)
        whole = error_profile(model, audio, sample_rate=model.sample_rate, spec=SPEC)
        with monkeypatch.context() as short:
            short.setattr(chunking, "CHUNK_SECONDS", 0.1)
            cut = error_profile(model, audio, sample_rate=model.sample_rate, spec=SPEC)
        assert whole.shape == cut.shape
        torch.testing.assert_close(cut, whole, rtol=1e-3, atol=1e-6)


def test_frames_cover_the_recording(exact: Synthesizer, labelled: Synthesizer):
    for model in (exact, labelled):
        audio = white(0, seconds=1.0, rate=model.sample_rate)
        errors = error_profile(model, audio, sample_rate=model.sample_rate, spec=SPEC)
        assert errors.shape[-1] * frame_seconds(model) == pytest.approx(1.0, abs=2 * frame_seconds(model))


def test_frames_of_a_mel_are_a_hop_apart(labelled: Synthesizer):
    rate, hop_length = labelled.sample_rate, labelled.representation.hop_length
    assert rate % hop_length > 0
    assert frame_seconds(labelled) == pytest.approx(hop_length / rate, rel=1e-12)


def test_channels_are_averaged_and_other_sample_rates_accepted(exact: Synthesizer):
    audio = white(0)
    mono = error_profile(exact, audio, sample_rate=RATE, spec=SPEC)
    stereo = error_profile(exact, torch.cat([0.5 * audio, 1.5 * audio]), sample_rate=RATE, spec=SPEC)
    torch.testing.assert_close(mono, stereo, rtol=1e-4, atol=1e-8)
    assert error_profile(exact, white(0, rate=44100), sample_rate=44100, spec=SPEC).shape == mono.shape


def test_labels_change_errors_and_are_independent_of_each_other(labelled: Synthesizer):
    audio = white(0, rate=labelled.sample_rate)
    labels = [{}, {"digit": "1"}, {"digit": "1", "speaker": "bob"}]
    together = error_profile(labelled, audio, sample_rate=labelled.sample_rate, spec=SPEC, labels=labels)
    for index, row in enumerate(labels):
        alone = error_profile(labelled, audio, sample_rate=labelled.sample_rate, spec=SPEC, labels=[row])
        torch.testing.assert_close(together[index], alone[0], rtol=1e-3, atol=1e-6)
    assert not torch.allclose(together[0], together[1])
    assert not torch.allclose(together[1], together[2])


def test_level_is_that_of_the_loudest_frames(exact: Synthesizer):
    noise = white(0, seconds=4.0)
    found = level_db(exact, noise, sample_rate=RATE)
    # Frames of 256 samples: the mean is 20 log10 s, the deviation 8.686 / sqrt(512) dB, and the loudest tenth lies 1.28
    # deviations above.
    expected = 20 * math.log10(SIGMA_DATA) + 1.28 * 8.686 / math.sqrt(512)
    assert found == pytest.approx(expected, abs=0.25)
    assert level_db(exact, noise / 2, sample_rate=RATE) == pytest.approx(found - 6.0206, abs=1e-3)
    assert level_db(exact, torch.cat([noise, torch.zeros_like(noise)], dim=1), sample_rate=RATE) > found - 1.0
    found = {name: level_db(exact, audio, sample_rate=RATE) for name, audio in silences().items()}
    assert found["nothing"] == found["a click"] == SILENCE_DB
    assert found["a constant"] < -120.0
