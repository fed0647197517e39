"""Exponential moving average of the weights, which a checkpoint contains."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from audiodiff.errors import ParameterError


class Ema:
    """Average a module's parameters over the steps of training.

    The average is shorter at first: the decay of step n is min(decay, (1 + n) / (10 + n)).

    Args:
        module: whose parameters are averaged; its buffers are not.
        decay: of the average per step; 0 keeps the weights of the last step.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ParameterError(f"ema_decay={decay} must lie in [0, 1)")
        self.decay = decay
        self._module = module
        self.shadow = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the weights after optimiser step `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        parameters = [parameter.detach() for parameter in self._module.parameters()]
        torch._foreach_lerp_(list(self.shadow.values()), parameters, 1.0 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the module's state dict with averaged parameters."""
        return self._module.state_dict() | self.shadow

    def load_shadow(self, shadow: dict[str, Tensor]) -> None:
        """Restore a saved average."""
        with torch.no_grad():
            for name, tensor in self.shadow.items():
                tensor.copy_(shadow[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the module the averaged weights within a block."""
        own = {name: parameter.detach().clone() for name, parameter in self._module.named_parameters()}
        self._copy(self.shadow)
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._module.named_parameters():
            parameter.copy_(values[name])
