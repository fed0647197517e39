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

    While torch traces a program, sizes may be symbols and tensors stand-ins without values. torch.export then gets the
    kept tensors where all sizes are numbers; otherwise, and for torch.compile, nothing is taken or kept, and the
    computation becomes a part of the program.

    Args:
        maxsize: results that are kept.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        cached = lru_cache(maxsize=maxsize)(function)

        @wraps(function)
        def constant(*args: P.args, **kwargs: P.kwargs) -> T:
            if torch.compiler.is_exporting() and not _has_symbols((*args, *kwargs.values())):
                with _python_dispatch._disable_current_modes():
                    return cached(*args, **kwargs)
            if torch.compiler.is_compiling() or _python_dispatch._get_current_dispatch_mode() is not None:
                return function(*args, **kwargs)
            return cached(*args, **kwargs)

        return constant

    return decorate


def _has_symbols(values: tuple[object, ...]) -> bool:
    return any(isinstance(value, torch.SymInt) for value in values)
