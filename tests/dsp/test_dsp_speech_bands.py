"""Band powers of speech: their scale, and the estimate of bands that are missing."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from audiodiff.dsp import speech_bands
from audiodiff.dsp.speech_bands import BandMixture, log_band_power, n_below, of_speech, smoothed


def mixture(n: int, bands: int = 5) -> BandMixture:
    generator = torch.Generator().manual_seed(n)
    factors = torch.randn(n, bands, bands, generator=generator)
    covariances = factors @ factors.mT + 0.5 * torch.eye(bands)
    weights = torch.rand(n, generator=generator) + 0.1
    return BandMixture(weights / weights.sum(), 3.0 * torch.randn(n, bands, generator=generator), covariances)


@pytest.mark.parametrize("n_known", [1, 3, 4])
def test_of_one_gaussian_the_estimate_is_that_of_the_precision_matrix(n_known: int):
    """E[m | k] = mu_m - P_mm^-1 P_mk (k - mu_k), with P the inverse of the covariance."""
    one = mixture(1)
    known = torch.randn(7, n_known, generator=torch.Generator().manual_seed(0))
    precision = torch.linalg.inv(one.covariances[0].double())
    expected = (
        one.means[0, n_known:]
        - (
            torch.linalg.solve(precision[n_known:, n_known:], precision[n_known:, :n_known])
            @ (known - one.means[0, :n_known]).double().T
        ).T
    )
    torch.testing.assert_close(one.estimate(known), expected.float(), rtol=1e-4, atol=1e-4)


def test_gaussians_count_by_their_density_where_bands_are_known():
    many, known = mixture(4), torch.tensor([[0.5, -1.0]])
    weights = np.array(
        [
            float(weight) * multivariate_normal.pdf(known[0].numpy(), mean[:2].numpy(), covariance[:2, :2].numpy())
            for weight, mean, covariance in zip(many.weights, many.means, many.covariances, strict=True)
        ]
    )
    alone = torch.stack(
        [
            BandMixture(torch.ones(1), many.means[k : k + 1], many.covariances[k : k + 1]).estimate(known)[0]
            for k in range(4)
        ]
    )
    expected = torch.from_numpy(weights / weights.sum()).float() @ alone
    torch.testing.assert_close(many.estimate(known)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_white_noise_has_the_power_of_the_window_in_every_band(rate: int):
    """A density of s^2 per Hz has the power 3/8 n_fft s^2; of 16 kHz, whatever the rate that it is sampled at."""
    stft = speech_bands.stft(rate)
    noise = 0.1 * math.sqrt(rate / 16000) * torch.randn(20 * rate, generator=torch.Generator().manual_seed(0))
    power = log_band_power(stft.analyse(noise), bin_hz=rate / stft.n_fft).exp().mean(dim=0)
    # Of 2500 frames, of which four overlap, and at least a bin or so: a standard error of 3 %.
    torch.testing.assert_close(power, torch.full_like(power, 0.375 * 512 * 0.01), rtol=0.15, atol=0)


def test_bands_below_a_frequency_end_below_it():
    assert n_below(8000.0) == speech_bands.N_BANDS
    assert n_below(0.0) == 0
    edges = speech_bands.edges_hz()
    for frequency in (500.0, 2000.0, 4000.0, 7000.0):
        n = n_below(frequency)
        assert edges[n] <= frequency < edges[n + 1]


def test_smoothing_keeps_a_constant_and_spreads_a_pulse():
    torch.testing.assert_close(smoothed(torch.full((2, 9, 3), 0.7), 5), torch.full((2, 9, 3), 0.7))
    pulse = torch.zeros(9, 1)
    pulse[4] = 1.0
    made = smoothed(pulse, 3)[:, 0]
    torch.testing.assert_close(made, torch.tensor([0.0, 0, 0, 0.25, 0.5, 0.25, 0, 0, 0]))


def test_what_ships_is_a_mixture():
    fitted = of_speech()
    assert float(fitted.weights.sum()) == pytest.approx(1.0, abs=1e-5)
    assert fitted.means.shape == (len(fitted.weights), speech_bands.N_BANDS)
    assert float(torch.linalg.eigvalsh(fitted.covariances).min()) > 0.0
