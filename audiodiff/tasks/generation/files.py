"""Files of sound from recordings, from mel spectrograms, or from nothing."""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audiodiff.diffusion.grid import GRIDS
from audiodiff.diffusion.noise import SeedBlend
from audiodiff.diffusion.solvers import Solver
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.resample import resample
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress, say
from audiodiff.io.jobs import Job, make_folder
from audiodiff.io.readers import AudioReader, is_mel, mel_source, read_mel, recording_source
from audiodiff.io.writers import AudioWriter, open_result
from audiodiff.models.chunking import SlidingBuffer
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.sampling import SamplingOptions
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import checked_length
from audiodiff.tasks.generation.overview import Overview
from audiodiff.types import Mel, Waveform

CHANNELS_PER_ITEM = 64
"""Numbers that a file has for the noise of its channels."""
MAX_BATCHES_WAITING = 64
"""Batches' worth of signals that may wait for others of their length."""
FRAMES_AT_ONCE = 256
"""Frames that the mels of several files are brought together by."""

Model = Synthesizer | MelInverter


@dataclass(frozen=True)
class Settings:
    """How to generate, from the options of the command line.

    Args:
        steps: of the sampler; None is the model's default.
        iterations: of the mel constraint; None is the model's default.
        solver: another solver, or its name; None is the model's own.
        grid: name of another grid; None is the model's own.
        guide: a weaker model to be guided away from.
        guidance: scale of the guidance; None is no guidance.
        guidance_interval: the noise levels that are guided; None is all.
        seed: of the noise of what has an input; a wish has its own.
        batch_size: signals that are computed together: of equal length, or made from nothing.
        rate: of the files that are written, Hz; None is the model's.
        subtype: of the samples that are written, as soundfile names it; None is 16-bit.
    """

    steps: int | None = None
    iterations: int | None = None
    solver: str | Solver | None = None
    grid: str | None = None
    guide: Synthesizer | None = None
    guidance: float | None = None
    guidance_interval: tuple[float, float] | None = None
    seed: int = 0
    batch_size: int = 1
    rate: int | None = None
    subtype: str | None = None

    @property
    def sampling(self) -> SamplingOptions:
        """The options of the sampler among them."""
        return SamplingOptions(self.steps, self.solver, self.grid, self.guide, self.guidance, self.guidance_interval)

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("batch-size", self.batch_size), ("rate", self.rate)):
            if value is not None and value < 1:
                raise ParameterError(f"--{name} {value} must be at least 1")
        if self.iterations is not None and self.iterations < 0:
            raise ParameterError(f"--iterations {self.iterations} must not be negative")
        if isinstance(self.solver, str):
            solver_named(self.solver)
        if self.grid is not None and self.grid not in GRIDS:
            raise ParameterError(f"--grid {self.grid} must be one of {', '.join(GRIDS)}")


@dataclass(frozen=True)
class Prepared:
    """A job with all that its signals need.

    Args:
        job: what is to be made.
        source: what it is made from; None for unconditional generation.
        n_samples: to be generated.
    """

    job: Job
    source: AudioReader | None
    n_samples: int

    @property
    def n_signals(self) -> int:
        """Number of signals that are generated for the file."""
        return 1 if self.source is None else self.source.n_signals

    @property
    def items(self) -> list[int]:
        """Numbers that key the noise of each signal."""
        number = self.job.index if self.job.wish is None else self.job.wish.item
        return [number * CHANNELS_PER_ITEM + channel for channel in range(self.n_signals)]

    def result(self, *, model_rate: int, rate: int) -> contextlib.AbstractContextManager[AudioWriter]:
        """Open the file that is made of it."""
        level, n_read, read_rate = 1.0, self.n_samples, model_rate
        if self.source is not None:
            level, n_read, read_rate = self.source.level, self.source.n_read, self.source.rate
        n_written = math.ceil(n_read * rate / read_rate)
        return open_result(self.job.target, n_samples=n_written, from_rate=model_rate, to_rate=rate, level=level)


def generate_files(
    model: Model,
    jobs: Sequence[Job],
    settings: Settings,
    *,
    seconds: float | None = None,
    overview: Overview | None = None,
) -> list[Path]:
    """Make and write the files.

    Args:
        model: from `audiodiff.load`.
        jobs: the files to be made, from `audiodiff.io.jobs`.
        settings: how to generate.
        seconds: length of what is generated from nothing; None is what the model says.
        overview: of what is generated from nothing, written when all of it is.

    Returns: the files, in the order of the jobs.

    Raises:
        AudiodiffError: naming the file that it is about; what was written before it stays, and is whole.
    """
    if model.needs_mel and any(job.source is None for job in jobs):
        raise ParameterError(
            "this model needs an input, a recording or a mel spectrogram; models that were trained unconditionally "
            "(recipes folder/unconditional, sc09/unconditional, quickstart/mel) or with labels (folder/class) generate "
            "from nothing: --model RUN"
        )
    if not model.needs_mel and any(job.source is not None for job in jobs):
        raise ParameterError("this model is unconditional and takes no input; see -n, --label and --seconds")
    model.check_sampling(settings.sampling)
    for job in jobs:
        _check_source(job, model)
    lengths = _lengths(model, jobs, seconds=seconds)
    _check_target(jobs[0], model, settings)
    if overview is not None:
        overview.remove()
    n_scaled = 0
    with progress("generating", total=len(jobs)) as bar:
        prepared = (_prepare(model, job, n_samples=n) for job, n in zip(jobs, lengths, strict=True))
        for group in _groups(prepared, batch_size=settings.batch_size):
            for scaled in _made(model, group, settings, bar.within):
                n_scaled += scaled
                bar.advance()
    if overview is not None:
        overview.write(jobs)
    if n_scaled:
        which = "the result was" if len(jobs) == 1 else f"{n_scaled} of {len(jobs)} results were"
        say(f"{which} above full scale and scaled down to fit (--float keeps the level)")
    return [job.target for job in jobs]


def _check_source(job: Job, model: Model) -> None:
    """Refuse, before anything is computed, what needs no decoding to be refused."""
    if job.source is None or model.dialect is None:
        return
    if is_mel(job.source):
        read_mel(job.source, dialect=model.dialect)
    elif audio_io.info(job.source).n_channels > CHANNELS_PER_ITEM:
        raise ParameterError(f"{job.source} has more than {CHANNELS_PER_ITEM} channels")


def _check_target(job: Job, model: Model, settings: Settings) -> None:
    """Find out by a file of one sample whether its place, the format and the rate can be written."""
    rate = _rate(model, settings)
    sample = resample(torch.zeros(1, 1), from_rate=model.sample_rate, to_rate=rate)
    make_folder(job.target)
    trial = job.target.with_name(f".trial.{os.getpid()}{job.target.suffix}")
    try:
        audio_io.write(trial, sample, sample_rate=rate, subtype=settings.subtype)
    except AudioFileError as error:
        raise AudioFileError(f"--out: {str(error).replace(str(trial), str(job.target))}") from error
    finally:
        trial.unlink(missing_ok=True)


def _lengths(model: Model, jobs: Sequence[Job], *, seconds: float | None) -> list[int | None]:
    """Return the number of samples of what is made from nothing, and None for what has a source."""
    if seconds is not None:
        return [checked_length(None, seconds=seconds, sample_rate=model.sample_rate)] * len(jobs)
    lengths: list[int | None] = [None] * len(jobs)
    of_seed: dict[int | SeedBlend, list[int]] = {}
    for place, job in enumerate(jobs):
        if job.wish is not None:
            of_seed.setdefault(job.wish.seed, []).append(place)
    for seed, places in of_seed.items():
        assert isinstance(model, Synthesizer)
        wanted = [wish for place in places if (wish := jobs[place].wish) is not None]
        items = [wish.item * CHANNELS_PER_ITEM for wish in wanted]
        drawn = model.lengths([wish.labels for wish in wanted], seed=seed, items=items)
        for place, n_samples in zip(places, drawn, strict=True):
            lengths[place] = n_samples
    return lengths


def _prepare(model: Model, job: Job, *, n_samples: int | None) -> Prepared:
    if job.source is None:
        assert n_samples is not None
        return Prepared(job, None, n_samples)
    assert model.dialect is not None
    if is_mel(job.source):
        source = mel_source(job.source, dialect=model.dialect)
    else:
        source = recording_source(job.source, dialect=model.dialect, device=model.device)
    return Prepared(job, source, source.n_samples)


def _groups(all_prepared: Iterable[Prepared], *, batch_size: int) -> Iterator[list[Prepared]]:
    """Yield what is computed together as soon as it fills a batch, and all groups when too many signals wait.

    A group is of one length, or of one seed where it is made from nothing.
    """
    waiting: dict[object, list[Prepared]] = {}
    n_waiting = 0
    for prepared in all_prepared:
        key = prepared.n_samples if prepared.job.wish is None else ("seed", prepared.job.wish.seed)
        group = waiting.setdefault(key, [])
        group.append(prepared)
        n_waiting += prepared.n_signals
        if sum(each.n_signals for each in group) >= batch_size:
            ready = [waiting.pop(key)]
        elif n_waiting >= MAX_BATCHES_WAITING * batch_size:
            ready, waiting = list(waiting.values()), {}
        else:
            continue
        for group in ready:
            n_waiting -= sum(each.n_signals for each in group)
            yield group
    yield from waiting.values()


def _made(
    model: Model, group: Sequence[Prepared], settings: Settings, on_step: Callable[[int, int], None]
) -> Iterator[bool]:
    """Make the files of a group; yield whether each had to be lowered in level."""
    rate = _rate(model, settings)
    with contextlib.ExitStack() as stack:
        results = [stack.enter_context(each.result(model_rate=model.sample_rate, rate=rate)) for each in group]
        for audio in _pieces(model, group, settings, on_step):
            own = audio.split([each.n_signals for each in group])
            for result, signals in zip(results, own, strict=True):
                result.add(signals.flatten(0, 1))
        for result in results:
            yield result.write(subtype=settings.subtype)


def _pieces(
    model: Model, group: Sequence[Prepared], settings: Settings, on_step: Callable[[int, int], None]
) -> Iterator[Waveform]:
    """Yield all signals of a group, a few seconds at a time."""
    items = [item for prepared in group for item in prepared.items]
    how: dict[str, Any] = {
        "batch": len(items),
        "at_once": settings.batch_size,
        "iterations": settings.iterations,
        "options": settings.sampling,
        "items": items,
        "on_step": on_step,
    }
    asked = [prepared.job.wish for prepared in group if prepared.job.wish is not None]
    if not asked:
        mels = _together(group, dialect=model.dialect)
        return model.generate_chunks(mels, n_samples=group[0].n_samples, seed=settings.seed, **how)
    assert isinstance(model, Synthesizer)
    lengths = [prepared.n_samples for prepared in group]
    labels = [wish.labels for wish in asked]
    return model.generate_chunks(labels=labels, n_samples=lengths, seed=asked[0].seed, **how)


def _together(group: Sequence[Prepared], *, dialect: MelDialect | None) -> Iterator[Mel]:
    """Return the mels of all signals of a group, in stretches."""
    sources = [prepared.source for prepared in group if prepared.source is not None]
    assert dialect is not None
    all_frames = [SlidingBuffer(source.mels(), name="frames of the mel") for source in sources]
    n_frames = dialect.n_frames(sources[0].n_samples)
    stretches = [(first, min(FRAMES_AT_ONCE, n_frames - first)) for first in range(0, n_frames, FRAMES_AT_ONCE)]
    return (torch.cat([frames.window(first, first + n) for frames in all_frames]) for first, n in stretches)


def _rate(model: Model, settings: Settings) -> int:
    return model.sample_rate if settings.rate is None else settings.rate
