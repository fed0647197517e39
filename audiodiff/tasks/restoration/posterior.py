"""Posterior samplers: draws of x0 given a measurement of it.

| sampler | network is given | measurement | cost, in evaluations of the network |
|---|---|---|---|
| Conditional | degraded recording | replaced in every estimate | 1 a step |
| Projection | nothing | replaced in every estimate | 1 a step |
| PiGDM | nothing | guides every estimate, through the network | 3 a step |
| DPS | nothing | guides every x, through the network | 3 a step |
| RePaint | nothing | replaced in every x, with steps back | n_resamples a step |
| Denoising | nothing | speech in noise of a known spectrum | 6 a step, 1 where the noise is white |

The last five need no training on degraded recordings: any model of waveforms will do. With a perfect network and many
steps their draws follow:

| sampler | law of the draws |
|---|---|
| Conditional | the posterior, whatever the data and the damage |
| Projection | biased to the prior: at every level, what is known helps only as much as it does under that noise |
| PiGDM | the posterior of isotropic Gaussian data; an approximation for others |
| DPS | no known law: its guidance does not depend on how wrong the estimate is |
| RePaint | the posterior, as n_resamples grows; with 1 it is biased to the prior as Projection is |
| Denoising | the posterior where the noise is white; an approximation for other noise |
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from audiodiff.diffusion.colored_noise import posterior_mean
from audiodiff.diffusion.guidance import classifier_free
from audiodiff.diffusion.operators import LinearOperator
from audiodiff.diffusion.posterior import dps, pigdm, projection
from audiodiff.diffusion.repaint import repaint
from audiodiff.diffusion.solvers import Solver
from audiodiff.errors import ParameterError, check_whole
from audiodiff.tasks.restoration.repair import Problem
from audiodiff.types import Denoise, Signal


@dataclass(frozen=True)
class Denoisers:
    """Denoisers of one problem, in its units.

    Args:
        unconditional: (x, sigma) -> E[x0 | x].
        conditional: (x, sigma) -> E[x0 | x, measured]; None for a network that was not trained so.
        guidance: scale by which a conditional estimate is moved away from the unconditional one; 1 is none.
    """

    unconditional: Denoise
    conditional: Denoise | None = None
    guidance: float = 1.0

    def guided(self, conditional: Denoise) -> Denoise:
        """Return a conditional denoiser with the guidance."""
        if self.guidance == 1.0:
            return conditional
        return classifier_free(conditional, self.unconditional, scale=self.guidance)


class PosteriorSampler(ABC):
    """Draw from p(x0 | measured)."""

    name: ClassVar[str]
    is_conditional: ClassVar[bool] = False
    """Whether it needs a network that was trained to take degraded recordings."""

    @abstractmethod
    def prepare(
        self, denoisers: Denoisers, problem: Problem, *, solver: Solver, extra: Signal
    ) -> tuple[Denoise, Solver]:
        """Return the denoiser that agrees with the measurement, and the solver to run it with.

        Args:
            denoisers: of the model.
            problem: in the units of the denoisers.
            solver: of the caller; samplers that are solvers themselves do not use it.
            extra: white noise that the solver does not draw, of the signal's shape.

        Raises:
            ParameterError: if the sampler cannot solve such a problem.
        """

    def _operator(self, problem: Problem) -> LinearOperator:
        if problem.operator is None:
            raise ParameterError(
                f"posterior={self.name} needs a linear measurement, and no sample of this recording is known exactly: "
                f"choose one of {', '.join(FOR_NOISE)}"
            )
        return problem.operator


@dataclass(frozen=True)
class Conditional(PosteriorSampler):
    """Sample with a network that is given the degraded recording."""

    name: ClassVar[str] = "conditional"
    is_conditional: ClassVar[bool] = True

    def prepare(
        self, denoisers: Denoisers, problem: Problem, *, solver: Solver, extra: Signal
    ) -> tuple[Denoise, Solver]:
        if denoisers.conditional is None:
            raise ParameterError("conditional=None: posterior=conditional needs a denoiser that knows the measurement")
        return _consistent(denoisers.guided(denoisers.conditional), problem), solver


@dataclass(frozen=True)
class Projection(PosteriorSampler):
    """Replace what was measured in every estimate.

    Source: Wang et al. 2023 (DDNM).
    """

    name: ClassVar[str] = "projection"

    def prepare(
        self, denoisers: Denoisers, problem: Problem, *, solver: Solver, extra: Signal
    ) -> tuple[Denoise, Solver]:
        self._operator(problem)
        return _consistent(denoisers.unconditional, problem), solver


@dataclass(frozen=True)
class PiGDM(PosteriorSampler):
    """Guide every estimate by the error of its measurement, through the network.

    Args:
        sigma_y: std of the noise in the measurement.
        sigma_data: std of the sounds; None is that of the known samples.

    Source: Song et al. 2023 (Pseudoinverse-guided diffusion models).
    """

    sigma_y: float = 0.0
    sigma_data: float | None = None
    name: ClassVar[str] = "pigdm"

    def prepare(
        self, denoisers: Denoisers, problem: Problem, *, solver: Solver, extra: Signal
    ) -> tuple[Denoise, Solver]:
        operator = self._operator(problem)
        sigma_data = _rms(problem) if self.sigma_data is None else self.sigma_data
        y = operator(problem.measured)
        guided = pigdm(denoisers.unconditional, operator, y, sigma_data=sigma_data, sigma_y=self.sigma_y)
        return _possible(guided, problem), solver


@dataclass(frozen=True)
class DPS(PosteriorSampler):
    """Guide every x by the gradient of the measurement's error; an ancestral solver of its own.

    Args:
        scale: length of a guidance step, as an amplitude.

    Source: Chung et al. 2023 (Diffusion posterior sampling).
    """

    scale: float = 0.05
    name: ClassVar[str] = "dps"

    def prepare(
        self, denoisers: Denoisers, problem: Problem, *, solver: Solver, extra: Signal
    ) -> tuple[Denoise, Solver]:
        operator = self._operator(problem)
        return denoisers.unconditional, dps(operator, operator(problem.measured), scale=self.scale)


@dataclass(frozen=True)
class RePaint(PosteriorSampler):
    """Replace what was measured in every x, and repeat each step; an ancestral solver of its own.

    Args:
        n_resamples: number of times that each step is taken.

    Source: Lugmayr et al. 2022 (RePaint).
    """

    n_resamples: int = 4
    name: ClassVar[str] = "repaint"

    def __post_init__(self) -> None:
        check_whole(self.n_resamples, name="n_resamples", least=1)

    def prepare(
        self, denoisers: Denoisers, problem: Problem, *, solver: Solver, extra: Signal
    ) -> tuple[Denoise, Solver]:
        operator = self._operator(problem)
        y = operator(problem.measured)
        return denoisers.unconditional, repaint(operator, y, jump_length=1, n_resamples=self.n_resamples)


@dataclass(frozen=True)
class Denoising(PosteriorSampler):
    """Treat the recording as speech in stationary noise of a known spectrum."""

    name: ClassVar[str] = "denoising"

    def prepare(
        self, denoisers: Denoisers, problem: Problem, *, solver: Solver, extra: Signal
    ) -> tuple[Denoise, Solver]:
        if problem.noise_power is None:
            raise ParameterError(
                "posterior=denoising needs a recording with noise of a known spectrum, and this one has lost samples: "
                f"choose one of {', '.join(FOR_LOSS)}"
            )
        denoise = posterior_mean(denoisers.unconditional, problem.measured, problem.noise_power, extra=extra)
        return _consistent(denoisers.guided(denoise), problem), solver


FOR_LOSS: Mapping[str, PosteriorSampler] = {
    sampler.name: sampler for sampler in (Conditional(), Projection(), PiGDM(), DPS(), RePaint())
}
"""Samplers by name for recordings of which a part is known exactly: gaps, a lost band, clipping."""
FOR_NOISE: Mapping[str, PosteriorSampler] = {sampler.name: sampler for sampler in (Conditional(), Denoising())}
"""Samplers by name for noisy recordings, of which no sample is known exactly."""
OLD_NAMES = {"told": "conditional", "denoise": "denoising"}
"""Names of audiodiff 0.1, which work until 0.3."""


def posterior_named(
    name: str, samplers: Mapping[str, PosteriorSampler] | None = None, *, option: str = "posterior="
) -> PosteriorSampler:
    """Return a posterior sampler with its usual settings.

    Args:
        name: of the sampler; its name of audiodiff 0.1 works too.
        samplers: to choose among; None is all.
        option: how the caller gives the name, for error messages.

    Raises:
        ParameterError: if there is none of this name.

    Example:
        >>> posterior_named("repaint")
        RePaint(n_resamples=4)
    """
    samplers = {**FOR_LOSS, **FOR_NOISE} if samplers is None else samplers
    current = OLD_NAMES.get(name, name)
    if current not in samplers:
        raise ParameterError(f"{option}{name} must be one of {', '.join(samplers)}")
    return samplers[current]


def _rms(problem: Problem) -> float:
    """Return the RMS of the known samples, 1 where it is 0."""
    power = (problem.known * problem.measured.square()).sum() / problem.known.sum().clamp(min=1.0)
    return math.sqrt(power.item()) or 1.0


def _consistent(denoise: Denoise, problem: Problem) -> Denoise:
    """Return a denoiser whose estimates agree with the measurement."""
    if problem.operator is not None:
        denoise = projection(denoise, problem.operator, problem.operator(problem.measured))
    return _possible(denoise, problem)


def _possible(denoise: Denoise, problem: Problem) -> Denoise:
    possible = problem.possible
    return denoise if possible is None else lambda x, sigma: possible(denoise(x, sigma))
