"""Recordings laid out in two dimensions by how they sound: coordinates, a picture, and a page that plays them."""

import base64
import colorsys
import html
import io
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile
import torch
from jaxtyping import Float

from audiodiff.data import Entry, load_whole, scan, vocabulary
from audiodiff.errors import DataError, ParameterError, check_whole
from audiodiff.tasks.features.files import Features

Vectors = Float[np.ndarray, "points features"]
Coordinates = Float[np.ndarray, "points 2"]

N_NEIGHBOURS = 5
"""Whose votes `knn_accuracy` counts, and whose ranks `trustworthiness`."""

MOST_SEED = 2**32 - 1
"""The greatest that numpy's generators take."""

_UMAP_NEIGHBOURS = 15
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000)
_PALETTE = (
    "#4269d0",
    "#e8871e",
    "#2f9e6e",
    "#d6455d",
    "#8a63d2",
    "#1ba3b8",
    "#b5892b",
    "#e377b0",
    "#7a8794",
    "#7f4f24",
)
_GOLDEN_ANGLE = 137.508


@dataclass
class Sounds:
    """The sounds of a page: each within it as long as there is room, and otherwise a link.

    Args:
        folder: of the page, which links are relative to.
        room: bytes of sound that the page may still take in, as they are written there.
        n_linked: how many were linked.
    """

    folder: Path
    room: int
    n_linked: int = field(default=0, init=False)

    def source(self, entry: Entry) -> str:
        """Return what an audio element plays."""
        if self.room > 0:
            embedded = _embedded(entry)
            if len(embedded) <= self.room:
                self.room -= len(embedded)
                return embedded
            # Those that follow are linked too, or it would be by chance which are.
            self.room = 0
        self.n_linked += 1
        link = quote(Path(os.path.relpath(entry.path, self.folder)).as_posix())
        if entry.start == 0.0 and entry.seconds is None:
            return link
        end = "" if entry.seconds is None else f",{entry.start + entry.seconds:.3f}"
        return f"{link}#t={entry.start:.3f}{end}"


def coordinates(vectors: Vectors, *, method: str = "pca", seed: int = 0) -> Coordinates:
    """Lay points out in two dimensions; points that are all alike lie in one place.

    Args:
        vectors: as they are to be compared, `audiodiff.tasks.features.cluster.standardised` for one.
        method: pca, the two directions in which points differ most; or umap, which keeps neighbours together and says
            nothing of distances far away.
        seed: of umap, at most 2**32 - 1.

    Raises:
        ParameterError: if there is no such method or seed, umap is not installed, or there are too few points: 2, or
            4 for umap.
    """
    if method not in METHODS:
        raise ParameterError(f"method={method!r} must be one of {', '.join(METHODS)}")
    check_whole(seed, name="seed", least=0)
    if seed > MOST_SEED:
        raise ParameterError(f"seed={seed} must be at most {MOST_SEED}")
    least, lay_out = METHODS[method]
    if len(vectors) < least:
        raise ParameterError(f"{len(vectors)} recordings are too few for method={method}: {least} or more are needed")
    if np.array_equal(vectors, np.broadcast_to(vectors[0], vectors.shape)):
        return np.zeros((len(vectors), 2))
    return lay_out(vectors.astype(np.float64), seed)


def trustworthiness(vectors: Vectors, laid_out: Coordinates, *, n_neighbours: int = N_NEIGHBOURS) -> float:
    """Return how far neighbours in two dimensions are neighbours: 1 where all are; NaN with too few points to say.

    Source: Venna and Kaski 2001; sklearn.manifold.trustworthiness.
    """
    from sklearn.manifold import trustworthiness as measured

    if n_neighbours >= len(vectors) / 2:
        return float("nan")
    return float(measured(vectors, laid_out, n_neighbors=n_neighbours))


def knn_accuracy(laid_out: Coordinates, labels: Sequence[str], *, n_neighbours: int = N_NEIGHBOURS) -> float:
    """Return the share of points whose label most of their nearest neighbours have, of those that have a label.

    Each point is left out of its own neighbours. NaN where there are no more points than neighbours.
    """
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    known = [index for index, label in enumerate(labels) if label]
    if len(known) <= n_neighbours:
        return float("nan")
    truth = np.array([labels[index] for index in known])
    scores = cross_val_score(KNeighborsClassifier(n_neighbours), laid_out[known], truth, cv=LeaveOneOut())
    return float(scores.mean())


def colours(values: Sequence[str]) -> dict[str, str]:
    """Give each value a colour; the first ten are easy to tell apart."""
    rest = [f"hsl({_GOLDEN_ANGLE * index % 360:.0f} 55% 52%)" for index in range(len(values))]
    return dict(zip(values, [*_PALETTE, *rest[len(_PALETTE) :]], strict=False))


def picture(laid_out: Coordinates, labels: Sequence[str], *, title: str) -> bytes:
    """Draw the points, coloured by label, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    known = _sorted_values(labels)
    size = float(np.clip(6000.0 / len(laid_out), 4.0, 40.0))
    for value, colour in colours(known or [""]).items():
        own = np.array([label == value for label in labels])
        axes.scatter(*laid_out[own].T, s=size, color=_rgb(colour), alpha=0.8, linewidths=0, label=value or "recordings")
    unknown = np.array([not label for label in labels])
    if known and unknown.any():
        axes.scatter(*laid_out[unknown].T, s=size, color="0.7", linewidths=0, label="not known")
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right", "left", "bottom"]].set_color("0.8")
    if known:
        axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, ncols=1 + (len(known) - 1) // 25
        )
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def page(
    found: Features,
    laid_out: Coordinates,
    *,
    columns: Mapping[str, Sequence[str]],
    title: str,
    notes: Sequence[str],
    sounds: Sounds,
    on_sound: Callable[[], None] = lambda: None,
) -> str:
    """Write the page: one file, which loads nothing from the network.

    Args:
        found: the recordings.
        laid_out: where they are.
        columns: what points can be coloured by, with its value for each recording.
        title: of the page.
        notes: lines that are shown below it.
        sounds: where their sounds come from.
        on_sound: called after each.
    """
    points = []
    for index, entry in enumerate(found.entries):
        x, y = laid_out[index].tolist()
        points.append(
            {
                "x": round(x, 5),
                "y": round(y, 5),
                "name": entry.path.name if entry.start == 0.0 else f"{entry.path.name} at {entry.start:g} s",
                "values": [values[index] for values in columns.values()],
                "source": sounds.source(entry),
            }
        )
        on_sound()
    told = {
        "title": title,
        "notes": list(notes),
        "columns": [
            {"name": name, "order": _sorted_values(values), "colours": colours(_sorted_values(values))}
            for name, values in columns.items()
        ],
        "points": points,
    }
    # Within a script element, "</" would end it, and "<!--" before "<script" would keep it from ending.
    data = json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")
    template = resources.files("audiodiff.tasks.features").joinpath("map.html").read_text(encoding="utf-8")
    return template.replace("__TITLE__", _escaped(title)).replace("__DATA__", data)


def _pca(vectors: Vectors, _seed: int) -> Coordinates:
    from sklearn.decomposition import PCA

    found = PCA(min(2, *vectors.shape), random_state=0).fit_transform(vectors)
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def _umap(vectors: Vectors, seed: int) -> Coordinates:
    with warnings.catch_warnings():
        # Of what UMAP can do with Tensorflow, nothing is used here.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        try:
            from umap import UMAP
        except ImportError as error:
            raise ParameterError(
                "method=umap needs umap-learn: pip install 'audiodiff[umap]', or take method=pca"
            ) from error
    n_neighbours = min(_UMAP_NEIGHBOURS, len(vectors) - 1)
    # Its start is by eigenvectors, which few points do not have.
    start = "spectral" if len(vectors) > 2 * _UMAP_NEIGHBOURS else "random"
    # A seed asks for one thread; said by itself, UMAP does not warn of it.
    umap = UMAP(n_components=2, n_neighbors=n_neighbours, init=start, random_state=seed, n_jobs=1)
    return np.asarray(umap.fit_transform(vectors), dtype=np.float64)


METHODS: dict[str, tuple[int, Callable[[Vectors, int], Coordinates]]] = {"pca": (2, _pca), "umap": (4, _umap)}
"""By name, how many points a method needs, and what lays them out."""


def _embedded(entry: Entry) -> str:
    """Return a recording as MP3, which every browser plays, mono and at 24 kHz at most, as the data of a link."""
    if not entry.n_samples:
        scanned, bad = scan([entry], min_seconds=0.0)
        if bad:
            raise DataError(f"{entry.path}: {bad[0].reason}; put it back, or link all recordings with --embed 0")
        entry = scanned[0]
    rate = max(rate for rate in _MP3_RATES if rate <= max(_MP3_RATES[0], entry.sample_rate))
    audio = load_whole(entry, sample_rate=rate, n_channels=1)
    audio = audio / max(1.0, float(audio.abs().max()))
    return f"data:audio/mpeg;base64,{base64.b64encode(_mp3(audio, rate)).decode()}"


def _mp3(audio: torch.Tensor, rate: int) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, audio[0].numpy(), rate, format="MP3", subtype="MPEG_LAYER_III")
    return data.getvalue()


def _sorted_values(labels: Sequence[str]) -> list[str]:
    return list(vocabulary([Entry(Path(), label=label) for label in labels], "label"))


def _rgb(colour: str) -> str | tuple[float, float, float]:
    """Return a colour as matplotlib takes it."""
    if colour.startswith("#"):
        return colour
    hue, saturation, lightness = (float(part.rstrip("%")) for part in colour[4:-1].split())
    return colorsys.hls_to_rgb(hue / 360.0, lightness / 100.0, saturation / 100.0)


def _escaped(text: str) -> str:
    return html.escape(text)
