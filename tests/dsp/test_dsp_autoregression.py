"""Autoregressive interpolation, of what is autoregressive."""

import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from audiodiff.dsp.autoregression import autoregression, interpolated


def test_a_process_is_found_again():
    """Five standard errors of the coefficients of 40000 samples, about 1 / sqrt(n)."""
    whitening = np.array([1.0, -1.6, 0.9])
    excitation = np.random.default_rng(0).standard_normal(40000)
    found, power = autoregression(scipy.signal.lfilter([1.0], whitening, excitation), order=2)
    np.testing.assert_allclose(found, whitening, atol=5.0 / np.sqrt(40000))
    assert power == pytest.approx(1.0, abs=5.0 * np.sqrt(2.0 / 40000))


def test_a_gap_in_tones_is_filled_with_the_tones():
    """Two undamped tones follow a recurrence of order four. The autocorrelation of a finite stretch damps them."""
    time = np.arange(6000) / 16000
    audio = np.sin(2 * np.pi * 300 * time) + 0.5 * np.sin(2 * np.pi * 1234 * time + 1.0)
    known = np.ones(6000)
    known[3000:3160] = 0.0
    filled = interpolated(np.where(known == 1, audio, 99.0), known, sample_rate=16000)
    assert np.array_equal(filled[known == 1], audio[known == 1])
    error = filled[3000:3160] - audio[3000:3160]
    assert np.square(error).mean() < 0.01 * np.square(audio[3000:3160]).mean()


def test_the_samples_in_a_gap_are_those_of_least_prediction_error():
    """In a last turn of a given model the gradient of the sum of squares is 0: checked against least squares."""
    rng = np.random.default_rng(1)
    audio = scipy.signal.lfilter([1.0], [1.0, -1.6, 0.9], rng.standard_normal(600))
    known = np.ones(600)
    known[300:310] = 0.0
    filled = interpolated(audio, known, sample_rate=16000, order=2, n_iterations=1)
    whitening, _ = autoregression(audio * known, order=2)
    rows = scipy.linalg.convolution_matrix(whitening, 600, mode="full")
    least = np.linalg.lstsq(rows[:, 300:310], -rows @ (audio * known), rcond=None)[0]
    np.testing.assert_allclose(filled[300:310], least, rtol=1e-8, atol=1e-8)


def test_silence_and_gaps_at_the_ends_are_no_trouble():
    assert np.array_equal(
        interpolated(np.zeros(500), np.r_[np.zeros(9), np.ones(491)], sample_rate=8000), np.zeros(500)
    )
    audio = np.sin(np.arange(500.0))
    for lost in (slice(0, 50), slice(450, 500)):
        known = np.ones(500)
        known[lost] = 0.0
        assert np.isfinite(interpolated(audio, known, sample_rate=8000)).all()
    assert np.array_equal(interpolated(audio, np.zeros(500), sample_rate=8000), np.zeros(500))
