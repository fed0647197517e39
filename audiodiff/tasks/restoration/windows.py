"""Windowed restoration of recordings of any length, rate and number of channels.

A window is a core of 12 s with 2 s of context on either side. Windows start at whole seconds, which are whole samples
at every rate. Noise is keyed by the absolute sample, so that overlapping windows draw nearly the same, and a short
cross-fade hides the rest.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.noise import noise_of
from audiodiff.dsp.level import LevelMeter
from audiodiff.dsp.resample import resample, resample_mask
from audiodiff.errors import ParameterError
from audiodiff.models.chunking import Chunk, SlidingBuffer, StepCounter, overlap_add
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import checked_recordings, without_added_axes
from audiodiff.tasks.restoration.repair import Repair, Stretch
from audiodiff.tasks.restoration.sampling import Sampling, check_model, draw
from audiodiff.threads import spread
from audiodiff.types import Recordings

CORE_SECONDS = 12
CONTEXT_SECONDS = 2
FADE_SECONDS = 0.02
# Longer than the resampling filter at the lowest rate.
_MARGIN_SECONDS = 1
# The same for all channels, so that equal ones draw equal noise and stay equal.
_ITEM = 0

OnWindow = Callable[[bool], None]
"""Called after every window with whether anything in it was restored."""


@dataclass(frozen=True)
class Analysis:
    """Everything about a recording that its windows need to know.

    Args:
        repair: as `Repair.analyze` returned it.
        sample_rate: of the recording, in Hz.
        n_samples: of the recording.
        n_channels: of the recording.
        gain: power of two that brings the recording to the model's level.
        offset: constant offset of each channel, which the model is not given, and which comes back.
    """

    repair: Repair
    sample_rate: int
    n_samples: int
    n_channels: int
    gain: float
    offset: Float[Tensor, "channels 1"]

    @property
    def n_windows(self) -> int:
        """Number of windows."""
        return count_windows(self.n_samples, sample_rate=self.sample_rate)


def count_windows(n_samples: int, *, sample_rate: int) -> int:
    """Return the number of windows of a recording: one for up to a core and its context."""
    if n_samples <= (CORE_SECONDS + CONTEXT_SECONDS) * sample_rate:
        return 1
    return math.ceil(n_samples / (CORE_SECONDS * sample_rate))


def analyze(blocks: Iterable[Stretch], *, sample_rate: int, repair: Repair, model: Synthesizer) -> Analysis:
    """Read a recording once, to measure its level and to detect its damage.

    Args:
        blocks: the whole recording, in order.
        sample_rate: in Hz.
        repair: the kind of damage.
        model: that will restore it.

    Raises:
        ParameterError: if the recording is empty, or the repair does not fit it.
    """
    meter = LevelMeter(sample_rate=sample_rate)
    n_samples = n_channels = 0

    def measured() -> Iterator[Stretch]:
        nonlocal n_samples, n_channels
        for block in blocks:
            meter.add(block)
            n_channels, n_samples = len(block), n_samples + block.shape[-1]
            yield block

    stretches = measured()
    resolved = repair.analyze(stretches, sample_rate=sample_rate)
    for _ in stretches:
        pass
    if n_samples == 0:
        raise ParameterError("the recording has no samples")
    return Analysis(
        resolved, sample_rate, n_samples, n_channels, meter.gain_to(model.conditioner.level), meter.offset()
    )


def restore(
    model: Synthesizer,
    audio: Recordings,
    *,
    sample_rate: int,
    repair: Repair,
    sampling: Sampling,
    seed: int = 0,
    on_window: OnWindow | None = None,
) -> Float[Tensor, "*axes new_time"]:
    """Restore recordings that are in memory, each alone.

    Args:
        model: of waveforms, as `check_model` asks.
        audio: one recording or a batch, of any length and number of channels; silent channels stay silent.
        sample_rate: of the recordings, in Hz.
        repair: the kind of damage.
        sampling: how to draw.
        seed: of the noise.
        on_window: called after every window.

    Returns: audio with the same axes at `repair.out_rate`; of the same length where that is the recording's rate.

    Raises:
        ParameterError: if the audio is invalid, or the model, the repair and the sampling do not fit each other or
            the recording.
    """
    model = check_model(model, posterior=sampling.posterior)
    results = []
    for recording in checked_recordings(audio, sample_rate=sample_rate):
        analysis = analyze([recording], sample_rate=sample_rate, repair=repair, model=model)
        stretches = restore_blocks(model, [recording], analysis, sampling=sampling, seed=seed, on_window=on_window)
        results.append(torch.cat(list(stretches), dim=-1))
    return without_added_axes(torch.stack(results), given=audio)


def restore_blocks(
    model: Synthesizer,
    blocks: Iterable[Stretch],
    analysis: Analysis,
    *,
    sampling: Sampling,
    seed: int = 0,
    on_window: OnWindow | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Iterator[Stretch]:
    """Restore a recording that is read in stretches, in the memory of one window.

    Args:
        model: as `check_model` returns it.
        blocks: the recording, a second time.
        analysis: of the recording, from `analyze`.
        sampling: how to draw.
        seed: of the noise.
        on_window: called after every window.
        on_step: called as (done, of all) after each step of a window.

    Yields: stretches of what `restore` returns.
    """
    buffer = SlidingBuffer(blocks, name="samples of the recording")
    windows = _Windows(model, analysis, buffer, sampling, seed, on_step)
    restored: list[bool] = []

    def window(chunk: Chunk) -> Stretch:
        result, is_restored = windows(chunk.index)
        restored.append(is_restored)
        return result

    chunks = [windows.chunk(number) for number in range(analysis.n_windows)]
    for stretch in overlap_add(spread(window, chunks, workers=1), chunks):
        yield stretch
        if on_window is not None:
            on_window(restored[-1])


@dataclass(frozen=True)
class _Windows:
    """Restore windows, which must be taken in order."""

    model: Synthesizer
    analysis: Analysis
    buffer: SlidingBuffer
    sampling: Sampling
    seed: int
    on_step: Callable[[int, int], None] | None

    @property
    def out_rate(self) -> int:
        return self.analysis.repair.out_rate(self.analysis.sample_rate, model_rate=self.model.sample_rate)

    def __call__(self, number: int) -> tuple[Tensor, bool]:
        """Return the result of a window with its context, and whether anything in its core was restored."""
        own_rate, repair, offset = self.analysis.sample_rate, self.analysis.repair, self.analysis.offset
        read = self.span(number, own_rate, around=CONTEXT_SECONDS + _MARGIN_SECONDS)
        audio = self.buffer.window(read.start, read.stop)
        known = repair.known(audio, sample_rate=own_rate, first_sample=read.start)
        recording = self._inside(resample(audio, from_rate=own_rate, to_rate=self.out_rate), number, self.out_rate)
        core = self.span(number, own_rate, around=FADE_SECONDS)
        kept = known[:, core.start - read.start : core.stop - read.start]
        centred = audio - offset
        if not repair.is_affected(kept) or not bool(centred.any()):
            return recording, False
        rate = self.model.sample_rate
        restored = self._draw(
            self._inside(resample(repair.measured(centred, known), from_rate=own_rate, to_rate=rate), number, rate),
            self._inside(resample_mask(known, from_rate=own_rate, to_rate=rate), number, rate),
            silent=~centred.any(dim=-1),
            first_sample=self.span(number, rate, around=CONTEXT_SECONDS).start,
        )
        restored = resample(restored, from_rate=rate, to_rate=self.out_rate)[:, : recording.shape[-1]]
        known = self._inside(resample_mask(known, from_rate=own_rate, to_rate=self.out_rate), number, self.out_rate)
        return repair.blend(recording, restored + offset, known, sample_rate=self.out_rate), True

    def chunk(self, number: int) -> Chunk:
        """Return a core and half a fade on either side, in a window with its context, at the rate of the result."""
        core = self.span(number, self.out_rate, around=0)
        window = self.span(number, self.out_rate, around=CONTEXT_SECONDS)
        half = round(FADE_SECONDS * self.out_rate / 2)
        return Chunk(number, max(0, core.start - half), min(core.stop + half, window.stop), window.start, window.stop)

    def span(self, number: int, rate: int, *, around: float | int) -> range:
        """Return the samples of a core at a rate, with so many seconds on either side as far as the recording goes."""
        n_samples = -(-self.analysis.n_samples * rate // self.analysis.sample_rate)
        first, last = number * CORE_SECONDS, (number + 1) * CORE_SECONDS
        if number == self.analysis.n_windows - 1:
            last = math.inf
        return range(max(0, round((first - around) * rate)), round(min((last + around) * rate, n_samples)))

    def _inside(self, read: Tensor, number: int, rate: int) -> Tensor:
        """Cut off the margin that was read for the resampling filter."""
        margin = self.span(number, rate, around=CONTEXT_SECONDS + _MARGIN_SECONDS)
        window = self.span(number, rate, around=CONTEXT_SECONDS)
        return read[:, window.start - margin.start : window.stop - margin.start]

    def _draw(self, measured: Tensor, known: Tensor, *, silent: Tensor, first_sample: int) -> Tensor:
        """Draw each channel alone, so that none depends on the others; silent ones stay silent."""
        noise = noise_of(self.seed, [_ITEM], offset=first_sample)
        total = int((~silent).sum()) * (self.model.n_steps if self.sampling.steps is None else self.sampling.steps)
        on_step = StepCounter(self.on_step, total=total)
        restored = torch.zeros_like(measured)
        for channel in torch.nonzero(~silent)[:, 0].tolist():
            own, mask = measured[channel], known[channel]
            signal = (self.analysis.gain * own)[None, None].to(self.model.device)
            problem = self.analysis.repair.problem(
                signal, mask[None, None].to(self.model.device), sample_rate=self.model.sample_rate
            )
            drawn = draw(self.model, problem, sampling=self.sampling, noise=noise, on_step=on_step)
            restored[channel] = drawn[0, 0].cpu() / self.analysis.gain
        return restored
