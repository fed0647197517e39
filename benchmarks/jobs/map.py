"""Measure how well maps of two dimensions preserve neighbours and labels.

    python -m benchmarks.jobs.map --data ../shared/data --out docs/img/jobs

PCA and UMAP of standardised features of the test split, as they are and centred by speaker. Trustworthiness is against
the features of the map; k-NN accuracy is of five neighbours in the map, each recording left out in turn.
"""

import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from audiodiff.metrics import bootstrap_interval
from audiodiff.tasks.features.cluster import standardize
from audiodiff.tasks.features.map import (
    LAYOUTS,
    N_NEIGHBOURS,
    coordinates,
    knn_accuracy,
    trustworthiness,
    value_colours,
)
from benchmarks.jobs.spoken_digits import BASELINE, DIGITS, arguments, compute, interval, notes, parts

DRAWN = (BASELINE, "speech prior", DIGITS)


def neighbours_right(laid_out: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Say of each recording whether its neighbours in the map tell its label."""
    predicted = cross_val_predict(KNeighborsClassifier(N_NEIGHBOURS), laid_out, truth, cv=LeaveOneOut())
    return 100.0 * (predicted == truth)


def main() -> None:
    """Write the table and the figure."""
    given = arguments(__doc__ or "")
    found = {"test": parts(given.data, quick=given.quick)["test"]}
    sets, taps = compute(given.model, found, choose_tap=False)
    test = sets["test"]
    digits, speakers = test.truth("label"), test.truth("speaker")
    rows: list[list[object]] = []
    drawn: dict[str, np.ndarray] = {}
    for method in LAYOUTS:
        for centred in (False, True):
            own: dict[str, np.ndarray] = {}
            trust: dict[str, float] = {}
            of_speaker: dict[str, float] = {}
            for name, vectors in test.vectors.items():
                scaled = standardize(vectors, groups=speakers.tolist() if centred else None)
                laid_out = coordinates(scaled, layout=method)
                trust[name] = trustworthiness(scaled, laid_out)
                own[name] = neighbours_right(laid_out, digits)
                of_speaker[name] = 100.0 * knn_accuracy(laid_out, speakers.tolist())
                if method == "umap" and centred and name in DRAWN:
                    drawn[name] = laid_out
            for name, right in own.items():
                difference = right - own[BASELINE]
                ends = bootstrap_interval(torch.from_numpy(difference))
                over = f"{difference.mean():+.1f} ({ends[0]:+.1f} to {ends[1]:+.1f})"
                rows.append(
                    [
                        method.upper() + (", centred by speaker" if centred else ""),
                        name,
                        f"{trust[name]:.3f}",
                        interval(right.mean(), *bootstrap_interval(torch.from_numpy(right))),
                        "" if name == BASELINE else over,
                        "" if centred else f"{of_speaker[name]:.1f}",
                    ]
                )
    result = {
        "title": "Dimensionality reduction: maps",
        "commands": [
            "python -m benchmarks.jobs.map --data DATA --out OUT",
            "audiodiff map features.npz -o map.html --layout umap --centre speaker",
        ],
        "columns": [
            *("map", "features", "trustworthiness", f"{N_NEIGHBOURS}-NN accuracy of digit, %", f"over {BASELINE}"),
            f"{N_NEIGHBOURS}-NN accuracy of speaker, %",
        ],
        "rows": rows,
        "notes": [
            f"Free Spoken Digit Dataset, six speakers: the {len(test.entries)} recordings of the test split.",
            *notes(taps),
            "No label is used but where it says centred. Intervals are over the recordings, the map being as it is: "
            "95 %, bootstrap; differences paired. Trustworthiness is high where a map is faithful "
            "to its features, whatever they are worth.",
        ],
        "figures": ["map.png"],
    }
    figure(drawn, digits, given.out / "map.png")
    (given.out / "map.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def figure(drawn: dict[str, np.ndarray], digits: np.ndarray, path: Path) -> None:
    """Draw the maps by UMAP, centred by speaker, coloured by digit."""
    drawing = Figure(figsize=(9.0, 3.4), dpi=100, layout="constrained")
    panels = drawing.subplots(1, len(drawn))
    for axes, (name, laid_out) in zip(panels, drawn.items(), strict=True):
        for value, colour in value_colours(sorted(set(digits))).items():
            axes.scatter(*laid_out[digits == value].T, s=9, color=colour, linewidths=0, label=value)
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("0.8")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    drawing.savefig(path)


if __name__ == "__main__":
    main()
