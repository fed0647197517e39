"""Files of restored recordings, in the memory of a window of one of them."""

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from audiodiff.dsp.resample import resample
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress, say
from audiodiff.io.jobs import Job, make_folder
from audiodiff.io.writers import FLOAT, check_float, open_result
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration import Repair, Sampling
from audiodiff.tasks.restoration.windows import Surveyed, restore_blocks, survey


@dataclass(frozen=True)
class Restoring:
    """How to restore, from the options of the command line.

    Args:
        repair: what is wrong with the recordings.
        sampling: how to draw.
        seed: of the noise.
        is_float: write 32-bit float samples, at the level as it is.
        limits: cut off what is restored beyond full scale where the format holds no more; otherwise all of the result
            is scaled down to fit.
    """

    repair: Repair
    sampling: Sampling
    seed: int = 0
    is_float: bool = False
    limits: bool = False


def restore_files(model: Synthesizer, jobs: Sequence[Job], restoring: Restoring) -> None:
    """Restore and write files, and say of each what was found.

    A result has the length, the channels and, where its suffix allows, the sample format of its input. A recording that
    has nothing to restore is copied, byte by byte where its suffix and its rate stay.

    Args:
        model: as `audiodiff.tasks.restoration.check_model` returns it.
        jobs: from `audiodiff.io.jobs`.
        restoring: how.

    Raises:
        AudiodiffError: naming the file that it is about; what was written before it stays, and is whole.
    """
    sources = [_checked(job, model, restoring) for job in jobs]
    make_folder(jobs[0].target)
    with progress("reading", total=len(jobs)) as bar:
        surveyed = [_surveyed(source, model, restoring, bar.advance) for source in sources]
    said: list[str] = []
    try:
        with progress("restoring", total=sum(each.n_windows for each in surveyed)) as bar:
            for job, source, known in zip(jobs, sources, surveyed, strict=True):
                said.append(_restored(model, job, source, known, restoring, bar.advance, bar.within))
    finally:
        # Not while the bar is drawn; and of all that was written, whatever ended the work.
        for line in said:
            say(line)


def _checked(job: Job, model: Synthesizer, restoring: Restoring) -> Path:
    """Refuse, before anything is computed, what needs no decoding to be refused; return the source."""
    assert job.source is not None
    about = audio_io.info(job.source)
    try:
        resample(torch.zeros(1, 1), from_rate=about.sample_rate, to_rate=model.sample_rate)
    except ParameterError as error:
        raise ParameterError(f"{job.source}: {error}") from error
    if restoring.is_float:
        check_float(job.target)
    audio_io.check_format(
        job.target,
        n_channels=about.n_channels,
        sample_rate=restoring.repair.out_rate(about.sample_rate, model_rate=model.sample_rate),
        subtype=_subtype(job.target, job.source, restoring),
    )
    return job.source


def _subtype(target: Path, source: Path, restoring: Restoring) -> str | None:
    return FLOAT if restoring.is_float else audio_io.subtype_for(target, source=source)


def _surveyed(source: Path, model: Synthesizer, restoring: Restoring, advance: Callable[[], None]) -> Surveyed:
    sample_rate = audio_io.info(source).sample_rate
    try:
        found = survey(audio_io.blocks(source), sample_rate=sample_rate, repair=restoring.repair, model=model)
    except ParameterError as error:
        raise ParameterError(f"{source}: {error}") from error
    advance()
    return found


def _restored(
    model: Synthesizer,
    job: Job,
    source: Path,
    surveyed: Surveyed,
    restoring: Restoring,
    advance: Callable[[], None],
    within: Callable[[int, int], None],
) -> str:
    """Make one file; return what there is to say of it."""
    own_rate = surveyed.sample_rate
    rate = surveyed.repair.out_rate(own_rate, model_rate=model.sample_rate)
    subtype = _subtype(job.target, source, restoring)
    limit = 1.0 if restoring.limits and subtype not in audio_io.UNLIMITED_SUBTYPES else float("inf")
    n_restored = 0

    def on_window(restored: bool) -> None:
        nonlocal n_restored
        n_restored += restored
        advance()

    n_samples = -(-surveyed.n_samples * rate // own_rate)
    with open_result(job.target, n_samples=n_samples, from_rate=rate, to_rate=rate, level=1.0) as result:
        for stretch in restore_blocks(
            model,
            audio_io.blocks(source),
            surveyed,
            sampling=restoring.sampling,
            seed=restoring.seed,
            on_window=on_window,
            on_step=within,
        ):
            result.add(stretch.clamp(-limit, limit))
        is_kept = rate == own_rate and job.target.suffix.lower() == source.suffix.lower()
        is_copy = n_restored == 0 and is_kept and not restoring.is_float
        if is_copy:
            _copy(source, job.target)
            is_scaled = False
        else:
            is_scaled = result.write(subtype=subtype)
    found = surveyed.repair.found(sample_rate=own_rate)
    what = ", ".join(part for part in (found, "" if n_restored else "nothing to restore") if part)
    fate = "copied to" if is_copy else "restored as" if n_restored else "written as"
    scaled = ", scaled down to fit full scale (--float keeps the level)" if is_scaled else ""
    return f"{source.name}: {what + '; ' if what else ''}{fate} {job.target}{scaled}"


def _copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    temporary = target.with_name(f".{target.name[-100:]}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise AudioFileError(f"{target}: cannot be written ({error}); check the folder and its free space") from error
    finally:
        temporary.unlink(missing_ok=True)
