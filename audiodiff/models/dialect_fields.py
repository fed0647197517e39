"""Mel dialects as the configuration of a checkpoint writes them out."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import CheckpointError
from audiodiff.models.registry import CONFIG


def check_dialect(own: MelDialect | None, config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model whose dialect is not the one that its config.yaml wrote out.

    Raises:
        CheckpointError: naming the field that differs.
    """
    built = None if own is None else written_fields(own)
    saved = config.get("dialect")
    if built is None and saved is None:
        return
    if built is None or not isinstance(saved, Mapping):
        raise CheckpointError(f"{folder / CONFIG}: dialect must be that of the model node")
    # Fields that were added since have their defaults.
    added = {field.name: field.default for field in dataclasses.fields(MelDialect) if field.name not in saved}
    saved = {**added, **saved}
    for field in sorted(built.keys() | saved.keys()):
        if built.get(field) != saved.get(field):
            raise CheckpointError(
                f"{folder / CONFIG}: dialect.{field}={saved.get(field)!r} is not what the model node builds, "
                f"{built.get(field)!r}"
            )


def written_fields(value: MelDialect) -> dict[str, Any]:
    """Return a dialect's fields as YAML can hold them."""
    return {
        key: item if isinstance(item, str | int | float | bool | None) else repr(item)
        for key, item in ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    }
