"""Band powers of speech and what they say of each other: the level of a band that was lost.

The logarithms of the powers of 24 bands in a frame are taken as a mixture of Gaussians. Given the bands that are known,
its conditional mean is the estimate of the others (Park and Kim 2000, with powers instead of cepstra). The mixture was
fitted to LibriSpeech (CC BY 4.0) and the voice kathleen (CC0 1.0), the recordings that speech-prior-16k was trained on,
by scripts/fit_speech_bands.py.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.dsp.stft import Stft

N_BANDS = 24
TOP_HZ = 8000.0
FRAME_SECONDS = 0.032
LEVEL = 0.07
"""Active level of the recordings that the mixture was fitted to; others are brought to it."""
FLOOR = 1e-9
_FRAME_SAMPLES = 512  # of a frame at the rate of the fit, 16 kHz
_FITTED = Path(__file__).with_name("speech_bands.npz")


def stft(sample_rate: int) -> Stft:
    """Return frames of 32 ms, every 8 ms."""
    hop = max(1, round(FRAME_SECONDS * sample_rate / 4))
    return Stft(4 * hop, hop, 4 * hop, 2 * hop, "reflect")


def edges_hz() -> Float[np.ndarray, "25"]:
    """Return the edges of the bands, evenly spaced in mel from 0 Hz to 8 kHz."""
    top = 2595.0 * math.log10(1.0 + TOP_HZ / 700.0)
    return 700.0 * (10.0 ** (np.linspace(0.0, top, N_BANDS + 1) / 2595.0) - 1.0)


def n_below(frequency: float) -> int:
    """Return the number of bands that lie wholly below a frequency in Hz."""
    return int((edges_hz()[1:] <= frequency + 1e-6).sum())


@lru_cache(maxsize=8)
def band_weights(n_bins: int, bin_hz: float) -> Float[Tensor, "bins bands"]:
    """Return the weight of each band in each bin: triangles between the middles of the bands, which sum to 1."""
    edges, frequency = edges_hz(), bin_hz * np.arange(n_bins)
    middles = 0.5 * (edges[1:] + edges[:-1])
    identity = np.eye(N_BANDS)
    return torch.from_numpy(np.stack([np.interp(frequency, middles, row) for row in identity], axis=1)).float()


def log_band_power(
    spectrum: Complex[Tensor, "*batch frames bins"], *, bin_hz: float
) -> Float[Tensor, "*batch frames bands"]:
    """Return the natural logarithm of the mean power of each band, at the scale of the transform at 16 kHz."""
    n_fft = 2 * (spectrum.shape[-1] - 1)
    n_bins = min(spectrum.shape[-1], round(TOP_HZ / bin_hz) + 1)
    weights = band_weights(spectrum.shape[-1], bin_hz)[:n_bins]
    power = spectrum[..., :n_bins].abs().square() * (_FRAME_SAMPLES / n_fft) ** 2
    return torch.log(power @ (weights / weights.sum(dim=0)) + FLOOR)


def smoothed(values: Float[Tensor, "*batch frames bands"], n_frames: int) -> Float[Tensor, "*batch frames bands"]:
    """Average over an odd number of frames, weighted by a Hann window."""
    window = torch.hann_window(n_frames + 2, periodic=False)[1:-1].to(values)
    flat = values.mT.reshape(-1, 1, values.shape[-2])
    padded = F.pad(flat, (n_frames // 2, n_frames // 2), mode="replicate")
    return F.conv1d(padded, (window / window.sum())[None, None]).reshape(values.mT.shape).mT


@dataclass(frozen=True)
class BandMixture:
    """A mixture of Gaussians over the logarithms of band powers.

    Args:
        weights: of the Gaussians; they sum to 1.
        means: of each.
        covariances: of each.

    Example:
        >>> one = BandMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.5, 1.0]]]))
        >>> one.estimate(torch.tensor([[2.0]]))
        tensor([[1.]])
    """

    weights: Float[Tensor, "mixture"]
    means: Float[Tensor, "mixture bands"]
    covariances: Float[Tensor, "mixture bands bands"]

    def estimate(self, known: Float[Tensor, "*batch known"]) -> Float[Tensor, "*batch missing"]:
        """Return the conditional mean of the last bands, given the first."""
        n = known.shape[-1]
        own = self.covariances[:, :n, :n]
        factor = torch.linalg.cholesky(own)
        deviation = known[..., None, :] - self.means[:, :n]  # (..., mixture, known)
        white = torch.linalg.solve_triangular(factor, deviation[..., None], upper=False)[..., 0]
        log_density = -0.5 * white.square().sum(-1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        share = torch.softmax(log_density + self.weights.log(), dim=-1)
        regression = torch.linalg.solve(own, self.covariances[:, :n, n:])  # (mixture, known, missing)
        means = self.means[:, n:] + torch.einsum("...mk,mkb->...mb", deviation, regression)
        return (share[..., None] * means).sum(dim=-2)


@lru_cache(maxsize=1)
def of_speech() -> BandMixture:
    """Return the mixture that was fitted to speech."""
    with np.load(_FITTED, allow_pickle=False) as file:
        return BandMixture(*(torch.from_numpy(file[name]) for name in ("weights", "means", "covariances")))
