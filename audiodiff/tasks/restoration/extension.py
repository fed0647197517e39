"""Bandwidth extension: restoration of lost high frequencies."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.diffusion.operators import LowPass
from audiodiff.dsp.level import LevelMeter
from audiodiff.dsp.resample import INTACT_SHARE
from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration.high_band import shaped
from audiodiff.tasks.restoration.repair import Problem, Repair, Stretch
from audiodiff.tasks.restoration.sampling import Sampling
from audiodiff.tasks.restoration.windows import OnWindow, restore
from audiodiff.types import Recordings, Signal

EXTENDING = Sampling(steps=8)
"""Default sampling of `extend`; the level of the added band is estimated, whatever the temperature (`high_band`)."""

FRAME_SECONDS = 0.064
SMOOTH_HZ = 100.0
LEAST_CUTOFF_HZ = 1500.0
"""Lowest cutoff that is detected: below it, full-band speech falls as steeply behind its first formant."""
LEAST_DROP_DB = 15.0
"""Least fall of the mean spectrum at a cutoff, over 300 Hz on either side; full-band speech seldom falls by more."""
RISE_DB = 3.0
"""Most that a noise floor may rise above the level just behind the cutoff; between formants it rises by more."""
FAR_DB = 30.0
"""Least distance of a noise floor from the spectrum's peak, and of any rise of it from the band below the cutoff."""
INTACT_DB = 3.0
"""Attenuation, relative to the band below the cutoff, from which on a frequency lies on the filter's slope."""
PASSED_SHARE = 0.9
"""Share of half a lower sample rate up to which resampling to the model's attenuates by less than 0.03 dB."""
BEYOND_DB = 12.0
"""Fall of the spectrum at a given cutoff below which the recording is taken as one that was not cut off."""
NEARLY = 0.97
"""Share of the model's band from which on a recording lacks nothing."""
CROSSOVER_SECONDS = 0.02


@dataclass(frozen=True)
class Extend(Repair):
    """Restore frequencies above a cutoff; those below stay. The new band has the level that speech leads to expect.

    Args:
        cutoff: in Hz, above which the recording has no energy; None detects it in the mean spectrum, where that falls
            to a floor, and takes half the sample rate where it does not. A recording whose spectrum goes on above a
            given cutoff is full band.
        up_to: in Hz, half of the model's sample rate.
        intact: in Hz, up to which nothing is lost, infinite where nothing is missing; `analyze` sets it.
        levels: active level of each channel; `analyze` sets them.
    """

    cutoff: float | None = None
    up_to: float = 8000.0
    intact: float = math.inf
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.cutoff is not None and not self.cutoff >= 500.0:
            raise ParameterError(f"cutoff={self.cutoff} Hz must be at least 500; is it in kHz?")
        if self.cutoff is not None and self.cutoff >= self.up_to:
            raise ParameterError(
                f"cutoff={self.cutoff:g} Hz must be below half of the model's sample rate, {self.up_to:g}: the model "
                "adds nothing above"
            )

    def analyze(self, blocks: Iterator[Stretch], *, sample_rate: int) -> "Extend":
        if self.cutoff is not None and self.cutoff > sample_rate / 2:
            raise ParameterError(
                f"cutoff={self.cutoff:g} Hz must be at most half of the sample rate, {sample_rate / 2:g}"
            )
        meter = LevelMeter(sample_rate=sample_rate)

        def measured() -> Iterator[Stretch]:
            for block in blocks:
                meter.add(block)
                yield block

        spectrum = mean_spectrum_db(measured(), sample_rate=sample_rate)
        intact = self._intact(spectrum, nyquist=sample_rate / 2)
        levels = tuple(meter.active_rms().tolist())
        return replace(self, intact=intact if intact < NEARLY * self.up_to else math.inf, levels=levels)

    def _intact(self, spectrum: "Spectrum", *, nyquist: float) -> float:
        """Return the frequency up to which nothing is lost; a given cutoff is taken as it is."""
        is_low_rate = nyquist < self.up_to
        if self.cutoff is not None and not reaches_beyond(spectrum, self.cutoff):
            return min(self.cutoff, PASSED_SHARE * nyquist) if is_low_rate else self.cutoff
        cutoff = detect_cutoff(spectrum) if self.cutoff is None else None
        intact = math.inf if cutoff is None else intact_below(spectrum, cutoff)
        return min(intact, INTACT_SHARE * nyquist) if is_low_rate else intact

    def describe(self, *, sample_rate: int) -> str:
        if math.isfinite(self.intact):
            return f"intact up to {self.intact:.0f} Hz"
        if self.cutoff is not None and self.cutoff < NEARLY * self.up_to:
            return f"full band: its spectrum goes on above {self.cutoff:.0f} Hz"
        return f"full band: nothing is missing below {self.up_to:.0f} Hz"

    def known(self, audio: Float[Tensor, "channels time"], *, sample_rate: int, first_sample: int) -> Tensor:
        """Return 1 everywhere: all samples were measured, in a narrower band."""
        return torch.ones_like(audio)

    def is_affected(self, known: Float[Tensor, "channels time"]) -> bool:
        return math.isfinite(self.intact)

    def measured(
        self, audio: Float[Tensor, "channels time"], known: Float[Tensor, "channels time"]
    ) -> Float[Tensor, "channels time"]:
        return audio

    def problem(self, measured: Signal, known: Signal, *, sample_rate: int) -> Problem:
        return Problem(measured, known, LowPass(min(0.5, self.intact / sample_rate)))

    def blend(
        self,
        recording: Float[Tensor, "channels time"],
        restored: Float[Tensor, "channels time"],
        known: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
    ) -> Float[Tensor, "channels time"]:
        levels = recording.new_tensor(self.levels)
        restored = shaped(recording, restored, cutoff=self.intact, levels=levels, sample_rate=sample_rate)
        return recording + high_pass(restored - recording, self.intact, sample_rate=sample_rate)

    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        return max(sample_rate, model_rate)


def extend(
    model: Synthesizer,
    audio: Recordings,
    *,
    sample_rate: int,
    cutoff: float | None = None,
    sampling: Sampling = EXTENDING,
    seed: int = 0,
    on_window: OnWindow | None = None,
) -> Float[Tensor, "*axes new_time"]:
    """Add lost high frequencies, up to half of the model's rate.

    Args:
        model: `audiodiff.load("speech-prior-16k")`; for posteriors other than Conditional any model of mono waveforms.
        audio: one recording or a batch, of any length, rate and number of channels.
        sample_rate: of the audio, in Hz.
        cutoff: in Hz, above which the recording has no energy; None detects it.
        sampling: settings of the sampling.
        seed: of the noise; another seed gives another possible high band.
        on_window: called after every window.

    Returns: audio with the same axes, at its own rate or the model's, whichever is higher.

    Raises:
        ParameterError: if the model cannot extend, or the cutoff is outside the band of the recording or of the model.
    """
    repair = Extend(cutoff, up_to=model.sample_rate / 2)
    return restore(
        model, audio, sample_rate=sample_rate, repair=repair, sampling=sampling, seed=seed, on_window=on_window
    )


@dataclass(frozen=True)
class Spectrum:
    """A mean spectrum.

    Args:
        level_db: of each bin, from 0 Hz to half the sample rate.
        bin_hz: width of a bin.
    """

    level_db: Float[Tensor, "bins"]
    bin_hz: float

    def between(self, low: float, high: float) -> Float[Tensor, "_"]:
        """Return the levels of the bins in a band, at least one."""
        first = min(max(0, round(low / self.bin_hz)), len(self.level_db) - 1)
        return self.level_db[first : max(first + 1, round(high / self.bin_hz))]


def mean_spectrum_db(blocks: Iterator[Stretch], *, sample_rate: int) -> Spectrum:
    """Average the power over frames of 64 ms that do not overlap and over the channels, smoothed over 100 Hz.

    The rest after the last whole frame is ignored, unless it is all there is.
    """
    n_fft = 2 * max(8, round(FRAME_SECONDS * sample_rate / 2))
    total, rest = torch.zeros(n_fft // 2 + 1, dtype=torch.float64), None
    n_frames = 0

    def add(frames: Float[Tensor, "_ _"]) -> None:
        windowed = frames * torch.hann_window(frames.shape[-1]).to(frames)
        total.add_(torch.fft.rfft(windowed, n=n_fft).abs().double().square().sum(dim=0))

    for block in blocks:
        rest = block if rest is None else torch.cat([rest, block], dim=-1)
        whole = rest.shape[-1] // n_fft * n_fft
        if whole > 0:
            add(rest[:, :whole].reshape(-1, n_fft))
            n_frames, rest = n_frames + whole // n_fft, rest[:, whole:]
    if n_frames == 0 and rest is not None and rest.shape[-1] > 0:
        add(rest)
    bin_hz = sample_rate / n_fft
    half = max(1, round(0.5 * SMOOTH_HZ / bin_hz))
    smooth = F.avg_pool1d(F.pad(total[None, None], (half, half), mode="replicate"), kernel_size=2 * half + 1, stride=1)[
        0, 0
    ]
    return Spectrum(10.0 * torch.log10(smooth.clamp(min=1e-12 * float(smooth.max()) + 1e-30)), bin_hz)


def detect_cutoff(spectrum: Spectrum) -> float | None:
    """Return the frequency above 1.5 kHz where a spectrum falls most steeply to a floor, in Hz; None without one."""
    top = spectrum.bin_hz * (len(spectrum.level_db) - 1)
    best, steepest, is_floor = None, LEAST_DROP_DB, False
    for frequency in torch.arange(LEAST_CUTOFF_HZ, top - 250.0, spectrum.bin_hz).tolist():
        under = float(spectrum.between(frequency - 300.0, frequency - 100.0).mean())
        over = float(spectrum.between(frequency + 100.0, frequency + 300.0).mean())
        highest = float(spectrum.between(frequency + 200.0, top).max())
        if under - over > steepest and highest <= under - LEAST_DROP_DB:
            best, steepest = frequency, under - over
            is_flat = highest <= max(over + RISE_DB, under - FAR_DB)
            is_floor = is_flat and over <= float(spectrum.level_db.max()) - FAR_DB
    return best if is_floor else None


def reaches_beyond(spectrum: Spectrum, cutoff: float) -> bool:
    """Return whether a spectrum goes on above a given cutoff: it falls by less than 12 dB.

    From the mean level between 0.75 and 1 times the cutoff to that between 1.25 and 1.5 times; False where the spectrum
    ends before.
    """
    if 1.25 * cutoff >= spectrum.bin_hz * (len(spectrum.level_db) - 1):
        return False
    below, above = spectrum.between(0.75 * cutoff, cutoff), spectrum.between(1.25 * cutoff, 1.5 * cutoff)
    return float(below.mean() - above.mean()) < BEYOND_DB


def intact_below(spectrum: Spectrum, cutoff: float) -> float:
    """Return the frequency up to which nothing is attenuated, at least 0.8 of the cutoff.

    From there upwards it is 100 Hz, the smoothing of the spectrum, below the first bin that lies 3 dB below the median
    between 0.65 and 0.85 of the cutoff, or below the cutoff.
    """
    plateau = float(spectrum.between(0.65 * cutoff, 0.85 * cutoff).median())
    frequency = 0.8 * cutoff
    while frequency < cutoff and float(spectrum.between(frequency, frequency)[0]) > plateau - INTACT_DB:
        frequency += spectrum.bin_hz
    return max(0.8 * cutoff, min(frequency, cutoff) - SMOOTH_HZ)


def high_pass(audio: Float[Tensor, "channels time"], frequency: float, *, sample_rate: int) -> Recordings:
    """Apply a linear-phase high-pass filter of 40 ms whose transition band is 0.9 to 1 times the frequency."""
    half = max(1, round(CROSSOVER_SECONDS * sample_rate))
    time = torch.arange(-half, half + 1, dtype=torch.float64)
    middle = 0.95 * frequency / sample_rate
    low_pass = (
        2.0 * middle * torch.sinc(2.0 * middle * time) * torch.kaiser_window(2 * half + 1, False, beta=8.0).double()
    )
    low_pass = (low_pass / low_pass.sum()).to(audio)
    return audio - F.conv1d(audio[:, None], low_pass[None, None], padding=half)[:, 0]
