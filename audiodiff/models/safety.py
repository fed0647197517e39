"""Safety of checkpoints: a model node may only build parts of models that this package defines."""

from collections.abc import Mapping
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
