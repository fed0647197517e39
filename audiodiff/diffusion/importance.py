"""Densities that learn from the losses which noise levels to draw.

Both leave the expectation of the loss as it is, by their weights, and lower the variance of its gradient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from audiodiff.diffusion.density import Draw, Quantiles, SigmaDistribution, independent, stratified
from audiodiff.diffusion.process import Variational
from audiodiff.errors import ParameterError
from audiodiff.types import Sigma

_FORGETTING = 0.99
"""What a step leaves of the running second moment of `VariationalTime`."""


@dataclass(frozen=True, eq=False)
class LossSecondMoment(SigmaDistribution):
    """Draw a density's noise levels by importance: a bin as often as the root of its mean squared loss asks.

    The levels of the base density fall into bins of equal probability. Until every bin has seen `history` losses they
    are drawn as the base has them; then bin k has the probability (1 - share) r_k / sum(r) + share / n_bins, where r_k
    is the root of the mean of its last squared losses, and its losses weigh 1 / (n_bins p_k).

    The histories are of the unweighted losses of all processes, in the order of their ranks, once per optimiser step,
    so that every process has the same ones; they are saved with a run's state.

    Args:
        base: the density whose expectation is kept.
        n_bins: number of bins; with a base that draws the steps of a table, their number or a divisor of it.
        history: losses that a bin remembers.
        share: of the draws that stay those of the base, which bounds the weights by 1 / share.
        draw: how to draw uniform numbers: independent, or stratified within the batch.

    Source: Nichol and Dhariwal 2021, section 3.3 (L_vlb), whose public code has 10 losses and a share of 0.001.
    """

    base: Quantiles
    n_bins: int = 50
    history: int = 10
    share: float = 0.001
    draw: Draw = independent
    _losses: Float[Tensor, "bins history"] = field(init=False, repr=False)
    _counts: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("n_bins", "history"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name}={getattr(self, name)} must be at least 1")
        if not 0.0 < self.share <= 1.0:
            raise ParameterError(f"share={self.share} must lie in (0, 1]")
        # Of a table of steps, no step may belong to two bins.
        numbers = torch.arange(self.n_bins)
        for inside in (1e-6, 1.0 - 1e-6):
            if not torch.equal(self._bins(self.base.quantile((numbers.double() + inside) / self.n_bins)), numbers):
                raise ParameterError(
                    f"n_bins={self.n_bins} must be the number of steps that the base density draws, or a divisor of it"
                )
        object.__setattr__(self, "_losses", torch.zeros(self.n_bins, self.history, dtype=torch.float64))
        object.__setattr__(self, "_counts", torch.zeros(self.n_bins, dtype=torch.int64))

    @property
    def probabilities(self) -> Float[Tensor, "bins"]:
        """The probability of each bin."""
        even = torch.full((self.n_bins,), 1.0 / self.n_bins, dtype=torch.float64)
        roots = self._losses.square().mean(dim=1).sqrt()
        if bool((self._counts < self.history).any()) or not bool(roots.sum() > 0.0):
            return even
        return (1.0 - self.share) * roots / roots.sum() + self.share * even

    def _bins(self, sigma: Sigma) -> Tensor:
        ranks = self.base.rank(sigma.detach().cpu().double())
        return torch.clamp(torch.floor(self.n_bins * ranks), 0, self.n_bins - 1).long()

    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        uniform = self.draw(n, generator=generator)
        probabilities = self.probabilities.to(uniform.device)
        ends = torch.cumsum(probabilities, dim=0)
        chosen = torch.clamp(torch.searchsorted(ends, uniform, right=True), max=self.n_bins - 1)
        # What is left of the uniform number, as a fraction of its bin, is uniform again.
        within = torch.clamp((uniform - (ends - probabilities)[chosen]) / probabilities[chosen], 0.0, 1.0 - 1e-9)
        return self.base.quantile((chosen + within) / self.n_bins).float()

    def weight(self, sigma: Sigma) -> Sigma:
        return (1.0 / (self.n_bins * self.probabilities))[self._bins(sigma)].to(sigma)

    def observe(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> None:
        for number, loss in zip(self._bins(sigma).tolist(), losses.tolist(), strict=True):
            # The oldest makes room.
            self._losses[number, int(self._counts[number]) % self.history] = loss
            self._counts[number] += 1

    def state(self) -> dict[str, Tensor]:
        return {"losses": self._losses.clone(), "counts": self._counts.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        _copy(state, losses=self._losses, counts=self._counts)


@dataclass(frozen=True, eq=False)
class VariationalTime(SigmaDistribution):
    """Draw the clock of a learnt schedule uniformly, and teach the schedule to lower the variance of the loss.

    The loss that is minimised in expectation is the mean over gamma = -log SNR, uniform between the schedule's ends:
    with preconditioning=epsilon and objective=plain_l2 that is the diffusion term of the variational bound in
    continuous time, up to a constant factor. It does not depend on the schedule, which is why the schedule is free to
    minimise the variance: with u = process.clock(sigma), drawn with density p(u) = dt / du, the estimator l / p has the
    second moment integral of E[l^2 | u] / p du, least where p is proportional to the root of E[l^2 | u].

    Args:
        process: the schedule.
        draw: how to draw uniform numbers: independent, or stratified within the batch.

    Source: Kingma et al. 2021 (VDM), section 5.1 and appendix I.2.
    """

    process: Variational
    draw: Draw = stratified
    _moment: Float[Tensor, ""] = field(init=False, repr=False)
    _mass: Float[Tensor, ""] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_moment", torch.zeros((), dtype=torch.float64))
        object.__setattr__(self, "_mass", torch.zeros((), dtype=torch.float64))

    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        return self.process.sigma(self.draw(n, generator=generator)).float()

    def weight(self, sigma: Sigma) -> Sigma:
        return 1.0 / self.process.density(sigma).detach()

    def schedule_loss(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """Return l^2 / (p' p), p' without gradient, over a running mean of l^2 / p^2, less its own value.

        Its gradient is an unbiased estimate of that of the second moment, divided by what earlier steps say that this
        is, so that it is as large for loud losses as for quiet ones and clipping does not let it drown the network's.
        Its value is 0: a curve of the loss shows the loss. The first step teaches nothing.
        """
        density = self.process.density(sigma)
        scale = float(self._mass / self._moment) if self._moment > 0.0 else 0.0
        surrogate = scale * losses**2 / (density.detach() * density)
        return surrogate - surrogate.detach()

    def observe(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> None:
        second = ((losses * self.weight(sigma)) ** 2).double().mean().cpu()
        self._moment.lerp_(second, 1.0 - _FORGETTING)
        self._mass.lerp_(torch.ones_like(second), 1.0 - _FORGETTING)

    def state(self) -> dict[str, Tensor]:
        return {"moment": self._moment.clone(), "mass": self._mass.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        _copy(state, moment=self._moment, mass=self._mass)


def _copy(state: Mapping[str, Tensor], **own: Tensor) -> None:
    """Fill tensors with those of the same names.

    Raises:
        ParameterError: if one is missing or of another shape.
    """
    for name, tensor in own.items():
        if name not in state or state[name].shape != tensor.shape:
            raise ParameterError(
                f"the saved state of the density has no {name} of shape {tuple(tensor.shape)}: it is of another density"
            )
        tensor.copy_(state[name])
