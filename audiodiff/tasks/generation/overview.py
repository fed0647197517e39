"""Overview of generated sounds: a manifest and a contact sheet beside the files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiodiff.data.manifest import TEXT_FIELDS, Entry, write_manifest
from audiodiff.diffusion.noise import SeedBlend
from audiodiff.errors import AudioFileError
from audiodiff.io.atomic import atomic_file
from audiodiff.io.jobs import check_target
from audiodiff.io.writers import WrittenFile
from audiodiff.tasks.generation.contact_sheet import Panel, choose_panels, contact_sheet
from audiodiff.tasks.generation.specs import GenerationSpec

SHEET = "contact_sheet.png"
MANIFEST = "manifest.csv"
_RESERVED = ("path", "start", "seconds", "seed")


@dataclass(frozen=True)
class Overview:
    """The manifest and the contact sheet of a folder.

    Args:
        folder: where they are written.
        shape: of the grid of sounds, from `specs.grid_shape`.
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

    @property
    def n_panels(self) -> int:
        """Pictures of the contact sheet."""
        return len(choose_panels(self.shape)[0]) if self.has_sheet else 0

    def check(self, *, force: bool) -> None:
        """Check that no file is in the way.

        Raises:
            AudioFileError: if one exists, which `force` allows, or is a folder.
        """
        for target in self.targets:
            check_target(target, force=force, remedy=" (--no-sheet leaves it out)" if target.name == SHEET else "")

    def remove(self) -> None:
        """Remove earlier files, which describe other sounds."""
        for name in (MANIFEST, SHEET):
            (self.folder / name).unlink(missing_ok=True)

    def write(
        self,
        specs: Sequence[GenerationSpec],
        written: Sequence[WrittenFile],
        *,
        on_panel: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the files, each whole or not at all.

        Args:
            specs: of the sounds.
            written: the file of each.
            on_panel: called after each picture of the contact sheet.

        Raises:
            AudioFileError: if one cannot be written.
        """
        try:
            write_manifest(
                [self._entry(spec, file) for spec, file in zip(specs, written, strict=True)], self.folder / MANIFEST
            )
            if self.has_sheet:
                sheet = self._sheet(specs, written, on_panel)
                with atomic_file(self.folder / SHEET) as temporary:
                    temporary.write_bytes(sheet)
        except OSError as error:
            raise AudioFileError(f"{self.folder}: {error}; check the folder and its free space") from error

    def _entry(self, spec: GenerationSpec, file: WrittenFile) -> Entry:
        # A step between two values has neither of them.
        labels = {name: spec.labels.get(name) for name in self.labels}
        values = {name: value if isinstance(value, str) else "" for name, value in labels.items()}
        own: dict[str, Any] = {name: value for name, value in values.items() if name in TEXT_FIELDS}
        others = {f"label_{name}" if name in _RESERVED else name: values[name] for name in values if name not in own}
        return Entry(
            path=file.path,
            seconds=file.n_samples / file.sample_rate,
            extra=(*others.items(), ("seed", _format_seed(spec.seed))),
            **own,
        )

    def _sheet(
        self, specs: Sequence[GenerationSpec], written: Sequence[WrittenFile], on_panel: Callable[[], None]
    ) -> bytes:
        places, n_columns = choose_panels(self.shape)
        n_shown, n = len(places), len(specs)
        return contact_sheet(
            [Panel(written[place].path, specs[place].title) for place in places],
            n_columns=n_columns,
            note=f"{n} sounds" if n_shown == n else f"{n_shown} of {n} sounds",
            on_panel=on_panel,
        )


def _format_seed(seed: int | SeedBlend) -> str:
    return f"{seed.first}:{seed.last} at {seed.fraction:.6g}" if isinstance(seed, SeedBlend) else str(seed)
