"""Audio files generated from recordings and mel spectrograms, or without an input."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from audiodiff.diffusion.noise import SeedBlend
from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.loudness import Normalization
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.resample import ResampleStream
from audiodiff.errors import ParameterError
from audiodiff.io.console import SILENT, ProgressBar
from audiodiff.io.formats import check_format
from audiodiff.io.jobs import Job, make_folder
from audiodiff.io.readers import Input
from audiodiff.io.writers import AudioWriter, WrittenFile, open_writer
from audiodiff.models.chunking import SlidingBuffer
from audiodiff.models.sampling import MODEL_DEFAULTS, SamplingOptions
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import checked_length
from audiodiff.models.vocoder import Vocoder
from audiodiff.tasks.generation.request import GenerationPlan
from audiodiff.tasks.generation.sound import CHANNELS_PER_FILE, Sound
from audiodiff.tasks.generation.specs import GenerationSpec
from audiodiff.types import Mel, Waveform

MAX_BATCHES_WAITING = 64
"""Batches' worth of signals that may wait for others of their length."""
CHUNK_FRAMES = 256
"""Frames by which the mels of several files are read together."""


@dataclass(frozen=True)
class GenerationSettings:
    """Choose how files are generated and written.

    Args:
        options: of the sampler.
        iterations: of the mel inversion; None is the model's default.
        seed: of the noise of files with an input; a `GenerationSpec` has its own.
        batch_size: signals that are computed together.
        rate: of the files that are written, Hz; None is the model's.
        subtype: of the samples that are written, as soundfile names it; None is the default of the suffix.
        normalization: level that each file is brought to; None leaves it.
    """

    options: SamplingOptions = MODEL_DEFAULTS
    iterations: int | None = None
    seed: int = 0
    batch_size: int = 1
    rate: int | None = None
    subtype: str | None = None
    normalization: Normalization | None = None


def generate_from_inputs(
    model: Vocoder,
    jobs: Sequence[Job],
    inputs: Sequence[Input],
    settings: GenerationSettings,
    *,
    bar: ProgressBar = SILENT,
) -> list[WrittenFile]:
    """Generate a file from each recording or mel spectrogram.

    Args:
        model: conditioned on mels.
        jobs: from `audiodiff.io.jobs.plan_jobs`.
        inputs: of the jobs, from `audiodiff.io.readers.open_inputs`.
        settings: how to generate.
        bar: reports each file.

    Returns: the written files, in the order of the jobs.

    Raises:
        AudiodiffError: naming the file at fault; files that were written before stay, and are whole.
    """
    dialect = model.dialect
    if not model.needs_mel or dialect is None:
        raise ParameterError("this model is unconditional and takes no input; see -n, --label and --seconds")
    model.check_sampling(settings.options)
    for job, source in zip(jobs, inputs, strict=True):
        if source.n_channels > CHANNELS_PER_FILE:
            raise ParameterError(f"{job.source} has more than {CHANNELS_PER_FILE} channels")
        source.check(dialect)
    targets = [job.target for job in jobs]
    rate = _check_targets(model, targets, [source.n_channels for source in inputs], settings)

    def sound_of(job: Job, source: Input) -> Sound:
        mels = source.mels(dialect, device=model.device)
        n, n_written = mels.n_samples, math.ceil(mels.n_read * rate / mels.sample_rate)
        # Channels that differ are generated together, and without other files.
        group = (n, job.key if max(mels.copied) else None)
        return Sound(job.target, job.key, group, mels.copied, n, n_written, mels.level, mels)

    def chunks_of(group: Sequence[Sound]) -> Iterator[Waveform]:
        items = [item for sound in group for item in sound.items]
        return model.generate_chunks(
            _mels_of(group, dialect),
            n_samples=group[0].n_samples,
            batch=len(items),
            at_once=settings.batch_size,
            pairs=None if group[0].n_channels == 1 else ChannelPairs(group[0].n_channels),
            iterations=settings.iterations,
            options=settings.options,
            seed=settings.seed,
            items=items,
            on_step=bar.within,
        )

    return _written(map(sound_of, jobs, inputs), chunks_of, targets, model, settings, bar)


def generate_from_specs(
    model: Vocoder,
    plan: GenerationPlan,
    settings: GenerationSettings,
    *,
    seconds: float | None = None,
    bar: ProgressBar = SILENT,
) -> list[WrittenFile]:
    """Generate files from labels, or without any condition.

    Args:
        model: that needs no mel.
        plan: from `GenerationRequest.plan`.
        settings: how to generate.
        seconds: length of each; None is what the model knows, or 1.
        bar: reports each file.

    Returns: the written files, in the order of the plan.

    Raises:
        AudiodiffError: naming the file at fault; files that were written before stay, and are whole.
    """
    if model.needs_mel or not isinstance(model, Synthesizer):
        raise ParameterError(
            "this model needs an input, a recording or a mel spectrogram; models that were trained unconditionally "
            "(recipes folder/unconditional, sc09/unconditional, quickstart/mel) or with labels (folder/class) generate "
            "without one: --model RUN"
        )
    model.check_sampling(settings.options)
    lengths = _lengths(model, plan.specs, seconds=seconds)
    rate = _check_targets(model, plan.targets, [1] * len(plan.targets), settings)
    if plan.overview is not None:
        plan.overview.remove()
    sounds = (
        Sound(target, spec.item, spec.seed, [0], n_samples, math.ceil(n_samples * rate / model.sample_rate), spec=spec)
        for target, spec, n_samples in zip(plan.targets, plan.specs, lengths, strict=True)
    )

    def chunks_of(group: Sequence[Sound]) -> Iterator[Waveform]:
        own = [sound.spec for sound in group if sound.spec is not None]
        return model.generate_chunks(
            n_samples=[sound.n_samples for sound in group],
            labels=[spec.labels for spec in own],
            batch=len(group),
            at_once=settings.batch_size,
            iterations=settings.iterations,
            options=settings.options,
            seed=own[0].seed,
            items=[item for sound in group for item in sound.items],
            on_step=bar.within,
        )

    return _written(sounds, chunks_of, plan.targets, model, settings, bar)


def _check_targets(
    model: Vocoder, targets: Sequence[Path], n_channels: Sequence[int], settings: GenerationSettings
) -> int:
    """Return the sample rate of the files, having refused what they cannot hold."""
    rate = model.sample_rate if settings.rate is None else settings.rate
    ResampleStream(from_rate=model.sample_rate, to_rate=rate)
    for target, n in zip(targets, n_channels, strict=True):
        check_format(target, n_channels=n, sample_rate=rate, subtype=settings.subtype)
    make_folder(targets[0])
    return rate


def _lengths(model: Synthesizer, specs: Sequence[GenerationSpec], *, seconds: float | None) -> list[int]:
    """Return the number of samples of each result."""
    if seconds is not None:
        return [checked_length(None, seconds=seconds, sample_rate=model.sample_rate)] * len(specs)
    lengths = [0] * len(specs)
    of_seed: dict[int | SeedBlend, list[int]] = {}
    for place, spec in enumerate(specs):
        of_seed.setdefault(spec.seed, []).append(place)
    for seed, places in of_seed.items():
        own = [specs[place] for place in places]
        items = [spec.item * CHANNELS_PER_FILE for spec in own]
        drawn = model.lengths([spec.labels for spec in own], seed=seed, items=items)
        for place, n_samples in zip(places, drawn, strict=True):
            lengths[place] = n_samples
    return lengths


def _groups(sounds: Iterable[Sound], *, batch_size: int) -> Iterator[Sequence[Sound]]:
    """Yield sounds of one group together as soon as they fill a batch, and all groups when too many signals wait."""
    waiting: dict[object, list[Sound]] = {}
    n_waiting = 0
    for sound in sounds:
        group = waiting.setdefault(sound.group, [])
        group.append(sound)
        n_waiting += sound.n_channels
        if sum(each.n_channels for each in group) >= batch_size:
            ready = [waiting.pop(sound.group)]
        elif n_waiting >= MAX_BATCHES_WAITING * batch_size:
            ready, waiting = list(waiting.values()), {}
        else:
            continue
        for group in ready:
            n_waiting -= sum(each.n_channels for each in group)
            yield group
    yield from waiting.values()


def _written(
    sounds: Iterable[Sound],
    chunks_of: Callable[[Sequence[Sound]], Iterator[Waveform]],
    targets: Sequence[Path],
    model: Vocoder,
    settings: GenerationSettings,
    bar: ProgressBar,
) -> list[WrittenFile]:
    """Generate and write sounds chunk by chunk; return the files in the order of the targets."""
    written: dict[Path, WrittenFile] = {}
    for group in _groups(sounds, batch_size=settings.batch_size):
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(_writer(sound, model, settings)) for sound in group]
            for audio in chunks_of(group):
                own = audio.split([sound.n_channels for sound in group])
                for sound, writer, signals in zip(group, writers, own, strict=True):
                    writer.add(signals.flatten(0, 1)[sound.copied])
            for sound, writer in zip(group, writers, strict=True):
                written[sound.target] = writer.finish()
                bar.advance()
    return [written[target] for target in targets]


def _writer(
    sound: Sound, model: Vocoder, settings: GenerationSettings
) -> contextlib.AbstractContextManager[AudioWriter]:
    return open_writer(
        sound.target,
        n_samples=sound.n_written,
        sample_rate=model.sample_rate if settings.rate is None else settings.rate,
        from_rate=model.sample_rate,
        level=sound.level,
        subtype=settings.subtype,
        normalization=settings.normalization,
    )


def _mels_of(group: Sequence[Sound], dialect: MelDialect) -> Iterator[Mel]:
    """Yield the mels of all signals of a group in chunks."""
    readers = [sound.mels for sound in group if sound.mels is not None]
    buffers = [SlidingBuffer(reader.chunks(), name="frames of the mel") for reader in readers]
    n_frames = dialect.n_frames(group[0].n_samples)
    for first in range(0, n_frames, CHUNK_FRAMES):
        yield torch.cat([buffer.window(first, min(first + CHUNK_FRAMES, n_frames)) for buffer in buffers])
