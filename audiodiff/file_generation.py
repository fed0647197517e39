"""Files of sound from recordings, from mel spectrograms, or from nothing."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff import audio_io
from audiodiff.diffusion.grid import GRIDS
from audiodiff.diffusion.solvers import Solver
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.dsp.mel import MelDialect, ensure_same
from audiodiff.dsp.mel_file import MEL_SUFFIXES, load_mel
from audiodiff.dsp.resample import resample
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.file_plan import Job, make_folder
from audiodiff.generation_arguments import checked_length, natural_n_samples
from audiodiff.inverter import MelInverter
from audiodiff.messages import progress, say
from audiodiff.synthesizer import Synthesizer
from audiodiff.types import Mel

CHANNELS_PER_ITEM = 64
"""Numbers that a file has for the noise of its channels."""
MAX_BATCHES_WAITING = 64
"""Batches' worth of signals that may wait for others of their length."""
FLOAT = "FLOAT"

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
        seed: of the noise.
        batch_size: signals of equal length that are computed together.
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
        mel: one example for each channel; None for unconditional generation.
        n_samples: to be generated.
        n_written: to be written at `rate`, after trimming and resampling.
        rate: of the file to be written, Hz.
        level: what the result is multiplied by: 1, or the peak of a recording that passes full scale.
    """

    job: Job
    mel: Mel | None
    n_samples: int
    n_written: int
    rate: int
    level: float

    @property
    def n_signals(self) -> int:
        """Number of signals that are generated for the file."""
        return 1 if self.mel is None else len(self.mel)

    @property
    def items(self) -> list[int]:
        """Numbers that key the noise of each signal."""
        return [self.job.index * CHANNELS_PER_ITEM + channel for channel in range(self.n_signals)]


def generate_files(
    model: Model, jobs: Sequence[Job], settings: Settings, *, seconds: float | None = None
) -> list[Path]:
    """Make and write the files.

    Args:
        model: from `audiodiff.load`.
        jobs: the files to be made, from `audiodiff.file_plan`.
        settings: how to generate.
        seconds: length of what is generated from nothing; 1 where None.

    Returns: the files, in the order of the jobs.

    Raises:
        AudiodiffError: naming the file that it is about; what was written before it stays, and is whole.
    """
    if model.needs_mel and any(job.source is None for job in jobs):
        raise ParameterError(
            "this model needs an input, a recording or a mel spectrogram; models that were trained unconditionally "
            "(recipes folder/unconditional, sc09/unconditional, quickstart/mel) generate from nothing: --model RUN"
        )
    if not model.needs_mel and any(job.source is not None for job in jobs):
        raise ParameterError("this model is unconditional and takes no input; see -n and --seconds")
    model.check_sampling(
        steps=settings.steps,
        solver=settings.solver,
        grid=settings.grid,
        guide=settings.guide,
        guidance=settings.guidance,
        guidance_interval=settings.guidance_interval,
    )
    for job in jobs:
        _check_source(job, model)
    _check_target(jobs[0], model, settings)
    n_scaled = 0
    with progress("generating", total=len(jobs)) as bar:
        prepared = (_prepare(model, job, settings, seconds=seconds) for job in jobs)
        for group in _groups(prepared, batch_size=settings.batch_size):
            for done, audio in zip(group, _generate(model, group, settings, bar.within), strict=True):
                n_scaled += _write(done, audio, settings, model_rate=model.sample_rate)
                bar.advance()
    if n_scaled:
        which = "the result was" if len(jobs) == 1 else f"{n_scaled} of {len(jobs)} results were"
        say(f"{which} above full scale and scaled down to fit (--float keeps the level)")
    return [job.target for job in jobs]


def _check_source(job: Job, model: Model) -> None:
    """Refuse, before anything is computed, what needs no decoding to be refused."""
    if job.source is None or model.dialect is None:
        return
    if is_mel(job.source):
        _read_mel(job.source, model.dialect)
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


def _prepare(model: Model, job: Job, settings: Settings, *, seconds: float | None) -> Prepared:
    def prepared(mel: Mel | None, n_samples: int, *, n_read: int, source_rate: int, level: float = 1.0) -> Prepared:
        rate = _rate(model, settings)
        return Prepared(job, mel, n_samples, math.ceil(n_read * rate / source_rate), rate, level)

    if job.source is None:
        n_samples = checked_length(None, seconds=seconds, sample_rate=model.sample_rate)
        return prepared(None, n_samples, n_read=n_samples, source_rate=model.sample_rate)
    dialect = model.dialect
    assert dialect is not None
    if is_mel(job.source):
        mel = _read_mel(job.source, dialect)
        n_samples = natural_n_samples(mel.shape[-1], dialect=dialect)
        return prepared(mel[None], n_samples, n_read=n_samples, source_rate=model.sample_rate)
    audio, source_rate = audio_io.read(job.source)
    n_read = audio.shape[-1]
    audio = resample(audio, from_rate=source_rate, to_rate=model.sample_rate)
    # Float samples may pass full scale, where no mel is defined: the level comes back after the synthesis.
    level = max(1.0, float(audio.abs().max()))
    # Whole hops, so that every sample of the input lies under a frame; what is added is cut off again.
    hop = dialect.hop_length
    n_samples = -(-audio.shape[-1] // hop) * hop
    audio = torch.nn.functional.pad(audio / level, (0, n_samples - audio.shape[-1]))
    mel = model.mel(audio[:, None]).cpu()
    return prepared(mel, n_samples, n_read=n_read, source_rate=source_rate, level=level)


def _groups(all_prepared: Iterable[Prepared], *, batch_size: int) -> Iterator[list[Prepared]]:
    """Yield groups of one length as soon as they fill a batch, and all groups when too many signals wait."""
    waiting: dict[int, list[Prepared]] = {}
    n_waiting = 0
    for prepared in all_prepared:
        group = waiting.setdefault(prepared.n_samples, [])
        group.append(prepared)
        n_waiting += prepared.n_signals
        if sum(each.n_signals for each in group) >= batch_size:
            ready = [waiting.pop(prepared.n_samples)]
        elif n_waiting >= MAX_BATCHES_WAITING * batch_size:
            ready, waiting = list(waiting.values()), {}
        else:
            continue
        for group in ready:
            n_waiting -= sum(each.n_signals for each in group)
            yield group
    yield from waiting.values()


def _generate(
    model: Model, group: Sequence[Prepared], settings: Settings, on_step: Callable[[int, int], None]
) -> Iterator[Tensor]:
    """Yield (channels, time) for each of the group, whose signals all have one length."""
    mels = [prepared.mel for prepared in group if prepared.mel is not None]
    mel = torch.cat(mels) if mels else None
    items = [item for prepared in group for item in prepared.items]
    outputs: list[Tensor] = []
    for first in range(0, len(items), settings.batch_size):
        part = slice(first, first + settings.batch_size)
        outputs.append(
            model.generate(
                None if mel is None else mel[part],
                batch=len(items[part]) if mel is None else None,
                n_samples=group[0].n_samples,
                steps=settings.steps,
                iterations=settings.iterations,
                solver=settings.solver,
                grid=settings.grid,
                guide=settings.guide,
                guidance=settings.guidance,
                guidance_interval=settings.guidance_interval,
                seed=settings.seed,
                items=items[part],
                on_step=on_step,
            ).cpu()
        )
    audio = torch.cat(outputs)  # (signals, channels, time)
    position = 0
    for prepared in group:
        yield audio[position : position + prepared.n_signals].flatten(0, 1)
        position += prepared.n_signals


def _write(prepared: Prepared, audio: Tensor, settings: Settings, *, model_rate: int) -> bool:
    """Write one file; return whether its level had to be lowered."""
    if not torch.isfinite(audio).all():
        raise ParameterError(f"{prepared.job.source or prepared.job.target}: the model's output is not finite")
    audio = prepared.level * resample(audio, from_rate=model_rate, to_rate=prepared.rate)
    audio = torch.nn.functional.pad(audio, (0, prepared.n_written - audio.shape[-1]))
    peak = float(audio.abs().max())
    scaled = settings.subtype != FLOAT and peak > 1.0
    audio_io.write(
        prepared.job.target,
        audio / peak * (1 - 2**-15) if scaled else audio,
        sample_rate=prepared.rate,
        subtype=settings.subtype,
    )
    return scaled


def _rate(model: Model, settings: Settings) -> int:
    return model.sample_rate if settings.rate is None else settings.rate


def is_mel(path: Path) -> bool:
    """Return whether a file holds a mel spectrogram, by its name."""
    return path.suffix.lower() in MEL_SUFFIXES


def _read_mel(path: Path, dialect: MelDialect) -> Float[Tensor, "n_mels frames"]:
    """Read a mel that is to be used as one of the dialect."""
    mel, stated = load_mel(path)
    if stated is not None:
        ensure_same(stated, dialect, name=str(path))
    dialect.check(mel, name=str(path))
    return mel
