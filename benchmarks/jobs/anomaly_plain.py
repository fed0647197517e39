"""Baselines of the anomaly benchmark, and its damage to speech."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture
from sklearn.neural_network import MLPRegressor
from torch import Tensor

from audiodiff.corruption import mixed_at_snr
from audiodiff.io.console import say

SPEECH_RATE = 16000
MIXTURES = ((4, "full"), (16, "full"), (64, "diag"))


def clipped(audio: Tensor, *, sdr_db: float = 7.0) -> Tensor:
    """Clip to a signal-to-distortion ratio."""
    low, high = 0.0, float(audio.abs().max())
    for _ in range(40):
        middle = (low + high) / 2
        lost = (audio - audio.clamp(-middle, middle)).square().sum()
        low, high = (middle, high) if audio.square().sum() < lost * 10 ** (sdr_db / 10) else (low, middle)
    return audio.clamp(-high, high)


def low_passed(audio: Tensor, *, cutoff: float = 3500.0, slope: float = 300.0) -> Tensor:
    """Take away what is above 3.5 kHz, with a slope of 300 Hz."""
    frequency = torch.fft.rfftfreq(audio.shape[-1], 1 / SPEECH_RATE)
    gain = ((cutoff + slope - frequency) / slope).clamp(0.0, 1.0)
    return torch.fft.irfft(torch.fft.rfft(audio) * gain, n=audio.shape[-1])


def noisy(audio: Tensor, generator: torch.Generator, *, snr_db: float = 15.0) -> Tensor:
    """Add white noise."""
    noise = torch.randn(audio.shape, generator=generator)
    return mixed_at_snr(audio[None], noise[None], torch.tensor([snr_db]))[0]


def gapped(audio: Tensor, generator: torch.Generator, *, n: int = 3, seconds: float = 0.05) -> Tensor:
    """Silence three stretches of 50 ms."""
    length = round(seconds * SPEECH_RATE)
    result = audio.clone()
    for _ in range(n):
        first = int(torch.randint(audio.shape[-1] - length, (1,), generator=generator))
        result[:, first : first + length] = 0.0
    return result


def mixture(fit: Sequence[np.ndarray], held: Sequence[np.ndarray]) -> Callable[[np.ndarray], float]:
    """Fit Gaussian mixtures to standardised frames, and the one that likes held-out ones best to all of them."""
    frames, others = np.concatenate(fit), np.concatenate(held)
    mean, std = frames.mean(axis=0), frames.std(axis=0)
    frames, others = (frames - mean) / std, (others - mean) / std

    def fitted(n: int, kind: str, rows: np.ndarray) -> GaussianMixture:
        return GaussianMixture(n, covariance_type=kind, reg_covar=1e-3, max_iter=40, random_state=0).fit(rows[::2])

    likelihood = {(n, kind): fitted(n, kind, frames).score(others) for n, kind in MIXTURES}
    n, kind = max(likelihood, key=lambda each: likelihood[each])
    say(f"mixture: {n} components, covariance {kind}")
    best = fitted(n, kind, np.concatenate([frames, others]))
    return lambda mel: -best.score((mel - mean) / std)


def autoencoder(fit: Sequence[np.ndarray]) -> Callable[[np.ndarray], float]:
    """Fit an autoencoder of five frames through 16 numbers; its mean squared error is the score (DCASE 2020)."""

    def contexts(mel: np.ndarray) -> np.ndarray:
        padded = np.pad(mel, ((2, 2), (0, 0)), mode="edge")
        return np.concatenate([padded[k : k + len(mel)] for k in range(5)], axis=1)

    frames = np.concatenate([contexts(mel) for mel in fit])
    mean, std = frames.mean(axis=0), frames.std(axis=0)
    net = MLPRegressor(
        hidden_layer_sizes=(128, 16, 128), max_iter=12, batch_size=256, random_state=0, tol=0.0, n_iter_no_change=99
    )
    net.fit((frames - mean) / std, (frames - mean) / std)

    def score(mel: np.ndarray) -> float:
        x = (contexts(mel) - mean) / std
        return float(np.square(net.predict(x) - x).mean())

    return score


def templates(fit: Sequence[np.ndarray], labels: Sequence[str]) -> Callable[[np.ndarray], float]:
    """Score by the Mahalanobis distance from the nearest label's mean, of log-mels averaged over fifths of the time.

    The covariance is that within labels, of all of them together (Lee et al. 2018), after Ledoit and Wolf.
    """

    def features(mel: np.ndarray) -> np.ndarray:
        return np.concatenate([part.mean(axis=0) for part in np.array_split(np.pad(mel, ((0, 5), (0, 0)), "edge"), 5)])

    rows = np.stack([features(mel) for mel in fit])
    names, of = np.unique(labels, return_inverse=True)
    means = np.stack([rows[of == k].mean(axis=0) for k in range(len(names))])
    precision = LedoitWolf().fit(rows - means[of]).precision_

    def score(mel: np.ndarray) -> float:
        away = features(mel) - means
        return float(np.einsum("ki,ij,kj->k", away, precision, away).min())

    return score
