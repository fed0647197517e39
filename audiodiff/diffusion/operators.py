"""Linear operators A of measurements y = A x0 + noise.

If A A^T = gain * P with an orthogonal projection P, the pseudo-inverse is A^T / gain. Masks and ideal filters have such
a gain.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.types import Signal

Measurement = Float[Tensor, "batch measured_channels measured_time"]
"""A x; its channels and its length may differ from those of x."""


class LinearOperator(ABC):
    """Map signals linearly, each example alone: y = A x."""

    @property
    @abstractmethod
    def gain(self) -> float | None:
        """The number c with A A^T = c P, P an orthogonal projection; None if there is no such number."""

    @abstractmethod
    def __call__(self, x: Signal) -> Measurement:
        """Return A x."""

    @abstractmethod
    def adjoint(self, y: Measurement) -> Signal:
        """Return A^T y, defined by <A x, y> = <x, A^T y>."""

    def pseudo_inverse(self, y: Measurement) -> Signal:
        """Return A^+ y = A^T y / gain: of the x with A x nearest to y, the smallest.

        Raises:
            ParameterError: if the operator has no gain.
        """
        return self.adjoint(y) / gain_of(self)


def gain_of(operator: LinearOperator) -> float:
    """Return the gain of an operator.

    Raises:
        ParameterError: if it has no gain.
    """
    if operator.gain is None:
        raise ParameterError(
            f"operator={type(operator).__name__} has no gain, and so no pseudo-inverse: give its gain if A A^T is a "
            "multiple of a projection, or use reconstruction_guidance or dps, which need no gain"
        )
    return operator.gain


@dataclass(frozen=True)
class Mask(LinearOperator):
    """Set unknown samples to 0: A = A^T = A^+.

    Args:
        known: True, or 1, for known samples; its shape broadcasts to that of the signal.

    Example:
        >>> Mask(torch.tensor([True, False]))(torch.tensor([[[3.0, 4.0]]]))
        tensor([[[3., 0.]]])
    """

    known: Tensor

    def __post_init__(self) -> None:
        if not bool(((self.known == 0) | (self.known == 1)).all()):
            raise ParameterError("known must hold nothing but 0 and 1, or False and True")

    @property
    def gain(self) -> float:
        return 1.0

    def __call__(self, x: Signal) -> Measurement:
        return x * self.known.to(x)

    def adjoint(self, y: Measurement) -> Signal:
        return self(y)


@dataclass(frozen=True)
class LowPass(LinearOperator):
    """Filter ideally: keep the frequencies below a cutoff: A = A^T = A^+.

    The filter acts on the discrete Fourier transform of the whole signal, which is so treated as periodic.

    Args:
        cutoff: the lowest frequency that is removed, as a fraction of the sample rate, in (0, 0.5].

    Example:
        >>> x = torch.tensor([[[1.0, 2.0, 3.0, 2.0]]])  # a constant and one cosine of a quarter of the rate
        >>> LowPass(0.25)(x)
        tensor([[[2., 2., 2., 2.]]])
    """

    cutoff: float

    def __post_init__(self) -> None:
        if not 0.0 < self.cutoff <= 0.5:
            raise ParameterError(f"cutoff={self.cutoff} must lie in (0, 0.5], as a fraction of the sample rate")

    @property
    def gain(self) -> float:
        return 1.0

    def __call__(self, x: Signal) -> Measurement:
        spectrum = torch.fft.rfft(x)
        passed = torch.arange(spectrum.shape[-1], device=x.device) < math.ceil(self.cutoff * x.shape[-1])
        return torch.fft.irfft(spectrum * passed, n=x.shape[-1])

    def adjoint(self, y: Measurement) -> Signal:
        return self(y)


@dataclass(frozen=True)
class Linear(LinearOperator):
    """Make a linear operator of a function and its adjoint.

    Args:
        apply: x -> A x.
        transpose: y -> A^T y.
        multiple: the gain, if A A^T is a multiple of a projection; None if not.

    Example:
        >>> Linear(lambda x: 2.0 * x, lambda y: 2.0 * y, multiple=4.0).pseudo_inverse(torch.ones(1, 1, 1))
        tensor([[[0.5000]]])
    """

    apply: Callable[[Signal], Measurement]
    transpose: Callable[[Measurement], Signal]
    multiple: float | None = None

    def __post_init__(self) -> None:
        if self.multiple is not None and not self.multiple > 0.0:
            raise ParameterError(f"multiple={self.multiple} must be positive")

    @property
    def gain(self) -> float | None:
        return self.multiple

    def __call__(self, x: Signal) -> Measurement:
        return self.apply(x)

    def adjoint(self, y: Measurement) -> Signal:
        return self.transpose(y)
