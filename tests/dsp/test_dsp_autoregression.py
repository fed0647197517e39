"""Linear prediction, tested on autoregressive signals."""

import time

import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from audiodiff.dsp.autoregression import autoregression, extrapolate, interpolate_gaps


def test_the_coefficients_of_a_process_are_recovered():
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
    filled = interpolate_gaps(np.where(known == 1, audio, 99.0), known, sample_rate=16000)
    assert np.array_equal(filled[known == 1], audio[known == 1])
    error = filled[3000:3160] - audio[3000:3160]
    assert np.square(error).mean() < 0.01 * np.square(audio[3000:3160]).mean()


def test_the_samples_in_a_gap_are_those_of_least_prediction_error():
    """In a last turn of a given model the gradient of the sum of squares is 0: checked against least squares."""
    rng = np.random.default_rng(1)
    audio = scipy.signal.lfilter([1.0], [1.0, -1.6, 0.9], rng.standard_normal(600))
    known = np.ones(600)
    known[300:310] = 0.0
    filled = interpolate_gaps(audio, known, sample_rate=16000, order=2, n_iterations=1)
    whitening, _ = autoregression(audio * known, order=2)
    rows = scipy.linalg.convolution_matrix(whitening, 600, mode="full")
    least = np.linalg.lstsq(rows[:, 300:310], -rows @ (audio * known), rcond=None)[0]
    np.testing.assert_allclose(filled[300:310], least, rtol=1e-8, atol=1e-8)


def test_silence_and_gaps_at_the_ends_are_handled():
    assert np.array_equal(
        interpolate_gaps(np.zeros(500), np.r_[np.zeros(9), np.ones(491)], sample_rate=8000), np.zeros(500)
    )
    audio = np.sin(np.arange(500.0))
    for lost in (slice(0, 50), slice(450, 500)):
        known = np.ones(500)
        known[lost] = 0.0
        assert np.isfinite(interpolate_gaps(audio, known, sample_rate=8000)).all()
    assert np.array_equal(interpolate_gaps(audio, np.zeros(500), sample_rate=8000), np.zeros(500))


def test_an_extrapolation_is_the_conditional_mean():
    """That of a process of order two is its recursion without excitation; five standard errors of the coefficients."""
    whitening = np.array([1.0, -1.6, 0.9])
    audio = np.asarray(scipy.signal.lfilter([1.0], whitening, np.random.default_rng(2).standard_normal(40000)))
    expected = list(audio[-2:])
    for _ in range(20):
        expected.append(1.6 * expected[-1] - 0.9 * expected[-2])
    found = extrapolate(audio, 20, order=2)
    # What an error of the coefficients makes of step n grows as n at first, and falls with 0.9^(n/2).
    receptive_field = np.abs(audio[-2:]).max() * (1 + np.arange(20)) * 0.9 ** (np.arange(20) / 2) / np.sqrt(0.1)
    assert (np.abs(found - expected[2:]) < 5.0 / np.sqrt(40000) * 2.0 * receptive_field).all()


def test_long_gaps_continue_the_tones_at_both_ends_in_linear_time():
    """Interpolated as a whole, 10 s of 160000 samples took minutes."""
    moment = np.arange(180000) / 16000
    audio = np.sin(2 * np.pi * 300 * moment) + 0.5 * np.sin(2 * np.pi * 1234 * moment + 1.0)
    known = np.ones(180000)
    known[10000:170000] = 0.0
    began = time.process_time()
    filled = interpolate_gaps(np.where(known == 1, audio, 99.0), known, sample_rate=16000)
    assert time.process_time() - began < 10.0
    assert np.array_equal(filled[known == 1], audio[known == 1])
    for edge in (slice(10000, 10160), slice(169840, 170000)):
        assert np.square(filled[edge] - audio[edge]).mean() < 0.01 * np.square(audio[edge]).mean()
    assert np.abs(filled).max() < 2.0


def test_long_gaps_at_the_ends_are_extrapolated_from_the_other_side():
    audio = np.sin(np.arange(8000.0))
    for lost, edge in ((slice(0, 4000), slice(3960, 4000)), (slice(4000, 8000), slice(4000, 4040))):
        known = np.ones(8000)
        known[lost] = 0.0
        filled = interpolate_gaps(audio * known, known, sample_rate=8000)
        assert np.square(filled[edge] - audio[edge]).mean() < 0.01 * np.square(audio[edge]).mean()


@pytest.mark.parametrize("seconds", [0.15, 0.6])
def test_a_drawn_gap_is_as_loud_as_both_sides(seconds: float):
    """In a process of order two, whose mean continuation soon is silent; over 20 draws."""
    rng = np.random.default_rng(3)
    audio = scipy.signal.lfilter([1.0], [1.0, -1.6, 0.9], rng.standard_normal(8000))
    known = np.ones(8000)
    known[2000 : 2000 + round(seconds * 8000)] = 0.0
    drawn = [interpolate_gaps(audio, known, sample_rate=8000, order=64, noise=rng.standard_normal) for _ in range(20)]
    power = np.square(np.stack(drawn)[:, known == 0]).mean()
    quiet = np.square(interpolate_gaps(audio, known, sample_rate=8000, order=64)[known == 0]).mean()
    around = np.square(audio[known == 1]).mean()
    assert quiet < 0.5 * around
    # In the middle of a long gap both sides are halved, and their sum has half of the power.
    assert abs(10 * np.log10(power / around)) < (2.0 if seconds < 0.35 else 3.0)


def test_draws_of_a_gap_have_the_interpolation_as_their_mean():
    """To five standard errors of 50 draws, at each sample."""
    rng = np.random.default_rng(4)
    audio = scipy.signal.lfilter([1.0], [1.0, -1.6, 0.9], rng.standard_normal(4000))
    known = np.ones(4000)
    known[2000:2800] = 0.0
    drawn = np.stack(
        [interpolate_gaps(audio, known, sample_rate=8000, order=8, noise=rng.standard_normal) for _ in range(50)]
    )
    mean = interpolate_gaps(audio, known, sample_rate=8000, order=8)
    assert (np.abs(drawn.mean(axis=0) - mean) <= 5.0 * drawn.std(axis=0) / np.sqrt(50) + 1e-12).all()


def test_short_gaps_are_not_drawn():
    audio = np.random.default_rng(5).standard_normal(4000)
    known = np.ones(4000)
    known[2000:2700] = 0.0
    mean, drawn = (interpolate_gaps(audio, known, sample_rate=8000, noise=noise) for noise in (None, np.ones))
    assert np.array_equal(mean, drawn)
