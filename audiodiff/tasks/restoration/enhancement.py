"""Speech enhancement: removal of noise from speech."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.dsp.level import constant_offset
from audiodiff.dsp.resample import INTACT_SHARE
from audiodiff.dsp.stft import Stft
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration.music import MUSIC_SHARE, SteadyTones
from audiodiff.tasks.restoration.repair import Problem, Repair, Stretch
from audiodiff.tasks.restoration.sampling import Sampling
from audiodiff.tasks.restoration.windows import OnWindow, restore
from audiodiff.types import Recordings, Signal

ENHANCING = Sampling(steps=1)
"""Default sampling of `enhance`: one step, which gives the mean of all possible clean recordings.

More steps draw one of them, which is farther from the speech (`benchmarks.jobs.enhance --tune`).
"""


QUANTILE = 0.3
QUANTILE_SECONDS = 0.032
SMOOTHING_HZ = 500.0
GAIN_SECONDS = 0.046
"""Length of the frames in which several channels, and what lies above the model's band, are attenuated."""
EDGE_SHARE = 0.7
"""Lower end of the band just below, relative to its upper end."""
MUSIC_BAND_HZ = 900.0
"""Half of the width of the bands that share a gain in music of several channels."""
STEADY_HZ = 170.0
STEADY_QUANTILE, STEADY_FACTOR = 0.1, 1.5
"""The steady part of music: a quantile of the power over frames, and a factor from it to the mean of noise."""
MIXED_SHARE = (0.1, 0.2)
"""Shares of steady tones between which gains turn from those of speech to those of music; 95 % of 221 utterances have
at most 0.07."""
TINY = 1e-20


@dataclass(frozen=True)
class Enhance(Repair):
    """Remove noise from speech: no sample is known exactly, so all are new.

    Above the model's band the recording stays, attenuated in each frame as the band just below is. With shared gains,
    several channels are changed by gains alone, so that none moves against another: in each bin that of a channel is
    what its own enhancement keeps, and those of channels that are coherent with it. In music, where the model takes
    more from one instrument than from another, all channels share the gains of wide bands, and keep what is louder than
    the steady part of the recording.

    Args:
        up_to: in Hz, half of the model's sample rate.
        shares_gains: for means; a draw is new sound, no gain of the recording.
        steady_share: share of the energy in steady tones, which speech does not have; `analyze` sets it.
    """

    up_to: float = 8000.0
    shares_gains: bool = True
    steady_share: float = 0.0

    def analyze(self, blocks: Iterator[Stretch], *, sample_rate: int) -> "Enhance":
        tones = SteadyTones(sample_rate=sample_rate)
        for block in blocks:
            tones.add(block)
        return replace(self, steady_share=tones.share)

    def describe(self, *, sample_rate: int) -> str:
        """Describe what happens above the model's band, and warn of music."""
        parts = []
        if self.steady_share > MUSIC_SHARE:
            parts.append(
                f"{self.steady_share:.0%} of its energy lies in steady tones, as in music, which enhance does not "
                "preserve"
            )
        if sample_rate > 2.0 * self.up_to:
            parts.append(f"above {self.up_to:.0f} Hz as in the recording, attenuated as the band below")
        return ", ".join(parts)

    def known(self, audio: Float[Tensor, "channels time"], *, sample_rate: int, first_sample: int) -> Tensor:
        """Return 1 everywhere: all of the noisy speech was measured."""
        return torch.ones_like(audio)

    def is_affected(self, known: Float[Tensor, "channels time"]) -> bool:
        return True

    def measured(
        self, audio: Float[Tensor, "channels time"], known: Float[Tensor, "channels time"]
    ) -> Float[Tensor, "channels time"]:
        return audio

    def problem(self, measured: Signal, known: Signal, *, sample_rate: int) -> Problem:
        return Problem(measured, known, noise_power=noise_power(measured, sample_rate=sample_rate))

    def blend(
        self,
        recording: Float[Tensor, "channels time"],
        restored: Float[Tensor, "channels time"],
        known: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
    ) -> Float[Tensor, "channels time"]:
        has_more = sample_rate > 2.0 * self.up_to
        has_gains = self.shares_gains and len(recording) > 1
        if not has_gains and not has_more:
            return restored
        stft = _stft(sample_rate)
        offset = constant_offset(recording)
        noisy, clean = stft.analyse(recording - offset), stft.analyse(restored - offset)
        top = round(INTACT_SHARE * self.up_to * stft.n_fft / sample_rate) if has_more else stft.n_fft // 2 + 1
        kinds = self._kinds(noisy, clean, bin_hz=sample_rate / stft.n_fft)
        result = noisy.clone() if has_gains else clean
        if has_gains:
            inside = slice(top)
            result[..., inside] *= sum(share * _gain(a[..., inside], b[..., inside]) for share, a, b in kinds)
        if has_more:
            below = slice(round(EDGE_SHARE * top), top)
            sums = [(share, *(each[..., below].sum(-1, keepdim=True) for each in powers)) for share, *powers in kinds]
            result[..., top:] = noisy[..., top:] * sum(share * _gain(a, b) for share, a, b in sums)
        return stft.synthesise(result, length=recording.shape[-1]) + offset

    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        return sample_rate

    def _kinds(
        self,
        noisy: Complex[Tensor, "channels frames bins"],
        clean: Complex[Tensor, "channels frames bins"],
        *,
        bin_hz: float,
    ) -> list[tuple[float, Tensor, Tensor]]:
        """Return shares, and the power that enhancement keeps and that of the recording for the gains of each kind."""
        low, high = MIXED_SHARE
        music = min(max((self.steady_share - low) / (high - low), 0.0), 1.0)
        if music == 0.0 or len(noisy) == 1:
            return [(1.0, *_of_coherent(noisy, clean))]
        wide = round(MUSIC_BAND_HZ / bin_hz)
        kept, of_all = (clean * noisy.conj()).real, noisy.abs().square()
        common = of_all.sum(dim=0, keepdim=True)
        kept, of_all = (_band_means(each.sum(dim=0, keepdim=True), wide) for each in (kept, of_all))
        kept = torch.maximum(kept, _above_steady(common, round(STEADY_HZ / bin_hz)) * of_all)
        return [(1.0 - music, *_of_coherent(noisy, clean)), (music, kept, of_all)]


def _stft(sample_rate: int) -> Stft:
    n_fft = 4 * max(2, round(GAIN_SECONDS * sample_rate / 4))
    return Stft(n_fft, n_fft // 4, n_fft, n_fft // 2, "reflect")


def _of_coherent(
    noisy: Complex[Tensor, "channels frames bins"], clean: Complex[Tensor, "channels frames bins"]
) -> tuple[Float[Tensor, "channels frames bins"], Float[Tensor, "channels frames bins"]]:
    """Return the power that enhancement keeps and that of the recording, summed over coherent channels."""
    cross = torch.einsum("itf,jtf->ijf", clean, clean.conj()).abs()
    power = torch.einsum("iif->if", cross)
    coherence = cross / (power[:, None] * power[None]).sqrt().clamp(min=TINY)
    coherence = coherence.clamp(max=1.0)
    coherence.diagonal().fill_(1.0)
    kept, of_all = (clean * noisy.conj()).real, noisy.abs().square()
    return (
        torch.einsum("ijf,jtf->itf", coherence, kept),
        torch.einsum("ijf,jtf->itf", coherence, of_all),
    )


def _band_means(power: Float[Tensor, "channels frames bins"], wide: int) -> Float[Tensor, "channels frames bins"]:
    """Average over so many bins on either side."""
    return F.avg_pool1d(F.pad(power, (wide, wide), mode="replicate"), 2 * wide + 1, stride=1)


def _above_steady(power: Float[Tensor, "1 frames bins"], wide: int) -> Float[Tensor, "1 frames bins"]:
    """Return the gain of a Wiener filter whose noise is the quietest tenth of the frames, averaged over bins."""
    near = F.avg_pool2d(F.pad(power[None], (2, 2, 1, 1), mode="replicate"), (3, 5), stride=1)[0]
    steady = _band_means(near.quantile(STEADY_QUANTILE, dim=1, keepdim=True), wide)
    return (1.0 - STEADY_FACTOR * steady / near.clamp(min=TINY)).clamp(0.0, 1.0)


def _gain(kept: Tensor, of_all: Tensor) -> Tensor:
    """Return the amplitude, 0 to 1, at which a recording is nearest to its enhancement."""
    return (kept / of_all.clamp(min=TINY)).clamp(0.0, 1.0)


def noise_power(audio: Signal, *, sample_rate: int) -> Float[Tensor, "batch channels bins"]:
    """Estimate the spectrum of stationary noise in speech.

    It is the 30 % quantile of each band's power over frames, corrected for noise whose power is exponential, and
    averaged over 500 Hz on either side. Silent frames, 90 dB below the loudest, are ignored.

    Args:
        audio: noisy speech, ideally some seconds: no band may contain speech for more than 70 % of the time.
        sample_rate: in Hz.

    Returns: the variance of white noise of the same level, at frequencies evenly spaced from 0 to half the sample rate.

    Source: Stahl, Fischer and Bippus 2000 (quantile based noise estimation).
    """
    n_fft = max(8, 2 * round(QUANTILE_SECONDS * sample_rate / 2))
    window = torch.hann_window(n_fft, dtype=audio.dtype, device=audio.device)
    padded = F.pad(audio, (0, max(0, n_fft - audio.shape[-1])))
    spectra = torch.fft.rfft(padded.unfold(-1, n_fft, n_fft // 4) * window).abs().square() / window.square().sum()
    powers = []
    for own in spectra.flatten(0, 1):
        loud = own.mean(dim=1)
        powers.append(torch.quantile(own[loud >= 1e-9 * loud.amax()], QUANTILE, dim=0) / -math.log1p(-QUANTILE))
    wide = round(SMOOTHING_HZ * n_fft / sample_rate)
    # Without the first and last bin, which are real, so that their power is not exponential.
    inner = F.pad(torch.stack(powers)[:, None, 1:-1], (wide + 1, wide + 1), mode="replicate")
    smooth = F.avg_pool1d(inner, 2 * wide + 1, stride=1)
    return smooth.reshape(*spectra.shape[:2], -1)


def enhance(
    model: Synthesizer,
    audio: Recordings,
    *,
    sample_rate: int,
    sampling: Sampling = ENHANCING,
    seed: int = 0,
    on_window: OnWindow | None = None,
) -> Recordings:
    """Remove noise from speech.

    Args:
        model: one that takes degraded speech, `audiodiff.load("speech-prior-16k")`; with `Denoising()` any model of
            clean speech.
        audio: noisy speech, one recording or a batch, of any length, rate and number of channels. Frequencies above
            half the model's rate are attenuated as those just below.
        sample_rate: of the audio, in Hz.
        sampling: settings of the sampling. With `start`, a noise level, sampling starts from the noisy speech, as in
            SGMSE and FlowSE, instead of from noise alone. With `posterior=Denoising()` the network is unconditional:
            the noise is taken as stationary, and its spectrum is estimated.
        seed: of the noise.
        on_window: called after every window.

    Raises:
        ParameterError: if the model cannot enhance, or an argument is out of its range.

    Source: Welker et al. 2022 (SGMSE); `audiodiff.diffusion.bridge` for why one denoiser serves all such processes.
    """
    repair = Enhance(model.sample_rate / 2, shares_gains=sampling.steps == 1)
    return restore(
        model, audio, sample_rate=sample_rate, repair=repair, sampling=sampling, seed=seed, on_window=on_window
    )
