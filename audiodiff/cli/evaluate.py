"""`audiodiff evaluate`: compare estimates with references, or generated sounds with real ones."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiodiff import __version__, metrics
from audiodiff.errors import ParameterError
from audiodiff.evaluation.compare import FILES, MAX_LENGTH_DIFFERENCE_SECONDS, EvaluationReport, evaluate_paths
from audiodiff.evaluation.export import refuse_existing
from audiodiff.io.console import say, stage_progress

if TYPE_CHECKING:
    from rich.console import Console

_N_ROWS = 50
_PIPE_WIDTH = 200


def evaluate_command(
    reference: Annotated[
        Path | None,
        typer.Argument(metavar="REFERENCE", help="References: a file, or a folder searched to any depth."),
    ] = None,
    estimate: Annotated[
        Path | None,
        typer.Argument(metavar="ESTIMATE", help="What is evaluated: a file, or a folder with the same names."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write metrics.csv and metrics.json into this folder.")
    ] = None,
    names: Annotated[
        str | None, typer.Option("--metrics", help="Metrics to compute, separated by commas, as in snr_db,pesq_wb.")
    ] = None,
    minimums: Annotated[
        list[str] | None, typer.Option("--min", help="NAME=VALUE: exit with 1 if the mean is below. May be repeated.")
    ] = None,
    maximums: Annotated[
        list[str] | None, typer.Option("--max", help="NAME=VALUE: exit with 1 if the mean is above. May be repeated.")
    ] = None,
    max_length_difference: Annotated[
        float, typer.Option(help="Seconds by which the lengths of a pair may differ; the longer is trimmed.")
    ] = MAX_LENGTH_DIFFERENCE_SECONDS,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Leave out files without a partner.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace metrics.csv and metrics.json.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes; by default, more than one for more than 5 minutes of audio."),
    ] = None,
    generated: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Generated sounds without references, with their manifest.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="PATH[:SPLIT]", help="Real sounds to compare --generated with, with splits train and test."
        ),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Classifier; the recipes */classifier train one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random selection by which all sets have equal size.")] = 0,
) -> None:
    """Compare estimates with their references: signal-to-noise ratios, PESQ, STOI and spectral distances.

    With --generated, compare sounds without references with real ones by a classifier: accuracy of the requested
    labels, FID, IS, mIS, AM, distance to the training set, diversity within a class.

    Files of two folders are paired by relative path without suffix. An estimate of another rate is resampled; a longer
    file is trimmed, up to --max-length-difference. A file without a value (silent, too short, refused) is listed with
    the reason and not averaged. Means have a 95 % bootstrap interval over files.

    Metrics: snr_db, segmental_snr_db, si_sdr_db, pesq_wb, pesq_nb, stoi, estoi, lsd, mcd_db, mcd_dtw_db, mcd24_db,
    mcd24_dtw_db, mr_stft, mel_psnr_db, mel_ssim, periodicity_rmse, vuv_error. The SNRs depend on sign and phase,
    which a vocoder is free to choose: good vocoders have -2 to -7 dB. Use them for enhancement and restoration. PESQ,
    STOI and ESTOI are models of speech, not of music. mel_psnr_db and mel_ssim compare log-mel spectrograms as images,
    periodicity_rmse and vuv_error the periodicity and voicing of frames.

    Mel cepstral distortion is (10 sqrt 2 / ln 10) mean_t |c_E - c_R| without c_0: mcd_db of 13 MFCC (orthonormal DCT of
    80 ln mel magnitudes, as librosa's), mcd24_db of a mel cepstrum of 24 coefficients, on the scale of WORLD and SPTK;
    with _dtw along the best alignment of the frames.

    The manifest of --generated has a column path and a column for each requested label, as generate-wav --label
    writes it. FID is biased by the number of sounds and depends on the classifier: compare it only with the rows of
    real sounds.

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
        _check_options(
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
    with stage_progress() as on_progress:
        report = evaluate_paths(
            reference,
            estimate,
            out=out,
            names=None if names is None else [name.strip() for name in names.split(",") if name.strip()],
            minimums=_parse_bounds(minimums or (), option="--min"),
            maximums=_parse_bounds(maximums or (), option="--max"),
            max_length_difference_seconds=max_length_difference,
            allow_missing=allow_missing,
            force=force,
            workers=workers,
            on_progress=on_progress,
        )
    _print_report(report)
    if out is not None:
        say(f"wrote {' and '.join(str(out / name) for name in FILES)}")
    for gate in report.failed_gates:
        say(f"gate failed: {gate}")
    if report.failed_gates:
        raise typer.Exit(1)


def _check_options(given: Sequence[str], *, missing: Sequence[str]) -> None:
    """Refuse options that do not go with --generated, and a part of those that belong together."""
    if given:
        raise ParameterError(f"{', '.join(given)}: not together with --generated, whose sounds have no reference")
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
    refuse_existing(targets, force=force)
    with stage_progress() as on_progress:
        report = evaluate_generated(generated, against, classifier, seed=seed, on_progress=on_progress)
    console = _console()
    console.print(generative_report.accuracy_line(report) + "\n", markup=False)
    for table in generative_report.tables(report):
        console.print(table)
        console.print()
    for note in (*generative_report.confusions(report), *report.notes):
        console.print(note, markup=False)
    if out is not None:
        about = {"audiodiff": __version__, "generated": str(generated), "against": against, "seed": seed}
        generative_report.write(report, out, about={**about, "classifier": str(classifier)})
        say(f"wrote {', '.join(str(target) for target in targets)}")


def _console() -> "Console":
    """Return standard output, wide enough for all columns if it is not a terminal."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(soft_wrap=True, highlight=False, width=_PIPE_WIDTH)


def _print_report(report: EvaluationReport) -> None:
    """Print tables and notes on standard output."""
    from audiodiff.evaluation.table import report_notes, row_tables, summary_table

    console = _console()
    for table in row_tables(report.rows[:_N_ROWS], width=console.width):
        console.print(table)
        console.print()
    if len(report.rows) > _N_ROWS:
        console.print(f"and {len(report.rows) - _N_ROWS} more files: --out writes them all\n")
    console.print(summary_table(report.summaries))
    notes = report_notes(report)
    if notes:
        console.print()
    for note in notes:
        console.print(note, markup=False)


def _parse_bounds(texts: Sequence[str], *, option: str) -> dict[str, float]:
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
