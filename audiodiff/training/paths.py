"""Overrides that hold a path, quoted for Hydra, to whose grammar most characters mean something."""

import os
import re

from audiodiff.errors import ParameterError

PATHS = (
    *("data.root", "train.resume", "train.init_from", "hydra.run.dir", "hydra.sweep.dir"),
    *("method.where", "method.noise_root"),
)
"""Keys whose values are paths."""


def quoted(text: str) -> str:
    """Quote a value for Hydra.

    Example:
        >>> quoted("/music/it's")
        "'/music/it\\\\'s'"
    """
    # Within quotes a backslash has a meaning before a quote and at the end only.
    return "'" + re.sub(r"(\\*)(')", r"\1\1\\\2", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


def with_quoted_path(override: str, *, sweep: bool = False) -> str:
    """Return an override with its value in quotes where it is a path that Hydra would not read as it is.

    A leading `~` becomes the home folder. Values in quotes, null and interpolations stay as they are.

    Args:
        override: as on the command line.
        sweep: whether commas separate the values of several runs.

    Raises:
        ParameterError: for an empty path.

    Example:
        >>> with_quoted_path("data.root=/music/Björk (live)"), with_quoted_path("data.root=/music/old")
        ("data.root='/music/Björk (live)'", 'data.root=/music/old')
    """
    key, equals, value = override.partition("=")
    if key.lstrip("+") not in PATHS or not equals:
        return override
    if not value:
        raise ParameterError(f"{key}= is empty: give a path (an unset variable of the shell is empty), or leave it out")
    if _is_readable(override, sweep=sweep):
        return override
    return f"{key}={','.join(map(_as_path, value.split(',') if sweep else [value]))}"


def _as_path(value: str) -> str:
    return quoted(os.path.expanduser(value))


def _is_readable(override: str, *, sweep: bool) -> bool:
    """Return whether Hydra reads a value as text, null, or as the choices of a sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    if parsed.is_sweep_override():
        return sweep
    return parsed.value() is None or isinstance(parsed.value(), str)
