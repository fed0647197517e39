"""Which grid a model gets: what is asked for, what was measured, what was chosen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from audiodiff import metrics
from audiodiff.diffusion.solvers import REGISTRY as SOLVERS
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.errors import DataError, ParameterError
from audiodiff.io.console import progress, say
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.levels import Levels, log_uniform, standard_grids
from audiodiff.tasks.noise_schedule.measures import (
    N_LEVELS,
    Convergence,
    Example,
    OnPart,
    Quality,
    best_bound,
    best_truncation,
    comparable,
    from_nothing,
    known_range,
    mean_metric,
    on_grid,
    own_grid,
    recordings,
)
from audiodiff.tasks.noise_schedule.search import Trial, best, search

SEARCH, ELBO, TRUNCATION, GIVEN = "search", "elbo", "truncation", "given"
METHODS = (SEARCH, ELBO, TRUNCATION)
CONVERGENCE = "convergence"
DEFAULT_METRIC = "mr_stft"

Value = Callable[[Levels, OnPart], float]


@dataclass(frozen=True)
class Request:
    """Hold what is to be found.

    Args:
        steps: of the sampler.
        method: one of METHODS, or GIVEN for a table.
        given: the levels of a table, None to find some.
        metric: a metric's name, CONVERGENCE, or None for none.
        data: where the recordings are; None for none.
        split: of the recordings.
        n: how many are searched on; as many check what was found.
        seconds: of each.
        trials: of a search.
        sampler: name of another solver; None is the model's own.
        sigma_min: least level; None is that of the model's grid.
        sigma_max: greatest level; None is that of the model's grid.
        seed: of the noise.
    """

    steps: int
    method: str
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
        if self.method not in (*METHODS, GIVEN):
            raise ParameterError(f"--method {self.method} must be one of {', '.join(METHODS)}")
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
        """Whether nothing can be measured without recordings, whatever the model."""
        return self.method == ELBO or self.metric not in (None, CONVERGENCE)

    @property
    def higher_is_better(self) -> bool:
        """Which way the metric is good."""
        if self.metric is None or self.metric == CONVERGENCE:
            return False
        return metrics.select([self.metric])[0].better == "higher"


@dataclass(frozen=True)
class Comparison:
    """Hold one quantity before and after.

    Args:
        what: its name, and what it is over.
        better: "higher" or "lower".
        before: with the grid to compare with; None where that has no value.
        after: with the grid that was chosen.
    """

    what: str
    better: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Choice:
    """Hold the grid that was chosen, and why.

    Args:
        request: what was asked for.
        sigmas: the levels that were chosen.
        start: those that they are compared with, None if there are none for so many steps.
        comparisons: what was measured.
        trials: the grids that a search tried, whose cost is lower for a better one.
    """

    request: Request
    sigmas: Levels
    start: Levels | None
    comparisons: Sequence[Comparison] = ()
    trials: Sequence[Trial] = ()


def settled(request: Request, *, model: Synthesizer, solver: str | None) -> Request:
    """Return the request with its defaults for this model, having refused what cannot be.

    Args:
        request: what is asked for.
        model: trained.
        solver: name of the solver that will be used, None where it is unknown.

    Raises:
        ParameterError: naming what cannot be, and what can.
    """
    if request.method == SEARCH and request.metric is None:
        request = replace(request, metric=DEFAULT_METRIC if model.needs_mel else CONVERGENCE)
    if request.metric not in (None, CONVERGENCE) and not model.needs_mel:
        raise ParameterError(
            f"--metric {request.metric} compares with a recording, and this model is unconditional: it makes none "
            f"again; give --metric {CONVERGENCE}, or --method {ELBO} or {TRUNCATION}"
        )
    if request.metric == CONVERGENCE and solver is not None and solver in SOLVERS and SOLVERS[solver].stochastic:
        raise ParameterError(
            f"--metric {CONVERGENCE} has no meaning for the sampler {solver}, which draws noise at every step: give "
            f"--sampler euler, say, or --method {ELBO}"
        )
    measures = request.method != GIVEN or request.metric is not None
    if measures and request.data is None and (request.needs_recordings or model.needs_mel):
        why = f"--method {ELBO}" if request.method == ELBO else "this model" if model.needs_mel else "--metric"
        raise ParameterError(f"{why} needs recordings: give --data, a folder or a manifest, or --data embedded")
    low, high = _range(model, request)
    standard_grids(low, high, request.steps)
    return request


def choose(model: Synthesizer, request: Request) -> Choice:
    """Find a grid, and compare it with the model's own.

    Args:
        model: trained.
        request: from `settled`.

    Raises:
        AudiodiffError: if the recordings cannot be used, or give the metric no value.
    """
    searched, held_out = _examples(model, request)
    # Before the search, which may be long, so that recordings that cannot check it are refused at once.
    check = None if request.metric is None else _value(model, request, held_out)
    if request.method == SEARCH:
        choice = _by_search(model, request, searched)
    elif request.given is not None:
        choice = Choice(request, request.given, own_grid(model.sampler, request.steps))
    else:
        choice = _by_path(model, request, searched)
    if check is None:
        return choice
    try:
        return _checked(choice, check, what=f"on {len(held_out)} held out")
    except KeyboardInterrupt:
        _say_best(choice.sigmas, "found before the check")
        raise


def _by_search(model: Synthesizer, request: Request, examples: Sequence[Example]) -> Choice:
    low, high = _range(model, request)
    own = own_grid(model.sampler, request.steps)
    standard = tuple(standard_grids(low, high, request.steps).values())
    starts = standard if own is None else (own, *standard)
    value = _value(model, request, examples)
    sign = -1.0 if request.higher_is_better else 1.0
    trials: list[Trial] = []
    try:
        with progress("searching", total=request.trials) as bar:

            def note(trial: Trial) -> None:
                trials.append(trial)
                bar.advance()

            search(
                lambda sigmas: sign * value(sigmas, bar.within),
                starts,
                low=low,
                high=high,
                n_trials=request.trials,
                on_trial=note,
            )
    except KeyboardInterrupt:
        if trials:
            found = best(trials)
            _say_best(found.sigmas, f"best of {len(trials)} trials: {request.metric} {sign * found.cost:.4g}")
        raise
    found = best(trials)
    if math.isinf(found.cost):
        raise DataError(f"--metric {request.metric} has no value for what this model makes, on any grid that was tried")
    start = trials[0] if own is not None else best(trials[: len(starts)])
    comparison = _comparison(request, f"on {len(examples)} searched on", sign * start.cost, sign * found.cost)
    return Choice(request, found.sigmas, start.sigmas, [comparison], trials)


def _by_path(model: Synthesizer, request: Request, examples: Sequence[Example]) -> Choice:
    find, what = {
        ELBO: (best_bound, "variational bound in nats per number"),
        TRUNCATION: (best_truncation, "truncation error, RMS of the signal"),
    }[request.method]
    low, high = _range(model, request)
    own = own_grid(model.sampler, request.steps)
    with progress("computing", total=1) as bar:
        found = find(
            model,
            examples,
            levels=log_uniform(low, high, max(N_LEVELS, request.steps + 2)),
            start=own,
            n_steps=request.steps,
            seed=request.seed,
            on_part=bar.within,
        )
    return Choice(request, found.sigmas, own, [Comparison(what, "lower", found.start_cost, found.cost)])


def _say_best(sigmas: Levels, what: str) -> None:
    say(f"{what}; to install it: --sigmas {','.join(map(str, sigmas))}")


def _checked(choice: Choice, value: Value, *, what: str) -> Choice:
    """Measure both grids on examples that were not searched on; what was searched and is worse there gives way."""
    request = choice.request
    with progress("checking", total=2) as bar:
        before = math.nan if choice.start is None else value(choice.start, bar.within)
        bar.advance()
        after = value(choice.sigmas, bar.within)
    comparison = _comparison(request, what, before, after)
    sign = -1.0 if request.higher_is_better else 1.0
    if request.method == SEARCH and math.isfinite(before) and not sign * after <= sign * before:
        assert choice.start is not None
        say(f"what was found is worse on the held-out examples ({before:.4g} -> {after:.4g}): the start is kept")
        kept = [replace(each, after=each.before) for each in (*choice.comparisons, comparison)]
        return replace(choice, sigmas=choice.start, comparisons=kept)
    return replace(choice, comparisons=[*choice.comparisons, comparison])


def _comparison(request: Request, where: str, before: float, after: float) -> Comparison:
    known = [value if math.isfinite(value) else None for value in (before, after)]
    return Comparison(f"{request.metric} {where}", "higher" if request.higher_is_better else "lower", *known)


def _value(model: Synthesizer, request: Request, examples: Sequence[Example]) -> Value:
    """Return the metric of a grid on these examples."""
    quality: Quality
    if request.metric == CONVERGENCE:
        low, high = _range(model, request)
        with progress("computing the references", total=1) as bar:
            quality = Convergence(model, examples, low=low, high=high, seed=request.seed, on_part=bar.within)
    else:
        assert request.metric is not None
        metric = metrics.select([request.metric])[0]
        kept = comparable(examples, metric, sample_rate=model.sample_rate)
        if not kept:
            raise DataError(f"--metric {request.metric} has no value for any of the {len(examples)} recordings")
        quality = partial(mean_metric, examples=kept, metric=metric, seed=request.seed)
    return lambda sigmas, on_part: quality(on_grid(model, sigmas, solver=request.sampler), on_part)


def _examples(model: Synthesizer, request: Request) -> tuple[list[Example], list[Example]]:
    """Return what is searched on, and what checks it."""
    if request.method == GIVEN and request.metric is None:
        return [], []
    if request.data is not None and (model.needs_mel or request.method == ELBO):
        return recordings(model, request.data, split=request.split, n=request.n, seconds=request.seconds)
    examples = from_nothing(model, n=2 * request.n, seconds=request.seconds)
    return examples[: request.n], examples[request.n :]


def _range(model: Synthesizer, request: Request) -> tuple[float, float]:
    low, high = known_range(model.sampler)
    return (
        low if request.sigma_min is None else request.sigma_min,
        high if request.sigma_max is None else request.sigma_max,
    )


def listed(numbers: Sequence[float]) -> str:
    """Return numbers as the options take them.

    Example:
        >>> listed([4.0, 0.25])
        '4,0.25'
    """
    return ",".join(f"{number:.6g}" for number in numbers)
