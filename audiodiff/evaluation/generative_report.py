"""What came of an evaluation of generated sounds: tables for a terminal, and files."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from audiodiff.evaluation.export import write_whole
from audiodiff.metrics.generative import wilson_interval

FILES = ("metrics.csv", "metrics.json", "metrics.md")
"""What `write` writes."""
_SET_HEADINGS = ("n", "FID", "nearest", "closer p")
_LABEL_HEADINGS = ("accuracy %", "95 % interval", "IS", "mIS", "AM", "diversity")
_MOST_CONFUSED = 5
_LEAST_P = 0.001


@dataclass(frozen=True)
class LabelScores:
    """What one label says of a set of sounds.

    Args:
        n_right, n_asked: how often the value that was asked for, or is true, was heard, and of how many.
        inception, modified_inception, am: the scores, at the common count.
        diversity: mean distance of two sounds of a value, over the values.
        confusion: heard (columns) against asked for (rows), in the order of the vocabulary.
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
        """Share that was heard as asked for, NaN where nothing was."""
        return self.n_right / self.n_asked if self.n_asked else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson_interval(self.n_right, self.n_asked) if self.n_asked else (math.nan, math.nan)


@dataclass(frozen=True)
class SetScores:
    """What is known of one set of sounds.

    Args:
        name: of the set.
        n: sounds in it.
        fid: Fréchet distance to the real test sounds at the common count, mean over draws; NaN for these themselves.
        fid_spread: its standard deviation over the draws; NaN where there is one.
        nearest: median distance to the nearest real training sound (another one, where it is one of them).
        closer_p: p value of the test that these distances are smaller than those of real test sounds; NaN for these.
        labels: the scores of each label.
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
    """Hold what came of an evaluation.

    Args:
        rows: generated, real train, real test.
        n_compared: sounds of each set that FID and the scores are computed from.
        n_features: of the embedding.
        vocabularies: the values of each label.
        notes: what a reader must know.
    """

    rows: tuple[SetScores, ...]
    n_compared: int
    n_features: int
    vocabularies: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]


def heard_line(report: GenerationReport) -> str:
    """Say how well the classifier hears real sounds that it has not learnt from."""
    real = report.rows[-1]
    told = ", ".join(f"{label} {_percent(scores)}" for label, scores in real.labels.items())
    return f"classifier on {real.name} ({real.n} sounds): {told}"


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
    """Yield a line for each label that was asked for: which values were taken for which others most often."""
    generated = report.rows[0]
    for label, scores in generated.labels.items():
        known = report.vocabularies[label]
        pairs = [
            (count, known[asked], known[heard])
            for asked, row in enumerate(scores.confusion)
            for heard, count in enumerate(row)
            if count and asked != heard
        ]
        if pairs:
            worst = sorted(pairs, key=lambda pair: -pair[0])[:_MOST_CONFUSED]
            yield f"{label} taken for another: " + ", ".join(f"{a} for {b} {count} times" for count, b, a in worst)


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
            writer.writerow([row.name, row.n, *map(_cell, cells), label, *map(_cell, values)])
    write_whole(folder / FILES[0], text.getvalue())
    write_whole(folder / FILES[1], json.dumps({**about, **_document(report)}, indent=2, allow_nan=False) + "\n")
    write_whole(folder / FILES[2], markdown(report))


def markdown(report: GenerationReport) -> str:
    """Return the tables and what must be known of them, as Markdown."""
    lines = [heard_line(report), ""]
    for title, headings, rows in _texts(report):
        lines += [f"| {' | '.join((title, *headings))} |", "|---" * (len(headings) + 1) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in report.notes), ""])


_LABEL_FIELDS = ("accuracy", "n_right", "n_asked", "inception", "modified_inception", "am", "diversity")


def _texts(report: GenerationReport) -> Iterator[tuple[str, Sequence[str], list[Sequence[str]]]]:
    """Yield the title, the headings and the rows of each table."""
    sets: list[Sequence[str]] = []
    for row in report.rows:
        spread = "" if math.isnan(row.fid_spread) else f" ± {row.fid_spread:.2g}"
        sets.append((row.name, str(row.n), _number(row.fid) + spread, _number(row.nearest), _p(row.closer_p)))
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
                    _number(scores.inception),
                    _number(scores.modified_inception),
                    _number(scores.am),
                    _number(scores.diversity),
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
        return "not known of any"
    low, high = scores.interval
    return f"{100 * scores.accuracy:.1f} % ({scores.n_right} of {scores.n_asked}; {100 * low:.1f} to {100 * high:.1f})"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else f"< {_LEAST_P}" if value < _LEAST_P else f"{value:.3f}"


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None


def _cell(value: float | int) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
