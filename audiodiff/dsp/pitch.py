"""The pitch of a voice, heard in its mel spectrogram alone and without training."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

from audiodiff.dsp.mel import MelDialect

LOWEST_HZ, HIGHEST_HZ = 60.0, 420.0
_PER_OCTAVE = 36
_TOP_HZ = 2200.0  # above it, bands are too wide to tell harmonics apart
_N_SMOOTH = 6  # of the cosines over those bands: what formants and tilt move
_FLOOR = 7.0  # nepers below a frame's loudest band, under which a band is noise
_SOFT = 0.5  # contrast, in nepers over all bands, below which a frame says little

# Beliefs pass between neighbouring frames, at each a little weaker.
_REACH = 8
_DECAY = 0.8
_GLIDE = 2  # places that pitch moves from one frame to the next, at most

REACH_FRAMES = _REACH
"""Frames on either side that a frame's pitch depends on."""


@dataclass(frozen=True)
class Pitch:
    """What is heard in every frame.

    Args:
        frequency: fundamental, in Hz; the best guess where there is none.
        salience: how well it explains the bands, here and in the frames around: at most 1, about 0 in noise.
    """

    frequency: Float[Tensor, "*batch frames"]
    salience: Float[Tensor, "*batch frames"]


def track_pitch(mel: Float[Tensor, "*batch n_mels frames"], *, dialect: MelDialect) -> Pitch:
    """Find the fundamental frequency of every frame from 60 to 420 Hz.

    The logarithms of the bands below 2.2 kHz, less their smooth part, are correlated with those of pulse trains, and
    neighbouring frames agree on a path by max-sum messages over 8 frames on either side (Viterbi's recursion, cut off,
    so that a window of a long mel gives what the whole gives). Where harmonics lie closer than a band's filter and
    the window can tell, for instance with windows below about 25 ms, the salience is low.

    Args:
        mel: in the compressed scale of the dialect.
        dialect: what it is.

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
    past, future = torch.zeros_like(match), torch.zeros_like(match)
    for _ in range(_REACH):
        past = pad(_DECAY * _glided(match + past)[:, :-1], (0, 0, 1, 0))
        future = pad(_DECAY * _glided(match + future)[:, 1:], (0, 0, 0, 1))
    best, place = (past + match + future).max(dim=-1, keepdim=True)
    place = place.clamp(1, match.shape[-1] - 2)
    below, here, above = (match.gather(-1, place + k)[..., 0] for k in (-1, 0, 1))
    # The vertex of the parabola through three places.
    between = (0.5 * (below - above) / (below - 2.0 * here + above).clamp(max=-1e-6)).clamp(-0.5, 0.5)
    frequency = LOWEST_HZ * torch.exp2((place[..., 0] + between) / _PER_OCTAVE)
    heard = 2.0 * (1.0 - _DECAY ** (_REACH + 1)) / (1.0 - _DECAY) - 1.0
    return Pitch(frequency.reshape(shape), (best[..., 0] / heard).reshape(shape))


def pulse_train(
    phase: Float[Tensor, "*batch time"], n_harmonics: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch time"]:
    """Sum the cosines of so many harmonics of a phase, in radians: Dirichlet's kernel, less its constant."""
    half = torch.sin(phase / 2.0)
    at_pulse = half.abs() < 1e-3
    ratio = (torch.sin((n_harmonics + 0.5) * phase) - half) / torch.where(at_pulse, 1.0, 2.0 * half)
    return torch.where(at_pulse, n_harmonics, ratio)


def _glided(belief: Float[Tensor, "batch frames places"]) -> Float[Tensor, "batch frames places"]:
    return max_pool1d(belief, 2 * _GLIDE + 1, 1, _GLIDE)


def _contrast(bands: Float[Tensor, "*batch bands"]) -> Float[Tensor, "*batch bands"]:
    """Take away what formants and tilt make of log bands, and bring the rest to a length of at most 1."""
    n = bands.shape[-1]
    angle = math.pi * (torch.arange(n, dtype=bands.dtype, device=bands.device) + 0.5) / n
    smooth = torch.cos(torch.arange(min(_N_SMOOTH, n), device=bands.device)[:, None] * angle)
    smooth = smooth / smooth.norm(dim=1, keepdim=True)
    rest = bands - bands @ smooth.T @ smooth
    return rest / (rest.norm(dim=-1, keepdim=True) + _SOFT)


@lru_cache(maxsize=16)
def _templates(dialect: MelDialect, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "places bands"]:
    """Return the contrast of pulse trains at every place of the scale."""
    with torch.inference_mode(False):
        filters = dialect.filters()
        hz = torch.linspace(0.0, dialect.sample_rate / 2.0, filters.shape[1], dtype=torch.float64)
        n_bands = int(((filters @ hz) / filters.sum(dim=1) < _TOP_HZ).sum())
        n_places = int(math.log2(HIGHEST_HZ / LOWEST_HZ) * _PER_OCTAVE) + 1
        frequency = LOWEST_HZ * torch.exp2(torch.arange(n_places, dtype=torch.float64) / _PER_OCTAVE)[:, None]
        n_samples = 2 * dialect.n_fft + 8 * dialect.hop_length
        time = torch.arange(n_samples, dtype=torch.float64) / dialect.sample_rate
        top = min(1.3 * _TOP_HZ, dialect.sample_rate / 2.0)
        pulses = pulse_train(2.0 * math.pi * frequency * time, (top / frequency).floor().expand(-1, n_samples))
        whole = dialect.stft.n_frames(n_samples) // 4
        bands = dialect.amplitude_bands(0.05 * pulses)[:, :n_bands, whole:-whole]
        return _contrast(bands.square().mean(dim=-1).sqrt().log()).to(device, dtype)
