"""Safety of checkpoints: a model node may only build parts of models, of this package or of one that is trusted."""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from audiodiff._version import __version__
from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.models.building import locate

BUILDERS = (
    "audiodiff.models.conditioners.",
    "audiodiff.diffusion.",
    "audiodiff.dsp.mel",
    "audiodiff.networks.",
    "audiodiff.models.representations.",
    "audiodiff.models.synthesizer",
)
"""Modules of the parts of models, none of which touches files or processes."""


_TRUSTED: list[str] = []


def trust(packages: Iterable[str]) -> None:
    """Trust packages in this process, so that checkpoints may build what they define.

    Packages that are installed with an entry point of the group `audiodiff.trusted` need no call: its value names what
    is trusted, for example `mine = "my_package.networks"`.

    Args:
        packages: names of packages or modules, as in an import statement.

    Raises:
        ParameterError: for a name that cannot be imported.
    """
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ParameterError(
                f"trust={name}: it cannot be imported ({error}): install it, or set PYTHONPATH to its folder"
            ) from error
        if name not in _TRUSTED:
            _TRUSTED.append(name)


def _builders() -> tuple[str, ...]:
    """Return the beginnings of the names of what may be built."""
    installed = (entry.value for entry in entry_points(group="audiodiff.trusted"))
    return (*BUILDERS, *(f"{name}." for name in (*_TRUSTED, *installed)))


def check_targets(node: Any, *, where: Path, field: str) -> None:
    """Refuse a configuration node that builds something else than parts of models, at any depth.

    Args:
        node: of a configuration, with the names of today.
        where: the file or folder that it comes from, for the message.
        field: its key, for the message.

    Raises:
        CheckpointError: for a `_target_` from elsewhere, or an interpolation.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            _check_target(str(node["_target_"]), where=where, field=field)
        for key, value in node.items():
            check_targets(value, where=where, field=f"{field}.{key}")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            check_targets(value, where=where, field=f"{field}.{index}")
    elif isinstance(node, str) and "${" in node:
        raise CheckpointError(f"{where}: {field}={node!r} must be resolved: an interpolation could read this machine")


def _check_target(target: str, *, where: Path, field: str) -> None:
    """Refuse what is no part of a model, also where a module of this package merely imports it."""
    package = target.partition(".")[0]
    remedy = f"; where you trust {package}: --trust {package}, or load(..., trust=[{package!r}])"
    refusal = CheckpointError(
        f"{where}: {field}._target_={target!r} is no part of a model that audiodiff defines: refused as unsafe"
        f"{'' if package == 'audiodiff' else remedy}"
    )
    builders = _builders()
    if not target.startswith(builders):
        raise refusal
    try:
        found = locate(target)
    except ParameterError as error:
        raise CheckpointError(
            f"{where}: {field}._target_={target!r} does not exist in audiodiff {__version__}"
        ) from error
    if not callable(found) or not f"{getattr(found, '__module__', '')}.".startswith(builders):
        raise refusal


def foreign_targets(node: Any, *, field: str) -> Iterator[tuple[str, str]]:
    """Yield key and `_target_` of each node, at any depth, that builds no part of a model, or one that nobody trusts.

    Targets that do not exist are left to whoever builds the node.
    """
    if isinstance(node, Mapping):
        if "_target_" in node and not _is_part(str(node["_target_"])):
            yield field, str(node["_target_"])
        for key, value in node.items():
            yield from foreign_targets(value, field=f"{field}.{key}")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from foreign_targets(value, field=f"{field}.{index}")


def _is_part(target: str) -> bool:
    try:
        found = locate(target)
    except ParameterError:
        return True
    builders = _builders()
    return target.startswith(builders) and f"{getattr(found, '__module__', '')}.".startswith(builders)
