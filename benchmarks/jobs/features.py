"""Measure linear probes for digit and speaker on features.

    python -m benchmarks.jobs.features --data ../shared/data --out docs/img/jobs

Logistic regression on standardised features: fitted on 480 recordings, on 20 or 5 of each digit (three draws), and on
five speakers for the digits of the sixth, each speaker in turn. The strength of its penalty is chosen for each cell on
recordings outside those for fitting and testing.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from audiodiff.io.console import progress
from audiodiff.metrics import bootstrap_interval
from audiodiff.tasks.features.probe import linear_probe
from benchmarks.jobs.spoken_digits import BASELINE, PLAIN, Set, arguments, compute, interval, notes, parts

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
N_DRAWS = 3

Task = Callable[[Set, Set, str, float], np.ndarray]
"""(fitted on, tried on, method, strength) -> the share of probes that are right on each recording that is tried."""


def right(fit: Set, tried: Set, method: str, column: str, *, rows: np.ndarray, at: np.ndarray, c: float) -> np.ndarray:
    """Fit a probe on rows of one set, and say where it is right at rows of the other."""
    probe = linear_probe(c=c).fit(fit.vectors[method][rows], fit.truth(column)[rows])
    return (probe.predict(tried.vectors[method][at]) == tried.truth(column)[at]).astype(float)


def everything(column: str) -> Task:
    """Fit on all."""

    def measure(fit: Set, tried: Set, method: str, c: float) -> np.ndarray:
        rows, at = np.arange(len(fit.entries)), np.arange(len(tried.entries))
        return right(fit, tried, method, column, rows=rows, at=at, c=c)

    return measure


def few(n: int) -> Task:
    """Fit on n recordings of each digit, in several draws."""

    def measure(fit: Set, tried: Set, method: str, c: float) -> np.ndarray:
        at = np.arange(len(tried.entries))
        truth = fit.truth("label")
        found = []
        for draw in range(N_DRAWS):
            generator = np.random.default_rng(draw)
            own = [generator.permutation(np.flatnonzero(truth == value))[:n] for value in np.unique(truth)]
            found.append(right(fit, tried, method, "label", rows=np.concatenate(own), at=at, c=c))
        return np.mean(found, axis=0)

    return measure


def unseen_speaker(fit: Set, tried: Set, method: str, c: float) -> np.ndarray:
    """Tell the digits of each speaker by probes that were fitted on the others."""
    fitted, heard = fit.truth("speaker"), tried.truth("speaker")
    found = np.zeros(len(heard))
    for speaker in np.unique(heard):
        rows, at = np.flatnonzero(fitted != speaker), np.flatnonzero(heard == speaker)
        found[at] = right(fit, tried, method, "label", rows=rows, at=at, c=c)
    return found


TASKS: dict[str, Task] = {
    "digit": everything("label"),
    "digit, 20 of each": few(20),
    "digit, 5 of each": few(5),
    "digit, unseen speaker": unseen_speaker,
    "speaker": everything("speaker"),
}


def main() -> None:
    """Write the table and the figure."""
    given = arguments(__doc__ or "")
    sets, taps = compute(given.model, parts(given.data, quick=given.quick), choose_tap=True)
    names = list(sets["test"].vectors)
    scores: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    with progress("fitting probes", total=len(names) * len(TASKS)) as bar:
        for name in names:
            for task, measure in TASKS.items():
                strength = max(STRENGTHS, key=lambda c: measure(sets["fit"], sets["choose"], name, c).mean())
                scores[name][task] = 100.0 * measure(sets["fit"], sets["test"], name, strength)
                bar.advance()
    rows: list[list[object]] = []
    for task in TASKS:
        for name in names:
            over = [
                "" if name == other else _shown(scores[name][task] - scores[other][task], signed=True)
                for other in (PLAIN, BASELINE)
            ]
            rows.append([task, name, sets["test"].vectors[name].shape[1], _shown(scores[name][task]), *over])
    result = {
        "title": "Feature learning: linear probes",
        "commands": [
            "python -m benchmarks.jobs.features --data DATA --out OUT",
            "audiodiff features fsdd/ -o features.npz --choose-by label",
        ],
        "columns": ["condition", "features", "size", "accuracy, %", f"over {PLAIN}", f"over {BASELINE}"],
        "rows": rows,
        "notes": [
            f"Free Spoken Digit Dataset, six speakers: {len(sets['test'].entries)} recordings of the test split; "
            f"{len(sets['fit'].entries)} of the train split to fit on and {len(sets['choose'].entries)} others of it "
            "to choose noise level, layer and the strength of the probe by.",
            *notes(taps),
            f"Few recordings: means of {N_DRAWS} draws. Intervals, and those of differences (paired), are over the "
            "test recordings: 95 %, bootstrap.",
        ],
        "figures": ["features.png"],
    }
    figure(scores, given.out / "features.png")
    (given.out / "features.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def figure(scores: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Draw the accuracies with their intervals."""
    drawing = Figure(figsize=(9.0, 4.2), dpi=100, layout="constrained")
    axes = drawing.subplots()
    width = 0.8 / len(scores)
    for place, (name, own) in enumerate(scores.items()):
        means = np.array([values.mean() for values in own.values()])
        ends = np.array([bootstrap_interval(torch.from_numpy(values)) for values in own.values()]).T
        at = np.arange(len(own)) + (place - (len(scores) - 1) / 2) * width
        axes.bar(at, means, width, yerr=np.abs(ends - means), label=name, error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(TASKS)), [task.replace(", ", ",\n") for task in TASKS])
    axes.set_ylabel("accuracy of a linear probe, %")
    axes.set_ylim(0, 104)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    drawing.savefig(path)


def _shown(values: np.ndarray, *, signed: bool = False) -> str:
    low, high = bootstrap_interval(torch.from_numpy(values))
    if signed:
        return f"{values.mean():+.1f} ({low:+.1f} to {high:+.1f})"
    return interval(values.mean(), low, high)


if __name__ == "__main__":
    main()
