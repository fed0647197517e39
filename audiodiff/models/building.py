"""Instantiation of configuration nodes, in which equal processes are one object."""

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from audiodiff.compat import current_target
from audiodiff.diffusion.process import Process
from audiodiff.errors import ParameterError


class Builder:
    """Build the objects that configuration nodes describe: `_target_` is called with the other keys.

    A configuration repeats its process wherever one is needed. A process is built once: every equal node gives the same
    object, in all calls of one builder, so that a learnt noise schedule is trained, saved and sampled with as one.

    A node with `_partial_: true` gives a function that takes the remaining arguments; `_args_` are positional.

    Example:
        >>> node = {"_target_": "audiodiff.diffusion.process.Flow", "noise_scale": 0.1}
        >>> build = Builder()
        >>> build({"_target_": "audiodiff.diffusion.preconditioning.V", "process": node}).process is build(node)
        True
    """

    def __init__(self) -> None:
        self._processes: dict[str, Process] = {}

    def __call__(self, node: Any) -> Any:
        """Build a node, and all that it contains.

        Raises:
            ParameterError: if a `_target_` does not exist; errors of constructors come as they are.
        """
        if isinstance(node, list | tuple):
            return [self(item) for item in node]
        if not isinstance(node, Mapping):
            return node
        if "_target_" not in node:
            return {key: self(value) for key, value in node.items()}
        key = repr(node)
        if key in self._processes:
            return self._processes[key]
        arguments = {name: self(value) for name, value in node.items() if name not in _DIRECTIVES}
        positional = self(node.get("_args_", []))
        target = locate(str(node["_target_"]))
        if node.get("_partial_", False):
            return functools.partial(target, *positional, **arguments)
        built = target(*positional, **arguments)
        if isinstance(built, Process):
            self._processes[key] = built
        return built


_DIRECTIVES = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")


def locate(target: str) -> Any:
    """Return the class or function that a `_target_` names, by its name of today or of audiodiff 0.1.

    Raises:
        ParameterError: if there is none.

    Example:
        >>> locate("audiodiff.diffusion.process.Flow").__name__
        'Flow'
    """
    *parents, name = current_target(target).split(".")
    for n in range(len(parents) if all(parents) else 0, 0, -1):
        try:
            found = importlib.import_module(".".join(parents[:n]))
        except ModuleNotFoundError as error:
            if not ".".join(parents[:n]).startswith(error.name or "."):
                raise  # The module is there; what it imports is not.
            continue
        try:
            return functools.reduce(getattr, [*parents[n:], name], found)
        except AttributeError:
            break
    raise ParameterError(
        f"_target_={target!r} does not exist: give the full name of a class or function, of "
        "a module that is installed, on PYTHONPATH or, for audiodiff train, in the working folder"
    )
