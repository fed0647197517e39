"""Suggestions for misspelt settings: the keys of all configuration files, and the nearest to what was written."""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from audiodiff.training.paths import quoted

_REFUSED = re.compile(r"Could not override '(?P<key>[^']+)'\. To append to your config use \+(?P<override>.+)")


def unknown_key(message: str, *, folder: Path) -> str | None:
    """Return our message for Hydra's about a key that does not exist; None for another message.

    Args:
        message: Hydra's, on one line.
        folder: of the configuration files.
    """
    found = _REFUSED.match(message)
    if found is None:
        return None
    override, _, reason = found["override"].partition(" (Key")
    key = found["key"]
    if key in known_keys(folder) and reason:
        return (
            f"{key}: its keys are added to those that it has, and the key{reason.partition(' is not in')[0]} is a new "
            f"one: add it with +{override}, and take one out with ~{key}.NAME"
        )
    # A node of its own is no answer to a key within it.
    known = sorted({other for other in known_keys(folder) if not key.startswith(f"{other}.")})
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if nearest:
        value = override.partition("=")[2]
        return f"{key} does not exist: did you mean {nearest[0]}={value}?"
    return (
        f"{key} does not exist: audiodiff train --help lists the groups, --cfg job all settings; a new label, or an "
        f"argument of a class of your own, is added by +{override}"
    )


def unreadable(override: str, *, reason: str) -> str:
    """Return a message about an override that Hydra's grammar does not take."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override} has no value: give {override}=VALUE"
    return f'{override}: {reason}; special characters need quotes, as in "{key}={quoted(value)}"'


def unknown_option(option: str) -> str:
    """Return a message about an option that training does not have."""
    key, _, value = option.lstrip("-").partition("=")
    return f"{option} is no option: settings have no dashes, as in {key}={value or 'VALUE'}; see audiodiff train --help"


def known_keys(folder: Path) -> Iterator[str]:
    """Yield the groups and the dotted keys of all configuration files."""
    import yaml

    yield "recipes"
    for path in sorted(folder.rglob("*.yaml")):
        group = ".".join(path.relative_to(folder).parts[:-1])
        if group.startswith("hydra"):
            continue
        text = path.read_text(encoding="utf-8")
        prefix = "" if "@package _global_" in text else group
        if group:
            yield group
        yield from _keys(yaml.safe_load(text), prefix=prefix)


def _keys(node: Any, *, prefix: str) -> Iterator[str]:
    if prefix:
        yield prefix
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key not in ("defaults", "hydra", "_target_", "_partial_"):
                yield from _keys(value, prefix=f"{prefix}.{key}" if prefix else str(key))
