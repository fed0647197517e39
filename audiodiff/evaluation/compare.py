"""Comparison of audio files with their references: rows, summaries and gates."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audiodiff import __version__, metrics
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.evaluation.export import refuse_existing, write_csv, write_json
from audiodiff.evaluation.files import default_workers, evaluate_all, format_names, pair_files
from audiodiff.io.paths import user_path
from audiodiff.metrics.report import Row, Summary, summarise
from audiodiff.requirements import require
from audiodiff.types import OnProgress

MAX_LENGTH_DIFFERENCE_SECONDS = 0.1
FILES = ("metrics.csv", "metrics.json")
"""Names of the result files."""


@dataclass(frozen=True)
class Gate:
    """Hold a bound on the mean of a metric, and the mean.

    Args:
        name: of the metric.
        bound: the worst mean that passes.
        is_minimum: whether the bound is a minimum or a maximum.
        summary: of the metric.
    """

    name: str
    bound: float
    is_minimum: bool
    summary: Summary

    @property
    def passes(self) -> bool:
        """False also if there is no mean."""
        return self.summary.mean >= self.bound if self.is_minimum else self.summary.mean <= self.bound

    def __str__(self) -> str:
        rule = "at least" if self.is_minimum else "at most"
        mean = "no value" if math.isnan(self.summary.mean) else f"{self.summary.mean:.4g}"
        n = self.summary.n + self.summary.n_infinite
        return f"{self.name} = {mean} over {n} of {n + self.summary.n_excluded} files, must be {rule} {self.bound:g}"


@dataclass(frozen=True)
class EvaluationReport:
    """Hold the results of an evaluation.

    Args:
        rows: one per pair of files.
        summaries: by metric name.
        missing: references without an estimate.
        extra: estimates without a reference.
        gates: all gates.
    """

    rows: tuple[Row, ...]
    summaries: Mapping[str, Summary]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()

    @property
    def failed_gates(self) -> tuple[Gate, ...]:
        """The gates that do not pass."""
        return tuple(gate for gate in self.gates if not gate.passes)


def evaluate_paths(
    reference: str | os.PathLike[str],
    estimate: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
    minimums: Mapping[str, float] | None = None,
    maximums: Mapping[str, float] | None = None,
    max_length_difference_seconds: float = MAX_LENGTH_DIFFERENCE_SECONDS,
    allow_missing: bool = False,
    force: bool = False,
    workers: int | None = 1,
    on_progress: OnProgress | None = None,
) -> EvaluationReport:
    """Compare two files, or the files of two folders that have the same name.

    Estimates are resampled to the rate of their reference, and both are trimmed to the shorter. Channels are scored
    separately and averaged. A pair in a folder that cannot be compared (unreadable, other channels, lengths that differ
    too much) gives a row with the reason, and the others are compared.

    Args:
        reference: a file, or a folder that is searched to any depth.
        estimate: the same.
        out: folder for metrics.csv and metrics.json, which is made if missing.
        names: of the metrics; None is all. Those of the gates are added.
        minimums: by metric name, the least mean that passes.
        maximums: by metric name, the greatest mean that passes.
        max_length_difference_seconds: limit of trimming; a greater difference is an error of the pair.
        allow_missing: leave out files without a partner.
        force: replace the files in `out`.
        workers: number of processes; None uses more than one if there is enough audio. More than one needs a script
            with the guard `if __name__ == "__main__"`.
        on_progress: called with the number of pairs done and of all.

    Raises:
        ParameterError: if a metric is unknown, a file and a folder are compared, nothing is paired, or a file without
            partner is not allowed.
        AudioFileError: if a path is missing, `out` has results, or no pair can be compared.
        PackageError: if a package that the metrics need cannot be loaded.
    """
    minimums, maximums = minimums or {}, maximums or {}
    selected = metrics.select(None if names is None else [*names, *minimums, *maximums])
    selected_names = [metric.name for metric in selected]
    require(*metrics.packages(selected_names))
    targets = [] if out is None else [user_path(out) / name for name in FILES]
    refuse_existing(targets, force=force)
    if not 0 <= max_length_difference_seconds < math.inf:
        raise ParameterError(f"max_length_difference_seconds={max_length_difference_seconds} must not be negative")

    pairs, missing, extra = pair_files(user_path(reference), user_path(estimate))
    if (missing or extra) and not allow_missing:
        raise ParameterError(
            f"{format_names('references have no estimate', missing)}{'; ' if missing and extra else ''}"
            f"{format_names('estimates have no reference', extra)}; pass --allow-missing to compare the {len(pairs)} "
            "that have both"
        )
    n_workers = default_workers(pairs) if workers is None else workers
    if n_workers < 1:
        raise ParameterError(f"workers={workers} must be at least 1")
    rows: list[Row] = []
    for row in evaluate_all(
        pairs,
        names=selected_names,
        max_length_difference_seconds=max_length_difference_seconds,
        n_workers=n_workers,
    ):
        rows.append(row)
        if on_progress is not None:
            on_progress("evaluating", len(rows), len(pairs))
    refusals = [row.refusal for row in rows if row.refusal is not None]
    if len(refusals) == len(rows):
        raise AudioFileError(
            refusals[0] if len(rows) == 1 else f"none of {len(rows)} pairs can be compared; the first: {refusals[0]}"
        )

    summaries = summarise(rows)
    gates = tuple(
        Gate(name=metric.name, bound=bound, is_minimum=is_minimum, summary=summaries[metric.name])
        for bounds, is_minimum in ((minimums, True), (maximums, False))
        for name, bound in bounds.items()
        for metric in metrics.select([name])
    )
    report = EvaluationReport(
        rows=tuple(rows), summaries=summaries, missing=tuple(missing), extra=tuple(extra), gates=gates
    )
    if targets:
        about = {
            "audiodiff": __version__,
            "reference": str(reference),
            "estimate": str(estimate),
            "max_length_difference_seconds": max_length_difference_seconds,
            "missing_estimates": missing,
            "extra_estimates": extra,
            "gates": [{"gate": str(gate), "passes": gate.passes} for gate in gates],
        }
        write_csv(targets[0], rows)
        write_json(targets[1], rows, summaries, about=about)
    return report
