"""The training loop, from top to bottom."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from audiodiff.errors import ParameterError, TrainingError, check_whole
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.ema import Ema
from audiodiff.training.failure import saving_on_failure
from audiodiff.training.interrupt import catch_interrupt
from audiodiff.training.log import Log, NoiseLevels
from audiodiff.training.lr_schedule import LrSchedule
from audiodiff.training.progress import Progress
from audiodiff.training.step import Float32Batch, TrainingStep, seed_step


@dataclass(frozen=True)
class Settings:
    """How long to train, and how often to look.

    Args:
        steps: optimiser steps in all.
        batch_size: examples per step, process and accumulation.
        accumulate: batches per optimiser step.
        clip_norm: largest norm of the gradient; None does not clip.
        ema_decay: of the averaged weights; 0 keeps the last ones.
        log_every: steps between two points of the curves.
        validate_every: steps between two validations; 0 validates at the end only.
        save_every: steps between two checkpoints; 0 saves at the end only.
        keep: newest checkpoints that stay.
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
    """How a run ended.

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


Batch = Mapping[str, Any]
Save = Callable[[int, Mapping[str, float]], None]


def fit(
    *,
    fabric: Fabric,
    module: TrainingStep,
    wrapped: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LrSchedule,
    ema: Ema,
    batches: Callable[[int], AbstractContextManager[Iterator[Batch]]],
    settings: Settings,
    first_step: int,
    metrics: Mapping[str, float],
    log: Log,
    validate: Callable[[int], Mapping[str, float]],
    save: Save,
) -> Outcome:
    """Train from first_step to settings.steps.

    Args:
        fabric: device, precision, processes.
        module: the model with its objective.
        wrapped: the same as fabric set it up; its forward synchronises gradients.
        optimizer: as fabric set it up.
        schedule: factor of its learning rate.
        ema: average of the module's synthesizer.
        batches: opens the stream of batches from a step on.
        settings: lengths and intervals.
        first_step: steps that were made before.
        metrics: of the last validation before, empty if there was none.
        log: where losses go.
        validate: measures the averaged model after a step.
        save: writes a checkpoint after a step, with the metrics of the last validation.

    Raises:
        TrainingError: if a loss, a gradient or a weight is not finite; the newest checkpoint stays as it was.
        StageError: if data cannot be read, or validation or a log fails; a checkpoint is saved first.
    """
    base_rates = [group["lr"] for group in optimizer.param_groups]
    levels = NoiseLevels()
    waited, began, step = 0.0, time.perf_counter(), first_step
    saved = first_step

    def keep() -> None:
        nonlocal saved
        if step > saved:
            _check_weights(module, step=step)
            save(step, metrics)
            saved = step

    with (
        catch_interrupt() as interrupt,
        batches(first_step) as stream,
        Progress(total=settings.steps, first=first_step, shown=fabric.is_global_zero) as progress,
    ):
        while step < settings.steps:
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * schedule(step)
            generator = seed_step(seed=settings.seed, step=step, rank=fabric.global_rank)
            loss = torch.zeros((), device=fabric.device)
            seen: list[Tensor] = []
            asked = time.perf_counter()
            with saving_on_failure("reading data", step=step, keep=keep):
                # All of the step's data before its first computation, which may change discriminators.
                micro_batches = [next(stream) for _ in range(settings.accumulate)]
            waited += time.perf_counter() - asked
            for micro, examples in enumerate(micro_batches):
                batch = _examples(examples, fabric=fabric, model=module.synthesizer)
                more = fabric.world_size > 1 and micro + 1 < settings.accumulate
                with fabric.no_backward_sync(wrapped, enabled=more):  # pyright: ignore[reportArgumentType]
                    losses, plain, sigma = wrapped(batch, generator)
                    fabric.backward(losses.mean() / settings.accumulate)
                loss += losses.detach().mean() / settings.accumulate
                levels.add(plain, sigma)
                seen.append(torch.stack([sigma.to(plain), plain]))
            norm = _gradient_norm(fabric, module, optimizer, clip_norm=settings.clip_norm)
            _check_finite(fabric.all_reduce(torch.stack([loss, norm])), step=step)
            module.density.update(*_of_all(fabric, torch.cat(seen, dim=1)))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update(step)
            step += 1

            progress.advance(loss=float(loss), rate=optimizer.param_groups[0]["lr"])
            complete = step == settings.steps
            stopped = _agree(fabric, interrupt.signal is not None)
            if (_due(step, settings.validate_every) or complete) and not stopped:
                progress.say("validating")
                with saving_on_failure("validation", step=step, keep=keep):
                    metrics = validate(step)
                    log.scalars({f"validation/{name}": value for name, value in metrics.items()}, step=step)
                stopped = _agree(fabric, interrupt.signal is not None)
            if _due(step, settings.log_every) or complete or stopped:
                shown = {"loss": float(loss), "gradient_norm": float(norm), "lr": optimizer.param_groups[0]["lr"]}
                shown |= module.shown()
                with saving_on_failure("writing curves", step=step, keep=keep):
                    log.scalars({f"train/{name}": value for name, value in shown.items()} | levels.take(), step=step)
            if _due(step, settings.save_every) or complete or stopped:
                progress.say("saving")
                keep()
            if stopped:
                break
    spent = max(time.perf_counter() - began, 1e-9)
    return Outcome(step=step, signal=interrupt.signal, metrics=metrics, data_wait=waited / spent)


def _examples(batch: Batch, *, fabric: Fabric, model: Synthesizer) -> Float32Batch:
    """Bring a batch to the device, without padding that all its examples have."""
    hop = 1 if model.dialect is None else model.dialect.hop_length
    length = -(-int(batch["n_valid"].max()) // hop) * hop
    return Float32Batch(
        fabric.to_device(batch["audio"][..., :length]), batch["n_valid"], fabric.to_device(batch["labels"])
    )


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


def _of_all(fabric: Fabric, values: Tensor) -> Tensor:
    """Join (2, batch) of every process, in the order of their ranks."""
    if fabric.world_size == 1:
        return values
    gathered = [torch.empty_like(values) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(gathered, values)
    return torch.cat(gathered, dim=1)


def _gradient_norm(
    fabric: Fabric, module: TrainingStep, optimizer: torch.optim.Optimizer, *, clip_norm: float | None
) -> Tensor:
    limit = math.inf if clip_norm is None else clip_norm
    norm = fabric.clip_gradients(module, optimizer, max_norm=limit, error_if_nonfinite=False)
    return torch.as_tensor(norm).detach()


def _check_finite(values: Any, *, step: int) -> None:
    loss, norm = (float(value) for value in values)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(
            f"step {step + 1}: loss={loss:g} and gradient_norm={norm:g} must be finite; the newest checkpoint holds "
            "good weights. Try a lower optimizer.lr, a warm-up (lr_schedule.warmup_steps), train.clip_norm=1, or "
            "fabric.precision=32-true"
        )


def _check_weights(module: torch.nn.Module, *, step: int) -> None:
    """Keep a checkpoint from holding what the last step broke: its loss was that of the weights before it."""
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise TrainingError(
                f"step {step}: the weight {name} is not finite, so no checkpoint is written; the newest one holds good "
                "weights. Try a lower optimizer.lr, or a warm-up (lr_schedule.warmup_steps)"
            )
