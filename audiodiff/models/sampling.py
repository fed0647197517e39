"""Sampling options: the choices that a call may make in place of a model's own sampler."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from torch import nn

from audiodiff.diffusion.grid import Grid
from audiodiff.diffusion.guidance import Interval
from audiodiff.diffusion.solvers import Solver


@dataclass(frozen=True)
class SamplingOptions:
    """Choose how a model samples; None is the model's own choice.

    Args:
        steps: of the sampler.
        solver: a solver, or its name in `audiodiff.diffusion.solvers`.
        grid: a grid that does not start above the model's own, or its name in `audiodiff.diffusion.grid.GRIDS`, which
            is cut to the model's noise levels.
        guide: a weaker `Synthesizer` of the same kind, for example an earlier checkpoint, to guide away from.
        guidance: scale of the guidance, by the guide or, without one, by the null condition; 1 is none.
        guidance_interval: (lo, hi), the noise levels lo < sigma <= hi that are guided; None is all.
    """

    steps: int | None = None
    solver: str | Solver | None = None
    grid: str | Grid | None = None
    guide: nn.Module | None = None
    guidance: float | None = None
    guidance_interval: Interval | None = None

    @property
    def given(self) -> Sequence[str]:
        """Names of the options that are not None."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


MODEL_DEFAULTS = SamplingOptions()
"""Every choice is the model's own."""
