"""`audiodiff anomaly`: learn what is normal, and say what is not."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.resample import resample
from audiodiff.errors import AudiodiffError, AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress, say
from audiodiff.io.jobs import Job, make_folder, plan_from_files
from audiodiff.models import checkpoint
from audiodiff.models.checkpoint import SPEECH_PRIOR
from audiodiff.models.devices import device_named
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.detector import (
    DEFAULT_FALSE_ALARMS,
    Detector,
    Verdict,
    check_count,
    settled,
    write_whole,
)
from audiodiff.tasks.anomaly.errors import SHORTEST_SECONDS, check_model
from audiodiff.tasks.anomaly.picture import picture
from audiodiff.tasks.generation.labels import Interpolation, read_labels

DEFAULT_DETECTOR = Path("detector.safetensors")
_ROWS_SHOWN = 50


@dataclass(frozen=True)
class Scored:
    """What came of one file.

    Args:
        path: of the file.
        verdict: of the detector; None where the file could not be judged.
        reason: why not.
    """

    path: Path
    verdict: Verdict | None
    reason: str = ""


class _Recordings(Sequence[Float[Tensor, "_ _"]]):
    """Recordings that are read when they are needed, at one rate."""

    def __init__(self, paths: Sequence[Path], *, sample_rate: int) -> None:
        self._paths = paths
        self._sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        audio, rate = audio_io.read(self._paths[index])
        return resample(audio.mean(dim=0, keepdim=True), from_rate=rate, to_rate=self._sample_rate)


def fit_files(
    inputs: Sequence[str],
    *,
    model: str = SPEECH_PRIOR,
    out: Path = DEFAULT_DETECTOR,
    false_alarms: float = DEFAULT_FALSE_ALARMS,
    score: str | None = None,
    labels: Sequence[str] = (),
    device: str = "auto",
    force: bool = False,
) -> Detector:
    """Learn what is normal from files, and write the detector.

    Args:
        inputs: normal recordings, folders and globs of them.
        model: a name, a run or a checkpoint.
        out: the file to write.
        false_alarms: the share of normal recordings that may be called anomalous.
        score: as for `Detector.fit`.
        labels: what is normal of what the model knows, NAME=VALUES each.
        device: where to compute.
        force: replace a file that exists.

    Raises:
        AudiodiffError: if a file cannot be used, there are too few, or an argument cannot be.
    """
    paths = _listed(inputs)
    where = Path(model).expanduser()
    _check_out(out, read=[*paths, where], example=DEFAULT_DETECTOR.name, force=force)
    check_count(len(paths), false_alarms=false_alarms)
    short = [path for path in paths if audio_io.info(path).seconds < SHORTEST_SECONDS]
    if short:
        raise AudioFileError(
            f"{short[0]}{f' and {len(short) - 1} more' if len(short) > 1 else ''}: shorter than {SHORTEST_SECONDS} s, "
            "which is too short to learn from: leave it out"
        )
    loaded = _model(model, device=device)
    allowed = _allowed(labels, model=loaded)
    settled(loaded, score=score, allowed=allowed)
    make_folder(out)
    with progress("learning what is normal", total=len(paths)) as bar:
        detector = Detector.fit(
            loaded,
            _Recordings(paths, sample_rate=loaded.sample_rate),
            sample_rate=loaded.sample_rate,
            false_alarms=false_alarms,
            score=score,
            allowed=allowed,
            on_recording=bar.advance,
        )
    # A path is to be found again from another folder.
    detector.save(out, model=where.resolve() if where.exists() else model)
    return detector


def score_files(
    inputs: Sequence[str], *, detector: Detector, frames: Path | None = None, force: bool = False
) -> list[Scored]:
    """Score files, one after the other.

    Args:
        inputs: recordings, folders and globs of them.
        detector: what knows what is normal.
        frames: a folder for NAME.csv, the score of every frame, and NAME.png, a picture of it under the spectrogram.
        force: replace files that exist.

    Returns: one result a file, in order; a file that cannot be judged has its reason.

    Raises:
        AudiodiffError: if an input is missing or an output exists.
    """
    if frames is None:
        jobs = [Job(index, path, path) for index, path in enumerate(_listed(inputs))]
    else:
        jobs = plan_from_files(
            inputs, suffixes=audio_io.AUDIO_SUFFIXES, out=frames, out_suffixes=(), new_suffix=".csv", force=force
        )
        pictures = [job.target.with_suffix(".png") for job in jobs]
        if not force and (taken := [path for path in pictures if path.exists()]):
            raise AudioFileError(f"--frames: {taken[0]} exists: give --force to replace it, or another --frames")
        make_folder(jobs[0].target)
    found: list[Scored] = []
    with progress("scoring", total=len(jobs)) as bar:
        for job in jobs:
            assert job.source is not None
            try:
                audio, rate = audio_io.read(job.source)
                verdict = detector.score(audio, sample_rate=rate)
            except AudiodiffError as error:
                found.append(Scored(job.source, None, str(error)))
            else:
                found.append(Scored(job.source, verdict))
                if frames is not None:
                    write_whole(job.target, _frames_table(verdict))
                    title = f"{job.source.name}: score {verdict.score:.2f}, threshold {detector.threshold:.2f}"
                    write_whole(job.target.with_suffix(".png"), picture(audio, verdict, sample_rate=rate, title=title))
            bar.advance()
    return found


def anomaly_command(
    action: Annotated[str, typer.Argument(metavar="fit|score", help="Learn what is normal, or judge.")],
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
            help="fit: the detector (detector.safetensors). score: a table (.csv) of what is printed.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"A run folder, a checkpoint, or a name; fit takes {SPEECH_PRIOR} unless told otherwise, score what "
            "the detector was made with.",
        ),
    ] = None,
    false_alarms: Annotated[
        float,
        typer.Option(metavar="SHARE", help="fit: of normal recordings, how many may be called anomalous."),
    ] = DEFAULT_FALSE_ALARMS,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="fit: 'surprise' finds other things than the labels that the model knows, 'distance' whatever sounds "
            "otherwise.",
            show_default="surprise where the model knows labels",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="fit: what is normal of what the model knows, digit=0,1,2 for one.",
            show_default="all",
        ),
    ] = None,
    detector: Annotated[
        Path, typer.Option(metavar="FILE", help="score: what `audiodiff anomaly fit` wrote.")
    ] = DEFAULT_DETECTOR,
    frames: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="score: write for each file the score of every frame (.csv) and its picture under the spectrogram "
            "(.png).",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1, or auto.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Learn from normal recordings what is normal, then score others: how strange they are, and whether too strange.

    A model denoises what it knows and errs on what it does not. `fit` learns what it errs on normal recordings, other
    ones than it was trained on (30 or more for 5 % of false alarms), and sets the threshold at what the stated share
    of normal recordings, held out, exceeds. `score` prints a table: the score, the threshold, p (the share of normal
    recordings that score as high) and the verdict. Any sample rate, length from 0.1 s and number of channels.

    \b
    Examples:
      audiodiff anomaly fit normal/                                   with the speech model
      audiodiff anomaly score new/ -o scores.csv --frames pictures
      audiodiff anomaly fit normal/ -o mine.safetensors --model runs/mine --false-alarms 0.01
      audiodiff anomaly score a.wav b.wav --detector mine.safetensors
      audiodiff anomaly fit digits/ --model digits-8k --label digit=0,1,2,3,4
    """
    if not inputs:
        raise ParameterError(f"audiodiff anomaly {action} needs recordings: audiodiff anomaly {action} FOLDER")
    if action == "fit":
        if frames is not None:
            raise ParameterError(f"--frames {frames} has no meaning for fit: it is for score")
        target = out or DEFAULT_DETECTOR
        made = fit_files(
            inputs,
            model=model or SPEECH_PRIOR,
            out=target,
            false_alarms=false_alarms,
            score=score,
            labels=label or [],
            device=device,
            force=force,
        )
        say(f"wrote {target}: anomalous is a score above {made.threshold:.3f} (from {len(made.held)} held out)")
    elif action == "score":
        if label or score:
            raise ParameterError("--label and --score have no meaning for score: the detector was fitted with them")
        if out is not None:
            _check_out(out, read=[*_listed(inputs), detector], example="scores.csv", force=force)
        loaded = Detector.load(detector, model=model, device=device)
        if out is not None:
            make_folder(out)
        found = score_files(inputs, detector=loaded, frames=frames, force=force)
        _show(found, detector=loaded)
        if out is not None:
            write_whole(out, _table(found, detector=loaded))
    else:
        raise ParameterError(f"audiodiff anomaly {action!r} must be fit or score")


def _listed(inputs: Sequence[str]) -> list[Path]:
    """List files, each once."""
    return list(dict.fromkeys(path for text in inputs for path in audio_io.find(text)))


def _check_out(out: Path, *, read: Sequence[Path], example: str, force: bool) -> None:
    """Refuse a result that must not be written.

    Raises:
        AudioFileError: if it is a folder, or exists.
        ParameterError: if it is one of the files that are read, whatever `force` says.
    """
    if out.is_dir():
        raise AudioFileError(f"--out: {out} is a folder: name the file, {out / example} for one")
    if out.resolve() in {path.resolve() for path in read}:
        raise ParameterError(f"--out: {out} is one of the inputs: give another --out")
    if out.exists() and not force:
        raise AudioFileError(f"--out: {out} exists: give --force to replace it, or another --out")


def _model(where: str, *, device: str) -> Synthesizer:
    return check_model(checkpoint.load(where, device=device_named(device)))


def _allowed(texts: Sequence[str], *, model: Synthesizer) -> Mapping[str, Sequence[str]]:
    allowed: dict[str, Sequence[str]] = {}
    for name, values in read_labels(texts, labels=model.labels).items():
        if isinstance(values, Interpolation):
            raise ParameterError(f"--label {name}={values.first}:{values.last} is a way: name values, {name}=A,B")
        allowed[name] = values
    return allowed


def _row(each: Scored, *, detector: Detector) -> list[str]:
    if each.verdict is None:
        return [str(each.path), "", "", "", "not judged", each.reason]
    verdict = "anomalous" if each.verdict.is_anomalous else "normal"
    return [
        str(each.path),
        f"{each.verdict.score:.4f}",
        f"{detector.threshold:.4f}",
        f"{each.verdict.p:.4f}",
        verdict,
        "",
    ]


def _table(found: Sequence[Scored], *, detector: Detector) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "score", "threshold", "p", "verdict", "reason"])
    writer.writerows(_row(each, detector=detector) for each in found)
    return text.getvalue().encode()


def _frames_table(verdict: Verdict) -> bytes:
    pairs = zip(verdict.seconds.tolist(), verdict.frames.tolist(), strict=True)
    return ("seconds,score\n" + "".join(f"{seconds:.4f},{score:.4f}\n" for seconds, score in pairs)).encode()


def _show(found: Sequence[Scored], *, detector: Detector) -> None:
    """Print the table, the strangest first where it is cut."""
    ordered = found
    if len(found) > _ROWS_SHOWN:
        ordered = sorted(found, key=lambda each: math.inf if each.verdict is None else each.verdict.score, reverse=True)
    rows = [_row(each, detector=detector) for each in ordered[:_ROWS_SHOWN]]
    width = max(len("file"), *(len(row[0]) for row in rows))
    print(f"{'file':{width}}  {'score':>9}  {'threshold':>9}  {'p':>6}  verdict")
    for path, score, threshold, p, verdict, reason in rows:
        print(f"{path:{width}}  {score:>9}  {threshold:>9}  {p:>6}  {verdict}{f': {reason}' if reason else ''}")
    if len(found) > len(rows):
        print(f"and {len(found) - len(rows)} that score lower")
    n_anomalous = sum(each.verdict is not None and each.verdict.is_anomalous for each in found)
    n_judged = sum(each.verdict is not None for each in found)
    print(f"{n_anomalous} of {n_judged} anomalous; {100 * detector.false_alarms:g} % of normal ones would be")
