"""Map of recordings: two-dimensional coordinates, a picture, and a web page that plays the recordings."""

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
from audiodiff.io.paths import file_text
from audiodiff.tasks.features.archive import Features
from audiodiff.types import OnProgress

Vectors = Float[np.ndarray, "points features"]
Coordinates = Float[np.ndarray, "points 2"]

N_NEIGHBOURS = 5
"""Neighbours of a point in `knn_accuracy` and `trustworthiness`."""

MAX_SEED = 2**32 - 1
"""Largest seed of numpy's generators."""

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
class PageAudio:
    """Audio of a page: embedded up to a number of bytes, then linked.

    Args:
        folder: of the page, which links are relative to.
        max_bytes: of encoded audio that may still be embedded.
        n_linked: recordings that were linked.
    """

    folder: Path
    max_bytes: int
    n_linked: int = field(default=0, init=False)

    def source(self, entry: Entry) -> str:
        """Return the source of a recording's audio element."""
        if self.max_bytes > 0:
            embedded = _embedded(entry)
            if len(embedded) <= self.max_bytes:
                self.max_bytes -= len(embedded)
                return embedded
            # Link all that follow too, so that the embedded recordings are the first ones.
            self.max_bytes = 0
        self.n_linked += 1
        link = quote(file_text(Path(os.path.relpath(entry.path, self.folder)).as_posix()))
        if entry.start == 0.0 and entry.seconds is None:
            return link
        end = "" if entry.seconds is None else f",{entry.start + entry.seconds:.3f}"
        return f"{link}#t={entry.start:.3f}{end}"


def coordinates(vectors: Vectors, *, layout: str = "pca", seed: int = 0) -> Coordinates:
    """Project points to two dimensions; points that are all alike share one place.

    Args:
        vectors: the points, for example from `audiodiff.tasks.features.cluster.standardize`.
        layout: pca, the two directions of largest variance; or umap, which keeps neighbours together, while large
            distances mean nothing.
        seed: of umap, at most 2**32 - 1.

    Raises:
        ParameterError: if there is no such layout or seed, umap is not installed, or there are too few points: pca
            needs 2, umap 4.
    """
    if layout not in LAYOUTS:
        raise ParameterError(f"layout={layout!r} must be one of {', '.join(LAYOUTS)}")
    check_whole(seed, name="seed", least=0)
    if seed > MAX_SEED:
        raise ParameterError(f"seed={seed} must be at most {MAX_SEED}")
    least, project = LAYOUTS[layout]
    if len(vectors) < least:
        raise ParameterError(f"{len(vectors)} recordings are too few for layout={layout}: give {least} or more")
    if np.array_equal(vectors, np.broadcast_to(vectors[0], vectors.shape)):
        return np.zeros((len(vectors), 2))
    return project(vectors.astype(np.float64), seed)


def trustworthiness(vectors: Vectors, points: Coordinates, *, n_neighbours: int = N_NEIGHBOURS) -> float:
    """Compute the trustworthiness of a map: 1 if all its neighbours are neighbours in truth; NaN for too few points.

    Source: Venna and Kaski 2001; sklearn.manifold.trustworthiness.
    """
    from sklearn.manifold import trustworthiness as of_sklearn

    if n_neighbours >= len(vectors) / 2:
        return float("nan")
    return float(of_sklearn(vectors, points, n_neighbors=n_neighbours))


def knn_accuracy(points: Coordinates, labels: Sequence[str], *, n_neighbours: int = N_NEIGHBOURS) -> float:
    """Compute the leave-one-out accuracy of a k-nearest-neighbour classifier of labels, on labelled points.

    NaN unless there are more labelled points than neighbours.
    """
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    known = [index for index, label in enumerate(labels) if label]
    if len(known) <= n_neighbours:
        return float("nan")
    truth = np.array([labels[index] for index in known])
    scores = cross_val_score(KNeighborsClassifier(n_neighbours), points[known], truth, cv=LeaveOneOut())
    return float(scores.mean())


def value_colours(values: Sequence[str]) -> dict[str, str]:
    """Return a colour for each value; the first ten are easy to distinguish."""
    rest = [f"hsl({_GOLDEN_ANGLE * index % 360:.0f} 55% 52%)" for index in range(len(values))]
    return dict(zip(values, [*_PALETTE, *rest[len(_PALETTE) :]], strict=False))


def picture(points: Coordinates, labels: Sequence[str], *, title: str) -> bytes:
    """Draw the points, coloured by label, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    known = _sorted_values(labels)
    size = float(np.clip(6000.0 / len(points), 4.0, 40.0))
    for value, colour in value_colours(known or [""]).items():
        own = np.array([label == value for label in labels])
        axes.scatter(*points[own].T, s=size, color=_rgb(colour), alpha=0.8, linewidths=0, label=value or "recordings")
    unknown = np.array([not label for label in labels])
    if known and unknown.any():
        axes.scatter(*points[unknown].T, s=size, color="0.7", linewidths=0, label="unknown")
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
    features: Features,
    places: Coordinates,
    *,
    columns: Mapping[str, Sequence[str]],
    title: str,
    notes: Sequence[str],
    audio: PageAudio,
    on_progress: OnProgress = lambda *_: None,
) -> str:
    """Return the page: a single HTML file that loads nothing from the network.

    Args:
        features: the recordings.
        places: their coordinates.
        columns: that points can be coloured by, each with its value for each recording.
        title: of the page.
        notes: lines that are shown below the title.
        audio: embeds or links the recordings.
        on_progress: called after each recording.
    """
    points = []
    for index, entry in enumerate(features.entries):
        x, y = places[index].tolist()
        points.append(
            {
                "x": round(x, 5),
                "y": round(y, 5),
                "name": entry.path.name if entry.start == 0.0 else f"{entry.path.name} at {entry.start:g} s",
                "values": [values[index] for values in columns.values()],
                "source": audio.source(entry),
            }
        )
        on_progress("encoding audio", len(points), len(features.entries))
    content = {
        "title": title,
        "notes": list(notes),
        "columns": [
            {"name": name, "order": _sorted_values(values), "colours": value_colours(_sorted_values(values))}
            for name, values in columns.items()
        ],
        "points": points,
    }
    # Within a script element, "</" would end it, and "<!--" before "<script" would keep it from ending.
    data = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")
    template = resources.files("audiodiff.tasks.features").joinpath("map.html").read_text(encoding="utf-8")
    return template.replace("__TITLE__", html.escape(title)).replace("__DATA__", data)


def _pca(vectors: Vectors, _seed: int) -> Coordinates:
    from sklearn.decomposition import PCA

    projected = PCA(min(2, *vectors.shape), random_state=0).fit_transform(vectors)
    return np.pad(projected, ((0, 0), (0, 2 - projected.shape[1])))


def _umap(vectors: Vectors, seed: int) -> Coordinates:
    with warnings.catch_warnings():
        # Nothing here needs Tensorflow.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        try:
            from umap import UMAP
        except ImportError as error:
            raise ParameterError(
                "layout=umap needs umap-learn: pip install 'audiodiff[umap]', or take layout=pca"
            ) from error
    n_neighbours = min(_UMAP_NEIGHBOURS, len(vectors) - 1)
    # The spectral start needs more eigenvectors than few points have.
    start = "spectral" if len(vectors) > 2 * _UMAP_NEIGHBOURS else "random"
    # UMAP warns that a seed needs one thread, unless n_jobs=1 is given.
    umap = UMAP(n_components=2, n_neighbors=n_neighbours, init=start, random_state=seed, n_jobs=1)
    return np.asarray(umap.fit_transform(vectors), dtype=np.float64)


LAYOUTS: dict[str, tuple[int, Callable[[Vectors, int], Coordinates]]] = {"pca": (2, _pca), "umap": (4, _umap)}
"""Layouts by name: the fewest points that they need, and (points, seed) -> coordinates."""


def _embedded(entry: Entry) -> str:
    """Return a recording as a data URL of MP3, which every browser plays, mono and at most at 24 kHz."""
    if not entry.n_samples:
        scanned, bad = scan([entry], min_seconds=0.0)
        if bad:
            raise DataError(f"{entry.path}: {bad[0].reason}; restore it, or link all recordings with --embed 0")
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
    """Return a colour in a form that matplotlib accepts."""
    if colour.startswith("#"):
        return colour
    hue, saturation, lightness = (float(part.rstrip("%")) for part in colour[4:-1].split())
    return colorsys.hls_to_rgb(hue / 360.0, lightness / 100.0, saturation / 100.0)
