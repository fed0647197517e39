"""What lies beside sounds that were made from nothing: a contact sheet to look at, and a manifest to read."""

import contextlib
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiodiff.data.manifest import TEXT_FIELDS, Entry, write_manifest
from audiodiff.diffusion.noise import SeedBlend
from audiodiff.errors import AudioFileError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress
from audiodiff.io.jobs import Job
from audiodiff.tasks.generation.contact_sheet import Panel, chosen, contact_sheet

SHEET = "contact_sheet.png"
MANIFEST = "manifest.csv"
_RESERVED = ("path", "start", "seconds", "seed")


@dataclass(frozen=True)
class Overview:
    """The contact sheet and the manifest of a folder.

    Args:
        folder: where they are written.
        shape: numbers along the axes of the grid of sounds, as `label_arguments.grid_shape` gives them.
        labels: that the model knows, each a column of the manifest.
        has_sheet: write the contact sheet as well.
    """

    folder: Path
    shape: Sequence[int]
    labels: Sequence[str]
    has_sheet: bool

    @property
    def targets(self) -> list[Path]:
        """The files to be written."""
        return [self.folder / name for name in (MANIFEST, *([SHEET] if self.has_sheet else []))]

    def check(self, *, force: bool) -> None:
        """Find out whether a file is in the way.

        Raises:
            AudioFileError: if one exists, which `force` allows, or is a folder.
        """
        for target in self.targets:
            if target.is_dir():
                raise AudioFileError(f"--out: {target} is a folder, and a file is to be written there: rename it")
            if target.exists() and not force:
                remedy = " (--no-sheet leaves it out)" if target.name == SHEET else ""
                raise AudioFileError(f"--out: {target} exists: give --force to replace it{remedy}, or another --out")

    def remove(self) -> None:
        """Remove what is there, which is of other sounds."""
        for name in (MANIFEST, SHEET):
            (self.folder / name).unlink(missing_ok=True)

    def write(self, jobs: Sequence[Job]) -> None:
        """Write the files, each whole or not at all.

        Raises:
            AudioFileError: if one cannot be written.
        """
        try:
            write_manifest([self._entry(job) for job in jobs], self.folder / MANIFEST)
            if self.has_sheet:
                _write_whole(self.folder / SHEET, self._sheet(jobs))
        except OSError as error:
            raise AudioFileError(f"{self.folder}: {error}; check the folder and its free space") from error

    def _entry(self, job: Job) -> Entry:
        assert job.wish is not None
        values = {}
        for name in self.labels:
            value = job.wish.labels.get(name)
            # What lies between two values is of neither.
            values[name] = value if isinstance(value, str) else ""
        own = {name: value for name, value in values.items() if name in TEXT_FIELDS}
        others = {f"label_{name}" if name in _RESERVED else name: values[name] for name in values if name not in own}
        return Entry(
            path=job.target,
            seconds=audio_io.info(job.target).seconds,
            extra=(*others.items(), ("seed", _shown(job.wish.seed))),
            **own,
        )

    def _sheet(self, jobs: Sequence[Job]) -> bytes:
        places, n_columns = chosen(self.shape)
        shown = [jobs[place] for place in places]
        note = f"{len(jobs)} sounds" if len(shown) == len(jobs) else f"{len(shown)} of {len(jobs)} sounds"
        with progress("contact sheet", total=len(shown)) as bar:
            return contact_sheet(
                [Panel(job.target, job.wish.title) for job in shown if job.wish is not None],
                n_columns=n_columns,
                note=note,
                on_panel=bar.advance,
            )


def _shown(seed: int | SeedBlend) -> str:
    return f"{seed.first}:{seed.last} at {seed.fraction:.6g}" if isinstance(seed, SeedBlend) else str(seed)


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
