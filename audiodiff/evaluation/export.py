"""Rows and their summaries as files: CSV for a spreadsheet, JSON for a program. No value is an empty cell, or null."""

import csv
import io
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiodiff.errors import AudioFileError
from audiodiff.metrics.registry import METRICS
from audiodiff.metrics.report import Row, Summary


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write one line per row: name, length, rate, the metrics, why values are missing, what was done to the pair.

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
                _cell(row.seconds),
                row.sample_rate or "",
                *(_cell(row.values[name]) for name in names),
                row.refusal or "; ".join(f"{name}: {reason}" for name, reason in row.reasons.items()),
                "; ".join(row.notes),
            ]
        )
    write_whole(path, text.getvalue())


def write_json(
    path: Path, rows: Sequence[Row], summaries: Mapping[str, Summary], *, about: Mapping[str, object]
) -> None:
    """Write everything: `about`, the definitions of the metrics, the summary with intervals and counts, each row.

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
                "mean": _number(summary.mean),
                "interval_95": [_number(summary.low), _number(summary.high)],
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
                "seconds": _number(row.seconds),
                "sample_rate": row.sample_rate,
                "values": {name: _number(value) for name, value in row.values.items()},
                "reasons": dict(row.reasons),
                "notes": list(row.notes),
                "refusal": row.refusal,
            }
            for row in rows
        ],
    }
    write_whole(path, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _number(value: float) -> float | str | None:
    """Return what JSON can hold: it has neither NaN nor infinity."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        AudioFileError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be written ({error}); check the folder and its free space") from error
