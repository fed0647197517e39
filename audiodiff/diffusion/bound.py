"""The variational bound: how many nats the ancestral chain of a denoiser needs at most, per dimension of the signal.

The chain draws p(x_s | x_t) = q(x_s | x_t, x0 = D(x_t)) at decreasing noise levels, as `euler_ancestral` does, and
ends in a Gaussian decoder around D of the least noisy level. A bound and the likelihood of the probability flow
(`likelihood.py`) agree for the exact denoiser alone: with a trained one they measure two different models, the chain
and the flow, and neither bounds the other.

| here | elsewhere |
|---|---|
| prior | L_T in DDPM; the prior loss in VDM |
| diffusion | L_1 to L_(T-1) in DDPM; L_T in VDM |
| reconstruction | L_0 in DDPM |
| sigma, sigma_next | t and s in VDM, x_t and x_(t-1) in DDPM |
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import evaluate
from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import Denoise, Noise, Sigma, Signal

Nats = Float[Tensor, "batch"]


@dataclass(frozen=True)
class Bound:
    """Hold the parts of a bound, in nats per dimension, of each example.

    Args:
        prior: what the noisiest level tells of x0, beyond the chain's start.
        diffusion: the terms of the transitions between noise levels, noisiest first.
        reconstruction: what is left to say of x0 at the least noisy level.
    """

    prior: Nats
    diffusion: Float[Tensor, "batch transitions"]
    reconstruction: Nats

    @property
    def total(self) -> Nats:
        """The negative log likelihood's upper bound, in expectation over the noise."""
        return self.prior + self.diffusion.sum(dim=1) + self.reconstruction


def variational_bound(
    denoise: Denoise,
    x0: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise,
    data_variance: float = 0.0,
    bin_width: float | None = None,
) -> Bound:
    """Bound -log p(x0) for the chain over a grid: sum of 1/2 (SNR(s) - SNR(t)) |x0 - D(x_t)|^2 and both its ends.

    One draw of noise at every level: an unbiased estimate. The decoder has the least noisy level's sigma as its std.

    Args:
        denoise: (x, sigma) -> x0, called once at every level but 0.
        x0: clean signals.
        sigmas: decreasing levels, the last 0, as a grid gives them.
        noise: draws the noise of level k with step number k.
        data_variance: the chain starts from N(0, sigma^2 + data_variance) at the first level: 0 is the start
            sigma * eps, 1 is DDPM's x_t ~ N(0, 1) of a process that preserves the variance.
        bin_width: of quantised signals, 2^-15 for 16-bit audio in [-1, 1]: the bound is on -log P(x0), with a
            decoder that is integrated over the bin; None: on -log p(x0), a density.

    Raises:
        ParameterError: if sigmas do not decrease to 0.

    Example:
        >>> x0 = torch.zeros(1, 1, 4)  # data that is always 0, and so is its denoiser
        >>> bound = variational_bound(lambda x, sigma: 0.0 * x, x0, torch.tensor([9.0, 1.0, 0.0]), noise=lambda x, k: x)
        >>> bound.reconstruction  # log(2 pi) / 2
        tensor([0.9189], dtype=torch.float64)

    Source: Kingma et al. 2021 (VDM), eq. 11 to 14; Ho et al. 2020, eq. 5.
    """
    levels = sigmas.tolist()
    if len(levels) < 2 or levels[-1] != 0.0 or any(high <= low for high, low in pairwise(levels)):
        raise ParameterError(f"sigmas={levels} must decrease to 0, as those of a grid do")
    terms: list[Nats] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(levels[:-1])):
        weight = 0.5 * (sigma_next**-2 - sigma**-2)
        terms.append(weight * _squared_error(denoise, x0, sigma, noise=noise, step=step))
    return Bound(
        prior=prior_divergence(x0, levels[0], data_variance=data_variance),
        diffusion=torch.stack(terms, dim=1) if terms else x0.new_zeros(len(x0), 0, dtype=torch.float64),
        reconstruction=_reconstruction(denoise, x0, levels[-2], noise=noise, step=len(terms), bin_width=bin_width),
    )


def continuous_bound(
    denoise: Denoise,
    x0: Signal,
    *,
    sigma_min: float,
    sigma_max: float,
    n_levels: int,
    noise: Noise,
    data_variance: float = 0.0,
    bin_width: float | None = None,
) -> Bound:
    """Compute the limit of infinitely many steps: the integral of |x0 - D|^2 / sigma^3 d sigma, and both its ends.

    The integral is a Gauss-Legendre quadrature over log(sigma).

    Args:
        denoise: (x, sigma) -> x0, called once at every level and once at sigma_min.
        x0: clean signals.
        sigma_min: where the decoder takes over.
        sigma_max: where the chain starts.
        n_levels: of the quadrature; the result's diffusion holds the share of each, noisiest first.
        noise: draws the noise of level k with step number k, that of sigma_min with number n_levels.
        data_variance: as in `variational_bound`.
        bin_width: as in `variational_bound`.

    Raises:
        ParameterError: unless 0 < sigma_min < sigma_max, or for no levels.

    Source: Kingma et al. 2021 (VDM), eq. 17 and 18, with d SNR = -2 sigma^-3 d sigma.
    """
    if not 0.0 < sigma_min < sigma_max:
        raise ParameterError(f"sigma_min={sigma_min} and sigma_max={sigma_max} must satisfy 0 < sigma_min < sigma_max")
    check_whole(n_levels, name="n_levels", least=1)
    nodes, weights = np.polynomial.legendre.leggauss(n_levels)
    half_width = 0.5 * math.log(sigma_max / sigma_min)
    terms: list[Nats] = []
    for step, (node, weight) in enumerate(zip(nodes[::-1].tolist(), weights[::-1].tolist(), strict=True)):
        sigma = math.sqrt(sigma_min * sigma_max) * math.exp(half_width * node)
        error = _squared_error(denoise, x0, sigma, noise=noise, step=step)
        terms.append(weight * half_width * sigma**-2 * error)
    return Bound(
        prior=prior_divergence(x0, sigma_max, data_variance=data_variance),
        diffusion=torch.stack(terms, dim=1),
        reconstruction=_reconstruction(denoise, x0, sigma_min, noise=noise, step=n_levels, bin_width=bin_width),
    )


def prior_divergence(x0: Signal, sigma: float, *, data_variance: float) -> Nats:
    """Compute KL(N(x0, sigma^2), N(0, sigma^2 + data_variance)), in nats per dimension.

    Raises:
        ParameterError: if data_variance is negative.
    """
    if data_variance < 0.0:
        raise ParameterError(f"data_variance={data_variance} must not be negative")
    power = x0.double().square().flatten(1).mean(dim=1)
    return 0.5 * ((power - data_variance) / (sigma**2 + data_variance) + math.log1p(data_variance / sigma**2))


def log_variance_ratio(sigma: Sigma, sigma_next: Sigma) -> Sigma:
    """Compute log(beta / beta_tilde) of the step from sigma to sigma_next of a process that preserves the variance.

    beta_tilde = sigma_next^2 (1 - sigma_next^2 / sigma^2), in x, is the variance of the posterior given x0; beta that
    of a step of the process: the least and the greatest variance that a reverse step can need.

    Source: Nichol and Dhariwal 2021, eq. 15; Ho et al. 2020, eq. 7.
    """
    return torch.log1p(sigma_next**2) - torch.log1p(sigma**2) + 2.0 * (torch.log(sigma) - torch.log(sigma_next))


def posterior_divergence(error: Signal, snr_gain: Sigma, excess: Signal) -> Signal:
    """Compute KL(q(x_s | x_t, x0), p(x_s | x_t)) of each sample, in nats.

    Args:
        error: x0 - D(x_t).
        snr_gain: SNR(s) - SNR(t) of each example.
        excess: log variance of p above that of q; 0 leaves half of snr_gain * error^2.

    Source: Kingma et al. 2021 (VDM), appendix E; Nichol and Dhariwal 2021, eq. 4.
    """
    return 0.5 * (excess + torch.expm1(-excess) + pad_dims_like(snr_gain, error) * error**2 * torch.exp(-excess))


def decoder_nats(error: Signal, log_variance: Signal, bin_width: float | None) -> Signal:
    """Compute -log of a Gaussian around D at x0, or of its integral over x0's bin, of each sample.

    The bins are all alike; Ho et al. let the outermost ones reach to infinity, which concerns clipped samples alone.

    Args:
        error: x0 - D.
        log_variance: of the Gaussian.
        bin_width: of the bin that x0 is the centre of; None for the density.

    Source: Ho et al. 2020, eq. 13.
    """
    if bin_width is None:
        return 0.5 * (math.log(2.0 * math.pi) + log_variance + error**2 * torch.exp(-log_variance))
    # On the lower side, where the logarithm of the normal distribution function keeps its digits.
    scale = torch.exp(-0.5 * log_variance.double())
    upper = torch.special.log_ndtr((0.5 * bin_width - error.double().abs()) * scale)
    lower = torch.special.log_ndtr((-0.5 * bin_width - error.double().abs()) * scale)
    return -(upper + torch.log(-torch.expm1(lower - upper)))


def _squared_error(denoise: Denoise, x0: Signal, sigma: float, *, noise: Noise, step: int) -> Nats:
    denoised = evaluate(denoise, x0 + sigma * noise(x0, step), sigma)
    return (x0 - denoised).double().square().flatten(1).mean(dim=1)


def _reconstruction(
    denoise: Denoise, x0: Signal, sigma: float, *, noise: Noise, step: int, bin_width: float | None
) -> Nats:
    error = (x0 - evaluate(denoise, x0 + sigma * noise(x0, step), sigma)).double()
    log_variance = torch.full_like(error, 2.0 * math.log(sigma))
    return decoder_nats(error, log_variance, bin_width).flatten(1).mean(dim=1)
