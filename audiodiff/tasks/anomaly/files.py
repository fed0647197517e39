"""Anomaly detection on files: fit a detector on recordings, score recordings, and write scores."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.resample import resample
from audiodiff.errors import AudiodiffError, AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.atomic import write_atomic
from audiodiff.io.jobs import Job, check_target, find_files, make_folder, plan_jobs
from audiodiff.io.paths import display_name, file_text, user_path
from audiodiff.models import checkpoint
from audiodiff.models.devices import device_named
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.detector import DEFAULT_FALSE_ALARMS, Detector, Verdict
from audiodiff.tasks.anomaly.error_profile import MIN_SECONDS
from audiodiff.tasks.anomaly.picture import picture
from audiodiff.tasks.anomaly.registry import check_trained, resolve_scorer
from audiodiff.tasks.anomaly.threshold import check_count
from audiodiff.tasks.generation.labels import Interpolation, read_labels
from audiodiff.types import OnProgress

COLUMNS = ("path", "score", "threshold", "p", "verdict", "reason")


@dataclass(frozen=True)
class ScoredFile:
    """The score of one file.

    Args:
        path: of the file.
        verdict: of the detector; None where the file could not be scored.
        reason: why it could not.
    """

    path: Path
    verdict: Verdict | None
    reason: str = ""

    def row(self, *, threshold: float) -> list[str]:
        """Return the cells of `COLUMNS`."""
        if self.verdict is None:
            return [str(self.path), "", "", "", "not scored", self.reason]
        verdict = "anomalous" if self.verdict.is_anomalous else "normal"
        numbers = (float(self.verdict.score), threshold, float(self.verdict.p))
        return [str(self.path), *(f"{number:.4f}" for number in numbers), verdict, ""]


class _LazyRecordings(Sequence[Float[Tensor, "_ _"]]):
    """Read recordings when they are needed, at one rate."""

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
    out: Path,
    model: str = SPEECH_PRIOR,
    false_alarms: float = DEFAULT_FALSE_ALARMS,
    score: str | None = None,
    labels: Sequence[str] = (),
    device: str = "auto",
    force: bool = False,
    on_progress: OnProgress = lambda *_: None,
) -> Detector:
    """Fit a detector on files of normal recordings, and write it.

    Args:
        inputs: normal recordings, folders and globs of them.
        out: the file to write.
        model: a name, a run or a checkpoint.
        false_alarms: share of normal recordings that may be called anomalous.
        score: as for `Detector.fit`.
        labels: the normal values of the model's labels, NAME=VALUES each.
        device: to compute on.
        force: replace a file that exists.
        on_progress: called after each recording.

    Raises:
        AudiodiffError: if a file cannot be used, there are too few, or an argument is out of range.
    """
    paths = list_files(inputs)
    where = user_path(model, name="--model")
    check_target(out, inputs=[*paths, where], force=force)
    check_count(len(paths), false_alarms=false_alarms)
    short = [path for path in paths if audio_io.info(path).seconds < MIN_SECONDS]
    if short:
        others = f" and {len(short) - 1} more" if len(short) > 1 else ""
        raise AudioFileError(f"{short[0]}{others}: shorter than {MIN_SECONDS} s, which is too short: leave it out")
    loaded = check_trained(checkpoint.load(model, device=device_named(device)))
    allowed = _read_allowed(labels, model=loaded)
    resolve_scorer(loaded, score=score, allowed=allowed)
    make_folder(out)
    n_done = 0

    def count() -> None:
        nonlocal n_done
        n_done += 1
        on_progress("fitting", n_done, len(paths))

    detector = Detector.fit(
        loaded,
        _LazyRecordings(paths, sample_rate=loaded.sample_rate),
        sample_rate=loaded.sample_rate,
        false_alarms=false_alarms,
        score=score,
        allowed=allowed,
        on_recording=count,
    )
    # Absolute, so that the model is found from another folder too.
    detector.save(out, model=where.resolve() if where.exists() else model)
    return detector


def score_files(
    inputs: Sequence[str],
    *,
    detector: Detector,
    frames: Path | None = None,
    force: bool = False,
    on_progress: OnProgress = lambda *_: None,
) -> list[ScoredFile]:
    """Score files one by one.

    Args:
        inputs: recordings, folders and globs of them.
        detector: fitted on normal recordings.
        frames: a folder for NAME.csv, the score of each frame, and NAME.png, their picture below the spectrogram.
        force: replace files that exist.
        on_progress: called after each file.

    Returns: one result per file, in order; a file that cannot be scored has a reason instead of a verdict.

    Raises:
        AudiodiffError: if an input is missing or an output exists.
    """
    jobs = _plan(inputs, frames=frames, force=force)
    results: list[ScoredFile] = []
    for job in jobs:
        assert job.source is not None
        try:
            audio, rate = audio_io.read(job.source)
            verdict = detector.score(audio, sample_rate=rate)
        except AudiodiffError as error:
            results.append(ScoredFile(job.source, None, str(error)))
        else:
            results.append(ScoredFile(job.source, verdict))
            if frames is not None:
                title = (
                    f"{display_name(job.source.name)}: score {verdict.score:.2f}, threshold {detector.threshold:.2f}"
                )
                write_atomic(job.target, _frame_table(verdict))
                write_atomic(job.target.with_suffix(".png"), picture(audio, verdict, sample_rate=rate, title=title))
        on_progress("scoring", len(results), len(jobs))
    return results


def write_scores(path: Path, results: Sequence[ScoredFile], *, threshold: float) -> None:
    """Write scores as a CSV file with the columns `COLUMNS`.

    Raises:
        AudioFileError: if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(each.row(threshold=threshold) for each in results)
    write_atomic(path, file_text(text.getvalue()))


def list_files(inputs: Sequence[str]) -> list[Path]:
    """List the audio files of inputs, each once."""
    return list(dict.fromkeys(path for text in inputs for path in find_files(text)))


def _plan(inputs: Sequence[str], *, frames: Path | None, force: bool) -> list[Job]:
    """Plan one table of frames for each file, where they are written."""
    if frames is None:
        return [Job(path, path, key) for key, path in enumerate(list_files(inputs))]
    jobs = plan_jobs(inputs, out=frames, force=force, new_suffix=".csv", out_suffixes=())
    for job in jobs:
        check_target(job.target.with_suffix(".png"), force=force, option="--frames")
    make_folder(jobs[0].target)
    return jobs


def _read_allowed(texts: Sequence[str], *, model: Synthesizer) -> Mapping[str, Sequence[str]]:
    allowed: dict[str, Sequence[str]] = {}
    for name, values in read_labels(texts, labels=model.labels).items():
        if isinstance(values, Interpolation):
            raise ParameterError(
                f"--label {name}={values.first}:{values.last} is an interpolation: name values, --label {name}=A,B"
            )
        allowed[name] = values
    return allowed


def _frame_table(verdict: Verdict) -> bytes:
    pairs = zip(verdict.seconds.tolist(), verdict.frames.tolist(), strict=True)
    return ("seconds,score\n" + "".join(f"{seconds:.4f},{score:.4f}\n" for seconds, score in pairs)).encode()
