"""Paths as users write them, and as text."""

import os
import stat
from pathlib import Path

from audiodiff.errors import AudioFileError, ParameterError


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


def file_text(text: str) -> bytes:
    """Encode text that names files: UTF-8, and the bytes of names that are not.

    Example:
        >>> file_text("lat\\udce9in.wav")
        b'lat\\xe9in.wav'
    """
    return text.encode("utf-8", "surrogateescape")


def display_name(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be drawn: a byte that is not UTF-8 becomes a replacement character.

    Example:
        >>> display_name("lat\\udce9in.wav")
        'lat�in.wav'
    """
    return file_text(os.fspath(path)).decode("utf-8", "replace")


def check_file(path: Path, *, kind: str) -> None:
    """Refuse what is no file, is empty, or may not be read; a pipe is not opened, which would wait for its writer.

    Args:
        path: to be read.
        kind: of the file, as in "an audio file".

    Raises:
        AudioFileError: with the reason and the remedy.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioFileError(f"{path}: is a folder, not {kind}")
        if not stat.S_ISREG(status.st_mode):
            raise AudioFileError(f"{path}: is a pipe or a device; write it to a file first")
        if status.st_size == 0:
            raise AudioFileError(f"{path}: is empty (0 bytes); replace or remove it")
        path.open("rb").close()
    except AudioFileError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioFileError(f"{path}: no such file") from error
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
