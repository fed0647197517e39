"""`audiodiff anomaly`: fit a detector on normal recordings, then score others."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import MODEL, OUTPUT, Device, Force
from audiodiff.errors import ParameterError
from audiodiff.io.console import say, stage_progress
from audiodiff.io.jobs import check_target, make_folder
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.tasks.anomaly.detector import DEFAULT_FALSE_ALARMS, Detector
from audiodiff.tasks.anomaly.files import ScoredFile, fit_files, list_files, score_files, write_scores

DEFAULT_DETECTOR = Path("detector.safetensors")
_MAX_ROWS = 50


def anomaly_command(
    action: Annotated[
        str, typer.Argument(metavar="fit|score", help="Fit a detector on normal recordings, or score recordings.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Recordings, folders or globs of them.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="fit: the detector (detector.safetensors). score: a table (.csv) of the scores.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A run folder, a checkpoint, or a name.",
            show_default=f"fit: {SPEECH_PRIOR}; score: the model of the detector",
            rich_help_panel=MODEL,
        ),
    ] = None,
    false_alarms: Annotated[
        float,
        typer.Option(metavar="SHARE", help="fit: share of normal recordings that may be called anomalous."),
    ] = DEFAULT_FALSE_ALARMS,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="fit: 'surprise' detects other things than the model's labels name, 'distance' any difference in "
            "sound.",
            show_default="surprise for a model with labels",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="fit: the normal values of one of the model's labels, for example digit=0,1,2.",
            show_default="all",
        ),
    ] = None,
    detector: Annotated[
        Path, typer.Option(metavar="FILE", help="score: the detector that `audiodiff anomaly fit` wrote.")
    ] = DEFAULT_DETECTOR,
    frames: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="score: for each file, write the score of each frame (.csv) and a picture of them below the "
            "spectrogram (.png).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Detect anomalies: fit a detector on normal recordings, then score others.

    A diffusion model denoises familiar sounds well and others badly. `fit` learns the model's usual errors from normal
    recordings that it was not trained on (30 or more for 5 % false alarms), and sets the threshold from normal
    recordings that it holds out. `score` prints a table: the score, the threshold, p (the share of normal recordings
    that score as high) and the verdict. Any sample rate, length from 0.1 s and number of channels.

    \b
    Examples:
      audiodiff anomaly fit normal/                                   with the speech model
      audiodiff anomaly score new/ -o scores.csv --frames pictures
      audiodiff anomaly fit normal/ -o mine.safetensors --model runs/mine --false-alarms 0.01
      audiodiff anomaly score a.wav b.wav --detector mine.safetensors
      audiodiff anomaly fit digits/ --model digits-8k --label digit=0,1,2,3,4
    """
    if action not in ("fit", "score"):
        raise ParameterError(f"audiodiff anomaly {action!r} must be fit or score")
    if not inputs:
        raise ParameterError(f"audiodiff anomaly {action} needs recordings: audiodiff anomaly {action} FOLDER")
    if action == "fit":
        if frames is not None:
            raise ParameterError(f"--frames {frames} has no meaning for fit: it is for score")
        target = out or DEFAULT_DETECTOR
        with stage_progress() as on_progress:
            fitted = fit_files(
                inputs,
                out=target,
                model=model or SPEECH_PRIOR,
                false_alarms=false_alarms,
                score=score,
                labels=label or [],
                device=device,
                force=force,
                on_progress=on_progress,
            )
        say(f"wrote {target}: the threshold is {fitted.threshold:.3f}, from {len(fitted.held_out)} held-out recordings")
        return
    if label or score:
        raise ParameterError("--label and --score have no meaning for score: the detector was fitted with them")
    if out is not None:
        check_target(out, inputs=[*list_files(inputs), detector], force=force)
    loaded = Detector.load(detector, model=model, device=device)
    if out is not None:
        make_folder(out)
    with stage_progress() as on_progress:
        results = score_files(inputs, detector=loaded, frames=frames, force=force, on_progress=on_progress)
    _print_scores(results, detector=loaded)
    if out is not None:
        write_scores(out, results, threshold=loaded.threshold)


def _print_scores(results: Sequence[ScoredFile], *, detector: Detector) -> None:
    """Print the table; of a long one only the highest scores."""
    ordered = results
    if len(results) > _MAX_ROWS:
        ordered = sorted(results, key=lambda each: -math.inf if each.verdict is None else -float(each.verdict.score))
    rows = [each.row(threshold=detector.threshold) for each in ordered[:_MAX_ROWS]]
    width = max(len("file"), *(len(row[0]) for row in rows))
    print(f"{'file':{width}}  {'score':>9}  {'threshold':>9}  {'p':>6}  verdict")
    for path, score, threshold, p, verdict, reason in rows:
        print(f"{path:{width}}  {score:>9}  {threshold:>9}  {p:>6}  {verdict}{f': {reason}' if reason else ''}")
    if len(results) > len(rows):
        print(f"and {len(results) - len(rows)} with lower scores")
    n_anomalous = sum(each.verdict is not None and bool(each.verdict.is_anomalous) for each in results)
    n_scored = sum(each.verdict is not None for each in results)
    print(f"{n_anomalous} of {n_scored} anomalous; of normal recordings, {100 * detector.false_alarms:g} % would be")
