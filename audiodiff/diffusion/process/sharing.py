"""One learnt schedule for all parts of a model.

A configuration names its process wherever one is needed, and each place builds its own. For a process without memory
that changes nothing; a learnt one has to be a single object: trained by the density, saved with the denoiser's weights
and used by the grid of sampling.
"""

import dataclasses
from functools import partial
from typing import Any, TypeVar

from audiodiff.diffusion.process.variational import Variational

T = TypeVar("T")


def learned(holder: object) -> Variational | None:
    """Return the learnt process that a dataclass or a function's bound option holds at any depth, None without one."""
    if isinstance(holder, Variational):
        return holder
    found = (learned(value) for value in _fields(holder).values())
    return next((process for process in found if process is not None), None)


def share(process: Variational | None, holder: T) -> T:
    """Return a dataclass, or a function with bound options, whose learnt processes, at any depth, are the given one.

    Args:
        process: the one that is to be shared; None changes nothing.
        holder: a grid, solver, sampler, density or objective.

    Example:
        >>> from audiodiff.diffusion.preconditioning import V
        >>> process = Variational()
        >>> share(process, V(Variational())).process is process
        True
    """
    if process is None or learned(holder) is None:
        return holder
    replaced = {
        name: process if isinstance(value, Variational) else share(process, value)
        for name, value in _fields(holder).items()
    }
    if isinstance(holder, partial):
        return partial(holder.func, *holder.args, **replaced)  # pyright: ignore[reportReturnType]
    return dataclasses.replace(holder, **replaced)  # pyright: ignore[reportArgumentType]


def _fields(holder: object) -> dict[str, Any]:
    if isinstance(holder, partial):
        return holder.keywords
    if not dataclasses.is_dataclass(holder) or isinstance(holder, type):
        return {}
    return {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder) if field.init}
