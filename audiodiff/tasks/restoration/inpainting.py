"""Inpainting: filling of gaps."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.diffusion.operators import Mask
from audiodiff.dsp.autoregression import DRAWN_SECONDS, interpolate_gaps
from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration.music import SteadyTones
from audiodiff.tasks.restoration.repair import Problem, Repair, Stretch
from audiodiff.tasks.restoration.sampling import Sampling
from audiodiff.tasks.restoration.seams import proximity, splice
from audiodiff.tasks.restoration.windows import OnWindow, restore
from audiodiff.types import Recordings, Signal

INPAINTING = Sampling(steps=6)
"""Default sampling of `inpaint`."""

SHORTEST_SECONDS = 0.005
"""Least length of a constant stretch that is taken as a gap."""
LOUD = 0.01
"""Least deviation from a gap's value of the sound beside it, relative to the peak; a noise gate closes below it."""
COARSE = 0.0005
"""Quantization step, relative to the peak, above which pauses are constant too: a gap then needs sound at both ends."""
STEPS = 8
"""Least deviation of that sound in quantization steps, which in mu-law and A-law are up to a sixteenth of the value."""

MUSIC_SHARE = 0.15
"""Share of the energy in steady tones from which on gaps are filled as music. 95 % of utterances have at most 0.07."""
CONTINUES_SECONDS = 0.06
"""Distance from the known samples over which a gap fades from the autoregressive interpolation to the draw.

Near the edges the interpolation predicts the waveform better than a draw, and joins without a step.
"""

Span = tuple[int, int]
"""The first sample and the one after the last."""


@dataclass(frozen=True)
class Inpaint(Repair):
    """Fill gaps.

    Args:
        gaps: (start, end) of each, in seconds, in all channels. Without gaps and mask they are detected: constant
            stretches, for example of zeros, of 5 ms or more with sound on at least one side.
        mask: True where a sample is known, at the recording's rate, for all channels or for each.
        spans: gaps of each channel, in samples; `analyze` sets them.
        is_music: whether gaps are filled by an autoregressive model alone; `analyze` sets it.
    """

    gaps: tuple[tuple[float, float], ...] | None = None
    mask: Tensor | None = None
    spans: tuple[tuple[Span, ...], ...] = ()
    is_music: bool = False

    def __post_init__(self) -> None:
        if self.gaps is not None and self.mask is not None:
            raise ParameterError("gaps and mask are both given: give one of them")
        for start, end in self.gaps or ():
            if not 0.0 <= start < end < math.inf:
                raise ParameterError(f"gap={start:g}:{end:g} must be a start and a later end, in seconds from 0")
        if self.mask is not None and not isinstance(self.mask, Tensor):
            raise ParameterError(
                f"mask is a {type(self.mask).__name__}; give a torch tensor, as torch.from_numpy makes it"
            )
        if self.mask is not None and not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ParameterError("mask must hold nothing but 0, where a sample is lost, and 1, where it is known")

    def analyze(self, blocks: Iterator[Stretch], *, sample_rate: int) -> "Inpaint":
        detectors: list[_GapDetector] = []
        tones = SteadyTones(sample_rate=sample_rate)
        n_samples = 0
        for block in blocks:
            detectors = detectors or [_GapDetector(sample_rate) for _ in block]
            n_samples += block.shape[-1]
            tones.add(block)
            if self.gaps is None and self.mask is None:
                for detector, channel in zip(detectors, block, strict=True):
                    detector.add(channel)
        if self.gaps is not None:
            spans = [_spans_of_gaps(self.gaps, n_samples, sample_rate=sample_rate)] * len(detectors)
        elif self.mask is not None:
            spans = _spans_of_mask(self.mask, n_samples, n_channels=len(detectors))
        else:
            spans = [detector.spans() for detector in detectors]
        return replace(self, spans=tuple(tuple(own) for own in spans), is_music=tones.share > MUSIC_SHARE)

    def describe(self, *, sample_rate: int) -> str:
        """Describe the number of gaps and their total length in the channel with the longest."""
        distinct = set().union(*self.spans)
        seconds = max((sum(end - start for start, end in own) for own in self.spans), default=0) / sample_rate
        found = f"{len(distinct)} gap{'' if len(distinct) == 1 else 's'}, {seconds:.3g} s"
        if not self.is_music or not distinct:
            return found
        n_drawn = sum(end - start >= DRAWN_SECONDS * sample_rate for start, end in distinct)
        counts = {"interpolated": len(distinct) - n_drawn, "drawn at the level of both sides": n_drawn}
        which = " and ".join(f"{n} {how}" for how, n in counts.items() if n)
        return f"{found}, in music, so by autoregression: {which}"

    def known(self, audio: Float[Tensor, "channels time"], *, sample_rate: int, first_sample: int) -> Tensor:
        known = torch.ones_like(audio)
        for channel, spans in zip(known, self.spans, strict=True):
            for start, end in spans:
                channel[max(0, start - first_sample) : max(0, end - first_sample)] = 0.0
        return known

    def is_affected(self, known: Float[Tensor, "channels time"]) -> bool:
        return bool((known == 0).any())

    def measured(
        self, audio: Float[Tensor, "channels time"], known: Float[Tensor, "channels time"]
    ) -> Float[Tensor, "channels time"]:
        """Return the recording with silence in the gaps, as in training."""
        return audio * known

    def problem(self, measured: Signal, known: Signal, *, sample_rate: int) -> Problem:
        measured = measured * known
        predicted = _interpolated(measured, known, sample_rate=sample_rate)
        share = proximity(known, sample_rate=sample_rate, seconds=CONTINUES_SECONDS) * (1.0 - known)

        def possible(x: Signal) -> Signal:
            return x + share * (predicted - x)

        return Problem(measured, known, Mask(known), possible, guess=predicted)

    def blend(
        self,
        recording: Float[Tensor, "channels time"],
        restored: Float[Tensor, "channels time"],
        known: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
    ) -> Float[Tensor, "channels time"]:
        if self.is_music:
            restored = _interpolated(recording[:, None], known[:, None], sample_rate=sample_rate, noise=_white)[:, 0]
        return splice(recording, restored, known, sample_rate=sample_rate)

    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        return sample_rate


def inpaint(
    model: Synthesizer,
    audio: Recordings,
    *,
    sample_rate: int,
    gaps: Sequence[tuple[float, float]] | None = None,
    mask: Tensor | None = None,
    sampling: Sampling = INPAINTING,
    seed: int = 0,
    on_window: OnWindow | None = None,
) -> Recordings:
    """Fill gaps; every other sample is returned as it is, to the bit.

    Near its edges a gap follows an autoregressive interpolation, and the draw in its middle agrees with that. In music,
    of which the model knows little, the whole gap is that of an autoregressive process: up to 0.1 s its mean, the
    interpolation; from there on a draw, which is as loud as both sides.

    Args:
        model: `audiodiff.load("speech-prior-16k")`; for posteriors other than Conditional any model of mono waveforms.
        audio: one recording or a batch, of any length, rate and number of channels.
        sample_rate: of the audio, in Hz.
        gaps: (start, end) of each, in seconds. Without gaps and mask they are detected.
        mask: True where a sample is known, (time,) or (channels, time), of every recording.
        sampling: settings of the sampling.
        seed: of the noise; another seed gives another possible filling, but in music.
        on_window: called after every window.

    Raises:
        ParameterError: if the model cannot inpaint, a gap lies outside the recording, or the mask does not fit it.

    Source: Wang et al. 2023 (DDNM), for the known samples; Janssen et al. 1986, for the edges.
    """
    try:
        spans = None if gaps is None else tuple((float(start), float(end)) for start, end in gaps)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"gaps={gaps} must be pairs of seconds, as in gaps=[(1.2, 1.35)]") from error
    repair = Inpaint(gaps=spans, mask=mask)
    return restore(
        model, audio, sample_rate=sample_rate, repair=repair, sampling=sampling, seed=seed, on_window=on_window
    )


def _interpolated(
    measured: Signal, known: Signal, *, sample_rate: int, noise: Callable[[int], np.ndarray] | None = None
) -> Signal:
    """Fill the gaps autoregressively."""
    filled = [
        interpolate_gaps(*(each[0].double().cpu().numpy() for each in own), sample_rate=sample_rate, noise=noise)
        for own in zip(measured, known, strict=True)
    ]
    return torch.stack([torch.from_numpy(signal) for signal in filled]).unsqueeze(1).to(measured)


def _white(n_samples: int) -> np.ndarray:
    """Return noise that depends on its length alone: the same in all channels, and where windows overlap."""
    return np.random.default_rng(n_samples).standard_normal(n_samples)


class _GapDetector:
    """Detect the constant stretches of a channel, block by block."""

    def __init__(self, sample_rate: int) -> None:
        self._least = max(2, round(SHORTEST_SECONDS * sample_rate))
        self._n_samples = self._run = 0
        self._last: Tensor | None = None
        self._spans: list[Span] = []
        self._values: list[float] = []
        # The least and the greatest sample of every 5 ms: all that is kept of the sound around gaps.
        self._extremes: list[Tensor] = []
        self._rest = torch.zeros(0)
        self._step = math.inf

    def add(self, block: Float[Tensor, "_"]) -> None:
        if len(block) == 0:
            return
        held = torch.cat([self._rest.to(block), block])
        whole = len(held) // self._least * self._least
        self._extremes.append(torch.stack(held[:whole].reshape(-1, self._least).aminmax(dim=-1)))
        self._rest = held[whole:]
        joined = block if self._last is None else torch.cat([self._last, block])
        first = self._n_samples - (0 if self._last is None else 1)
        change = joined.diff().abs()
        if bool(change.any()):
            self._step = min(self._step, float(change[change > 0].min()))
        # Positions of samples that differ from the one before.
        begins = (torch.nonzero(change)[:, 0] + 1 + first).tolist()
        for begin in begins:
            if begin - self._run >= self._least:
                self._spans.append((self._run, begin))
                self._values.append(float(joined[begin - 1 - first]))
            self._run = begin
        self._n_samples += len(block)
        self._last = block[-1:]

    def spans(self) -> list[Span]:
        """Return the gaps: not at the ends, not the flat tops of clipping, not the silence of a noise gate."""
        rest = [torch.stack(self._rest.aminmax())[:, None]] if len(self._rest) else []
        lowest, highest = torch.cat([*self._extremes, *rest], dim=-1) if self._extremes else torch.zeros(2, 0)
        peak = max(-float(lowest.min()), float(highest.max())) if len(lowest) else 0.0
        is_coarse = self._step > COARSE * peak
        found = []
        for (start, end), value in zip(self._spans, self._values, strict=True):
            deviations = [
                max(value - float(lowest[side].min()), float(highest[side].max()) - value)
                for side in (
                    slice(max(0, start // self._least - 1), start // self._least + 1),
                    slice(end // self._least, end // self._least + 2),
                )
            ]
            loud = min(deviations) if is_coarse else max(deviations)
            is_sound = loud >= max(LOUD * peak, STEPS * self._step, STEPS / 16 * abs(value))
            if start > 0 and abs(value) < (1.0 - LOUD) * peak and is_sound:
                found.append((start, end))
        return found


def _spans_of_gaps(gaps: Sequence[tuple[float, float]], n_samples: int, *, sample_rate: int) -> list[Span]:
    """Convert gaps to samples."""
    spans = []
    for start, end in gaps:
        first, last = (round(min(time * sample_rate, n_samples)) for time in (start, end))
        if first >= n_samples:
            raise ParameterError(f"gap={start:g}:{end:g} begins behind the end of a recording of {n_samples} samples")
        if first >= last:
            raise ParameterError(f"gap={start:g}:{end:g} is shorter than a sample at {sample_rate} Hz")
        spans.append((first, last))
    return spans


def _spans_of_mask(mask: Tensor, n_samples: int, *, n_channels: int) -> list[list[Span]]:
    """Return the gaps of each channel."""
    rows = mask.reshape(1, -1) if mask.ndim == 1 else mask
    if rows.ndim != 2 or rows.shape[-1] != n_samples or len(rows) not in (1, n_channels):
        raise ParameterError(
            f"mask has the shape {tuple(mask.shape)} and must have ({n_samples},) or ({n_channels}, {n_samples}), as "
            "the recording"
        )
    edges = F.pad((rows == 0).int(), (1, 1)).diff(dim=-1)
    spans = [
        list(zip(torch.nonzero(row == 1)[:, 0].tolist(), torch.nonzero(row == -1)[:, 0].tolist(), strict=True))
        for row in edges
    ]
    return spans * (n_channels // len(spans))
