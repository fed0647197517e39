"""Result files of comparisons: CSV and JSON, in which a missing value is an empty cell or null."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiodiff.errors import AudioFileError
from audiodiff.io.atomic import write_atomic
from audiodiff.io.jobs import check_folder_name
from audiodiff.io.paths import display_name, file_text
from audiodiff.metrics.registry import METRICS
from audiodiff.metrics.report import Row, Summary


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write a line per row: name, length, rate, metrics, reasons for missing values, changes made to the pair.

    Raises:
        AudioFileError: if the file cannot be written.
    """
    names = list(rows[0].values) if rows else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "seconds", "sample_rate", *names, "reasons", "notes"])
    for row in rows:
        writer.writerow(
            [
                row.name,
                format_cell(row.seconds),
                row.sample_rate or "",
                *(format_cell(row.values[name]) for name in names),
                row.refusal or "; ".join(f"{name}: {reason}" for name, reason in row.reasons.items()),
                "; ".join(row.notes),
            ]
        )
    write_atomic(path, file_text(text.getvalue()))


def write_json(
    path: Path, rows: Sequence[Row], summaries: Mapping[str, Summary], *, about: Mapping[str, object]
) -> None:
    """Write `about`, definitions and summaries of the metrics with intervals and counts, and all rows.

    Raises:
        AudioFileError: if the file cannot be written.
    """
    document = {
        **about,
        "metrics": {
            name: {
                "definition": METRICS[name].definition,
                "unit": METRICS[name].unit,
                "better": METRICS[name].better,
                "mean": _json_number(summary.mean),
                "interval_95": [_json_number(summary.low), _json_number(summary.high)],
                "n": summary.n,
                "n_infinite": summary.n_infinite,
                "n_excluded": summary.n_excluded,
                "reasons": dict(summary.reasons),
            }
            for name, summary in summaries.items()
        },
        "files": [
            {
                "name": row.name,
                "seconds": _json_number(row.seconds),
                "sample_rate": row.sample_rate,
                "values": {name: _json_number(value) for name, value in row.values.items()},
                "reasons": dict(row.reasons),
                "notes": list(row.notes),
                "refusal": row.refusal,
            }
            for row in rows
        ],
    }
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomic(path, display_name(text).encode())


def refuse_existing(targets: Sequence[Path], *, force: bool) -> None:
    """Refuse to replace result files.

    Raises:
        AudioFileError: if one exists, unless force is True.
        ParameterError: if their folder has the name of a file.
    """
    for target in targets:
        check_folder_name(target.parent)
        if target.exists() and not force:
            raise AudioFileError(f"{target} exists: give --force to replace it, or another --out")


def format_cell(value: float | int) -> str:
    """Return a number as a cell of a CSV file, empty for NaN."""
    return "" if math.isnan(value) else f"{value:.6g}"


def _json_number(value: float) -> float | str | None:
    """Return a number for JSON, which has neither NaN nor infinity."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
