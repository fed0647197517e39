"""Processes in the steps of a table of betas, and common tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.process.base import Clock, VariancePreserving
from audiodiff.errors import ParameterError


def linear_betas(start: float, stop: float, n: int) -> tuple[float, ...]:
    """Space n betas evenly from start to stop, both included.

    DiffWave's tables are linear_betas(1e-4, 0.05, 50) with 64 channels and linear_betas(1e-4, 0.02, 200) with more.

    Example:
        >>> linear_betas(0.1, 0.3, 3)
        (0.1, 0.2, 0.3)
    """
    return tuple(torch.linspace(start, stop, n, dtype=torch.float64).tolist())


def scaled_linear_betas(start: float, stop: float, n: int) -> tuple[float, ...]:
    """Space the roots of n betas evenly from sqrt(start) to sqrt(stop).

    Example:
        >>> [round(beta, 6) for beta in scaled_linear_betas(0.01, 0.09, 3)]
        [0.01, 0.04, 0.09]

    Source: Rombach et al. 2022 (latent diffusion), its public code, where the schedule is called linear.
    """
    return tuple(beta**2 for beta in linear_betas(math.sqrt(start), math.sqrt(stop), n))


def betas_of_alpha_bar(alpha_bar: Sequence[float], *, largest: float = 0.999) -> tuple[float, ...]:
    """Return the betas whose products are a table of alpha_bar, each clipped to `largest`.

    Args:
        alpha_bar: the remaining power of the signal after each step, decreasing.
        largest: clips a beta, so that a table may end at 0.

    Raises:
        ParameterError: unless the table decreases from at most 1.

    Example:
        >>> [round(beta, 6) for beta in betas_of_alpha_bar([0.9, 0.72, 0.0])]
        [0.1, 0.2, 0.999]
    """
    betas: list[float] = []
    for index, (before, after) in enumerate(zip((1.0, *alpha_bar[:-1]), alpha_bar, strict=True)):
        if not 0.0 <= after < before:
            raise ParameterError(f"alpha_bar[{index}]={after} must be at least 0 and below {before}, what precedes it")
        betas.append(min(1.0 - after / before, largest))
    return tuple(betas)


def cosine_betas(n: int, *, offset: float = 0.008, largest: float = 0.999) -> tuple[float, ...]:
    """Return n betas with alpha_bar(t) = cos^2(pi / 2 (t + offset) / (1 + offset)), over its value at 0.

    Args:
        n: number of steps.
        offset: keeps the first betas from being tiny.
        largest: clips the last beta, which would be 1.

    Source: Nichol and Dhariwal 2021, eq. 17.
    """
    roots = [math.cos(0.5 * math.pi * (step / n + offset) / (1.0 + offset)) for step in range(n + 1)]
    return betas_of_alpha_bar([(root / roots[0]) ** 2 for root in roots[1:]], largest=largest)


@dataclass(frozen=True)
class DiscreteVP(VariancePreserving):
    """Variance preserving in the steps of a table of betas; the clock is the step's index, 0 the least noisy.

    alpha at step k is sqrt(alpha_bar_k), the root of the product of 1 - beta over steps 0 to k. Between steps alpha is
    interpolated linearly, which gives DiffWave's fractional steps; outside the table the clock is clamped to
    its ends, the only steps that a network has been trained on.

    Args:
        betas: the table, each in (0, 1).

    Example:
        >>> process = DiscreteVP(linear_betas(1e-4, 0.05, 50))
        >>> process.alpha(process.sigma(torch.tensor([49.0], dtype=torch.float64))) ** 2
        tensor([0.2797], dtype=torch.float64)

    Source: Ho et al. 2020, eq. 4; Kong et al. 2021 (DiffWave), section 2 and its appendix B.
    """

    betas: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        if len(self.betas) < 2:
            raise ParameterError(f"betas has {len(self.betas)} entries: a discrete process needs at least 2")
        for index, beta in enumerate(self.betas):
            if not 0.0 < beta < 1.0:
                raise ParameterError(f"betas[{index}]={beta} must lie between 0 and 1")

    @property
    def last(self) -> float:
        return len(self.betas) - 1.0

    @cached_property
    def _alphas(self) -> Float[Tensor, "steps"]:
        return torch.cumprod(1.0 - torch.tensor(self.betas, dtype=torch.float64), dim=0).sqrt()

    def _around(self, t: Clock) -> tuple[Clock, Clock, Clock]:
        """Return the table's values at the steps below and above t, and the fraction of t between them."""
        alphas = self._alphas.to(t.device)
        low = torch.clamp(t.floor(), 0.0, self.last - 1.0).long()
        return alphas[low], alphas[low + 1], t - low

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        # In float64, since 1 - alpha_t of the first steps would lose most of a float32's digits.
        low, high, fraction = self._around(t.double())
        alpha_t = low + (high - low) * fraction
        return alpha_t.to(t.dtype), torch.sqrt((1.0 - alpha_t) * (1.0 + alpha_t)).to(t.dtype)

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        # A difference over one step around t, which is continuous and at a whole step the central difference: the slope
        # of the interpolation itself jumps there, and rounding of the clock would decide a network's target.
        before, after = torch.clamp(t - 0.5, min=0.0), torch.clamp(t + 0.5, max=self.last)
        alpha_rate = (self.coefficients(after)[0] - self.coefficients(before)[0]) / (after - before)
        alpha_t, sigma_t = self.coefficients(t)
        return alpha_rate, -alpha_t * alpha_rate / sigma_t

    def time(self, sigma: Clock) -> Clock:
        alphas = self._alphas.to(sigma.device)
        alpha = self.alpha(sigma.double())
        # As torch.searchsorted, which exported programs do not have; the table is short.
        low = torch.clamp((alphas >= alpha[..., None]).sum(dim=-1) - 1, 0, len(self.betas) - 2)
        t = low + (alphas[low] - alpha) / (alphas[low] - alphas[low + 1])
        return torch.clamp(t, 0.0, self.last).to(sigma.dtype)
