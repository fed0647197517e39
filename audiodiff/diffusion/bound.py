"""Variational bounds: upper bounds on -log p(x0) of the ancestral chain of a denoiser, in nats per dimension.

The chain draws p(x_s | x_t) = q(x_s | x_t, x0 = D(x_t)) at decreasing noise levels, as `euler_ancestral` does, and
ends in a Gaussian decoder around D of the least noisy level. A network may also learn the variances of the chain. Only
for the exact denoiser is the likelihood of the probability flow (`likelihood.py`) the same: of a trained denoiser, the
chain and the flow are two different models, and neither number bounds the other.

| here | elsewhere |
|---|---|
| prior | L_T in DDPM; the prior loss in VDM |
| diffusion | L_1 to L_(T-1) in DDPM; L_T in VDM |
| reconstruction | L_0 in DDPM |
| sigma, sigma_next | t and s in VDM, x_t and x_(t-1) in DDPM |
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.divergence import (
    Nats,
    decoder_nats,
    log_variance_ratio,
    posterior_divergence,
    prior_divergence,
)
from audiodiff.diffusion.grid import Discrete, Sigmas
from audiodiff.diffusion.objective import Objective, Observed, Plain
from audiodiff.diffusion.process import DiscreteVP
from audiodiff.diffusion.solvers.method import evaluate
from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import Denoise, Noise, Sigma, Signal

BIN_WIDTH = 2.0**-15
"""Bin width of 16-bit audio in [-1, 1]."""


@dataclass(frozen=True)
class Bound:
    """Hold the parts of a bound of each example, in nats per dimension.

    Args:
        prior: divergence of x at the noisiest level from the start of the chain.
        diffusion: terms of the transitions between noise levels, noisiest first.
        reconstruction: -log of the decoder at x0.
    """

    prior: Nats
    diffusion: Float[Tensor, "batch transitions"]
    reconstruction: Nats

    @property
    def total(self) -> Nats:
        """The upper bound on -log p(x0); it holds in expectation over the noise."""
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
    """Bound -log p(x0) for the chain over a grid: sum of 1/2 (SNR(s) - SNR(t)) |x0 - D(x_t)|^2, prior and decoder.

    The estimate from one draw of noise at every level is unbiased. The decoder's std is sigma of the least noisy level.

    Args:
        denoise: (x, sigma) -> x0, called once at every level but 0.
        x0: clean signals.
        sigmas: decreasing levels from a grid, the last 0.
        noise: draws the noise of level k with step number k.
        data_variance: the chain starts from N(0, sigma^2 + data_variance) at the first level: 0 for the start
            sigma * eps, 1 for x_t ~ N(0, 1) of DDPM and other processes that preserve the variance.
        bin_width: None for a bound on -log p(x0), a density; for quantised signals the width of their bins, which
            gives a bound on -log P(x0) with the decoder integrated over the bin. 16-bit audio in [-1, 1] has 2^-15.

    Raises:
        ParameterError: if sigmas do not decrease to 0.

    Example:
        >>> x0 = torch.zeros(1, 1, 4)  # data that is always 0
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
    """Bound -log p(x0) for infinitely many steps: the integral of |x0 - D|^2 / sigma^3 d sigma, prior and decoder.

    The integral is computed by Gauss-Legendre quadrature over log(sigma).

    Args:
        denoise: (x, sigma) -> x0, called once at every level and once at sigma_min.
        x0: clean signals.
        sigma_min: level of the decoder.
        sigma_max: level at which the chain starts.
        n_levels: nodes of the quadrature; the result's diffusion holds the term of each, noisiest first.
        noise: draws the noise of level k with step number k, and that of sigma_min with step number n_levels.
        data_variance: as in `variational_bound`.
        bin_width: as in `variational_bound`.

    Raises:
        ParameterError: unless 0 < sigma_min < sigma_max and n_levels is at least 1.

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


def learned_variance_bound(
    predict: Callable[[Signal, Sigma], Prediction],
    x0: Signal,
    process: DiscreteVP,
    *,
    noise: Noise,
    bin_width: float | None = None,
) -> Bound:
    """Bound -log p(x0) for the chain that starts from x_t ~ N(0, 1) and has the learned variance.

    Args:
        predict: `BoundDenoiser.predict`, called once at every step of the process.
        x0: clean signals.
        process: the table of betas.
        noise: draws the noise of level k, the noisiest 0, with step number k.
        bin_width: see `variational_bound`.

    Raises:
        ParameterError: if the denoiser does not learn its variance.

    Source: Nichol and Dhariwal 2021, eq. 3 to 7.
    """
    levels = Discrete(process)(len(process.betas))[:-1]
    terms: list[Nats] = []
    for step, level in enumerate(levels.tolist()):
        sigma = torch.full((len(x0),), level, dtype=torch.float64, device=x0.device)
        prediction = predict(x0 + level * noise(x0, step), sigma)
        terms.append(step_nats(prediction, x0, sigma, process=process, bin_width=bin_width))
    return Bound(
        # In x, N(0, 1) of a process that preserves the variance is N(0, 1 + sigma^2).
        prior=prior_divergence(x0, float(levels[0]), data_variance=1.0),
        diffusion=torch.stack(terms[:-1], dim=1),
        reconstruction=terms[-1],
    )


def step_nats(
    prediction: Prediction, x0: Signal, sigma: Sigma, *, process: DiscreteVP, bin_width: float | None = None
) -> Nats:
    """Compute each example's term of the bound: the divergence of its step; for the first step, -log of the decoder.

    Args:
        prediction: of the denoiser at sigma.
        x0: clean signals.
        sigma: for each example, the noise level of one of the process's steps.
        process: the table of betas.
        bin_width: see `variational_bound`.

    Raises:
        ParameterError: if the denoiser does not learn its variance.

    Source: Nichol and Dhariwal 2021, eq. 3 to 7 and 15.
    """
    fraction = prediction.variance_fraction
    if fraction is None:
        raise ParameterError(
            "the prediction has no variance_fraction: set model.denoiser.learns_variance=true and the network's "
            "out_channels to twice the channels of the signal, or choose another objective"
        )
    step = process.time(sigma.double()).round()
    # No step precedes the first; it has the range of variances of the second, as in the paper's code.
    above = process.sigma(torch.clamp(step, min=1.0))
    below = process.sigma(torch.clamp(step - 1.0, min=0.0))
    error = x0 - prediction.denoised
    excess = pad_dims_like(log_variance_ratio(above, below), error) * fraction
    divergence = posterior_divergence(error, below**-2 - above**-2, excess).flatten(1).mean(dim=1).double()

    log_beta = 2.0 * torch.log(below) - torch.log1p(below**2)
    log_range = -torch.log1p(-((below / above) ** 2))
    # At other steps the decoder is discarded, but its gradient must not overflow.
    shortfall = torch.where(pad_dims_like(step, error) == 0.0, fraction - 1.0, 0.0)
    log_variance = pad_dims_like(log_beta, error) + pad_dims_like(log_range, error) * shortfall
    decoder = decoder_nats(error, log_variance, bin_width).flatten(1).mean(dim=1).double()
    return torch.where(step == 0.0, decoder, divergence)


@dataclass(frozen=True)
class Hybrid(Objective):
    """Compute L_simple + vlb_weight * L_vlb, where L_vlb trains the variance alone: its gradient stops at D.

    L_vlb is estimated as the number of steps times the term of the one step that was drawn, in nats per dimension. So
    the steps must be drawn uniformly (`DiscreteSteps`), or weighted accordingly.

    Args:
        process: the table of betas; sigma must be the noise level of one of its steps.
        simple: the objective of D.
        vlb_weight: lambda; small, because the terms differ by orders of magnitude.
        bin_width: of quantised signals, see `variational_bound`; None for signals that are not quantised.

    Source: Nichol and Dhariwal 2021, section 3.1, eq. 16.
    """

    process: DiscreteVP
    simple: Objective = field(default_factory=Plain)
    vlb_weight: float = 0.001
    bin_width: float | None = BIN_WIDTH

    def __post_init__(self) -> None:
        if not self.vlb_weight > 0.0:
            raise ParameterError(f"vlb_weight={self.vlb_weight} must be positive: with 0 the variance is not trained")
        if self.bin_width is not None and not self.bin_width > 0.0:
            raise ParameterError(
                f"bin_width={self.bin_width} must be positive, or null for signals that are not quantised"
            )

    def __call__(
        self, prediction: Prediction, x0: Signal, x: Signal, sigma: Sigma, *, observed: Observed | None = None
    ) -> Nats:
        """Compute the loss of each example.

        Raises:
            ParameterError: if the denoiser does not learn its variance.
        """
        fixed = replace(prediction, denoised=prediction.denoised.detach())
        term = step_nats(fixed, x0, sigma, process=self.process, bin_width=self.bin_width)
        weight = self.vlb_weight * len(self.process.betas)
        return self.simple(prediction, x0, x, sigma) + weight * term.to(x.dtype)


def _squared_error(denoise: Denoise, x0: Signal, sigma: float, *, noise: Noise, step: int) -> Nats:
    denoised = evaluate(denoise, x0 + sigma * noise(x0, step), sigma)
    return (x0 - denoised).double().square().flatten(1).mean(dim=1)


def _reconstruction(
    denoise: Denoise, x0: Signal, sigma: float, *, noise: Noise, step: int, bin_width: float | None
) -> Nats:
    error = (x0 - evaluate(denoise, x0 + sigma * noise(x0, step), sigma)).double()
    log_variance = torch.full_like(error, 2.0 * math.log(sigma))
    return decoder_nats(error, log_variance, bin_width).flatten(1).mean(dim=1)
