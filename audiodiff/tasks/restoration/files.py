"""Restoration of files, in the memory of one window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress, say
from audiodiff.io.formats import FLOAT, UNLIMITED_SUBTYPES, check_float, check_format, nearest_subtype
from audiodiff.io.jobs import Job, make_folder
from audiodiff.io.writers import copy_file, open_writer
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import Repair, Sampling
from audiodiff.tasks.restoration.windows import Analysis, analyze, restore_blocks


@dataclass(frozen=True)
class Restoring:
    """Settings of a restoration of files.

    Args:
        repair: the kind of damage.
        sampling: how to draw.
        seed: of the noise.
        is_float: write 32-bit float samples, without changing the level.
        limits: clip the restored samples to full scale where the format asks for it; otherwise the whole result is
            scaled down to fit.
    """

    repair: Repair
    sampling: Sampling
    seed: int = 0
    is_float: bool = False
    limits: bool = False


def restore_files(model: Synthesizer, jobs: Sequence[Job], restoring: Restoring) -> None:
    """Restore and write files, and report for each the damage that was found.

    A result has the length, the channels and, where its suffix allows, the sample format of its input. A recording
    with nothing to restore is copied, byte by byte where its suffix and its rate stay.

    Args:
        model: as `audiodiff.tasks.restoration.check_model` returns it.
        jobs: from `audiodiff.io.jobs`.
        restoring: how.

    Raises:
        AudiodiffError: naming the file; files that were written before it stay, and are complete.
    """
    sources = [_checked(job, model, restoring) for job in jobs]
    make_folder(jobs[0].target)
    with progress("reading", total=len(jobs)) as bar:
        analyses = [_analyzed(source, model, restoring, bar.advance) for source in sources]
    said: list[str] = []
    try:
        with progress("restoring", total=sum(each.n_windows for each in analyses)) as bar:
            for job, source, analysis in zip(jobs, sources, analyses, strict=True):
                said.append(_restored(model, job, source, analysis, restoring, bar.advance, bar.within))
    finally:
        # After the bar is gone; and for every file that was written, whatever ended the work.
        for line in said:
            say(line)


def _checked(job: Job, model: Synthesizer, restoring: Restoring) -> Path:
    """Refuse unsuitable formats and rates before anything is decoded; return the source."""
    about = audio_io.info(job.source)
    try:
        resample(torch.zeros(1, 1), from_rate=about.sample_rate, to_rate=model.sample_rate)
    except ParameterError as error:
        raise ParameterError(f"{job.source}: {error}") from error
    if restoring.is_float:
        check_float(job.target)
    check_format(
        job.target,
        n_channels=about.n_channels,
        sample_rate=restoring.repair.out_rate(about.sample_rate, model_rate=model.sample_rate),
        subtype=_subtype(job.target, job.source, restoring),
    )
    return job.source


def _subtype(target: Path, source: Path, restoring: Restoring) -> str | None:
    return FLOAT if restoring.is_float else nearest_subtype(target, audio_io.info(source).subtype)


def _analyzed(source: Path, model: Synthesizer, restoring: Restoring, advance: Callable[[], None]) -> Analysis:
    sample_rate = audio_io.info(source).sample_rate
    try:
        analysis = analyze(audio_io.blocks(source), sample_rate=sample_rate, repair=restoring.repair, model=model)
    except ParameterError as error:
        raise ParameterError(f"{source}: {error}") from error
    advance()
    return analysis


def _restored(
    model: Synthesizer,
    job: Job,
    source: Path,
    analysis: Analysis,
    restoring: Restoring,
    advance: Callable[[], None],
    within: Callable[[int, int], None],
) -> str:
    """Write one file; return the line that reports it."""
    own_rate = analysis.sample_rate
    rate = analysis.repair.out_rate(own_rate, model_rate=model.sample_rate)
    subtype = _subtype(job.target, source, restoring)
    limit = 1.0 if restoring.limits and subtype not in UNLIMITED_SUBTYPES else float("inf")
    n_restored = 0

    def on_window(restored: bool) -> None:
        nonlocal n_restored
        n_restored += restored
        advance()

    n_samples = -(-analysis.n_samples * rate // own_rate)
    with open_writer(job.target, n_samples=n_samples, sample_rate=rate, subtype=subtype) as writer:
        for stretch in restore_blocks(
            model,
            audio_io.blocks(source),
            analysis,
            sampling=restoring.sampling,
            seed=restoring.seed,
            on_window=on_window,
            on_step=within,
        ):
            writer.add(stretch.clamp(-limit, limit))
        is_kept = rate == own_rate and job.target.suffix.lower() == source.suffix.lower()
        is_copy = n_restored == 0 and is_kept and not restoring.is_float
        if is_copy:
            copy_file(source, job.target)
            is_scaled = False
        else:
            is_scaled = writer.finish().is_scaled
    damage = analysis.repair.describe(sample_rate=own_rate)
    what = ", ".join(part for part in (damage, "" if n_restored else "nothing to restore") if part)
    fate = "copied to" if is_copy else "restored as" if n_restored else "written as"
    scaled = ", scaled down to fit full scale (--float keeps the level)" if is_scaled else ""
    return f"{source.name}: {what + '; ' if what else ''}{fate} {job.target}{scaled}"
