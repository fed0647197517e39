"""Rows and their summaries as tables for a terminal."""

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from audiodiff.metrics.registry import METRICS, Metric
from audiodiff.metrics.report import Row, Summary

_NAME_WIDTH = 32
_PADDING = 2


def row_tables(rows: Sequence[Row], *, width: int) -> Iterator[Table]:
    """Yield one line per row; as many tables as it takes to show all metrics in `width` characters."""
    metrics = [METRICS[name] for name in rows[0].values]
    name_width = min(_NAME_WIDTH, max(len(row.name) for row in rows))
    for group in _groups(metrics, width=width - name_width - 2 * _PADDING):
        table = Table(box=None, padding=(0, _PADDING, 0, 0), header_style="bold")
        table.add_column("file", width=max(4, name_width), overflow="fold")
        for metric in group:
            table.add_column(metric.name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(_plain(row.name), *(number(row.values[metric.name]) for metric in group))
        yield table


def summary_table(summaries: Mapping[str, Summary]) -> Table:
    """Return one line per metric: mean, interval, how many files the mean is of and how many it leaves out."""
    table = Table(box=None, padding=(0, _PADDING, 0, 0), header_style="bold")
    for heading in ("metric", "better"):
        table.add_column(heading, no_wrap=True)
    for heading in ("mean", "95 % interval", "n", "infinite", "excluded"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, summary in summaries.items():
        interval = "-" if math.isnan(summary.low) else f"{number(summary.low)} to {number(summary.high)}"
        counts = (str(summary.n), str(summary.n_infinite or "-"), str(summary.n_excluded or "-"))
        table.add_row(name, METRICS[name].better, number(summary.mean), interval, *counts)
    return table


def exclusions(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Yield a line for every set of reasons, with the metrics that it holds for."""
    by_reasons: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for name, summary in summaries.items():
        if summary.reasons:
            by_reasons.setdefault(tuple(sorted(summary.reasons.items())), []).append(name)
    everything = len(summaries)
    for reasons, names in by_reasons.items():
        of = "every metric" if len(names) == everything and everything > 1 else ", ".join(names)
        yield f"no value of {of}: " + ", ".join(f"{reason} ({count})" for reason, count in reasons)


def number(value: float) -> str:
    """Format a value for a person; NaN is a dash."""
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


def _plain(text: str) -> str:
    """Keep rich from reading [brackets] in a file's name as markup."""
    from rich.markup import escape

    return escape(text)
