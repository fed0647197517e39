"""`audiodiff map`: lay recordings out by how they sound."""

import csv
import io
import math
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import Centre, Described, Describer, Device, Force, Split
from audiodiff.errors import ParameterError
from audiodiff.io.console import progress, say
from audiodiff.models.checkpoint import SPEECH_PRIOR
from audiodiff.tasks.features.cluster import standardised
from audiodiff.tasks.features.files import Features, check_outputs, features_from, shown_path, write_whole
from audiodiff.tasks.features.map import (
    METHODS,
    MOST_SEED,
    N_NEIGHBOURS,
    Coordinates,
    Sounds,
    coordinates,
    knn_accuracy,
    page,
    picture,
    trustworthiness,
)

_SUFFIXES = (".html", ".csv", ".png")
_MB = 1_000_000


def map_command(
    inputs: Described,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="The page, .html; a .csv and a .png are written beside it."),
    ] = Path("map.html"),
    method: Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(METHODS)}.")] = "pca",
    centre: Centre = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Colour the points by it; may be given several times, and the page lets one choose.",
            show_default="label, speaker, or the folders",
        ),
    ] = None,
    embed: Annotated[
        float,
        typer.Option(metavar="MB", help="Of sound within the page, at most; recordings beyond it are linked."),
    ] = 20.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of umap.")] = 0,
    split: Split = None,
    model: Describer = SPEECH_PRIOR,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Lay recordings out in a picture by how they sound, and play them from it.

    The page is one file that needs no network: points coloured by label, a name under the pointer, a sound at a click.
    Beside it lie the coordinates, .csv, and a picture, .png. Trustworthiness says how far neighbours in the picture
    are neighbours in truth, and k-NN accuracy how often five neighbours tell the label.

    \b
    Examples:
      audiodiff map recordings/ -o map.html
      audiodiff map features.npz -o map.html --method umap
      audiodiff map features.npz -o map.html --centre speaker --label label
    """
    if out.suffix.lower() != _SUFFIXES[0]:
        raise ParameterError(f"--out {out} must end in {_SUFFIXES[0]}")
    if method not in METHODS:
        raise ParameterError(f"--method {method} must be one of {', '.join(METHODS)}")
    if not 0.0 <= embed * _MB < math.inf:
        raise ParameterError(f"--embed {embed} must not be negative, and finite; 0 links all recordings")
    if not 0 <= seed <= MOST_SEED:
        raise ParameterError(f"--seed {seed} must lie between 0 and {MOST_SEED}")
    targets = [out.with_suffix(suffix) for suffix in _SUFFIXES]
    check_outputs(targets, inputs=inputs, force=force)
    found = features_from(inputs, model=model, split=split, device=device)
    columns = {name: found.values(name) for name in (found.known_labels() if label is None else label)}
    vectors = standardised(found.vectors, groups=None if centre is None else found.values(centre))
    laid_out = coordinates(vectors, method=method, seed=seed)
    trust = trustworthiness(vectors, laid_out)
    measured = [f"trustworthiness {trust:.3f}"] if math.isfinite(trust) else []
    for name, values in columns.items():
        if math.isfinite(accuracy := knn_accuracy(laid_out, values)):
            measured.append(f"{N_NEIGHBOURS}-NN accuracy of {name} {100 * accuracy:.1f} %")
    n = len(found.entries)
    about = f"{n} recordings by {method.upper()}, features of {found.model}"
    if centre is not None:
        about += f", centred by {centre}"
    sounds = Sounds(folder=out.absolute().parent, room=round(embed * _MB))
    with progress("sounds", total=n) as bar:
        text = page(
            found,
            laid_out,
            columns=columns,
            title=out.stem,
            notes=[about, *measured],
            sounds=sounds,
            on_sound=bar.advance,
        )
    first = next(iter(columns.values()), [""] * n)
    image = picture(laid_out, first, title=about)
    table = _csv(found, laid_out, columns=columns, folder=out.absolute().parent)
    write_whole(targets[0], text.encode())
    write_whole(targets[1], table.encode())
    write_whole(targets[2], image)
    for line in measured or [f"{n} recordings are too few to say how faithful the map is"]:
        print(line)
    say(f"wrote {', '.join(str(target) for target in targets)}")
    if sounds.n_linked:
        say(f"{sounds.n_linked} of {n} recordings are linked, beyond --embed {embed:g}: let them stay where they are")


def _csv(found: Features, laid_out: Coordinates, *, columns: dict[str, list[str]], folder: Path) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "start", "x", "y", *columns])
    for index, entry in enumerate(found.entries):
        x, y = laid_out[index].tolist()
        told = [values[index] for values in columns.values()]
        writer.writerow([shown_path(entry.path, folder=folder), f"{entry.start:g}", f"{x:.6g}", f"{y:.6g}", *told])
    return text.getvalue()
