"""Safety of checkpoints: a model node may only build parts of models that this package defines."""

from collections.abc import Iterator, Mapping
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
    refusal = CheckpointError(
        f"{where}: {field}._target_={target!r} is no part of a model that audiodiff defines: refused as unsafe"
    )
    if not target.startswith(BUILDERS):
        raise refusal
    try:
        found = locate(target)
    except ParameterError as error:
        raise CheckpointError(
            f"{where}: {field}._target_={target!r} does not exist in audiodiff {__version__}"
        ) from error
    if not callable(found) or not str(getattr(found, "__module__", "")).startswith(BUILDERS):
        raise refusal


def foreign_targets(node: Any, *, field: str) -> Iterator[tuple[str, str]]:
    """Yield key and `_target_` of each node, at any depth, that builds no part of a model of this package.

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
    return target.startswith(BUILDERS) and str(getattr(found, "__module__", "")).startswith(BUILDERS)
