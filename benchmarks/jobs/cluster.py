"""Measure how well clusters of recordings agree with digits, or speakers.

    python -m benchmarks.jobs.cluster --data ../shared/data --out docs/img/jobs

k-means with as many clusters as there are digits, or speakers, on standardised features of the test split; for digits
also with features centred by speaker, which removes the speaker.
"""

import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from audiodiff.metrics import bootstrap_interval
from audiodiff.tasks.features.cluster import agreement, cluster, standardize
from benchmarks.jobs.spoken_digits import BASELINE, Set, arguments, compute, interval, notes, parts

TASKS = {
    "digits": ("label", None),
    "digits, centred by speaker": ("label", "speaker"),
    "speakers": ("speaker", None),
}


def matched(assignment: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Say of each recording whether its cluster has its value, in the best way to give every cluster one."""
    values = np.unique(truth)
    table = np.array([[np.sum((assignment == c) & (truth == v)) for v in values] for c in np.unique(assignment)])
    clusters, places = linear_sum_assignment(table, maximize=True)
    own = {int(cluster): values[place] for cluster, place in zip(clusters, places, strict=True)}
    return np.array([own.get(int(c)) == v for c, v in zip(assignment, truth, strict=True)], dtype=float)


def main() -> None:
    """Write the table and the figure."""
    given = arguments(__doc__ or "")
    recordings = {"test": parts(given.data, quick=given.quick)["test"]}
    sets, taps = compute(given.model, recordings, choose_tap=False)
    test: Set = sets["test"]
    rows: list[list[object]] = []
    right: dict[str, dict[str, np.ndarray]] = {}
    for task, (column, groups) in TASKS.items():
        truth = test.truth(column)
        centre = None if groups is None else test.truth(groups).tolist()
        own: dict[str, np.ndarray] = {}
        found = {}
        for name, vectors in test.vectors.items():
            found[name] = cluster(standardize(vectors, groups=centre), k=len(np.unique(truth)))
            own[name] = 100.0 * matched(found[name].assignment, truth)
        right[task] = own
        for name, clustering in found.items():
            known = agreement(clustering.assignment, truth.tolist())
            low, high = bootstrap_interval(torch.from_numpy(own[name]))
            over = ""
            if name != BASELINE:
                difference = own[name] - own[BASELINE]
                ends = bootstrap_interval(torch.from_numpy(difference))
                over = f"{difference.mean():+.1f} ({ends[0]:+.1f} to {ends[1]:+.1f})"
            rows.append(
                [
                    task,
                    name,
                    f"{clustering.silhouette:.3f}",
                    f"{clustering.calinski_harabasz:.1f}",
                    f"{known.nmi:.3f}",
                    f"{known.ari:.3f}",
                    interval(own[name].mean(), low, high),
                    over,
                ]
            )
    rng = np.random.default_rng(0)
    chance = {
        task: np.mean(
            [
                matched(rng.integers(0, len(set(test.truth(column))), len(test.entries)), test.truth(column)).mean()
                for _ in range(50)
            ]
        )
        for task, (column, _) in TASKS.items()
    }
    result = {
        "title": "Clustering",
        "commands": [
            "python -m benchmarks.jobs.cluster --data DATA --out OUT",
            "audiodiff cluster features.npz -k 10 --centre speaker --label label",
        ],
        "columns": [
            *("clusters", "features", "silhouette", "Calinski-Harabasz", "NMI", "ARI"),
            *("accuracy under the best matching, %", f"over {BASELINE}"),
        ],
        "rows": rows,
        "notes": [
            f"Free Spoken Digit Dataset, six speakers: the {len(test.entries)} recordings of the test split.",
            *notes(taps),
            "k-means, ten restarts; no label is used but where it says centred. Chance, by clusters drawn at random: "
            + ", ".join(f"{task} {100 * value:.1f} %" for task, value in chance.items())
            + ".",
            "Intervals are over the recordings, the clusters being as they are: 95 %, bootstrap; differences paired.",
        ],
        "figures": ["cluster.png"],
    }
    figure(right, given.out / "cluster.png")
    (given.out / "cluster.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def figure(right: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Draw the accuracies."""
    drawing = Figure(figsize=(9.0, 3.6), dpi=100, layout="constrained")
    panels = drawing.subplots(1, len(right), sharey=True)
    for axes, (task, own) in zip(panels, right.items(), strict=True):
        means = [values.mean() for values in own.values()]
        ends = np.array([bootstrap_interval(torch.from_numpy(values)) for values in own.values()]).T
        axes.barh(list(own), means, xerr=np.abs(ends - np.array(means)), color="#4269d0", error_kw={"linewidth": 0.8})
        axes.set_title(task, fontsize=10)
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy, best matching, %")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    drawing.savefig(path)


if __name__ == "__main__":
    main()
