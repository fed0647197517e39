"""The training loop, from top to bottom."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from audiodiff.errors import ParameterError, check_whole
from audiodiff.io.console import LOGGER
from audiodiff.training.failure import saving_on_failure
from audiodiff.training.interrupt import catch_interrupt
from audiodiff.training.learner import Batch, Learner
from audiodiff.training.log import Log, NoiseLevels, Speed
from audiodiff.training.progress import Progress


@dataclass(frozen=True)
class TrainSettings:
    """Length of training, and intervals of validation, logs and checkpoints.

    Args:
        steps: optimiser steps in all.
        batch_size: examples per step, process and accumulation.
        accumulate: batches per optimiser step.
        clip_norm: largest norm of the gradient; None does not clip.
        ema_decay: of the averaged weights; 0 keeps the last ones.
        log_every: steps between two points of the curves.
        validate_every: steps between two validations; 0 validates at the end only.
        save_every: steps between two checkpoints; 0 saves at the end only.
        keep: number of newest checkpoints that are kept.
        seed: of everything random.
    """

    steps: int
    batch_size: int
    accumulate: int
    clip_norm: float | None
    ema_decay: float
    log_every: int
    validate_every: int
    save_every: int
    keep: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "keep"):
            check_whole(getattr(self, name), name=f"train.{name}", least=1)
        for name in ("validate_every", "save_every"):
            check_whole(getattr(self, name), name=f"train.{name}", least=0)
        check_whole(self.seed, name="seed", least=0)
        if self.clip_norm is not None and not _is_number(self.clip_norm, above=0.0):
            raise ParameterError(f"train.clip_norm={self.clip_norm} must be a positive number, or null for no clipping")
        if not _is_number(self.ema_decay, above=-1.0):
            raise ParameterError(f"train.ema_decay={self.ema_decay} must be a number in [0, 1)")


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run.

    Args:
        step: optimiser steps that were made.
        signal: the name of the signal that asked it to stop, or None.
        metrics: of the last validation.
        data_wait: share of the time that the loop waited for data.
    """

    step: int
    signal: str | None
    metrics: Mapping[str, float]
    data_wait: float


Batches = Callable[[int], AbstractContextManager[Iterator[Batch]]]
"""Opens the stream of batches from a step on."""
Validate = Callable[[int, Log], Mapping[str, float]]
"""(step, log) -> metrics of the averaged model, which is in the log as sounds."""
Save = Callable[[int, Mapping[str, float]], None]
"""Writes a checkpoint of a step, with the metrics of the last validation."""


@dataclass(frozen=True)
class Start:
    """State that a run begins with.

    Args:
        step: optimiser steps that were made before.
        metrics: of the last validation before, empty if there was none.
    """

    step: int
    metrics: Mapping[str, float]


def fit(
    learner: Learner,
    settings: TrainSettings,
    *,
    start: Start,
    batches: Batches,
    validate: Validate,
    save: Save,
    log: Log,
) -> Outcome:
    """Train from the start to settings.steps.

    Raises:
        TrainingError: if a loss, a gradient or a weight is not finite; the newest checkpoint stays as it was.
        StageError: if data cannot be read, or validation or a log fails; a checkpoint is saved first.
    """
    fabric, metrics = learner.fabric, start.metrics
    levels = NoiseLevels()
    speed = Speed(sample_rate=learner.module.synthesizer.sample_rate, world_size=fabric.world_size)
    waited, began, step, saved = 0.0, time.perf_counter(), start.step, start.step

    def keep() -> None:
        nonlocal saved
        if step > saved:
            learner.check_weights(step)
            save(step, metrics)
            saved = step

    with (
        catch_interrupt() as interrupt,
        batches(step) as stream,
        Progress(total=settings.steps, first=step, shown=fabric.is_global_zero) as progress,
    ):
        while step < settings.steps:
            asked = time.perf_counter()
            with saving_on_failure("reading data", step=step, keep=keep):
                # All of the step's data before its first computation, which may change discriminators.
                drawn = [next(stream) for _ in range(settings.accumulate)]
            waited += time.perf_counter() - asked
            report = learner.step(step, drawn)
            levels.add(report.losses, report.sigma)
            speed.add(drawn, seconds=time.perf_counter() - asked)
            step += 1

            progress.advance(loss=report.loss, rate=report.lr)
            complete = step == settings.steps
            stopped = _agree(fabric, interrupt.signal is not None)
            if (_due(step, settings.validate_every) or complete) and not stopped:
                progress.say("validating")
                with saving_on_failure("validation", step=step, keep=keep):
                    metrics = validate(step, log)
                    log.scalars({f"validation/{name}": value for name, value in metrics.items()}, step=step)
                progress.report(metrics)
                stopped = _agree(fabric, interrupt.signal is not None)
            if _due(step, settings.log_every) or complete or stopped:
                shown = {"loss": report.loss, "gradient_norm": report.gradient_norm, "lr": report.lr}
                shown |= learner.module.logged()
                shown = {f"train/{name}": value for name, value in shown.items()} | levels.take() | speed.take()
                with saving_on_failure("writing curves", step=step, keep=keep):
                    log.scalars(shown, step=step)
                if fabric.is_global_zero:
                    LOGGER.info(
                        "step %d/%d  loss %.4g  gradient norm %.3g  lr %.3g  %.3g steps/s",
                        *(step, settings.steps, report.loss, report.gradient_norm, report.lr),
                        shown["speed/steps_per_second"],
                    )
            if _due(step, settings.save_every) or complete or stopped:
                progress.say("saving")
                keep()
            if stopped:
                break
    spent = max(time.perf_counter() - began, 1e-9)
    return Outcome(step=step, signal=interrupt.signal, metrics=metrics, data_wait=waited / spent)


def _is_number(value: object, *, above: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > above


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _agree(fabric: Fabric, stop: bool) -> bool:
    """Stop everywhere when any process was asked to."""
    if fabric.world_size == 1:
        return stop
    total = fabric.all_reduce(torch.tensor(float(stop), device=fabric.device), reduce_op="sum")
    assert isinstance(total, Tensor)
    return bool(total > 0)
