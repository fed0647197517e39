"""Which files a command reads and which it writes for them, settled before anything is computed."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.tasks.generation.labels import GenerationSpec


@dataclass(frozen=True)
class Job:
    """One file to be made.

    Args:
        index: its number in the list, from 0.
        source: the file that it is made from; None where it is made from nothing.
        target: the file to write.
        wish: what it is to be, where it is made from nothing.
    """

    index: int
    source: Path | None
    target: Path
    wish: GenerationSpec | None = None


def plan_from_files(
    inputs: Sequence[str],
    *,
    suffixes: Sequence[str],
    out: Path,
    out_suffixes: Sequence[str],
    new_suffix: str | None,
    force: bool,
) -> list[Job]:
    """Plan one result for every input.

    Args:
        inputs: files, folders and globs. Of a folder that the output folder lies in, what is in that is left out: the
            results of another time.
        suffixes: of the files that can be read, in lower case.
        out: a file where it ends in one of out_suffixes and is no folder, otherwise a folder, which repeats the tree
            below an input folder.
        out_suffixes: of the files that can be written, in lower case.
        new_suffix: of the files in a folder; None keeps that of each input.
        force: replace files that exist.

    Raises:
        AudioFileError: if an input is missing, holds nothing but results or cannot be read by its name, or an output
            exists.
        ParameterError: if two results would have one name, or an output is an input.
    """
    found = list(_found(inputs, suffixes=suffixes, out=out, new_suffix=new_suffix))
    return _settled(found, out=out, out_suffixes=out_suffixes, force=force)


def plan_from_nothing(
    generation_specs: Sequence[GenerationSpec], *, out: Path, out_suffixes: Sequence[str], new_suffix: str, force: bool
) -> list[Job]:
    """Plan a result for every wish, named as it says; other arguments as for plan_from_files."""
    found = [(None, Path(f"{wish.name}{new_suffix}")) for wish in generation_specs]
    jobs = _settled(found, out=out, out_suffixes=out_suffixes, force=force)
    return [replace(job, wish=wish) for job, wish in zip(jobs, generation_specs, strict=True)]


def make_folder(target: Path) -> None:
    """Make the folder of a file to be written, and find out whether it takes one.

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


def _found(
    inputs: Sequence[str], *, suffixes: Sequence[str], out: Path, new_suffix: str | None
) -> Iterator[tuple[Path, Path]]:
    """Yield every file with the name that its result has below an output folder."""
    results = out.expanduser().resolve()
    for text in inputs:
        root = Path(text).expanduser()
        holds_results = root.is_dir() and results.is_dir() and root.resolve() in results.parents
        paths = audio_io.find(text, suffixes=suffixes)
        if holds_results:
            paths = [path for path in paths if results not in path.resolve().parents]
            if not paths:
                raise AudioFileError(f"{root}: all of its files lie in --out {out}: give another --out, or its files")
        for path in paths:
            if path.suffix.lower() not in suffixes:
                raise AudioFileError(f"{path}: suffix {path.suffix!r} must be one of {', '.join(suffixes)}")
            name = path.relative_to(root) if root.is_dir() else Path(path.name)
            yield path, name if new_suffix is None else name.with_suffix(new_suffix)


def _settled(
    found: Sequence[tuple[Path | None, Path]], *, out: Path, out_suffixes: Sequence[str], force: bool
) -> list[Job]:
    is_file = out.suffix.lower() in out_suffixes and not out.is_dir()
    if is_file and len(found) > 1:
        raise ParameterError(f"--out {out} is one file, and {len(found)} results are to be written: give a folder")
    jobs = [Job(index, source, out if is_file else out / name) for index, (source, name) in enumerate(found)]
    sources = {job.source.resolve() for job in jobs if job.source is not None}
    taken: dict[Path, Path | None] = {}
    for job in jobs:
        if job.target in taken:
            raise ParameterError(f"{taken[job.target]} and {job.source} would both become {job.target}: rename one")
        taken[job.target] = job.source
        if job.target.resolve() in sources:
            raise ParameterError(f"--out: {job.target} is one of the inputs: give another --out")
        if job.target.is_dir():
            raise AudioFileError(f"--out: {job.target} is a folder, and a file is to be written there: rename it")
        if job.target.exists() and not force:
            raise AudioFileError(f"--out: {job.target} exists: give --force to replace it, or another --out")
    return jobs
