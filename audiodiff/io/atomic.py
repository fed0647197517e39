"""Atomic writes: a file or folder appears under its name whole, or not at all."""

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audiodiff.errors import AudioFileError


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file, which replaces the file when the block ends without an error.

    The temporary file has the target's suffix and is hidden. It is deleted where the block raises. The result has the
    permissions that the umask gives to new files, whatever the library that wrote it has set.

    Args:
        target: the file to write. Its folder is made where it is missing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with atomic_file(Path(folder) / "notes" / "a.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     (Path(folder) / "notes" / "a.txt").read_text()
        'whole'
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    try:
        temporary.touch(exist_ok=False)
        permissions = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(permissions)
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_atomic(target: Path, data: bytes) -> None:
    """Write a whole file through `atomic_file`.

    Raises:
        AudioFileError: if it cannot be written.
    """
    try:
        with atomic_file(target) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise AudioFileError(f"{target}: cannot be written ({error}); check the folder and its free space") from error


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside a folder, which replaces the folder when the block ends without an error.

    An older folder of that name stays until the new one is whole and on disk. Files get the permissions that the umask
    gives.
    """
    temporary, replaced = _beside(target), _beside(target)
    try:
        temporary.mkdir(parents=True)
        permissions = stat.S_IMODE(temporary.stat().st_mode) & 0o666
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(permissions)
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if target.exists():
            os.replace(target, replaced)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _beside(target: Path) -> Path:
    """Return a new hidden name in the target's folder, with its suffix."""
    return target.with_name(f".{uuid.uuid4().hex}.{target.name[-40:]}")
