"""`audiodiff generate`, also `generate-wav`: sound from recordings, from mel spectrograms, or from nothing."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from audiodiff import audio_io, checkpoint
from audiodiff.dsp.mel import MelDialect, ensure_same
from audiodiff.dsp.mel_file import MEL_SUFFIXES, load_mel
from audiodiff.dsp.resample import resample
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.inverter import MelInverter
from audiodiff.messages import progress, say
from audiodiff.synthesizer import Synthesizer
from audiodiff.types import Mel

DEFAULT_OUT = Path("generated")
CHANNELS_PER_ITEM = 64
"""Numbers that a file has for the noise of its channels."""

Model = Synthesizer | MelInverter


@dataclass(frozen=True)
class Settings:
    """How to generate.

    Args:
        steps: of the sampler; None is the model's default.
        iterations: of the mel constraint; None is the model's default.
        solver: name of another solver; None is the model's own.
        seed: of the noise.
        batch_size: signals of equal length that are computed together.
        rate: of the files that are written, Hz; None is the model's.
        subtype: of the samples that are written, as soundfile names it; None is 16-bit.
    """

    steps: int | None = None
    iterations: int | None = None
    solver: str | None = None
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


@dataclass(frozen=True)
class Job:
    """One file to be made.

    Args:
        index: its number, which keys its noise.
        source: a recording or a mel; None where nothing is given.
        target: the file to write.
    """

    index: int
    source: Path | None
    target: Path


@dataclass(frozen=True)
class Prepared:
    """A job with all that its signals need.

    Args:
        job: what is to be made.
        mel: one example for each channel; None for unconditional generation.
        n_samples: to be generated.
        n_written: to be written at `rate`, after trimming and resampling.
        rate: of the file to be written, Hz.
    """

    job: Job
    mel: Mel | None
    n_samples: int
    n_written: int
    rate: int

    @property
    def n_signals(self) -> int:
        """Number of signals that are generated for the file."""
        return 1 if self.mel is None else len(self.mel)

    @property
    def items(self) -> list[int]:
        """Numbers that key the noise of each signal."""
        return [self.job.index * CHANNELS_PER_ITEM + channel for channel in range(self.n_signals)]


def plan(inputs: Sequence[str], *, out: Path, count: int | None, force: bool) -> list[Job]:
    """Say which files are to be made, having checked that none is in the way.

    Raises:
        AudioFileError: if an input is missing or an output exists.
        ParameterError: if the outputs cannot be what is asked for.
    """
    is_file = out.suffix.lower() in audio_io.AUDIO_SUFFIXES
    if not inputs:
        n = 1 if count is None else count
        if n < 1:
            raise ParameterError(f"--count {n} must be at least 1")
        width = len(str(n - 1))
        names = [Path(f"generated_{index:0{width}d}.wav") for index in range(n)]
        found: list[tuple[Path | None, Path]] = [(None, name) for name in names]
    else:
        if count is not None:
            raise ParameterError(f"--count {count} has no meaning with an input; another --seed gives another version")
        found = list(_inputs(inputs))
    if is_file and len(found) > 1:
        raise ParameterError(f"--out {out} is one file, and {len(found)} results are to be written: give a folder")
    jobs = [Job(index, source, out if is_file else out / name) for index, (source, name) in enumerate(found)]
    targets: dict[Path, Path | None] = {}
    for job in jobs:
        if job.target in targets:
            raise ParameterError(f"{targets[job.target]} and {job.source} would both become {job.target}: rename one")
        targets[job.target] = job.source
        if job.source is not None and job.target.resolve() == job.source.resolve():
            raise ParameterError(f"{job.target} is an input itself: give another --out")
        if job.target.exists() and not force:
            raise AudioFileError(f"{job.target} exists: give --force to replace it, or another --out")
    return jobs


def _inputs(inputs: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Yield every file with the name that its result has below the output folder."""
    suffixes = (*audio_io.AUDIO_SUFFIXES, *MEL_SUFFIXES)
    for text in inputs:
        root = Path(text).expanduser()
        for path in audio_io.find(text, suffixes=suffixes):
            if path.suffix.lower() not in suffixes:
                raise AudioFileError(f"{path}: suffix {path.suffix!r} must be one of {', '.join(suffixes)}")
            yield path, (path.relative_to(root) if root.is_dir() else Path(path.name)).with_suffix(".wav")


def generate_files(
    model: Model, jobs: Sequence[Job], settings: Settings, *, seconds: float | None = None
) -> list[Path]:
    """Make and write the files.

    Args:
        model: from `audiodiff.load`.
        jobs: from `plan`.
        settings: how to generate.
        seconds: length of what is generated from nothing; 1 where None.

    Returns: the files, in the order of the jobs.

    Raises:
        AudiodiffError: naming the file that it is about; the files before it are whole.
    """
    if model.needs_mel and any(job.source is None for job in jobs):
        raise ParameterError(
            "this model needs an input, a recording or a mel spectrogram; models that were trained unconditionally "
            "(recipes folder/unconditional, sc09/unconditional, quickstart/mel) generate from nothing"
        )
    if not model.needs_mel and any(job.source is not None for job in jobs):
        raise ParameterError("this model is unconditional and takes no input; see -n and --seconds")
    n_scaled = 0
    with progress("generating", total=len(jobs)) as bar:
        waiting: dict[int, list[Prepared]] = {}
        for number, job in enumerate(jobs):
            prepared = _prepare(model, job, settings, seconds=seconds)
            same = waiting.setdefault(prepared.n_samples, [])
            same.append(prepared)
            last = number + 1 == len(jobs)
            ready = [
                n for n, group in waiting.items() if last or sum(p.n_signals for p in group) >= settings.batch_size
            ]
            for n_samples in ready:
                group = waiting.pop(n_samples)
                for done, audio in zip(group, _generate(model, group, settings, bar.within), strict=True):
                    n_scaled += _write(done, audio, settings, model_rate=model.sample_rate)
                    bar.advance()
    if n_scaled:
        say(f"{n_scaled} of {len(jobs)} exceeded full scale and were scaled down to fit (--float keeps the level)")
    return [job.target for job in jobs]


def _prepare(model: Model, job: Job, settings: Settings, *, seconds: float | None) -> Prepared:
    rate = model.sample_rate if settings.rate is None else settings.rate
    if job.source is None:
        n_samples = round((1.0 if seconds is None else seconds) * model.sample_rate)
        if n_samples < 1:
            raise ParameterError(f"--seconds {seconds} must be at least one sample long")
        return Prepared(job, None, n_samples, _at_rate(n_samples, model.sample_rate, rate), rate)
    dialect = model.dialect
    assert dialect is not None
    if job.source.suffix.lower() in MEL_SUFFIXES:
        mel, stated = load_mel(job.source)
        if stated is not None:
            ensure_same(stated, dialect, name=str(job.source))
        dialect.check(mel[None], name=str(job.source))
        n_samples = max(1, dialect.n_samples(mel.shape[-1]))
        return Prepared(job, mel[None], n_samples, _at_rate(n_samples, model.sample_rate, rate), rate)
    audio, source_rate = audio_io.read(job.source)
    n_read = audio.shape[-1]
    audio = resample(audio, from_rate=source_rate, to_rate=model.sample_rate)
    # Whole hops, so that every sample of the input lies under a frame; what is added is cut off again.
    hop = dialect.hop_length
    n_samples = -(-audio.shape[-1] // hop) * hop
    audio = torch.nn.functional.pad(audio, (0, n_samples - audio.shape[-1]))
    if audio.shape[0] > CHANNELS_PER_ITEM:
        raise ParameterError(f"{job.source}: channels={audio.shape[0]} must be at most {CHANNELS_PER_ITEM}")
    return Prepared(job, model.mel(audio[:, None]).cpu(), n_samples, _at_rate(n_read, source_rate, rate), rate)


def _generate(model: Model, group: Sequence[Prepared], settings: Settings, on_step: object) -> Iterator[Tensor]:
    """Yield (channels, time) for each of the group, whose signals all have one length."""
    mels = [prepared.mel for prepared in group if prepared.mel is not None]
    items = [item for prepared in group for item in prepared.items]
    outputs: list[Tensor] = []
    for first in range(0, len(items), settings.batch_size):
        part = slice(first, first + settings.batch_size)
        outputs.append(
            model.generate(
                torch.cat(mels)[part] if mels else None,
                batch=None if mels else len(items[part]),
                n_samples=group[0].n_samples,
                steps=settings.steps,
                iterations=settings.iterations,
                solver=settings.solver,
                seed=settings.seed,
                items=items[part],
                on_step=on_step,  # pyright: ignore[reportArgumentType]
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
    audio = resample(audio, from_rate=model_rate, to_rate=prepared.rate)
    audio = torch.nn.functional.pad(audio, (0, prepared.n_written - audio.shape[-1]))
    peak = float(audio.abs().max())
    scaled = settings.subtype != "FLOAT" and peak > 1.0
    audio_io.write(
        prepared.job.target,
        audio / peak * (1 - 2**-15) if scaled else audio,
        sample_rate=prepared.rate,
        subtype=settings.subtype,
    )
    return scaled


def _at_rate(n_samples: int, from_rate: int, to_rate: int) -> int:
    return math.ceil(n_samples * to_rate / from_rate)


def stated_dialect(jobs: Sequence[Job]) -> MelDialect | None:
    """Return the dialect that the first mel file states which states one."""
    for job in jobs:
        if job.source is not None and job.source.suffix.lower() == ".npz":
            _, stated = load_mel(job.source)
            if stated is not None:
                return stated
    return None


def bare_mels(jobs: Sequence[Job]) -> list[Path]:
    """Return the mel files that do not state a dialect."""
    mels = [job.source for job in jobs if job.source is not None and job.source.suffix.lower() in MEL_SUFFIXES]
    return [path for path in mels if path.suffix.lower() != ".npz"]


def generate_command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Recordings (wav, flac, mp3, ...), mel spectrograms (.npz, .npy, .pt), folders or globs of them; "
            "nothing, for a model that generates unconditionally.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A run folder, a checkpoint, or a name; 'none' inverts mels without training.")
    ] = "none",
    dialect: Annotated[
        str | None,
        typer.Option(
            help="Mel dialect of the inputs, NAME or NAME:field=value,...; model 'none' inverts this one, a trained "
            "model is checked against it.",
            show_default="hifigan, or what an .npz says",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A file (.wav, .flac, ...) for one result, otherwise a folder.")
    ] = DEFAULT_OUT,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler.", show_default="the model's")] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Iterations of the mel constraint; 0 is none.", show_default="the model's")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Solver: euler, euler_ancestral, heun, dpmpp_2m.", show_default="the model's")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same samples, whatever the batch size.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Signals of equal length that are computed together.")] = 1,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="How many to generate from nothing.", show_default="1")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Length of what is generated from nothing.", show_default="1")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(help="Sample rate of the files that are written, Hz.", show_default="the model's")
    ] = None,
    float_: Annotated[bool, typer.Option("--float", help="Write 32-bit float samples, at the level as it is.")] = False,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
) -> None:
    """Make sound from recordings (analysis, then synthesis), from mel spectrograms, or from nothing.

    \b
    Examples:
      generate-wav speech.wav -o copy.wav                        mel inversion without training
      generate-wav mels/ -o wavs --dialect tacotron2             a folder of mels
      generate-wav speech.wav -o copy.wav --model runs/mine      a trained vocoder
      generate-wav --model runs/mine -n 8 --seconds 2 -o new     an unconditional model
    """
    inputs = inputs or []
    if seconds is not None and inputs:
        raise ParameterError(f"--seconds {seconds} has no meaning with an input, which says how long")
    settings = Settings(
        steps=steps,
        iterations=iterations,
        solver=sampler,
        seed=seed,
        batch_size=batch_size,
        rate=rate,
        subtype="FLOAT" if float_ else None,
    )
    jobs = plan(inputs, out=out, count=count, force=force)
    wanted: str | MelDialect | None = dialect
    if model == "none" and dialect is None:
        wanted = stated_dialect(jobs)
    loaded = checkpoint.load(model, device=device, dialect=wanted)
    if bare := bare_mels(jobs):
        assumed = loaded.dialect.name if loaded.dialect is not None else "none"
        if dialect is None:
            say(f"{bare[0].name} does not state its dialect: taken as {assumed}, and held to its range (see --dialect)")
    _writable(jobs[0].target.parent)
    written = generate_files(loaded, jobs, settings, seconds=seconds)
    say(f"wrote {written[0]}" if len(written) == 1 else f"wrote {len(written)} files to {out}")


def _writable(folder: Path) -> None:
    """Find out that nothing can be written before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(f"--out: {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise AudioFileError(f"--out: {folder} is not writable")
