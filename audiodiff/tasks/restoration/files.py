"""Restoration of files, in the memory of one window."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from audiodiff.dsp.loudness import Normalization
from audiodiff.errors import ParameterError
from audiodiff.io.formats import FLOAT, UNLIMITED_SUBTYPES, check_float, check_format, nearest_subtype
from audiodiff.io.jobs import Job, make_folder
from audiodiff.io.readers import Recording, open_recording
from audiodiff.io.writers import WrittenFile, copy_file, open_writer
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import Repair, Sampling
from audiodiff.tasks.restoration.windows import Analysis, analyze, restore_blocks
from audiodiff.types import OnProgress


@dataclass(frozen=True)
class Restoring:
    """Settings of a restoration of files.

    Args:
        repair: the kind of damage.
        sampling: settings of the sampling.
        seed: of the noise.
        is_float: write 32-bit float samples, without changing the level.
        limits: clip the restored samples to full scale where the format asks for it; otherwise the whole result is
            scaled down to fit.
        normalization: level that each file is brought to; None leaves it.
    """

    repair: Repair
    sampling: Sampling
    seed: int = 0
    is_float: bool = False
    limits: bool = False
    normalization: Normalization | None = None

    def subtype(self, job: Job, recording: Recording, *, rate: int) -> str | None:
        """Return the sample format of a result of that rate; None is the default of its suffix."""
        if self.is_float:
            return FLOAT
        own = recording.info.subtype
        return nearest_subtype(job.target, own, n_channels=recording.n_channels, sample_rate=rate)


def restore_files(
    model: Synthesizer, jobs: Sequence[Job], restoring: Restoring, *, on_progress: OnProgress = lambda *_: None
) -> Iterator[str]:
    """Restore and write files, one after another.

    A result has the length, the channels and, where its suffix allows, the sample format of its input. A recording
    with nothing to restore is copied, byte by byte where its suffix and its rate stay.

    Args:
        model: as `audiodiff.tasks.restoration.check_model` returns it.
        jobs: from `audiodiff.io.jobs`.
        restoring: how.
        on_progress: called as (stage, done, total).

    Yields: a line for each written file: the damage that was found, and the result.

    Raises:
        AudiodiffError: naming the file; files that were written before it stay, and are complete.
    """
    recordings = [_opened(job, model, restoring) for job in jobs]
    make_folder(jobs[0].target)
    analyses: list[Analysis] = []
    for recording in recordings:
        on_progress("reading", len(analyses), len(jobs))
        analyses.append(_analyzed(recording, model, restoring))
    total, n_done = sum(analysis.n_windows for analysis in analyses), 0
    for job, recording, analysis in zip(jobs, recordings, analyses, strict=True):
        on_progress("restoring", n_done, total)

        def on_window(n: int | float, *, before: int = n_done) -> None:
            on_progress("restoring", before + n, total)

        yield _restored(model, job, recording, analysis, restoring, on_window)
        n_done += analysis.n_windows


def _opened(job: Job, model: Synthesizer, restoring: Restoring) -> Recording:
    """Open a recording; refuse unsuitable formats and rates before anything is decoded."""
    recording = open_recording(job.source)
    recording.check_rate(model.sample_rate)
    if restoring.is_float:
        check_float(job.target)
    rate = restoring.repair.out_rate(recording.info.sample_rate, model_rate=model.sample_rate)
    subtype = restoring.subtype(job, recording, rate=rate)
    check_format(job.target, n_channels=recording.n_channels, sample_rate=rate, subtype=subtype)
    return recording


def _analyzed(recording: Recording, model: Synthesizer, restoring: Restoring) -> Analysis:
    rate = recording.info.sample_rate
    try:
        return analyze(recording.blocks(), sample_rate=rate, repair=restoring.repair, model=model)
    except ParameterError as error:
        raise ParameterError(f"{recording.path}: {error}") from error


def _restored(
    model: Synthesizer,
    job: Job,
    recording: Recording,
    analysis: Analysis,
    restoring: Restoring,
    on_window: Callable[[int | float], None],
) -> str:
    """Write one file; return the line that reports it."""
    rate = analysis.repair.out_rate(analysis.sample_rate, model_rate=model.sample_rate)
    subtype = restoring.subtype(job, recording, rate=rate)
    limit = 1.0 if restoring.limits and subtype not in UNLIMITED_SUBTYPES else math.inf
    windows: list[bool] = []

    def add_window(is_restored: bool) -> None:
        windows.append(is_restored)
        on_window(len(windows))

    n_samples = -(-analysis.n_samples * rate // analysis.sample_rate)
    with open_writer(
        job.target, n_samples=n_samples, sample_rate=rate, subtype=subtype, normalization=restoring.normalization
    ) as writer:
        for stretch in restore_blocks(
            model,
            recording.blocks(),
            analysis,
            sampling=restoring.sampling,
            seed=restoring.seed,
            on_window=add_window,
            on_step=lambda done, of_all: on_window(len(windows) + min(done / of_all, 0.99)),
        ):
            writer.add(stretch.clamp(-limit, limit))
        is_kept = rate == analysis.sample_rate and job.target.suffix.lower() == job.source.suffix.lower()
        is_copy = is_kept and not any(windows) and not restoring.is_float and restoring.normalization is None
        level = ""
        if is_copy:
            copy_file(job.source, job.target)
        else:
            level = _level(writer.finish(), restoring.normalization)
    damage = analysis.repair.describe(sample_rate=analysis.sample_rate)
    what = ", ".join(part for part in (damage, "" if any(windows) else "nothing to restore") if part)
    fate = "copied to" if is_copy else "restored as" if any(windows) else "written as"
    return f"{job.source.name}: {what + '; ' if what else ''}{fate} {job.target}{level}"


def _level(file: WrittenFile, normalization: Normalization | None) -> str:
    """Return what the line of a file says about its level."""
    if normalization is None:
        return ", scaled down to fit full scale (--float keeps the level)" if file.is_scaled else ""
    if file.is_unmeasured:
        return ", too quiet to measure, level unchanged"
    if file.is_scaled:
        return f", {-file.level_db:.1f} dB below {normalization}, where it would clip (--float reaches the level)"
    return f", at {normalization}"
