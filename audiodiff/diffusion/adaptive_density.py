"""Distributions of sigma that adapt to the losses of training, to lower the variance of the gradient.

Their weights keep the expectation of the loss as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from audiodiff.diffusion.density import Draw, InvertibleDistribution, SigmaDistribution, independent, stratified
from audiodiff.diffusion.process import Variational
from audiodiff.errors import ParameterError
from audiodiff.types import Sigma

_FORGETTING = 0.99
"""Decay per step of the running second moment of `VariationalTime`."""


@dataclass(frozen=True, eq=False)
class LossSecondMoment(SigmaDistribution):
    """Sample noise levels by importance, in proportion to the root mean squared loss of their bin.

    The bins have equal probability under the base distribution, which is drawn from until every bin has `history`
    losses. Then bin k has the probability p_k = (1 - share) r_k / sum(r) + share / n_bins, where r_k is the root mean
    square of its last losses, and its losses are weighted by 1 / (n_bins p_k).

    The histories hold the unweighted losses of all processes, in the order of their ranks, updated once per optimiser
    step, so that every process has the same ones; they are saved with a run's state.

    Args:
        base: the distribution whose expected loss is kept.
        n_bins: number of bins; if the base draws the steps of a table, their number or a divisor of it.
        history: losses that a bin keeps.
        share: of the draws that follow the base distribution, which bounds the weights by 1 / share.
        draw: how to draw uniform numbers: independent, or stratified within the batch.

    Source: Nichol and Dhariwal 2021, section 3.3 (L_vlb), whose public code has 10 losses and a share of 0.001.
    """

    base: InvertibleDistribution
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
        # No step of a table may belong to two bins.
        numbers = torch.arange(self.n_bins)
        for inside in (1e-6, 1.0 - 1e-6):
            if not torch.equal(self._bins(self.base.icdf((numbers.double() + inside) / self.n_bins)), numbers):
                raise ParameterError(
                    f"n_bins={self.n_bins} must be the number of steps that the base draws, or a divisor of it"
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
        ranks = self.base.cdf(sigma.detach().cpu().double())
        return torch.clamp(torch.floor(self.n_bins * ranks), 0, self.n_bins - 1).long()

    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        uniform = self.draw(n, generator=generator)
        probabilities = self.probabilities.to(uniform.device)
        ends = torch.cumsum(probabilities, dim=0)
        chosen = torch.clamp(torch.searchsorted(ends, uniform, right=True), max=self.n_bins - 1)
        # The position of the uniform number within its bin is uniform again.
        within = torch.clamp((uniform - (ends - probabilities)[chosen]) / probabilities[chosen], 0.0, 1.0 - 1e-9)
        return self.base.icdf((chosen + within) / self.n_bins).float()

    def weight(self, sigma: Sigma) -> Sigma:
        return (1.0 / (self.n_bins * self.probabilities))[self._bins(sigma)].to(sigma)

    def update(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> None:
        for number, loss in zip(self._bins(sigma).tolist(), losses.tolist(), strict=True):
            # A ring buffer: the newest loss replaces the oldest.
            self._losses[number, int(self._counts[number]) % self.history] = loss
            self._counts[number] += 1

    def state(self) -> dict[str, Tensor]:
        return {"losses": self._losses.clone(), "counts": self._counts.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        _copy(state, losses=self._losses, counts=self._counts)


@dataclass(frozen=True, eq=False)
class VariationalTime(SigmaDistribution):
    """Draw the clock of a learnt noise schedule uniformly, and train the schedule to lower the variance of the loss.

    The expected loss is the mean over gamma = -log SNR, uniform between the schedule's ends: with
    preconditioning=epsilon and objective=plain_l2 that is the diffusion term of the variational bound in continuous
    time, up to a constant factor. It does not depend on the schedule, so that the schedule can minimise the variance:
    with u = process.c_noise(sigma), drawn with density p(u) = dt / du, the estimator l / p has the
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

        Its gradient is an unbiased estimate of that of the second moment, divided by the running second moment of
        earlier steps: its scale does not depend on that of the loss, and with clipping it does not dominate the
        network's gradient. Its value is 0, so that curves show the loss alone. It is 0 at the first step.
        """
        density = self.process.density(sigma)
        scale = float(self._mass / self._moment) if self._moment > 0.0 else 0.0
        surrogate = scale * losses**2 / (density.detach() * density)
        return surrogate - surrogate.detach()

    def update(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> None:
        second = ((losses * self.weight(sigma)) ** 2).double().mean().cpu()
        self._moment.lerp_(second, 1.0 - _FORGETTING)
        self._mass.lerp_(torch.ones_like(second), 1.0 - _FORGETTING)

    def state(self) -> dict[str, Tensor]:
        return {"moment": self._moment.clone(), "mass": self._mass.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        _copy(state, moment=self._moment, mass=self._mass)


def _copy(state: Mapping[str, Tensor], **own: Tensor) -> None:
    """Copy a saved state into the tensors of the same names."""
    for name, tensor in own.items():
        if name not in state or state[name].shape != tensor.shape:
            raise ParameterError(
                f"the saved state of the density has no {name} of shape {tuple(tensor.shape)}: set density as it was"
            )
        tensor.copy_(state[name])
