"""`audiodiff cluster`: cluster recordings by how they sound."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import OUTPUT, Centre, Device, FeatureInputs, FeatureModel, Force, Split
from audiodiff.errors import ParameterError
from audiodiff.io.console import say, stage_progress
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.tasks.features.archive import Features, write_table
from audiodiff.tasks.features.cluster import (
    ALGORITHMS,
    MAX_CLUSTERS,
    Clustering,
    agreement,
    best_clustering,
    cluster,
    standardize,
)
from audiodiff.tasks.features.files import check_outputs, features_from


def cluster_command(
    inputs: FeatureInputs,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A table (.csv) of all recordings and their clusters.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", metavar="K", help="Number of clusters.", show_default=f"2 to {MAX_CLUSTERS}, by the silhouette"
        ),
    ] = None,
    algorithm: Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(ALGORITHMS)}.")] = "kmeans",
    components: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Use this many whitened principal components.", show_default="all features, standardized"
        ),
    ] = None,
    centre: Centre = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Compare the clusters with this column; may be given several times.",
            show_default="label, speaker, or the folders",
        ),
    ] = None,
    split: Split = None,
    model: FeatureModel = SPEECH_PRIOR,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Cluster recordings by how they sound, and measure how distinct the clusters are.

    A table shows the size of each cluster, its most typical recording and its most frequent label. Silhouette and
    Calinski-Harabasz need no labels. With labels: normalised mutual information (NMI), adjusted Rand index (ARI), and
    accuracy in the best matching of clusters with labels.

    \b
    Examples:
      audiodiff cluster recordings/
      audiodiff cluster features.npz -k 10 -o clusters.csv
      audiodiff cluster features.npz -k 10 --centre speaker --label label
    """
    if out is not None:
        if out.suffix.lower() != ".csv":
            raise ParameterError(f"--out {out} must end in .csv")
        check_outputs([out], inputs=inputs, force=force)
    if algorithm not in ALGORITHMS:
        raise ParameterError(f"--algorithm {algorithm} must be one of {', '.join(ALGORITHMS)}")
    with stage_progress() as on_progress:
        features = features_from(inputs, model=model, split=split, device=device, on_progress=on_progress)
        columns = features.label_columns() if label is None else label
        for column in columns:
            features.values(column)
        groups = None if centre is None else features.values(centre)
        vectors = standardize(features.vectors, n_components=components, groups=groups)
        if k is None:
            clustering = best_clustering(vectors, algorithm=algorithm, on_progress=on_progress)
        else:
            clustering = cluster(vectors, k=k, algorithm=algorithm)
    print(_report(features, clustering, columns=columns))
    if out is not None:
        medoids = set(clustering.medoids)
        results = {
            "cluster": [str(number) for number in clustering.assignment],
            "distance": [f"{distance:.6g}" for distance in clustering.distances],
            "most_typical": ["yes" if index in medoids else "" for index in range(len(vectors))],
        }
        write_table(out, features, results=results, columns=columns)
        say(f"wrote {out}")


def _report(features: Features, clustering: Clustering, *, columns: Sequence[str]) -> str:
    """Format the clusters, their quality, and their agreement with labels."""
    head = ["cluster", "size", *(f"most frequent {column}" for column in columns), "most typical"]
    rows = [head]
    for number, (size, medoid) in enumerate(zip(clustering.sizes, clustering.medoids, strict=True)):
        members = clustering.assignment == number
        values = [[v for v, own in zip(features.values(c), members, strict=True) if own] for c in columns]
        path = str(features.entries[medoid].path)
        rows.append([str(number), str(size), *map(_most_frequent, values), path])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [
        "",
        f"{len(features.entries)} recordings, {len(clustering.sizes)} clusters: silhouette "
        f"{clustering.silhouette:.3f}, Calinski-Harabasz {clustering.calinski_harabasz:.1f}",
    ]
    for column in columns:
        known = agreement(clustering.assignment, features.values(column))
        lines.append(
            f"{column} ({known.n} known): NMI {known.nmi:.3f}, ARI {known.ari:.3f}, "
            f"accuracy {100 * known.accuracy:.1f} %"
        )
    return "\n".join(lines)


def _most_frequent(values: Sequence[str]) -> str:
    known = [value for value in values if value]
    if not known:
        return ""
    value = max(dict.fromkeys(known), key=known.count)
    return f"{value} ({100 * known.count(value) / len(known):.0f} %)"
