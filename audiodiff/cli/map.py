"""`audiodiff map`: map recordings by how they sound."""

import math
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import OUTPUT, Centre, Device, FeatureInputs, FeatureModel, Force, Split
from audiodiff.errors import ParameterError
from audiodiff.io.console import say, stage_progress
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.tasks.features.files import check_outputs, features_from
from audiodiff.tasks.features.map import LAYOUTS, MAX_SEED
from audiodiff.tasks.features.map_files import SUFFIXES, write_map

_MB = 1_000_000


def map_command(
    inputs: FeatureInputs,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The page, .html; a .csv and a .png are written beside it.",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("map.html"),
    layout: Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(LAYOUTS)}.")] = "pca",
    centre: Centre = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Colour points by this column; may be given several times, for a choice on the page.",
            show_default="label, speaker, or the folders",
        ),
    ] = None,
    embed: Annotated[
        float,
        typer.Option(metavar="MB", help="Embed at most this much audio in the page; further recordings are linked."),
    ] = 20.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of umap.")] = 0,
    split: Split = None,
    model: FeatureModel = SPEECH_PRIOR,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Map recordings by how they sound, on a page that plays them.

    The page is one file that needs no network: points coloured by label, a name on hover, audio on click. The
    coordinates (.csv) and a picture (.png) are written beside it. Trustworthiness is high where neighbours on the map
    are neighbours in truth, and k-NN accuracy where five neighbours predict the label.

    \b
    Examples:
      audiodiff map recordings/ -o map.html
      audiodiff map features.npz -o map.html --layout umap
      audiodiff map features.npz -o map.html --centre speaker --label label
    """
    if out.suffix.lower() != SUFFIXES[0]:
        raise ParameterError(f"--out {out} must end in {SUFFIXES[0]}")
    if layout not in LAYOUTS:
        raise ParameterError(f"--layout {layout} must be one of {', '.join(LAYOUTS)}")
    if not 0.0 <= embed * _MB < math.inf:
        raise ParameterError(f"--embed {embed} must not be negative, and finite; 0 links all recordings")
    if not 0 <= seed <= MAX_SEED:
        raise ParameterError(f"--seed {seed} must lie between 0 and {MAX_SEED}")
    targets = [out.with_suffix(suffix) for suffix in SUFFIXES]
    check_outputs(targets, inputs=inputs, force=force)
    with stage_progress() as on_progress:
        features = features_from(inputs, model=model, split=split, device=device, on_progress=on_progress)
        report = write_map(
            out,
            features,
            layout=layout,
            columns=features.label_columns() if label is None else label,
            centre=centre,
            embed_bytes=round(embed * _MB),
            seed=seed,
            on_progress=on_progress,
        )
    n = len(features.entries)
    for line in report.measures or [f"{n} recordings are too few to measure the quality of the map"]:
        print(line)
    say(f"wrote {', '.join(str(target) for target in targets)}")
    if report.n_linked:
        say(f"{report.n_linked} of {n} recordings are linked, beyond --embed {embed:g}: keep them where they are")
