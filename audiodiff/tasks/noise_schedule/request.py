"""Request for a noise schedule: number of steps, search strategy, metric and recordings."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from audiodiff import metrics
from audiodiff.diffusion.solvers import REGISTRY as SOLVERS
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.levels import Levels, standard_grids
from audiodiff.tasks.noise_schedule.measures import sampler_range

SEARCH, ELBO, TRUNCATION, TABLE = "search", "elbo", "truncation", "table"
STRATEGIES = (SEARCH, ELBO, TRUNCATION)
CONVERGENCE = "convergence"
DEFAULT_METRIC = "mr_stft"


@dataclass(frozen=True)
class ScheduleRequest:
    """A noise schedule to find, and the way to find it.

    Args:
        steps: of the sampler.
        strategy: one of STRATEGIES, or TABLE for given levels.
        given: the levels of a table; None searches for levels.
        metric: a metric's name, CONVERGENCE, or None.
        data: folder or manifest of the recordings; None uses none.
        split: of the recordings.
        n: recordings to search on; as many more check the result.
        seconds: of each recording, from its beginning.
        trials: of a search.
        sampler: name of another solver; None is the model's own.
        sigma_min: lowest level; None is that of the model's grid.
        sigma_max: highest level; None is that of the model's grid.
        seed: of the noise.

    Raises:
        ParameterError: if an argument is out of range.
    """

    steps: int
    strategy: str
    given: Levels | None = None
    metric: str | None = None
    data: Path | None = None
    split: str = "val"
    n: int = 8
    seconds: float = 2.0
    trials: int = 40
    sampler: str | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.given is not None and len(self.given) != self.steps:
            raise ParameterError(
                f"--steps {self.steps} must be {len(self.given)}, the length of the table: leave it out"
            )
        for name, value in (("--steps", self.steps), ("-n", self.n), ("--trials", self.trials)):
            if value < 1:
                raise ParameterError(f"{name} {value} must be at least 1")
        if self.strategy not in (*STRATEGIES, TABLE):
            raise ParameterError(f"--strategy {self.strategy} must be one of {', '.join(STRATEGIES)}")
        if not (math.isfinite(self.seconds) and self.seconds > 0.0):
            raise ParameterError(f"--seconds {self.seconds} must be a positive number")
        if self.metric is not None and self.metric != CONVERGENCE:
            try:
                metrics.select([self.metric])
            except ParameterError as error:
                raise ParameterError(f"--metric: {error}, {CONVERGENCE}") from error
        if self.sampler is not None:
            solver_named(self.sampler)

    @property
    def needs_recordings(self) -> bool:
        """Whether recordings are needed for any model."""
        return self.strategy == ELBO or self.metric not in (None, CONVERGENCE)

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the metric is better."""
        if self.metric is None or self.metric == CONVERGENCE:
            return False
        return metrics.select([self.metric])[0].better == "higher"

    def sigma_range(self, model: Synthesizer) -> tuple[float, float]:
        """Return the lowest and the highest level."""
        low, high = sampler_range(model.sampler)
        return (
            low if self.sigma_min is None else self.sigma_min,
            high if self.sigma_max is None else self.sigma_max,
        )


def resolve_request(request: ScheduleRequest, *, model: Synthesizer, solver: str | None) -> ScheduleRequest:
    """Fill in a request's defaults for a model, and refuse what the model does not support.

    Args:
        request: as the caller gives it.
        model: a trained model.
        solver: name of the solver that will be used; None if unknown.

    Raises:
        ParameterError: with the rule and the remedy.
    """
    if request.strategy == SEARCH and request.metric is None:
        request = replace(request, metric=DEFAULT_METRIC if model.needs_mel else CONVERGENCE)
    if request.metric not in (None, CONVERGENCE) and not model.needs_mel:
        raise ParameterError(
            f"--metric {request.metric} compares results with their recording, and this model is unconditional, so "
            f"that they have none; give --metric {CONVERGENCE}, or --strategy {ELBO} or {TRUNCATION}"
        )
    if request.metric == CONVERGENCE and solver is not None and solver in SOLVERS and SOLVERS[solver].stochastic:
        raise ParameterError(
            f"--metric {CONVERGENCE} has no meaning for the sampler {solver}, which draws noise at every step: give "
            f"--sampler euler, say, or --strategy {ELBO}"
        )
    measures = request.strategy != TABLE or request.metric is not None
    if measures and request.data is None and (request.needs_recordings or model.needs_mel):
        why = f"--strategy {ELBO}" if request.strategy == ELBO else "this model" if model.needs_mel else "--metric"
        raise ParameterError(f"{why} needs recordings: give --data, a folder or a manifest, or --data embedded")
    low, high = request.sigma_range(model)
    standard_grids(low, high, request.steps)
    return request
