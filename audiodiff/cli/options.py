"""Options that several commands have, in the same words."""

from pathlib import Path
from typing import Annotated

import typer

Recordings = Annotated[
    list[str], typer.Argument(metavar="INPUT", help="Recordings (wav, flac, mp3, ...), folders or globs of them.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="PATH", help="A file (.wav, .flac, ...) for one result, or a folder.")
]
Model = Annotated[str, typer.Option(metavar="MODEL", help="A run folder, a checkpoint, or a name.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, or auto.")]
Float = Annotated[bool, typer.Option("--float", help="Write 32-bit float samples, at the level as it is.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]

StepsAtAnyStrength = Annotated[
    int | None, typer.Option(metavar="N", help="Steps of the sampler, at any strength.", show_default="the model's")
]
LabelGuidance = Annotated[
    float | None,
    typer.Option(metavar="SCALE", help="How far to exaggerate the labels; 1 is none. It doubles the time."),
]

FeatureInputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="A feature file (.npz), or recordings: files, folders, globs, manifests.",
        show_default=False,
    ),
]
Centre = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Subtract the mean of each value of this column: with speaker, recordings are compared by what is said, "
        "not by who says it.",
    ),
]
Split = Annotated[
    str | None, typer.Option(metavar="NAME", help="Use only this split of the manifest.", show_default="all")
]
FeatureModel = Annotated[str, typer.Option(metavar="MODEL", help="Model that extracts the features of recordings.")]
