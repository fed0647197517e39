"""Paths as users write them."""

import os
from pathlib import Path

from audiodiff.errors import ParameterError


def user_path(text: str | os.PathLike[str], *, name: str = "a path") -> Path:
    """Return the path that a user names; ~ and ~user at its start mean a home folder.

    A name that only begins with a tilde, such as that of a temporary file, stays as it is.

    Args:
        text: as it was given.
        name: of the option or argument.

    Raises:
        ParameterError: if it is empty, which pathlib would take as the working folder.

    Example:
        >>> user_path("~take.wav").name
        '~take.wav'
    """
    if not os.fspath(text):
        raise ParameterError(f"{name} is empty, as a shell variable that is not set: name a file or a folder")
    return Path(os.path.expanduser(text))
