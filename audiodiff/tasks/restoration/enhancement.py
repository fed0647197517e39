"""Speech enhancement: removal of noise from speech."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.models.synthesizer import Synthesizer
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


@dataclass(frozen=True)
class Enhance(Repair):
    """Remove noise from speech: no sample is known exactly, so all are new."""

    def analyze(self, blocks: Iterator[Stretch], *, sample_rate: int) -> "Enhance":
        return self

    def describe(self, *, sample_rate: int) -> str:
        return ""

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
        return restored

    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        return sample_rate


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
            half the model's rate are lost.
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
    return restore(
        model, audio, sample_rate=sample_rate, repair=Enhance(), sampling=sampling, seed=seed, on_window=on_window
    )
