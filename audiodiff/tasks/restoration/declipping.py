"""Declipping: restoration of clipped peaks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from audiodiff.diffusion.operators import Mask
from audiodiff.dsp.sparsity import sparsest_within
from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration.repair import Problem, Repair, Stretch
from audiodiff.tasks.restoration.sampling import Sampling
from audiodiff.tasks.restoration.seams import proximity, splice
from audiodiff.tasks.restoration.windows import OnWindow, restore
from audiodiff.types import Recordings, Signal

DECLIPPING = Sampling(steps=2, start=0.05, temperature=0.7)
"""Default sampling of `declip`."""

CONTINUES_SECONDS = 0.0003
"""Distance from the known samples over which a peak fades from their spline to the draw."""
SPARSE_SECONDS = 0.02
"""Distance from the known samples over which a peak fades from its sparse restoration to the draw.

Few peaks are that long: the sparse one is better than any draw, on speech and on music (`benchmarks.jobs.declip`).
"""
TOLERANCE = 1e-4
"""Relative difference allowed between samples of a flat top: more than a step of 16 bits."""
HIGHEST = 4.0
"""Greatest magnitude of a restored sample, relative to the recording's peak."""
NEAR = 0.03
LEAST = 4
"""Least number of samples at the peak of clipped audio, which must also be half of those within 3 % below it."""
N_LEVELS = 10
"""Levels below the peak that are compared with it where fewer lie within 3 %, as in 8-bit, mu-law and A-law samples.

Pure tones have many samples at their peaks: at the highest level 1 / (sqrt(11) - 1) = 0.43 times as many as at the
next 10.
"""


@dataclass(frozen=True)
class Declip(Repair):
    """Restore clipped peaks: only samples at the limit change, and only outwards.

    Args:
        threshold: magnitude at which the recording was clipped, in all channels; None detects it in each channel and
            for each sign, from the number of samples at the extremes.
        limits: (lowest, highest) of each channel, infinite where nothing was clipped; `analyze` sets them.
    """

    threshold: float | None = None
    limits: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.threshold is not None and not (math.isfinite(self.threshold) and self.threshold > 0.0):
            raise ParameterError(f"threshold={self.threshold} must be a positive magnitude, relative to full scale 1")

    def analyze(self, blocks: Iterator[Stretch], *, sample_rate: int) -> "Declip":
        counts: list[tuple[_PeakCount, _PeakCount]] = []
        for block in blocks:
            counts = counts or [(_PeakCount(), _PeakCount()) for _ in block]
            for (low, high), channel in zip(counts, block, strict=True):
                low.add(-channel)
                high.add(channel)
        if self.threshold is not None:
            limits = [(-self.threshold, self.threshold)] * len(counts)
        else:
            limits = [(-low.limit(), high.limit()) for low, high in counts]
        reached = any(
            low.peak >= -limit[0] or high.peak >= limit[1] for (low, high), limit in zip(counts, limits, strict=True)
        )
        return replace(self, limits=tuple(limits) if reached else ((-math.inf, math.inf),) * len(counts))

    def describe(self, *, sample_rate: int) -> str:
        magnitudes = [abs(limit) for limits in self.limits for limit in limits if math.isfinite(limit)]
        if not magnitudes:
            return "no clipping found" if self.threshold is None else f"no sample reaches {self.threshold:g}"
        least, greatest = f"{min(magnitudes):.3g}", f"{max(magnitudes):.3g}"
        return f"clipped at {least}" + ("" if least == greatest else f" to {greatest}")

    def known(self, audio: Float[Tensor, "channels time"], *, sample_rate: int, first_sample: int) -> Tensor:
        low, high = audio.new_tensor(self.limits).T.unsqueeze(-1)
        return ((audio > low) & (audio < high)).to(audio)

    def is_affected(self, known: Float[Tensor, "channels time"]) -> bool:
        return bool((known == 0).any())

    def measured(
        self, audio: Float[Tensor, "channels time"], known: Float[Tensor, "channels time"]
    ) -> Float[Tensor, "channels time"]:
        """Return the recording as it is: the network is given flat tops in training too."""
        return audio

    def problem(self, measured: Signal, known: Signal, *, sample_rate: int) -> Problem:
        lost = known == 0
        # At another rate than the recording's, samples beside the flat tops are lost too, but not bounded.
        bounds = []
        for sign in (1.0, -1.0):
            height = torch.where(lost, sign * measured, 0.0)
            bounds.append((height > 0.0) & (height >= 0.9 * height.amax()))
        above, below = bounds

        def bounded(x: Signal) -> Signal:
            x = torch.where(above, torch.maximum(x, measured), x)
            return torch.where(below, torch.minimum(x, measured), x)

        smooth = bounded(_spline(measured, known))
        share = proximity(known, sample_rate=sample_rate, seconds=CONTINUES_SECONDS) * lost

        def possible(x: Signal) -> Signal:
            return bounded(x + share * (smooth - x))

        return Problem(measured, known, Mask(known), possible, guess=smooth)

    def blend(
        self,
        recording: Float[Tensor, "channels time"],
        restored: Float[Tensor, "channels time"],
        known: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
    ) -> Float[Tensor, "channels time"]:
        sparse = _sparse(recording, known, sample_rate=sample_rate)
        share = proximity(known, sample_rate=sample_rate, seconds=SPARSE_SECONDS)
        result = splice(recording, restored + share * (sparse - restored), known, sample_rate=sample_rate)
        outwards = torch.where(recording > 0.0, torch.maximum(result, recording), torch.minimum(result, recording))
        return torch.where(known != 0, recording, outwards)

    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        return sample_rate


def declip(
    model: Synthesizer,
    audio: Recordings,
    *,
    sample_rate: int,
    threshold: float | None = None,
    sampling: Sampling = DECLIPPING,
    seed: int = 0,
    on_window: OnWindow | None = None,
) -> Recordings:
    """Restore clipped peaks; every other sample is returned as it is, to the bit.

    Within 20 ms of the samples that are not clipped, and so nearly everywhere, the result is the sound beyond the limit
    whose short-time spectra are sparsest, at the recording's own rate. Farther away it is drawn: sampling starts at a
    low noise level from a cubic spline through the samples that are not clipped.

    Args:
        model: `audiodiff.load("speech-prior-16k")`; for posteriors other than Conditional any model of mono waveforms.
        audio: one recording or a batch, of any length, rate and number of channels.
        sample_rate: of the audio, in Hz.
        threshold: magnitude of the limit; None detects it.
        sampling: settings of the sampling.
        seed: of the noise; another seed gives other possible peaks.
        on_window: called after every window.

    Returns: audio with the same axes; peaks may exceed full scale.

    Raises:
        ParameterError: if the model cannot declip, or the threshold is not positive.

    Source: Kitic, Bertin and Gribonval 2015 (A-SPADE), for the sparse sound.
    """
    return restore(
        model,
        audio,
        sample_rate=sample_rate,
        repair=Declip(threshold),
        sampling=sampling,
        seed=seed,
        on_window=on_window,
    )


def _spline(measured: Signal, known: Signal) -> Signal:
    """Replace lost samples by a cubic spline through the known ones.

    Over long stretches a cubic diverges: it is limited to twice the recording's peak.
    """
    result = measured.clone()
    for signal, mask in zip(result[:, 0], known[:, 0], strict=True):
        places = torch.nonzero(mask)[:, 0].cpu().numpy()
        if len(places) < LEAST or len(places) == len(mask):
            continue
        spline = CubicSpline(places, signal.double().cpu().numpy()[places])(np.arange(len(mask)))
        limit = 2.0 * float(signal.abs().max())
        signal[mask == 0] = torch.from_numpy(spline).clamp(-limit, limit).to(signal)[mask == 0]
    return result


def _sparse(
    recording: Float[Tensor, "channels time"], known: Float[Tensor, "channels time"], *, sample_rate: int
) -> Float[Tensor, "channels time"]:
    """Restore the clipped samples by sparsity, beyond the values at which they were clipped."""
    limit = HIGHEST * recording.abs().amax(dim=-1, keepdim=True)
    lowest = torch.where((known != 0) | (recording > 0.0), recording, -limit)
    highest = torch.where((known != 0) | (recording < 0.0), recording, limit)
    filled = [
        sparsest_within(*(each.double().cpu().numpy() for each in own), sample_rate=sample_rate)
        for own in zip(lowest, highest, strict=True)
    ]
    return torch.stack([torch.from_numpy(signal) for signal in filled]).to(recording)


class _PeakCount:
    """Count the samples of a channel at its highest value and just below, block by block."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._at = self._near = 0
        # The values above a quarter of the peak and their counts, while the values are few: quantization levels.
        self._levels: tuple[Tensor, Tensor] | None = torch.zeros(0), torch.zeros(0, dtype=torch.long)

    def add(self, block: Float[Tensor, "_"]) -> None:
        peak = max(self.peak, float(block.max())) if len(block) else self.peak
        if peak > self.peak * (1.0 + TOLERANCE):
            self._near = self._at if self.peak >= (1.0 - NEAR) * peak else 0
            self._at = 0
        self.peak = peak
        n_at = int((block >= (1.0 - TOLERANCE) * peak).sum())
        self._near += int((block >= (1.0 - NEAR) * peak).sum()) - n_at
        self._at += n_at
        if self._levels is not None and peak > 0.0:
            self._levels = self._counted(self._levels, block[block >= 0.25 * peak])

    def _counted(
        self, levels: tuple[Float[Tensor, "levels"], Tensor], samples: Float[Tensor, "_"]
    ) -> tuple[Tensor, Tensor] | None:
        """Add samples to the levels; None where they are so close that enough of them lie within 3 %."""
        values, counts = levels
        values, place = torch.cat([values.to(samples), samples]).unique(return_inverse=True)
        each = torch.cat([counts, torch.ones(len(samples), dtype=torch.long)])
        counts = torch.zeros(len(values), dtype=torch.long).index_add(0, place, each)
        high = values >= 0.25 * self.peak
        values, counts = values[high], counts[high]
        is_fine = len(values) > 1 and N_LEVELS * float(values.diff().min()) <= NEAR * self.peak
        return None if is_fine else (values, counts)

    def limit(self) -> float:
        """Return the clipping limit, infinity where the channel is not clipped."""
        near = self._near
        if self._levels is not None and len(self._levels[0]) > 1:
            values, counts = self._levels
            # Half a step more, as values are rounded.
            lowest = self.peak - (N_LEVELS + 0.5) * float(values[-1] - values[-2])
            near = max(near, int(counts[values >= lowest].sum()) - self._at)
        is_clipped = self.peak > 0.0 and self._at >= max(LEAST, near / 2)
        return (1.0 - TOLERANCE) * self.peak if is_clipped else math.inf
