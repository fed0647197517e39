"""Objectives: losses of a denoiser's prediction, one number per example."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.weighting import Uniform, Weighting
from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import Sigma, Signal

Power = Callable[[Signal], Signal]
Observed = Float[Tensor, "batch 2 signal_time"]
"""An observed recording and, as a second channel, 1 where it is known and 0 elsewhere."""


class Objective(ABC):
    """Measure the error of a prediction."""

    @abstractmethod
    def __call__(
        self, prediction: Prediction, x0: Signal, x: Signal, sigma: Sigma, *, observed: Observed | None = None
    ) -> Float[Tensor, "batch"]:
        """Compute the loss of each example, averaged over its channels and samples.

        Args:
            prediction: of the denoiser.
            x0: clean signals.
            x: x0 + sigma * eps.
            sigma: the noise level.
            observed: the degraded recording that the denoiser is conditioned on; None without one.
        """


@dataclass(frozen=True)
class Absolute:
    """Take |error|, the norm L1: DiffWave's loss."""

    def __call__(self, error: Signal) -> Signal:
        return error.abs()


@dataclass(frozen=True)
class Squared:
    """Take error^2, the norm L2: DDPM's loss."""

    def __call__(self, error: Signal) -> Signal:
        return error**2


@dataclass(frozen=True)
class Huber:
    """Take error^2 / 2 up to |error| = delta, delta (|error| - delta / 2) beyond: outliers count as in L1.

    Args:
        delta: where the parabola ends, in units of the network's target.

    Example:
        >>> Huber(delta=1.0)(torch.tensor([[[0.5, -3.0]]]))
        tensor([[[0.1250, 2.5000]]])

    Source: Huber 1964, section 4.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0.0:
            raise ParameterError(f"delta={self.delta} must be positive")

    def __call__(self, error: Signal) -> Signal:
        return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta)


@dataclass(frozen=True)
class Plain(Objective):
    """Compute w(sigma) * |F - (x0 - c_skip * x) / c_out|^p, in network space, which is precise at small sigma.

    Args:
        power: Squared(), Absolute() or Huber(), or any function of the error.
        weighting: computes w(sigma); all but Uniform() are meant for Squared().

    Source: Karras et al. 2022, eq. 8.
    """

    power: Power = Squared()
    weighting: Weighting = field(default_factory=Uniform)

    def __call__(
        self, prediction: Prediction, x0: Signal, x: Signal, sigma: Sigma, *, observed: Observed | None = None
    ) -> Float[Tensor, "batch"]:
        scalings = prediction.scalings
        target = (x0 - pad_dims_like(scalings.c_skip, x) * x) / pad_dims_like(scalings.c_out, x)
        weight = self.weighting(sigma, scalings).to(x.dtype)
        return weight * self.power(prediction.raw - target).flatten(1).mean(dim=1)


@dataclass(frozen=True)
class SpectrallyWeighted(Objective):
    """Compute the band energies of D - x0, each divided by the root of that of x0, averaged over bands and frames.

    The weight is (E + 1e-7)^(-1/2), clamped, with E the energy of x0 in the band: an error counts more where the signal
    is quiet, and so more audible. If the condition does not determine how loud x0 is, this weight biases D towards the
    quiet x0. With E from the noisy x, the best D is the posterior mean, as samplers assume. At high noise levels x is
    loud everywhere, so the smaller of the energies of x and of the observed recording, if there is one, is taken. Bands
    are triangles with centres spaced evenly from 0 to half the sample rate; the weights of every bin sum to 1.

    Args:
        n_fft: length of the frames and of their periodic Hann window, in samples.
        hop_length: between frames, in samples.
        n_bands: number of bands.
        lowest_weight: limit for loud signals.
        highest_weight: limit for quiet signals.
        by_noisy: take E from the noisy x and not from x0: for models that are not conditioned on a mel.

    Source: Yao et al. 2026 (Flow2GAN), spectral energy-adaptive loss scaling.
    """

    n_fft: int = 1024
    hop_length: int = 256
    n_bands: int = 256
    lowest_weight: float = 0.01
    highest_weight: float = 100.0
    by_noisy: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.n_fft:
            raise ParameterError(f"hop_length={self.hop_length} must lie between 1 and n_fft={self.n_fft}")
        if not 2 <= self.n_bands <= self.n_fft // 2 + 1:
            raise ParameterError(
                f"n_bands={self.n_bands} must lie between 2 and n_fft // 2 + 1 = {self.n_fft // 2 + 1}"
            )

    @cached_property
    def _bands(self) -> Float[Tensor, "bands bins"]:
        places = torch.linspace(0.0, self.n_bands - 1.0, self.n_fft // 2 + 1, dtype=torch.float64)
        centres = torch.arange(self.n_bands, dtype=torch.float64).unsqueeze(1)
        return torch.clamp(1.0 - (places - centres).abs(), min=0.0)

    def _energies(self, signal: Signal) -> Float[Tensor, "batch_channels bands frames"]:
        window = torch.hann_window(self.n_fft, dtype=signal.dtype, device=signal.device)
        spectrum = torch.stft(
            signal.flatten(0, 1),
            self.n_fft,
            self.hop_length,
            window=window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return self._bands.to(signal) @ (spectrum.real**2 + spectrum.imag**2)

    def __call__(
        self, prediction: Prediction, x0: Signal, x: Signal, sigma: Sigma, *, observed: Observed | None = None
    ) -> Float[Tensor, "batch"]:
        loudness = self._energies(x if self.by_noisy else x0)
        if self.by_noisy and observed is not None:
            quieter = torch.minimum(loudness, self._energies(observed[:, :1]))
            loudness = torch.where(self._known(observed[:, 1:]), quieter, loudness)
        weight = torch.clamp((loudness + 1e-7) ** -0.5, self.lowest_weight, self.highest_weight)
        error = weight * self._energies(prediction.denoised - x0)
        return error.reshape(x0.shape[0], -1).mean(dim=1)

    def _known(self, known: Float[Tensor, "batch 1 signal_time"]) -> Bool[Tensor, "batch 1 frames"]:
        """Return which frames hold known samples only."""
        unknown = F.pad(1.0 - known, (self.n_fft // 2, self.n_fft // 2))
        return F.max_pool1d(unknown, self.n_fft, self.hop_length) == 0.0


@dataclass(frozen=True)
class MultiResolution(Objective):
    """Compute the mean distance between the compressed magnitudes of D and x0, over STFTs of several windows.

    Long windows resolve harmonics, short ones onsets. The loss depends on phases only through magnitudes, and is least
    at the median of every magnitude: for noise that is smoother and 1.6 dB softer than x0. Averaging powers over some
    frames before the comparison leaves the fluctuations of noise free. Above the bandwidth of x0 (for example of a
    recording that was resampled from a lower rate) the error does not count.

    Args:
        sample_rate: in Hz.
        windows: lengths of the frames and of their periodic Hann windows, in samples; each hops by a quarter.
        exponent: of the magnitudes: with 1 only peaks count, with 0.5 also what is 40 dB below them.
        corner: in Hz; above it, a frequency counts in inverse proportion to itself, as on the mel scale; below it, all
            frequencies count about the same.
        smoothing: number of frames whose powers are averaged before compression; 1 compares single frames.

    Source: Yamamoto, Song, Kim 2020 (Parallel WaveGAN), section 2.2, for several resolutions.
    """

    sample_rate: int
    windows: Sequence[int] = (256, 512, 1024, 2048)
    exponent: float = 0.5
    corner: float = 700.0
    smoothing: int = 1

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) < 16:
            raise ParameterError(f"windows={list(self.windows)} must name lengths of at least 16 samples")
        if not 0.0 < self.exponent <= 1.0:
            raise ParameterError(f"exponent={self.exponent} must lie in (0, 1]")
        if not self.corner > 0.0:
            raise ParameterError(f"corner={self.corner} Hz must be positive")
        check_whole(self.smoothing, name="smoothing", least=1)

    def __call__(
        self, prediction: Prediction, x0: Signal, x: Signal, sigma: Sigma, *, observed: Observed | None = None
    ) -> Float[Tensor, "batch"]:
        estimate, truth = prediction.denoised.flatten(0, 1), x0.flatten(0, 1)
        longest = max(self.windows)
        top = _bandwidth(_power(truth, longest))
        total = torch.zeros(len(truth), dtype=truth.dtype, device=truth.device)
        for window in self.windows:
            powers = [_power(signal, window) for signal in (estimate, truth)]
            n = min(self.smoothing, powers[0].shape[-1])
            means = [F.avg_pool1d(power, n, stride=max(1, n // 2)) for power in powers]
            magnitudes = [(mean + _INAUDIBLE) ** (self.exponent / 2.0) for mean in means]
            distance = (magnitudes[0] - magnitudes[1]).abs().mean(dim=2)
            place = torch.linspace(0.0, 1.0, distance.shape[1], device=distance.device)
            counted = 1.0 / (1.0 + place * self.sample_rate / 2.0 / self.corner) * (place <= top[:, None])
            total = total + (distance * counted).sum(dim=1) / counted.sum(dim=1)
        return (total / len(self.windows)).reshape(x0.shape[:2]).mean(dim=1)


_INAUDIBLE = 1e-9
"""Added to powers before the root, which has no derivative at 0: -90 dB of white noise of variance 1."""
_SILENT = 10.0**-9.5
"""Share of the power of the loudest bin below which a bin is silent."""


def _power(signal: Float[Tensor, "batch time"], window: int) -> Float[Tensor, "batch bins frames"]:
    """Return squared magnitudes, 1 on average for white noise of variance 1."""
    hann = torch.hann_window(window, dtype=signal.dtype, device=signal.device)
    spectrum = torch.stft(
        signal, window, window // 4, window=hann, center=True, pad_mode="constant", return_complex=True
    )
    return (spectrum.real.square() + spectrum.imag.square()) / (0.375 * window)


def _bandwidth(power: Float[Tensor, "batch bins frames"]) -> Float[Tensor, "batch"]:
    """Return the highest frequency that is not silent, as a share of half the sample rate."""
    mean = power.mean(dim=2)
    present = mean > _SILENT * mean.amax(dim=1, keepdim=True)
    places = torch.arange(mean.shape[1], device=mean.device)
    return (present * places).amax(dim=1) / (mean.shape[1] - 1)
