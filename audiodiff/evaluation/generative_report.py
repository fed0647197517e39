"""Report of an evaluation of generated sounds: terminal tables and result files."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from audiodiff.evaluation.export import format_cell
from audiodiff.io.atomic import write_atomic
from audiodiff.metrics.generative import wilson_interval

FILES = ("metrics.csv", "metrics.json", "metrics.md")
"""Names of the result files."""
_SET_HEADINGS = ("n", "FID", "nearest", "closer p")
_LABEL_HEADINGS = ("accuracy %", "95 % interval", "IS", "mIS", "AM", "diversity")
_LABEL_FIELDS = ("accuracy", "n_right", "n_asked", "inception", "modified_inception", "am", "diversity")
_MOST_CONFUSED = 5
_LEAST_P = 0.001


@dataclass(frozen=True)
class LabelScores:
    """Hold the scores of one label on a set of sounds.

    Args:
        n_right: number of sounds whose requested or true value was predicted.
        n_asked: number of sounds with a requested or true value.
        inception, modified_inception, am: scores, at the common number of sounds.
        diversity: mean distance between two sounds of a value, averaged over values.
        confusion: counts of predicted (columns) for requested values (rows), in the order of the vocabulary.
    """

    n_right: int
    n_asked: int
    inception: float
    modified_inception: float
    am: float
    diversity: float
    confusion: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, NaN if no value was requested."""
        return self.n_right / self.n_asked if self.n_asked else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson_interval(self.n_right, self.n_asked) if self.n_asked else (math.nan, math.nan)


@dataclass(frozen=True)
class SetScores:
    """Hold the scores of one set of sounds.

    Args:
        name: of the set.
        n: number of sounds.
        fid: Fréchet distance to the real test sounds at the common number, mean over draws; NaN for these themselves.
        fid_spread: its standard deviation over the draws; NaN for a single draw.
        nearest: median distance to the nearest other training sound.
        closer_p: p value of the test that these distances are smaller than those of real test sounds; NaN for these.
        labels: scores by label.
    """

    name: str
    n: int
    fid: float
    fid_spread: float
    nearest: float
    closer_p: float
    labels: Mapping[str, LabelScores]


@dataclass(frozen=True)
class GenerationReport:
    """Hold the results of an evaluation.

    Args:
        rows: generated, real train, real test.
        n_compared: number of sounds of each set in FID and the scores.
        n_features: of the embedding.
        vocabularies: the values of each label.
        notes: remarks and warnings.
    """

    rows: tuple[SetScores, ...]
    n_compared: int
    n_features: int
    vocabularies: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]


def accuracy_line(report: GenerationReport) -> str:
    """Return the accuracy of the classifier on held-out real sounds."""
    real = report.rows[-1]
    accuracies = ", ".join(f"{label} {_percent(scores)}" for label, scores in real.labels.items())
    return f"classifier on {real.name} ({real.n} sounds): {accuracies}"


def tables(report: GenerationReport) -> Iterator[Table]:
    """Yield a table of the sets, and one for each label."""
    for title, headings, rows in _texts(report):
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column(title, no_wrap=True)
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for name, *cells in rows:
            table.add_row(name, *cells)
        yield table


def confusions(report: GenerationReport) -> Iterator[str]:
    """Yield a line for each label with its most frequent confusions."""
    generated = report.rows[0]
    for label, scores in generated.labels.items():
        known = report.vocabularies[label]
        pairs = [
            (count, known[expected], known[predicted])
            for expected, row in enumerate(scores.confusion)
            for predicted, count in enumerate(row)
            if count and expected != predicted
        ]
        if pairs:
            worst = sorted(pairs, key=lambda pair: -pair[0])[:_MOST_CONFUSED]
            yield f"{label} confused: " + ", ".join(f"{a} for {b} {count} times" for count, b, a in worst)


def write(report: GenerationReport, folder: Path, *, about: Mapping[str, object]) -> None:
    """Write metrics.csv (a line per set and label), metrics.json (everything) and metrics.md (the tables).

    Raises:
        AudioFileError: if a file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["set", "n", "fid", "fid_spread", "nearest", "closer_p", "label", *_LABEL_FIELDS])
    for row in report.rows:
        for label, scores in row.labels.items():
            cells = (row.fid, row.fid_spread, row.nearest, row.closer_p)
            values = [getattr(scores, field) for field in _LABEL_FIELDS]
            writer.writerow([row.name, row.n, *map(format_cell, cells), label, *map(format_cell, values)])
    document = json.dumps({**about, **_document(report)}, indent=2, allow_nan=False) + "\n"
    for name, content in zip(FILES, (text.getvalue(), document, markdown(report)), strict=True):
        write_atomic(folder / name, content.encode())


def markdown(report: GenerationReport) -> str:
    """Return the tables and notes as Markdown."""
    lines = [accuracy_line(report), ""]
    for title, headings, rows in _texts(report):
        lines += [f"| {' | '.join((title, *headings))} |", "|---" * (len(headings) + 1) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in report.notes), ""])


def _texts(report: GenerationReport) -> Iterator[tuple[str, Sequence[str], list[Sequence[str]]]]:
    """Yield the title, the headings and the rows of each table."""
    sets: list[Sequence[str]] = []
    for row in report.rows:
        spread = "" if math.isnan(row.fid_spread) else f" ± {row.fid_spread:.2g}"
        sets.append(
            (
                row.name,
                str(row.n),
                _format_number(row.fid) + spread,
                _format_number(row.nearest),
                _format_p(row.closer_p),
            )
        )
    yield "set", _SET_HEADINGS, sets
    for label in report.vocabularies:
        rows: list[Sequence[str]] = []
        for row in report.rows:
            scores = row.labels[label]
            low, high = scores.interval
            rows.append(
                (
                    row.name,
                    "-" if math.isnan(scores.accuracy) else f"{100 * scores.accuracy:.1f}",
                    "-" if math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}",
                    _format_number(scores.inception),
                    _format_number(scores.modified_inception),
                    _format_number(scores.am),
                    _format_number(scores.diversity),
                )
            )
        yield label, _LABEL_HEADINGS, rows


def _document(report: GenerationReport) -> dict[str, object]:
    return {
        "n_compared": report.n_compared,
        "n_features": report.n_features,
        "vocabularies": {label: list(known) for label, known in report.vocabularies.items()},
        "notes": list(report.notes),
        "sets": [
            {
                "set": row.name,
                "n": row.n,
                "fid": _finite(row.fid),
                "fid_spread": _finite(row.fid_spread),
                "nearest": _finite(row.nearest),
                "closer_p": _finite(row.closer_p),
                "labels": {
                    label: {field: _finite(getattr(scores, field)) for field in _LABEL_FIELDS}
                    | {
                        "accuracy_interval_95": [_finite(end) for end in scores.interval],
                        "confusion": [list(counts) for counts in scores.confusion],
                    }
                    for label, scores in row.labels.items()
                },
            }
            for row in report.rows
        ],
    }


def _percent(scores: LabelScores) -> str:
    if not scores.n_asked:
        return "no known value"
    low, high = scores.interval
    return f"{100 * scores.accuracy:.1f} % ({scores.n_right} of {scores.n_asked}; {100 * low:.1f} to {100 * high:.1f})"


def _format_number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _format_p(value: float) -> str:
    return "-" if math.isnan(value) else f"< {_LEAST_P}" if value < _LEAST_P else f"{value:.3f}"


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None
