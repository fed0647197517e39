"""The model in training with its optimiser: one optimiser step, and the state that a resume needs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from audiodiff import compat
from audiodiff.errors import TrainingError
from audiodiff.training.ema import Ema
from audiodiff.training.lr_schedule import LrSchedule
from audiodiff.training.step import Float32Batch, TrainingStep, seed_step

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class StepReport:
    """Results of an optimiser step.

    Args:
        loss: mean over the step's examples, of this process.
        gradient_norm: before clipping.
        lr: learning rate.
        sigma: noise level of each example, of this process.
        losses: unweighted, of each example.
    """

    loss: float
    gradient_norm: float
    lr: float
    sigma: Float[Tensor, "examples"]
    losses: Float[Tensor, "examples"]


class Learner:
    """Train a model step by step; everything random depends on the seed, the step and the process's rank alone.

    Args:
        module: the model with its loss.
        optimizer: of `module.trainable()`.
        lr_schedule: factor of its learning rate.
        fabric: device, precision, processes.
        seed: of everything random.
        clip_norm: largest norm of the gradient; None does not clip.
        ema_decay: of the averaged weights.
    """

    def __init__(
        self,
        module: TrainingStep,
        *,
        optimizer: torch.optim.Optimizer,
        lr_schedule: LrSchedule,
        fabric: Fabric,
        seed: int,
        clip_norm: float | None,
        ema_decay: float,
    ) -> None:
        self.module = module
        self.fabric = fabric
        self._own_optimizer = optimizer
        # The wrapped module's forward synchronises gradients between processes.
        self._wrapped, self._optimizer = fabric.setup(module, optimizer)
        self.ema = Ema(module.synthesizer, decay=ema_decay)
        self._lr_schedule = lr_schedule
        self._base_rates = [group["lr"] for group in optimizer.param_groups]
        self._seed = seed
        self._clip_norm = math.inf if clip_norm is None else clip_norm

    def step(self, step: int, batches: Sequence[Batch]) -> StepReport:
        """Make optimiser step `step`, counted from 0, with the gradients of all batches accumulated.

        Raises:
            TrainingError: if the loss or the gradient is not finite; the weights stay as they were.
        """
        fabric, optimizer = self.fabric, self._optimizer
        for group, rate in zip(optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * self._lr_schedule(step)
        generator = seed_step(seed=self._seed, step=step, rank=fabric.global_rank)
        loss = torch.zeros((), device=fabric.device)
        seen: list[Tensor] = []
        for index, batch in enumerate(batches):
            more = fabric.world_size > 1 and index + 1 < len(batches)
            with fabric.no_backward_sync(self._wrapped, enabled=more):  # pyright: ignore[reportArgumentType]
                losses, plain, sigma = self._wrapped(self._on_device(batch), generator)
                fabric.backward(losses.mean() / len(batches))
            loss += losses.detach().mean() / len(batches)
            seen.append(torch.stack([sigma.to(plain), plain]))
        norm = fabric.clip_gradients(self.module, optimizer, max_norm=self._clip_norm, error_if_nonfinite=False)
        norm = torch.as_tensor(norm).detach()
        _check_finite(fabric.all_reduce(torch.stack([loss, norm])), step=step)
        sigma, plain = torch.cat(seen, dim=1)
        self.module.density.update(*_of_all(fabric, torch.stack([sigma, plain])))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.ema.update(step)
        return StepReport(float(loss), float(norm), optimizer.param_groups[0]["lr"], sigma, plain)

    def state(self) -> dict[str, Any]:
        """Return everything that steps change, for a resume."""
        return {
            "model": self.module.synthesizer.state_dict(),
            "optimizer": self._own_optimizer.state_dict(),
            "optimizer_kind": type(self._own_optimizer).__name__,
            "ema": self.ema.shadow,
            "density": self.module.density.state(),
            "method": dict(self.module.state()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; another kind of optimiser begins without memory.

        The optimiser's settings stay as configured: its learning rate was saved with the schedule's factor.

        Raises:
            TrainingError: if what was saved is of another model.
        """
        try:
            self.module.synthesizer.load_state_dict(compat.current_weights(state["model"]))
        except RuntimeError as error:
            raise TrainingError(
                f"train.resume: the saved weights are of another model, keep network and representation: {error}"
            ) from error
        self.ema.load_shadow(compat.current_weights(state["ema"]))
        self.module.density.restore(state["density"])
        self.module.restore(state.get("method", {}))
        optimizer = self._own_optimizer
        if state["optimizer_kind"] != type(optimizer).__name__:
            return
        settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(optimizer.param_groups, settings, strict=True):
            group.update(own)

    def check_weights(self, step: int) -> None:
        """Refuse weights that the last step broke: its loss was that of the weights before it.

        Raises:
            TrainingError: naming the first weight that is not finite.
        """
        for name, parameter in self.module.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise TrainingError(
                    f"step {step}: the weight {name} is not finite, so no checkpoint is written; the newest one holds "
                    "good weights. Try a lower optimizer.lr, or a warm-up (lr_schedule.warmup_steps)"
                )

    def _on_device(self, batch: Batch) -> Float32Batch:
        """Bring a batch to the device, without padding that all its examples have."""
        dialect, to_device = self.module.synthesizer.dialect, self.fabric.to_device
        hop = 1 if dialect is None else dialect.hop_length
        length = -(-int(batch["n_valid"].max()) // hop) * hop
        mel = batch.get("mel")
        if mel is not None and dialect is not None:
            mel = to_device(mel[..., : dialect.n_frames(length)])
        return Float32Batch(to_device(batch["audio"][..., :length]), batch["n_valid"], to_device(batch["labels"]), mel)


def _of_all(fabric: Fabric, values: Tensor) -> Tensor:
    """Join (2, batch) of every process, in the order of their ranks."""
    if fabric.world_size == 1:
        return values
    gathered = [torch.empty_like(values) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(gathered, values)
    return torch.cat(gathered, dim=1)


def _check_finite(values: Any, *, step: int) -> None:
    loss, norm = (float(value) for value in values)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(
            f"step {step + 1}: loss={loss:g} and gradient_norm={norm:g} must be finite; the newest checkpoint holds "
            "good weights. Try a lower optimizer.lr, a warm-up (lr_schedule.warmup_steps), train.clip_norm=1, or "
            "fabric.precision=32-true"
        )
