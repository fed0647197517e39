"""`audiodiff evaluate`: how near estimates come to their references, file by file and on the whole."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiodiff import __version__, metrics
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.evaluation.export import write_csv, write_json
from audiodiff.evaluation.files import evaluate_all, listed, pair_files, worthwhile_workers
from audiodiff.io.console import ProgressBar, progress, say
from audiodiff.metrics.report import Row, Summary, summarise
from audiodiff.requirements import require

if TYPE_CHECKING:
    from rich.console import Console

MAX_LENGTH_DIFFERENCE_SECONDS = 0.1
_ROWS_SHOWN = 50
_NOTES_SHOWN = 5
_WIDTH_OF_A_PIPE = 200


@dataclass(frozen=True)
class Gate:
    """Hold a bound that the mean of a metric must keep, and what it is.

    Args:
        name: of the metric.
        bound: the worst mean that passes.
        is_minimum: whether the mean must not be below the bound, or not above it.
        summary: of the metric.
    """

    name: str
    bound: float
    is_minimum: bool
    summary: Summary

    @property
    def passes(self) -> bool:
        """False also where there is no mean."""
        return self.summary.mean >= self.bound if self.is_minimum else self.summary.mean <= self.bound

    def __str__(self) -> str:
        rule = "at least" if self.is_minimum else "at most"
        mean = "no value" if math.isnan(self.summary.mean) else f"{self.summary.mean:.4g}"
        n = self.summary.n + self.summary.n_infinite
        return f"{self.name} = {mean} over {n} of {n + self.summary.n_excluded} files, must be {rule} {self.bound:g}"


@dataclass(frozen=True)
class EvaluationReport:
    """Hold what came of an evaluation.

    Args:
        rows: one per pair of files.
        summaries: by metric name.
        missing: references without an estimate.
        extra: estimates without a reference.
        gates: all that were asked for.
    """

    rows: tuple[Row, ...]
    summaries: Mapping[str, Summary]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()

    @property
    def failed_gates(self) -> tuple[Gate, ...]:
        """Those that do not pass."""
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
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluationReport:
    """Compare two files, or the files of two folders that have the same name.

    Estimates are resampled to the rate of their reference; both are trimmed to the shorter. Channels are scored one
    by one and averaged. A pair in a folder that cannot be compared (unreadable, other channels, too different in
    length) is a row with its reason, and the others go on.

    Args:
        reference: a file, or a folder that is searched to any depth.
        estimate: the same.
        out: a folder for metrics.csv and metrics.json, made where missing.
        names: which metrics; None is all. Those of the gates are added.
        minimums: by metric name, the least mean that passes.
        maximums: by metric name, the greatest mean that passes.
        max_length_difference_seconds: how much may be trimmed; more is another recording, or a fault.
        allow_missing: go on where a file has no partner.
        force: replace the files in `out`.
        workers: processes; None starts more than one where there is so much audio that it pays. More than one needs a
            script that is guarded by `if __name__ == "__main__"`.
        on_row: called with the number of rows done and of all.

    Raises:
        ParameterError: if a metric is unknown, a file and a folder are compared, nothing is paired, or names without
            partner are not allowed.
        AudioFileError: if a path is missing, `out` holds results, or not one pair could be compared.
        PackageError: if a package that the metrics need cannot be loaded.
    """
    minimums, maximums = minimums or {}, maximums or {}
    chosen = metrics.select(None if names is None else [*names, *minimums, *maximums])
    require(*metrics.packages([metric.name for metric in chosen]))
    targets = () if out is None else (Path(out, "metrics.csv"), Path(out, "metrics.json"))
    _refuse_existing(targets, force=force)
    if not 0 <= max_length_difference_seconds < math.inf:
        raise ParameterError(f"max_length_difference_seconds={max_length_difference_seconds} must not be negative")

    pairs, missing, extra = pair_files(Path(reference), Path(estimate))
    if (missing or extra) and not allow_missing:
        raise ParameterError(
            f"{listed('references have no estimate', missing)}{'; ' if missing and extra else ''}"
            f"{listed('estimates have no reference', extra)}; pass --allow-missing to compare the {len(pairs)} that "
            f"have both"
        )
    n_workers = worthwhile_workers(pairs) if workers is None else workers
    if n_workers < 1:
        raise ParameterError(f"workers={workers} must be at least 1")
    rows: list[Row] = []
    on_row(0, len(pairs))
    for row in evaluate_all(
        pairs,
        names=[metric.name for metric in chosen],
        max_length_difference_seconds=max_length_difference_seconds,
        n_workers=n_workers,
    ):
        rows.append(row)
        on_row(len(rows), len(pairs))
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


def evaluate_command(
    reference: Annotated[
        Path | None, typer.Argument(metavar="REFERENCE", help="The truth: a file, or a folder searched to any depth.")
    ] = None,
    estimate: Annotated[
        Path | None, typer.Argument(metavar="ESTIMATE", help="What is judged: a file, or a folder with the same names.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write metrics.csv and metrics.json into this folder.")
    ] = None,
    names: Annotated[
        str | None, typer.Option("--metrics", help="Only these, separated by commas, as in snr_db,pesq_wb.")
    ] = None,
    minimums: Annotated[
        list[str] | None, typer.Option("--min", help="NAME=VALUE: exit with 1 if the mean is below. May be repeated.")
    ] = None,
    maximums: Annotated[
        list[str] | None, typer.Option("--max", help="NAME=VALUE: exit with 1 if the mean is above. May be repeated.")
    ] = None,
    max_length_difference: Annotated[
        float, typer.Option(help="Seconds by which two lengths may differ; the longer is trimmed.")
    ] = MAX_LENGTH_DIFFERENCE_SECONDS,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Leave out files without a partner.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace metrics.csv and metrics.json.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes; without it, more than one for more than 5 minutes of audio.")
    ] = None,
    generated: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Sounds that have no reference, with their manifest.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="PATH[:SPLIT]", help="Real sounds to compare --generated with, split into train and test."
        ),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What listens to them: a recipe */classifier trains it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws by which --generated and real sounds come to one count.")] = 0,
) -> None:
    """Compare estimates with their references: signal-to-noise ratios, PESQ, STOI and spectral distances.

    Or, with --generated, compare sounds that have no reference with real ones, as a classifier hears them: whether the
    labels that were asked for are heard, FID, IS, mIS, AM, distance to the training set, diversity within a class.

    Files of two folders are paired by relative path, the suffix apart. An estimate of another rate is resampled; a
    longer file is trimmed, up to --max-length-difference. A file without a value (silent, too short, refused) is
    named with its reason and counted; it is in no mean. Means carry a 95 % bootstrap interval over files.

    Metrics: snr_db, segmental_snr_db, si_sdr_db, pesq_wb, pesq_nb, stoi, estoi, lsd, mcd_db, mr_stft,
    mel_psnr_db, mel_ssim, periodicity_rmse, vuv_error. The SNRs see the sign and the phase, which a vocoder is free
    to choose: for vocoders they mean little, and good ones have -2 to -7 dB. They are for enhancement and
    restoration. PESQ, STOI and ESTOI are models of speech, not of music. mel_psnr_db and mel_ssim compare log-mel
    spectrograms as pictures, the last two how periodic frames are, and which are voiced.

    The manifest of --generated names files in the column path and what was asked for in a column for each label, as
    generate-wav --label writes it. FID is biased by the number of sounds and depends on the classifier: compare it
    with the rows of real sounds, at the same count.

    Exit code: 0; 1 if a gate (--min, --max) fails; 2 if nothing could be compared.

    \b
    Examples:
      audiodiff evaluate speech.wav vocoded.wav
      audiodiff evaluate recordings/ generated/ -o results
      audiodiff evaluate recordings/ generated/ --metrics pesq_wb,lsd --min pesq_wb=2.5 --max lsd=1
      audiodiff evaluate --generated digits/ --against fsdd/ --classifier runs/classifier -o results
    """
    options = {"--generated": generated, "--against": against, "--classifier": classifier}
    if any(value is not None for value in options.values()):
        others = {"--metrics": names, "--min": minimums, "--max": maximums, "REFERENCE": reference}
        _refuse_others(
            [name for name, value in others.items() if value], missing=[k for k, v in options.items() if v is None]
        )
        assert generated is not None
        assert against is not None
        assert classifier is not None
        _evaluate_generated(generated, against, classifier, out=out, force=force, seed=seed)
        return
    if reference is None or estimate is None:
        raise ParameterError(
            "give REFERENCE and ESTIMATE, two files or two folders; or, for sounds without a reference, --generated, "
            "--against and --classifier"
        )
    with ExitStack() as stack:
        bars: list[ProgressBar] = []

        def on_row(done: int, total: int) -> None:
            if done:
                bars[0].advance()
            else:
                bars.append(stack.enter_context(progress("evaluating", total=total)))

        report = evaluate_paths(
            reference,
            estimate,
            out=out,
            names=None if names is None else [name.strip() for name in names.split(",") if name.strip()],
            minimums=_bounds(minimums or (), option="--min"),
            maximums=_bounds(maximums or (), option="--max"),
            max_length_difference_seconds=max_length_difference,
            allow_missing=allow_missing,
            force=force,
            workers=workers,
            on_row=on_row,
        )
    show(report)
    if out is not None:
        say(f"wrote {out / 'metrics.csv'} and {out / 'metrics.json'}")
    for gate in report.failed_gates:
        say(f"gate failed: {gate}")
    if report.failed_gates:
        raise typer.Exit(1)


def _refuse_others(given: Sequence[str], *, missing: Sequence[str]) -> None:
    """Keep the two uses of the command apart."""
    if given:
        raise ParameterError(f"{', '.join(given)}: not together with --generated, which has no reference to be like")
    if missing:
        raise ParameterError(
            f"{', '.join(missing)} must be given too: --generated, --against and --classifier belong together"
        )


def _evaluate_generated(
    generated: Path, against: str, classifier: Path, *, out: Path | None, force: bool, seed: int
) -> None:
    from audiodiff.evaluation import generative_report
    from audiodiff.evaluation.generated import evaluate_generated

    targets = [] if out is None else [out / name for name in generative_report.FILES]
    _refuse_existing(targets, force=force)
    report = evaluate_generated(generated, against, classifier, seed=seed)
    console = _console()
    console.print(generative_report.heard_line(report) + "\n", markup=False)
    for table in generative_report.tables(report):
        console.print(table)
        console.print()
    for note in (*generative_report.confusions(report), *report.notes):
        console.print(note, markup=False)
    if out is not None:
        about = {"audiodiff": __version__, "generated": str(generated), "against": against, "seed": seed}
        generative_report.write(report, out, about={**about, "classifier": str(classifier)})
        say(f"wrote {', '.join(str(target) for target in targets)}")


def _refuse_existing(targets: Sequence[Path], *, force: bool) -> None:
    for target in targets:
        if target.exists() and not force:
            raise AudioFileError(f"{target} exists: give --force to replace it, or another --out")


def _console() -> "Console":
    """Return standard output, as wide as it takes where it is no terminal."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(soft_wrap=True, highlight=False, width=_WIDTH_OF_A_PIPE)


def show(report: EvaluationReport) -> None:
    """Print the tables on standard output, and what is not in them."""
    from audiodiff.evaluation.table import exclusions, row_tables, summary_table

    console = _console()
    for table in row_tables(report.rows[:_ROWS_SHOWN], width=console.width):
        console.print(table)
        console.print()
    if len(report.rows) > _ROWS_SHOWN:
        console.print(f"and {len(report.rows) - _ROWS_SHOWN} more files: --out writes them all\n")
    console.print(summary_table(report.summaries))
    notes = [f"{row.name}: refused, {row.refusal}" for row in report.rows if row.refusal is not None]
    changed = [f"{row.name}: {', '.join(row.notes)}" for row in report.rows if row.notes]
    notes += changed[:_NOTES_SHOWN]
    if len(changed) > _NOTES_SHOWN:
        notes.append(f"and {len(changed) - _NOTES_SHOWN} more resampled or trimmed: --out writes them all")
    notes += exclusions(report.summaries)
    notes += [text for text in (listed("references have no estimate", report.missing),) if text]
    notes += [text for text in (listed("estimates have no reference", report.extra),) if text]
    if notes:
        console.print()
    for note in notes:
        console.print(note, markup=False)


def _bounds(texts: Sequence[str], *, option: str) -> dict[str, float]:
    bounds: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            bound = float(value)
        except ValueError:
            bound = math.nan
        if math.isnan(bound):
            raise ParameterError(f"{option} {text} must be NAME=VALUE, as in {option} pesq_wb=2.5")
        bounds[metrics.select([name.strip()])[0].name] = bound
    return bounds
