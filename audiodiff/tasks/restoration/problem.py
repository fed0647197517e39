"""What is known of a recording that is to be restored."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.operators import LinearOperator
from audiodiff.types import Signal


@dataclass(frozen=True)
class Problem:
    """Hold what was measured of x0, and what every estimate of it has to agree with.

    Args:
        measured: the degraded recording, (batch, 1, time), 0 where nothing was measured.
        known: 1 where a sample was measured, 0 where it is lost or no more than a bound; of the same shape.
        operator: A with A x0 = A measured, exactly; None where no part of x0 is known as it is, as in noise.
        possible: brings an estimate to the nearest one that could have been measured as this was, where that is no
            linear matter (clipping); None where the operator says it all.
        guess: a first guess of x0, for a sampling that has a start; None is measured.
        noise_power: of the Gaussian noise in measured, (batch, 1, bins): the variance of white noise as loud, at
            frequencies evenly spaced from 0 to half the sample rate; None where there is none, or nobody knows.
    """

    measured: Signal
    known: Signal
    operator: LinearOperator | None = None
    possible: Callable[[Signal], Signal] | None = None
    guess: Signal | None = None
    noise_power: Float[Tensor, "batch 1 bins"] | None = None

    def scaled(self, gain: float) -> "Problem":
        """Return the problem of gain times x0."""
        possible = self.possible
        return replace(
            self,
            measured=gain * self.measured,
            possible=None if possible is None else lambda x: gain * possible(x / gain),
            guess=None if self.guess is None else gain * self.guess,
            noise_power=None if self.noise_power is None else gain**2 * self.noise_power,
        )
