"""Optimization of a model's noise schedule for a number of steps, compared with its own grid."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from audiodiff import metrics
from audiodiff.errors import DataError
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.best_grid import N_LEVELS, best_bound, best_truncation
from audiodiff.tasks.noise_schedule.examples import Example, comparable, load_examples, unconditional_examples
from audiodiff.tasks.noise_schedule.levels import Levels, log_uniform, standard_grids
from audiodiff.tasks.noise_schedule.measures import Convergence, OnPart, Quality, mean_metric, on_grid, own_grid
from audiodiff.tasks.noise_schedule.request import CONVERGENCE, ELBO, SEARCH, TABLE, TRUNCATION, ScheduleRequest
from audiodiff.tasks.noise_schedule.search import Trial, best, search
from audiodiff.types import OnProgress

Value = Callable[[Levels, OnPart], float]


@dataclass(frozen=True)
class Comparison:
    """One quantity before and after.

    Args:
        what: its name, and the examples.
        better: "higher" or "lower".
        before: with the grid to compare with; None if undefined.
        after: with the chosen grid.
    """

    what: str
    better: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class ScheduleResult:
    """The chosen schedule, and the measurements.

    Args:
        request: that it was chosen for.
        sigmas: the chosen levels.
        start: the levels to compare with; None if the model has no grid of so many steps.
        comparisons: of both grids.
        trials: grids that a search tried; a lower cost is better.
    """

    request: ScheduleRequest
    sigmas: Levels
    start: Levels | None
    comparisons: Sequence[Comparison] = ()
    trials: Sequence[Trial] = ()


@dataclass(frozen=True)
class _Job:
    """A model, a request, and callbacks."""

    model: Synthesizer
    request: ScheduleRequest
    on_progress: OnProgress
    on_note: Callable[[str], None]

    @property
    def sign(self) -> float:
        """Factor that makes a cost, where lower is better, of the metric."""
        return -1.0 if self.request.higher_is_better else 1.0


def optimize_schedule(
    model: Synthesizer,
    request: ScheduleRequest,
    *,
    on_progress: OnProgress = lambda *_: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> ScheduleResult:
    """Find a grid, and compare it with the model's own.

    Args:
        model: a trained model.
        request: from `resolve_request`.
        on_progress: called while it works.
        on_note: called with remarks: recordings that are left out, and the best grid so far on an interrupt.

    Raises:
        AudiodiffError: if the recordings cannot be used, or the metric has no value on them.
    """
    job = _Job(model, request, on_progress, on_note)
    searched, held_out = _examples(job)
    # Before a long search, so that unusable recordings for the check are refused at once.
    check = None if request.metric is None else _value(job, held_out)
    if request.strategy == SEARCH:
        result = _by_search(job, searched)
    elif request.given is not None:
        result = ScheduleResult(request, request.given, own_grid(model.sampler, request.steps))
    else:
        result = _by_path(job, searched)
    if check is None:
        return result
    try:
        return _check(job, result, check, what=f"on {len(held_out)} held out")
    except KeyboardInterrupt:
        _note_best(job, result.sigmas, "found before the check")
        raise


def _by_search(job: _Job, examples: Sequence[Example]) -> ScheduleResult:
    request, sign = job.request, job.sign
    low, high = request.sigma_range(job.model)
    own = own_grid(job.model.sampler, request.steps)
    standard = tuple(standard_grids(low, high, request.steps).values())
    starts = standard if own is None else (own, *standard)
    value = _value(job, examples)
    trials: list[Trial] = []

    def cost(sigmas: Levels) -> float:
        return sign * value(sigmas, _within(job, "searching", done=len(trials), total=request.trials))

    def note(trial: Trial) -> None:
        trials.append(trial)
        job.on_progress("searching", len(trials), request.trials)

    try:
        search(cost, starts, low=low, high=high, n_trials=request.trials, on_trial=note)
    except KeyboardInterrupt:
        if trials:
            found = best(trials)
            _note_best(job, found.sigmas, f"best of {len(trials)} trials: {request.metric} {sign * found.cost:.4g}")
        raise
    found = best(trials)
    if math.isinf(found.cost):
        raise DataError(f"--metric {request.metric} has no value for this model's results, on any grid that was tried")
    start = trials[0] if own is not None else best(trials[: len(starts)])
    comparison = _comparison(request, f"on {len(examples)} searched on", sign * start.cost, sign * found.cost)
    return ScheduleResult(request, found.sigmas, start.sigmas, [comparison], trials)


def _by_path(job: _Job, examples: Sequence[Example]) -> ScheduleResult:
    request = job.request
    find, what = {
        ELBO: (best_bound, "variational bound in nats per dimension"),
        TRUNCATION: (best_truncation, "truncation error, RMS of the signal"),
    }[request.strategy]
    low, high = request.sigma_range(job.model)
    own = own_grid(job.model.sampler, request.steps)
    found = find(
        job.model,
        examples,
        levels=log_uniform(low, high, max(N_LEVELS, request.steps + 2)),
        start=own,
        n_steps=request.steps,
        seed=request.seed,
        on_part=partial(job.on_progress, "computing costs of steps"),
    )
    return ScheduleResult(request, found.sigmas, own, [Comparison(what, "lower", found.start_cost, found.cost)])


def _note_best(job: _Job, sigmas: Levels, what: str) -> None:
    job.on_note(f"{what}; to install it: --sigmas {','.join(map(str, sigmas))}")


def _check(job: _Job, result: ScheduleResult, value: Value, *, what: str) -> ScheduleResult:
    """Measure both grids on held-out examples; a search result that is worse there is replaced by its start."""
    request, sign = job.request, job.sign
    before = math.nan if result.start is None else value(result.start, _within(job, "checking", done=0, total=2))
    after = value(result.sigmas, _within(job, "checking", done=1, total=2))
    comparison = _comparison(request, what, before, after)
    if request.strategy == SEARCH and math.isfinite(before) and not sign * after <= sign * before:
        assert result.start is not None
        job.on_note(f"the best grid is worse on the held-out examples ({before:.4g} -> {after:.4g}): the start is kept")
        kept = [replace(each, after=each.before) for each in (*result.comparisons, comparison)]
        return replace(result, sigmas=result.start, comparisons=kept)
    return replace(result, comparisons=[*result.comparisons, comparison])


def _comparison(request: ScheduleRequest, where: str, before: float, after: float) -> Comparison:
    known = [value if math.isfinite(value) else None for value in (before, after)]
    return Comparison(f"{request.metric} {where}", "higher" if request.higher_is_better else "lower", *known)


def _value(job: _Job, examples: Sequence[Example]) -> Value:
    """Return the function from a grid to its metric on these examples."""
    model, request = job.model, job.request
    quality: Quality
    if request.metric == CONVERGENCE:
        low, high = request.sigma_range(model)
        on_part = partial(job.on_progress, "computing references")
        quality = Convergence(model, examples, low=low, high=high, seed=request.seed, on_part=on_part)
    else:
        assert request.metric is not None
        metric = metrics.select([request.metric])[0]
        kept = comparable(examples, metric, sample_rate=model.sample_rate, on_note=job.on_note)
        if not kept:
            raise DataError(f"--metric {request.metric} has no value for any of the {len(examples)} recordings")
        quality = partial(mean_metric, examples=kept, metric=metric, seed=request.seed)
    return lambda sigmas, on_part: quality(on_grid(model, sigmas, solver=request.sampler), on_part)


def _examples(job: _Job) -> tuple[list[Example], list[Example]]:
    """Return the examples to search on, and those that check the result."""
    model, request = job.model, job.request
    if request.strategy == TABLE and request.metric is None:
        return [], []
    if request.data is not None and (model.needs_mel or request.strategy == ELBO):
        return load_examples(model, request.data, split=request.split, n=request.n, seconds=request.seconds)
    examples = unconditional_examples(model, n=2 * request.n, seconds=request.seconds)
    return examples[: request.n], examples[request.n :]


def _within(job: _Job, stage: str, *, done: int, total: int) -> OnPart:
    """Report the parts of one item of a stage."""
    return lambda part, n_parts: job.on_progress(stage, done + min(part / n_parts, 0.99), total)
