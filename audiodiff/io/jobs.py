"""Planning: the files that a command reads, and the file that it writes for each.

All jobs of a command are planned before anything is computed, so that whatever stands in the way is refused first.
"""

import contextlib
import glob
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io.formats import AUDIO_SUFFIXES, FILE_SUFFIXES
from audiodiff.io.paths import check_file, user_path


@dataclass(frozen=True)
class Job:
    """One file to be made from another.

    Args:
        source: the file to read.
        target: the file to write.
        key: number that keys the noise of the result: its place in the list, from 0.
    """

    source: Path
    target: Path
    key: int


def plan_jobs(
    inputs: Sequence[str],
    *,
    out: Path,
    force: bool,
    new_suffix: str | None,
    suffixes: Sequence[str] = AUDIO_SUFFIXES,
    out_suffixes: Sequence[str] = AUDIO_SUFFIXES,
) -> list[Job]:
    """Plan one result for each input file.

    Args:
        inputs: files, folders and globs. Where the output folder lies in an input folder, the files in it are left
            out: they are earlier results.
        out: a file if it ends in one of out_suffixes and is no folder, otherwise a folder, which repeats the tree
            below an input folder.
        force: replace files that exist.
        new_suffix: of the results in a folder; None keeps the suffix of each input.
        suffixes: of the files that can be read, in lower case.
        out_suffixes: of the files that can be written, in lower case.

    Raises:
        AudioFileError: if an input is missing, holds only earlier results or has another suffix, or an output exists.
        ParameterError: if two results would have one name, or an output is an input.
    """
    out = user_path(out, name="--out")
    found = list(_sources_and_names(inputs, suffixes=suffixes, out=out, new_suffix=new_suffix))
    sources = [source for source, _ in found]
    targets = _targets([name for _, name in found], out=out, out_suffixes=out_suffixes)
    resolved = {source.resolve() for source in sources}
    taken: dict[Path, Path] = {}
    for source, target in zip(sources, targets, strict=True):
        if target in taken:
            raise ParameterError(f"{taken[target]} and {source} would both become {target}: rename one")
        taken[target] = source
        if target.resolve() in resolved:
            raise ParameterError(f"--out: {target} is one of the inputs: give another --out")
        check_target(target, force=force)
    return [Job(source, target, key) for key, (source, target) in enumerate(zip(sources, targets, strict=True))]


def plan_targets(names: Sequence[str], *, out: Path, force: bool) -> list[Path]:
    """Plan the audio files of results that are made without an input.

    Args:
        names: of the files in a folder, without the suffix .wav, all different.
        out: as in plan_jobs.
        force: replace files that exist.

    Raises:
        AudioFileError: if an output exists.
        ParameterError: if out is one file and there are several results.
    """
    out = user_path(out, name="--out")
    targets = _targets([Path(f"{name}.wav") for name in names], out=out, out_suffixes=AUDIO_SUFFIXES)
    for target in targets:
        check_target(target, force=force)
    return targets


def check_target(
    target: Path, *, force: bool, inputs: Iterable[Path] = (), option: str = "--out", remedy: str = ""
) -> None:
    """Refuse to write a file over an input, over a folder, or over a file without `--force`.

    Args:
        target: the file to be written.
        force: replace it where it exists.
        inputs: files that are read, and never replaced.
        option: that named it.
        remedy: another remedy than --force, in parentheses.

    Raises:
        AudioFileError: naming the file and the remedies.
        ParameterError: if the file is an input.
    """
    if target.resolve() in {path.resolve() for path in inputs}:
        raise ParameterError(f"{option}: {target} is one of the inputs: give another {option}")
    if target.is_dir():
        raise AudioFileError(f"{option}: {target} is a folder, and a file is to be written there: rename it")
    if target.exists() and not force:
        raise AudioFileError(f"{option}: {target} exists: give --force to replace it{remedy}, or another {option}")


def check_folder_name(out: Path, *, suffixes: Sequence[str] = (), option: str = "--out") -> None:
    """Refuse the name of a file, such as a.m4a, for a folder that does not exist.

    Args:
        out: where results are to be written.
        suffixes: of the files that could be written there instead.
        option: that named it.

    Raises:
        ParameterError: with the formats that there are.
    """
    if out.suffix.lower() in FILE_SUFFIXES and not out.is_dir():
        formats = f"a file that ends in {', '.join(suffixes)}, or " if suffixes else ""
        raise ParameterError(f"{option}: {out} cannot be written as a {out.suffix} file: give {formats}a folder")


def make_folder(target: Path) -> None:
    """Make the folder of a file to be written, and check that files can be written there.

    Raises:
        AudioFileError: if it cannot be made or written to.
    """
    probe = target.with_name(f".audiodiff.{uuid.uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise AudioFileError(
            f"--out: {target.parent} cannot be written to ({error.strerror}): give another --out"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def find_files(path_or_glob: str | os.PathLike[str], *, suffixes: Sequence[str] = AUDIO_SUFFIXES) -> list[Path]:
    """List a file, the files below a folder, or the files that match a glob, sorted.

    Args:
        path_or_glob: a file (of any suffix), a folder (searched to any depth) or a glob, where ** is any depth of
            folders. Hidden files and folders are left out.
        suffixes: of the files of a folder or glob, in lower case.

    Raises:
        AudioFileError: if there is nothing there, or no file with such a suffix.
    """
    path = user_path(path_or_glob)
    if _is_file(path):
        return [path]
    if path.is_dir():
        candidates = list(_below(path))
    elif glob.has_magic(str(path)):
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]
    else:
        if path.exists():
            check_file(path, kind="an audio file")
        raise AudioFileError(f"{path}: no such file or folder")
    found = sorted(c for c in candidates if c.suffix.lower() in suffixes and _is_file(c))
    if not found:
        raise AudioFileError(f"{path}: no file there ends in {', '.join(suffixes)}")
    return found


def _is_file(path: Path) -> bool:
    """Return whether a path is a file, or may be one that cannot be opened, which its reader names."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder at any depth, without hidden ones.

    Raises:
        AudioFileError: if a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise AudioFileError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _sources_and_names(
    inputs: Sequence[str], *, suffixes: Sequence[str], out: Path, new_suffix: str | None
) -> Iterator[tuple[Path, Path]]:
    """Yield every input file with the name of its result below an output folder."""
    results = out.resolve()
    for text in inputs:
        root = user_path(text)
        paths = find_files(text, suffixes=suffixes)
        if root.is_dir() and results.is_dir() and root.resolve() in results.parents:
            paths = [path for path in paths if results not in path.resolve().parents]
            if not paths:
                raise AudioFileError(f"{root}: all of its files lie in --out {out}: give another --out, or its files")
        for path in paths:
            if path.suffix.lower() not in suffixes:
                raise AudioFileError(f"{path}: suffix {path.suffix!r} must be one of {', '.join(suffixes)}")
            name = path.relative_to(root) if root.is_dir() else Path(path.name)
            yield path, name if new_suffix is None else name.with_suffix(new_suffix)


def _targets(names: Sequence[Path], *, out: Path, out_suffixes: Sequence[str]) -> list[Path]:
    is_file = out.suffix.lower() in out_suffixes and not out.is_dir()
    if is_file and len(names) > 1:
        raise ParameterError(f"--out {out} is one file, and {len(names)} results are to be written: give a folder")
    if not is_file:
        check_folder_name(out, suffixes=out_suffixes)
    return [out if is_file else out / name for name in names]
