"""Map of recordings as files: a web page, a table of coordinates and a picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiodiff.io.atomic import write_atomic
from audiodiff.io.paths import display_name
from audiodiff.tasks.features.archive import Features, write_table
from audiodiff.tasks.features.cluster import standardize
from audiodiff.tasks.features.map import (
    N_NEIGHBOURS,
    PageAudio,
    coordinates,
    knn_accuracy,
    page,
    picture,
    trustworthiness,
)
from audiodiff.types import OnProgress

SUFFIXES = (".html", ".csv", ".png")


@dataclass(frozen=True)
class MapReport:
    """Quality of a map.

    Args:
        measures: one line each: trustworthiness, and k-NN accuracy of each column; none for too few recordings.
        n_linked: recordings that the page links instead of embedding them.
    """

    measures: Sequence[str]
    n_linked: int


def write_map(
    out: Path,
    features: Features,
    *,
    layout: str,
    columns: Sequence[str],
    centre: str | None,
    embed_bytes: int,
    seed: int,
    on_progress: OnProgress = lambda *_: None,
) -> MapReport:
    """Write a map of recordings.

    Args:
        out: the page; a table (.csv) and a picture (.png) are written beside it.
        features: of the recordings.
        layout: as for `coordinates`.
        columns: that points can be coloured by; the picture shows the first.
        centre: column whose values' means are subtracted; None subtracts none.
        embed_bytes: of encoded audio in the page.
        seed: as for `coordinates`.
        on_progress: called after each recording.

    Raises:
        AudiodiffError: if there are too few recordings, one cannot be read, or a file cannot be written.
    """
    values = {name: features.values(name) for name in columns}
    vectors = standardize(features.vectors, groups=None if centre is None else features.values(centre))
    points = coordinates(vectors, layout=layout, seed=seed)
    measures: list[str] = []
    if math.isfinite(trust := trustworthiness(vectors, points)):
        measures.append(f"trustworthiness {trust:.3f}")
    for name, labels in values.items():
        if math.isfinite(accuracy := knn_accuracy(points, labels)):
            measures.append(f"{N_NEIGHBOURS}-NN accuracy of {name} {100 * accuracy:.1f} %")
    n = len(features.entries)
    title = f"{n} recordings by {layout.upper()}, features of {features.model}"
    if centre is not None:
        title += f", centred by {centre}"
    audio = PageAudio(folder=out.absolute().parent, max_bytes=embed_bytes)
    notes = [title, *measures]
    text = page(features, points, columns=values, title=out.stem, notes=notes, audio=audio, on_progress=on_progress)
    image = picture(points, next(iter(values.values()), [""] * n), title=title)
    write_atomic(out, display_name(text).encode())
    xy = {name: [f"{value:.6g}" for value in points[:, axis].tolist()] for axis, name in enumerate("xy")}
    write_table(out.with_suffix(".csv"), features, results=xy, columns=columns)
    write_atomic(out.with_suffix(".png"), image)
    return MapReport(measures, audio.n_linked)
