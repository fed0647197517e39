"""Request: what is asked of a model that generates without an input, planned as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiodiff.io.jobs import plan_targets
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.vocoder import Vocoder
from audiodiff.tasks.generation.labels import Interpolation, read_labels
from audiodiff.tasks.generation.overview import Overview
from audiodiff.tasks.generation.specs import GenerationSpec, generation_specs, grid_shape


@dataclass(frozen=True)
class GenerationPlan:
    """The files that are generated without an input.

    Args:
        specs: of the sounds.
        targets: the file of each.
        overview: of several sounds, otherwise None.
    """

    specs: Sequence[GenerationSpec]
    targets: Sequence[Path]
    overview: Overview | None


@dataclass(frozen=True)
class GenerationRequest:
    """The options of a generation without an input.

    Args:
        labels: texts NAME=VALUES.
        seed: one seed, or two to interpolate between.
        interpolate: sounds from one label or seed to another, both ends included.
        count: sounds of each cell of the grid.
        has_sheet: draw a contact sheet of several sounds.
    """

    labels: Sequence[str]
    seed: int | Interpolation
    interpolate: int | None
    count: int | None
    has_sheet: bool

    @property
    def given(self) -> list[str]:
        """The options that have no meaning with an input, as they were given."""
        options = {
            "--label": self.labels[0] if self.labels else None,
            "--interpolate": self.interpolate,
            "--seed": f"{self.seed.first}:{self.seed.last}" if isinstance(self.seed, Interpolation) else None,
            "--count": self.count,
            "--no-sheet": None if self.has_sheet else "",
        }
        return [f"{name} {value}".rstrip() for name, value in options.items() if value is not None]

    def plan(self, model: Vocoder, *, out: Path, force: bool) -> GenerationPlan:
        """Plan the files, and check that none is in the way.

        Raises:
            AudioFileError: if an output exists.
            ParameterError: if the model does not know the labels, or the options do not fit together.
        """
        known = model.labels if isinstance(model, Synthesizer) else None
        chosen = read_labels(self.labels, labels=known)
        specs = generation_specs(chosen, labels=known, seed=self.seed, interpolate=self.interpolate, count=self.count)
        targets = plan_targets([spec.name for spec in specs], out=out, force=force)
        if len(specs) == 1:
            return GenerationPlan(specs, targets, None)
        shape = grid_shape(chosen, interpolate=self.interpolate, count=self.count)
        names = () if known is None else known.names
        overview = Overview(out, shape=shape, labels=names, has_sheet=self.has_sheet)
        overview.check(force=force)
        return GenerationPlan(specs, targets, overview)
