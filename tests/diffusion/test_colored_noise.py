"""Denoising with a recording in noise of a known spectrum, of Gaussian sounds, whose posterior means are known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from audiodiff.diffusion.colored_noise import posterior_mean
from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.solvers import heun
from audiodiff.errors import ParameterError

N = 64
FREQUENCY = torch.linspace(0.0, 1.0, N // 2 + 1, dtype=torch.float64)
SPEECH = 0.3 / (1.0 + (6.0 * FREQUENCY) ** 2)
"""Power of stationary data at each frequency."""
WHITE = torch.full((1, 1, 2), 0.04, dtype=torch.float64)
COLOURED = (0.5 / (1.0 + 30.0 * FREQUENCY**1.5))[None, None]


def filtered(x: Tensor, gain: Tensor) -> Tensor:
    return torch.fft.irfft(gain * torch.fft.rfft(x), n=N)


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    return filtered(x, SPEECH / (SPEECH + sigma[:, None, None] ** 2))


def drawn(seed: int, power: Tensor, n: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return filtered(torch.randn(n, 1, N, generator=generator, dtype=torch.float64), power.sqrt())


def at_bins(power: Tensor) -> Tensor:
    return power if power.shape[-1] == len(FREQUENCY) else power[..., :1].expand(1, 1, len(FREQUENCY))


def mean_by_precisions(x: Tensor, sigma: float, y: Tensor, power: Tensor) -> Tensor:
    """Return the mean by precisions: of the data, of x and of y."""
    total = 1.0 / SPEECH + 1.0 / sigma**2 + 1.0 / power
    return filtered(x, 1.0 / sigma**2 / total) + filtered(y, 1.0 / power / total)


@pytest.mark.parametrize("sigma", [0.01, 0.2, 30.0])
def test_with_white_noise_it_is_the_posterior_mean(sigma):
    x, y = drawn(1, SPEECH + sigma**2), drawn(2, SPEECH + WHITE[0, 0, 0])
    told = posterior_mean(denoise, y, WHITE, extra=drawn(3, SPEECH))
    torch.testing.assert_close(
        told(x, torch.tensor([sigma], dtype=torch.float64)), mean_by_precisions(x, sigma, y, at_bins(WHITE))
    )


@pytest.mark.parametrize("sigma", [0.1, 30.0])
def test_the_error_with_colored_noise_falls_as_the_square_of_level_spacing(sigma):
    x, y = drawn(1, SPEECH + sigma**2), drawn(2, SPEECH + COLOURED)
    exact = mean_by_precisions(x, sigma, y, COLOURED)
    errors = []
    for n_levels in (5, 9, 17, 33):
        # What is added is left out, so that the interpolation alone errs.
        told = posterior_mean(denoise, y, COLOURED, extra=torch.zeros_like(y), n_levels=n_levels)
        errors.append((told(x, torch.tensor([sigma], dtype=torch.float64)) - exact).norm().item())
    assert errors[0] < 0.05 * exact.norm().item()
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders[-1] == pytest.approx(2.0, abs=0.3)


def test_the_added_noise_makes_the_noise_white_at_every_level():
    """A denoiser that returns what it is given sees noise of its level where there was less, and z elsewhere."""
    seen = []

    def spy(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append((x.clone(), sigma[0].item()))
        return x

    n = 4000
    y = torch.zeros(n, 1, N, dtype=torch.float64)
    extras = drawn(5, torch.ones_like(FREQUENCY), n=n)
    power = COLOURED.expand(n, 1, -1)
    posterior_mean(spy, y, power, extra=extras)(y, torch.full((n,), 1e9, dtype=torch.float64))
    variances = torch.stack([torch.fft.rfft(x).abs().square()[:, 0].mean(dim=0) / N for x, _ in seen])
    levels = torch.tensor([sigma for _, sigma in seen], dtype=torch.float64)[:, None]
    expected = (levels**2 - COLOURED[0]).clamp(min=0.0)
    torch.testing.assert_close(variances, expected, rtol=6.0 * math.sqrt(2.0 / n), atol=1e-12)


def test_without_noise_the_result_is_the_recording():
    y = drawn(2, SPEECH)
    silent = torch.zeros(1, 1, 9, dtype=torch.float64)
    x, sigma = drawn(1, SPEECH + 1.0), torch.tensor([1.0], dtype=torch.float64)
    torch.testing.assert_close(posterior_mean(denoise, y, silent, extra=torch.zeros_like(y))(x, sigma), y)
    half = torch.where(FREQUENCY < 0.5, 0.0, 0.1)[None, None]
    told = posterior_mean(denoise, y, half, extra=drawn(3, torch.ones_like(FREQUENCY)))(x, sigma)
    low = (FREQUENCY < 0.5).to(torch.float64)
    torch.testing.assert_close(filtered(told, low), filtered(y, low))
    assert (filtered(told, 1.0 - low) - filtered(y, 1.0 - low)).norm() > 0.1 * filtered(y, 1.0 - low).norm()


def test_draws_have_the_law_of_the_posterior():
    """The probability flow of the mean, solved with Heun: an affine function of the noise that it starts from."""
    y = drawn(2, SPEECH + WHITE[0, 0, 0]).expand(N + 1, -1, -1)
    starts = torch.cat([torch.zeros(1, N), torch.eye(N)]).double()[:, None]
    sigmas = Karras(sigma_min=1e-3, sigma_max=50.0)(100)
    told = posterior_mean(denoise, y, WHITE.expand(N + 1, -1, -1), extra=torch.zeros_like(y))
    results = heun(told, sigmas[0] * starts, sigmas, noise=lambda like, step: torch.zeros_like(like))[:, 0]
    columns = results[1:] - results[0]
    mean = filtered(y[:1], SPEECH / (SPEECH + WHITE[0, 0, 0]))[0, 0]
    left = SPEECH * WHITE[0, 0, 0] / (SPEECH + WHITE[0, 0, 0])
    covariance = filtered(torch.eye(N, dtype=torch.float64), left)
    assert (results[0] - mean).norm() < 5e-3 * mean.norm()
    assert (columns.mT @ columns - covariance).norm() < 5e-3 * covariance.norm()


@pytest.mark.parametrize(
    ("power", "n_levels", "message"),
    [
        (-WHITE, 6, "must not be negative"),
        (math.nan * WHITE, 6, "must not be negative"),
        (WHITE[..., :1], 6, "two bins"),
        (WHITE, 1, "n_levels=1"),
    ],
)
def test_mismatched_arguments_are_refused(power, n_levels, message):
    with pytest.raises(ParameterError, match=message):
        posterior_mean(denoise, torch.zeros(1, 1, N), power, extra=torch.zeros(1, 1, N), n_levels=n_levels)
