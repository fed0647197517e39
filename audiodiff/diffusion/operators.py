"""Linear operators on signals: what was measured of x0, as y = A x0 + noise.

An operator whose A A^T is a multiple of a projection, its `gain`, has the pseudo-inverse A^T / gain at no cost: masks,
filters that pass or stop, and decimation are of that kind.
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
"""What an operator makes of a signal; its channels and its length need not be the signal's."""


class LinearOperator(ABC):
    """A linear map A of signals, example by example."""

    @property
    @abstractmethod
    def gain(self) -> float | None:
        """The number c with A A^T = c P for an orthogonal projection P; None where there is none."""

    @abstractmethod
    def __call__(self, x: Signal) -> Measurement:
        """Return A x."""

    @abstractmethod
    def adjoint(self, y: Measurement) -> Signal:
        """Return A^T y, so that <A x, y> = <x, A^T y>."""

    def pseudo_inverse(self, y: Measurement) -> Signal:
        """Return A^+ y = A^T y / gain, the smallest x with A x nearest to y.

        Raises:
            ParameterError: if the operator has no gain.
        """
        return self.adjoint(y) / gain_of(self)


def gain_of(operator: LinearOperator) -> float:
    """Return the gain of an operator that has to have one.

    Raises:
        ParameterError: if it has none.
    """
    if operator.gain is None:
        raise ParameterError(
            f"operator={type(operator).__name__} has no gain, and so no cheap pseudo-inverse: state its gain where "
            "A A^T is a multiple of a projection, or use reconstruction_guidance or dps, which need none"
        )
    return operator.gain


@dataclass(frozen=True)
class Mask(LinearOperator):
    """Keep the samples that are known, and set the others to 0: A = A^T = A^+.

    Args:
        known: True, or 1, where a sample is known; of the signal's shape, or one that broadcasts to it.

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
    """Keep the frequencies below a cutoff, all of them and no others: A = A^T = A^+.

    The filter acts on the Fourier series of the whole signal, as if it were periodic.

    Args:
        cutoff: the first frequency that is stopped, as a fraction of the sample rate, in (0, 0.5].

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
        return _lowest_bins(x, math.ceil(self.cutoff * x.shape[-1]))

    def adjoint(self, y: Measurement) -> Signal:
        return self(y)


def _lowest_bins(x: Signal, n_bins: int) -> Signal:
    """Keep n_bins bins of the spectrum, from 0 Hz on."""
    spectrum = torch.fft.rfft(x)
    passed = torch.arange(spectrum.shape[-1], device=x.device) < n_bins
    return torch.fft.irfft(spectrum * passed, n=x.shape[-1])


@dataclass(frozen=True)
class Decimate(LinearOperator):
    """Keep what lies below the new half of the rate, then every factor-th sample: A A^T = 1 / factor below it.

    Args:
        factor: by which the sample rate falls; signals must be a multiple of it long.
    """

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ParameterError(f"factor={self.factor} must be at least 1")

    @property
    def gain(self) -> float:
        return 1.0 / self.factor

    def __call__(self, x: Signal) -> Measurement:
        if x.shape[-1] % self.factor:
            raise ParameterError(f"a signal of {x.shape[-1]} samples must be a multiple of factor={self.factor} long")
        return self._band(x)[..., :: self.factor]

    def adjoint(self, y: Measurement) -> Signal:
        spread = y.new_zeros(*y.shape[:-1], y.shape[-1] * self.factor)
        spread[..., :: self.factor] = y
        return self._band(spread)

    def _band(self, x: Signal) -> Signal:
        return _lowest_bins(x, -(-x.shape[-1] // (2 * self.factor)))


@dataclass(frozen=True)
class Linear(LinearOperator):
    """Any linear operator, from a function and its adjoint.

    Args:
        apply: x -> A x.
        transpose: y -> A^T y.
        multiple: the gain, where A A^T is a multiple of a projection.

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
