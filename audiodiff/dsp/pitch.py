"""Pitch tracking from a mel spectrogram, without training."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.constants import cached_tensors
from audiodiff.dsp.mel import MelDialect

LOWEST_HZ, HIGHEST_HZ = 60.0, 420.0
_PER_OCTAVE = 36
_TOP_HZ = 2200.0  # above it, bands are too wide to resolve harmonics
_N_SMOOTH = 6  # cosines over those bands that are removed: formants and spectral tilt
_FLOOR = 7.0  # nepers below a frame's loudest band, below which a band is noise
_SOFT = 0.5  # contrast, in nepers over all bands, below which a frame has little weight

# Messages pass between neighbouring frames and decay with each step.
_DECAY = 0.8
_MAX_STEP = 2  # candidates that the pitch moves from one frame to the next, at most

CONTEXT_FRAMES = 8
"""Frames on either side that a frame's pitch depends on."""


@dataclass(frozen=True)
class Pitch:
    """Hold the pitch of every frame.

    Args:
        frequency: fundamental, in Hz; the best guess in frames without a pitch.
        salience: how well it explains the bands of the frame and its neighbours: at most 1, about 0 in noise.
    """

    frequency: Float[Tensor, "*batch frames"]
    salience: Float[Tensor, "*batch frames"]


def track_pitch(mel: Float[Tensor, "*batch n_mels frames"], *, dialect: MelDialect) -> Pitch:
    """Find the fundamental frequency of every frame from 60 to 420 Hz.

    The logarithms of the bands below 2.2 kHz, less their smooth part, are correlated with those of pulse trains. A path
    over frames is found by max-sum messages over 8 frames on either side (Viterbi's recursion, truncated, so that a
    window of a long mel gives the same result as the whole). Where filters and window do not resolve the harmonics, for
    example with windows below about 25 ms, the salience is low.

    Args:
        mel: in the compressed scale of the dialect.
        dialect: of the mel.

    Example:
        >>> from audiodiff.dsp.mel import dialect
        >>> hifigan = dialect("hifigan")
        >>> time = torch.arange(22050) / 22050
        >>> harmonics = torch.stack([torch.cos(2 * torch.pi * 150 * k * time) for k in range(1, 30)])
        >>> pitch = track_pitch(hifigan.mel(0.02 * harmonics.sum(dim=0)), dialect=hifigan)
        >>> round(float(pitch.frequency.median())), float(pitch.salience.median()) > 0.6
        (150, True)
    """
    templates = _templates(dialect, mel.dtype, mel.device)
    n_bands = templates.shape[1]
    shape = (*mel.shape[:-2], mel.shape[-1])
    if n_bands <= _N_SMOOTH:
        return Pitch(mel.new_full(shape, LOWEST_HZ), mel.new_zeros(shape))
    bands = dialect.amplitude(mel)[..., :n_bands, :].mT.log()
    bands = torch.maximum(bands, bands.amax(dim=-1, keepdim=True) - _FLOOR)
    match = (_contrast(bands) @ templates.T).reshape(-1, mel.shape[-1], len(templates))
    both = torch.cat([match, match.flip(1)])  # messages into the future, and into the past
    messages = torch.zeros_like(both)
    for _ in range(CONTEXT_FRAMES):
        messages[:, 1:] = _DECAY * _max_over_steps(both + messages)[:, :-1]
    past, future = messages.chunk(2)
    future = future.flip(1)
    best, index = (past + match + future).max(dim=-1, keepdim=True)
    index = index.clamp(1, match.shape[-1] - 2)
    below, here, above = (match.gather(-1, index + k)[..., 0] for k in (-1, 0, 1))
    # The vertex of the parabola through three candidates.
    offset = (0.5 * (below - above) / (below - 2.0 * here + above).clamp(max=-1e-6)).clamp(-0.5, 0.5)
    frequency = LOWEST_HZ * torch.exp2((index[..., 0] + offset) / _PER_OCTAVE)
    total_weight = 2.0 * (1.0 - _DECAY ** (CONTEXT_FRAMES + 1)) / (1.0 - _DECAY) - 1.0
    return Pitch(frequency.reshape(shape), (best[..., 0] / total_weight).reshape(shape))


def pulse_train(
    phase: Float[Tensor, "*batch time"], n_harmonics: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch time"]:
    """Sum the cosines of n_harmonics multiples of a phase in radians: Dirichlet's kernel without its constant."""
    half = torch.sin(phase / 2.0)
    at_pulse = half.abs() < 1e-3
    ratio = (torch.sin((n_harmonics + 0.5) * phase) - half) / torch.where(at_pulse, 1.0, 2.0 * half)
    return torch.where(at_pulse, n_harmonics, ratio)


def _max_over_steps(score: Float[Tensor, "batch frames candidates"]) -> Float[Tensor, "batch frames candidates"]:
    return torch.max_pool1d(score, 2 * _MAX_STEP + 1, 1, _MAX_STEP)


def _contrast(bands: Float[Tensor, "*batch bands"]) -> Float[Tensor, "*batch bands"]:
    """Remove formants and spectral tilt from log bands, and scale the rest to a norm of at most 1."""
    smooth = _cosines(bands.shape[-1], bands.dtype, bands.device)
    rest = bands - bands @ smooth.T @ smooth
    return rest / (torch.linalg.vector_norm(rest, dim=-1, keepdim=True) + _SOFT)


@cached_tensors(maxsize=16)
def _cosines(n: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "cosines bands"]:
    """Return the slowest cosines over n bands, at unit norm."""
    with torch.inference_mode(False):
        angle = math.pi * (torch.arange(n, dtype=dtype, device=device) + 0.5) / n
        smooth = torch.cos(torch.arange(min(_N_SMOOTH, n), device=device)[:, None] * angle)
        return smooth / torch.linalg.vector_norm(smooth, dim=1, keepdim=True)


@cached_tensors(maxsize=16)
def _templates(dialect: MelDialect, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "candidates bands"]:
    """Return the contrast of pulse trains at every candidate frequency."""
    with torch.inference_mode(False):
        filters = dialect.filters()
        hz = torch.linspace(0.0, dialect.sample_rate / 2.0, filters.shape[1], dtype=torch.float64)
        n_bands = int(((filters @ hz) / filters.sum(dim=1) < _TOP_HZ).sum())
        n_candidates = int(math.log2(HIGHEST_HZ / LOWEST_HZ) * _PER_OCTAVE) + 1
        frequency = LOWEST_HZ * torch.exp2(torch.arange(n_candidates, dtype=torch.float64) / _PER_OCTAVE)[:, None]
        n_samples = 2 * dialect.n_fft + 8 * dialect.hop_length
        time = torch.arange(n_samples, dtype=torch.float64) / dialect.sample_rate
        top = min(1.3 * _TOP_HZ, dialect.sample_rate / 2.0)
        pulses = pulse_train(2.0 * math.pi * frequency * time, (top / frequency).floor().expand(-1, n_samples))
        whole = dialect.stft.n_frames(n_samples) // 4
        bands = dialect.amplitude_bands(0.05 * pulses)[:, :n_bands, whole:-whole]
        return _contrast(bands.square().mean(dim=-1).sqrt().log()).to(device, dtype)
