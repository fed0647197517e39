"""Terminal tables of comparisons: rows, summaries and notes."""

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from audiodiff.evaluation.compare import EvaluationReport
from audiodiff.evaluation.files import format_names
from audiodiff.metrics.registry import METRICS, Metric
from audiodiff.metrics.report import Row, Summary

_NAME_WIDTH = 32
_N_NOTES = 5
_PADDING = 2


def row_tables(rows: Sequence[Row], *, width: int) -> Iterator[Table]:
    """Yield tables with a line per row, as many as all metrics need within `width` characters."""
    metrics = [METRICS[name] for name in rows[0].values]
    name_width = min(_NAME_WIDTH, max(len(row.name) for row in rows))
    for group in _groups(metrics, width=width - name_width - 2 * _PADDING):
        table = Table(box=None, padding=(0, _PADDING, 0, 0), header_style="bold")
        table.add_column("file", width=max(4, name_width), overflow="fold")
        for metric in group:
            table.add_column(metric.name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(_escape(row.name), *(format_number(row.values[metric.name]) for metric in group))
        yield table


def summary_table(summaries: Mapping[str, Summary]) -> Table:
    """Return a table with a line per metric: mean, interval, and numbers of files averaged and excluded."""
    table = Table(box=None, padding=(0, _PADDING, 0, 0), header_style="bold")
    for heading in ("metric", "better"):
        table.add_column(heading, no_wrap=True)
    for heading in ("mean", "95 % interval", "n", "infinite", "excluded"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, summary in summaries.items():
        interval = "-" if math.isnan(summary.low) else f"{format_number(summary.low)} to {format_number(summary.high)}"
        counts = (str(summary.n), str(summary.n_infinite or "-"), str(summary.n_excluded or "-"))
        table.add_row(name, METRICS[name].better, format_number(summary.mean), interval, *counts)
    return table


def report_notes(report: EvaluationReport) -> list[str]:
    """Return lines about refused and changed pairs, missing values, and files without a partner."""
    notes = [f"{row.name}: refused, {row.refusal}" for row in report.rows if row.refusal is not None]
    changed = [f"{row.name}: {', '.join(row.notes)}" for row in report.rows if row.notes]
    notes += changed[:_N_NOTES]
    if len(changed) > _N_NOTES:
        notes.append(f"and {len(changed) - _N_NOTES} more resampled or trimmed: --out writes them all")
    notes += _exclusions(report.summaries)
    partnerless = (("references have no estimate", report.missing), ("estimates have no reference", report.extra))
    return [*notes, *(format_names(text, names) for text, names in partnerless if names)]


def format_number(value: float) -> str:
    """Return a value with three decimals, a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def _groups(metrics: Sequence[Metric], *, width: int) -> Iterator[list[Metric]]:
    group: list[Metric] = []
    used = 0
    for metric in metrics:
        needed = max(len(metric.name), 8) + _PADDING
        if group and used + needed > width:
            yield group
            group, used = [], 0
        group.append(metric)
        used += needed
    yield group


def _escape(text: str) -> str:
    """Escape [brackets] in a file name, which rich would take for markup."""
    from rich.markup import escape

    return escape(text)


def _exclusions(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Yield a line for every set of reasons for missing values, with its metrics."""
    by_reasons: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for name, summary in summaries.items():
        if summary.reasons:
            by_reasons.setdefault(tuple(sorted(summary.reasons.items())), []).append(name)
    for reasons, names in by_reasons.items():
        of = "every metric" if len(names) == len(summaries) > 1 else ", ".join(names)
        yield f"no value of {of}: " + ", ".join(f"{reason} ({count})" for reason, count in reasons)
