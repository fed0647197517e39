"""`audiodiff cluster`: group recordings that sound alike."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import Centre, Described, Describer, Device, Split
from audiodiff.errors import ParameterError
from audiodiff.io.console import progress, say
from audiodiff.models.checkpoint import SPEECH_PRIOR
from audiodiff.tasks.features.cluster import (
    METHODS,
    MOST_CLUSTERS,
    Clustering,
    agreement,
    best_clustering,
    cluster,
    standardised,
    usual_ks,
)
from audiodiff.tasks.features.files import Features, check_outputs, features_from, shown_path, write_whole


def cluster_command(
    inputs: Described,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A .csv: every recording and its cluster."),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", metavar="K", help="How many clusters.", show_default=f"2 to {MOST_CLUSTERS}, by the silhouette"
        ),
    ] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(METHODS)}.")] = "kmeans",
    components: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Whitened principal components to compare by.", show_default="all features, standardised"
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
    model: Describer = SPEECH_PRIOR,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Group recordings that sound alike, and say how clear the groups are.

    A table tells the size of each cluster, its most typical recording and, where labels are known, what it mostly
    holds. Silhouette and Calinski-Harabasz need no labels. Where labels are known: normalised mutual information
    (NMI), adjusted Rand index (ARI), and accuracy when every cluster is given one label in the best way.

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
    if method not in METHODS:
        raise ParameterError(f"--method {method} must be one of {', '.join(METHODS)}")
    found = features_from(inputs, model=model, split=split, device=device)
    columns = found.known_labels() if label is None else label
    for column in columns:
        found.values(column)
    vectors = standardised(
        found.vectors, n_components=components, groups=None if centre is None else found.values(centre)
    )
    if k is None:
        ks = usual_ks(vectors)
        with progress("clustering", total=len(ks)) as bar:
            clustering = best_clustering(vectors, method=method, ks=ks, on_each=bar.advance)
    else:
        clustering = cluster(vectors, k=k, method=method)
    print(report(found, clustering, columns=columns))
    if out is not None:
        text = _csv(found, clustering, columns=columns, folder=out.absolute().parent)
        write_whole(out, text.encode())
        say(f"wrote {out}")


def report(found: Features, clustering: Clustering, *, columns: Sequence[str]) -> str:
    """Show the clusters, how clear they are, and how far they are what labels say."""
    head = ["cluster", "size", *(f"most of {column}" for column in columns), "most typical"]
    rows = [head]
    for number, (size, medoid) in enumerate(zip(clustering.sizes, clustering.medoids, strict=True)):
        members = clustering.assignment == number
        mostly = [_mostly([v for v, own in zip(found.values(c), members, strict=True) if own]) for c in columns]
        rows.append([str(number), str(size), *mostly, str(found.entries[medoid].path)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [
        "",
        f"{len(found.entries)} recordings, {len(clustering.sizes)} clusters: silhouette {clustering.silhouette:.3f}, "
        f"Calinski-Harabasz {clustering.calinski_harabasz:.1f}",
    ]
    for column in columns:
        known = agreement(clustering.assignment, found.values(column))
        lines.append(
            f"{column} ({known.n} known): NMI {known.nmi:.3f}, ARI {known.ari:.3f}, "
            f"accuracy {100 * known.accuracy:.1f} %"
        )
    return "\n".join(lines)


def _mostly(values: Sequence[str]) -> str:
    known = [value for value in values if value]
    if not known:
        return ""
    most = max(dict.fromkeys(known), key=known.count)
    return f"{most} ({100 * known.count(most) / len(known):.0f} %)"


def _csv(found: Features, clustering: Clustering, *, columns: Sequence[str], folder: Path) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "start", "cluster", "distance", "most_typical", *columns])
    medoids = set(clustering.medoids)
    told = [found.values(column) for column in columns]
    for index, entry in enumerate(found.entries):
        writer.writerow(
            [
                shown_path(entry.path, folder=folder),
                f"{entry.start:g}",
                clustering.assignment[index],
                f"{clustering.distances[index]:.6g}",
                "yes" if index in medoids else "",
                *(values[index] for values in told),
            ]
        )
    return text.getvalue()
