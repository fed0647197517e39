"""Tensors that depend on sizes alone, computed once: windows, filters, tables."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch.utils import _python_dispatch

P = ParamSpec("P")
T = TypeVar("T")


def cached_tensors(*, maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that keeps the results of a function of hashable arguments.

    While torch traces a program (torch.export, torch.compile), nothing is taken or kept: tensors are then stand-ins
    without values, and sizes may be symbols, so the constant becomes a part of the program.

    Args:
        maxsize: results that are kept.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        cached = lru_cache(maxsize=maxsize)(function)

        @wraps(function)
        def constant(*args: P.args, **kwargs: P.kwargs) -> T:
            if torch.compiler.is_compiling() or _python_dispatch._get_current_dispatch_mode() is not None:
                return function(*args, **kwargs)
            return cached(*args, **kwargs)

        return constant

    return decorate
