"""What `audiodiff generate` is asked for, as files to be made: of inputs, or from nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiodiff.errors import ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.jobs import Job, plan_from_files, plan_from_nothing
from audiodiff.io.mel import MEL_SUFFIXES
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.generation.files import Model
from audiodiff.tasks.generation.labels import Interpolation, generation_specs, grid_shape, read_labels
from audiodiff.tasks.generation.overview import Overview


def plan_from_inputs(inputs: Sequence[str], *, out: Path, force: bool) -> list[Job]:
    """Say which files are to be made of recordings and mels, having checked that none is in the way.

    Args:
        inputs: files, folders or globs of them.
        out: a file or a folder.
        force: replace files that exist.

    Raises:
        AudioFileError: if an input is missing or an output exists.
        ParameterError: if the outputs cannot be what is asked for.
    """
    return plan_from_files(
        inputs,
        suffixes=(*audio_io.AUDIO_SUFFIXES, *MEL_SUFFIXES),
        out=out,
        out_suffixes=audio_io.AUDIO_SUFFIXES,
        new_suffix=".wav",
        force=force,
    )


@dataclass(frozen=True)
class Request:
    """What is asked of a model that generates from nothing.

    Args:
        labels: texts NAME=VALUES.
        seed: one, or two and the way between them.
        between: places on the way from one label or seed to another.
        count: sounds of each cell of the grid.
        has_sheet: draw a contact sheet of several.
    """

    labels: Sequence[str]
    seed: int | Interpolation
    between: int | None
    count: int | None
    has_sheet: bool

    def refuse(self, because: str) -> None:
        """Refuse all that has a meaning only without an input.

        Raises:
            ParameterError: naming the first that is given, and why it has none.
        """
        given = {
            "--label": self.labels[0] if self.labels else None,
            "--between": self.between,
            "--seed": f"{self.seed.first}:{self.seed.last}" if isinstance(self.seed, Interpolation) else None,
            "--count": self.count,
            "--no-sheet": None if self.has_sheet else "",
        }
        for name, value in given.items():
            if value is not None:
                raise ParameterError(f"{name} {value}".rstrip() + f" {because}")

    def plan(self, model: Model, *, out: Path, force: bool) -> tuple[list[Job], Overview | None]:
        """Say which files are to be made, and what lies beside them, having checked that none is in the way.

        Raises:
            AudioFileError: if an output exists.
            ParameterError: if the model does not know the labels, or the outputs cannot be what is asked for.
        """
        known = model.labels if isinstance(model, Synthesizer) else None
        chosen = read_labels(self.labels, labels=known)
        asked = generation_specs(chosen, labels=known, seed=self.seed, between=self.between, count=self.count)
        jobs = plan_from_nothing(asked, out=out, out_suffixes=audio_io.AUDIO_SUFFIXES, new_suffix=".wav", force=force)
        if len(jobs) == 1:
            return jobs, None
        shape = grid_shape(chosen, between=self.between, count=self.count)
        names = () if known is None else known.names
        overview = Overview(out, shape=shape, labels=names, has_sheet=self.has_sheet)
        overview.check(force=force)
        return jobs, overview
