"""Suggestions for misspelt settings: the keys of all configuration files, and the nearest to what was written."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from audiodiff.training.paths import quoted

_REFUSED = re.compile(r"Could not override '(?P<key>[^']+)'\. To append to your config use \+(?P<override>.+)")


TOP = ("train", "data", "optimizer", "audio")
"""Groups whose settings are found by the last part of their names, as `lr`."""
COMMON = {"learning_rate": "lr", "epochs": "steps", "max_steps": "steps", "batchsize": "batch_size"}
"""Names of other programs for settings of training."""


def unknown_recipe(message: str, *, recipes: Iterable[str]) -> str | None:
    """Return our message for Hydra's about a recipe that does not exist, with the nearest; None for another message.

    Example:
        >>> unknown_recipe("Could not find 'recipes/vocoder'", recipes=["fsdd/mel", "folder/vocoder"])
        'recipes=vocoder does not exist: did you mean recipes=folder/vocoder? audiodiff train --help lists all'
    """
    found = re.match(r"Could not find 'recipes/(?P<name>[^']+)'", message)
    if found is None:
        return None
    name, known = found["name"], sorted(recipes)
    same = [recipe for recipe in known if recipe.rpartition("/")[2] == name.rpartition("/")[2]]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.75) or same[:1]
    question = f": did you mean recipes={nearest[0]}?" if nearest else ";"
    return f"recipes={name} does not exist{question} audiodiff train --help lists all"


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
    if key in known_keys(folder) and "is not in struct" in reason:
        return (
            f"{key}: its keys are added to those that it has, and the key{reason.partition(' is not in')[0]} is a new "
            f"one: add it with +{override}, and take one out with ~{key}.NAME"
        )
    # A node of its own is no answer to a key within it.
    known = sorted({other for other in known_keys(folder) if not key.startswith(f"{other}.")})
    meant = COMMON.get(key.rpartition(".")[2], key.rpartition(".")[2])
    last = [other for other in known if other.endswith(f".{meant}") and other.partition(".")[0] in TOP]
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.75) or last[:1]
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
