"""Excitation, the first guess of mel inversion: harmonics where the mel shows a pitch, and noise elsewhere."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.constants import cached_tensors
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.pitch import CONTEXT_FRAMES, LOWEST_HZ, track_pitch
from audiodiff.types import ReceptiveField

_UNVOICED, _VOICED = 0.25, 0.45  # salience at which there are no harmonics, and full harmonics
_BREATH = 0.2  # noise beside harmonics, in amplitude
_TOP_HZ = 4000.0  # of the harmonics
_BLOCK_SECONDS = 0.18  # after which the phase restarts, which bounds the receptive field
_CYCLE_BITS = 40
_CYCLE = 1 << _CYCLE_BITS  # of the phase, in integers so that sums do not round
_PHASE_BITS = 12
_N_PHASES = 1 << _PHASE_BITS  # of the table of harmonics, in a period
_SPREAD = 15.0  # of the harmonics' phases: N in Schroeder's -pi k^2 / N


def excite(
    noise: Float[Tensor, "batch time"],
    mel: Float[Tensor, "batch n_mels frames"],
    *,
    dialect: MelDialect,
    first_frame: int = 0,
) -> Float[Tensor, "batch time"]:
    """Turn white noise of variance 1 into a first guess for `constrain`, with its flat spectrum.

    Griffin-Lim and similar iterations change phases slowly, so starting from harmonics saves iterations. Phases that
    fall with the square of the harmonic number keep them from adding up to pulses, whose peaks would remain:
    docs/mel-inversion.md.

    Every 0.18 s the phases restart, at no measurable cost, so that a window of a long signal gets the same excitation
    as the whole: see `excitation_receptive_field`.

    Args:
        noise: white, of variance 1.
        mel: in the compressed scale of the dialect.
        first_frame: number of the first frame in the longer signal that this is a window of.

    Raises:
        ParameterError: if the shapes do not fit together.

    Source: Schroeder 1970, "Synthesis of low-peak-factor signals", for the phases.
    """
    n_samples, n_frames, hop = noise.shape[-1], mel.shape[-1], dialect.hop_length
    dialect.check_length(n_samples, n_frames, name="noise")
    # In float64, and rounded to a grid: the last digits, which depend on the window's size, must not change the pitch.
    pitch = track_pitch(mel.double(), dialect=dialect)
    cycles = (pitch.frequency / dialect.sample_rate * 2.0**16).round() * 2.0**-16
    voiced = ((pitch.salience - _UNVOICED) / (_VOICED - _UNVOICED)).clamp(0.0, 1.0)
    voiced = (voiced * 2.0**10).round() * 2.0**-10

    frequency = dialect.stft.between_frames(cycles, n_samples=n_samples, mix=_glide)  # in cycles per sample
    # Blocks are those of the whole signal, so that in a window the phase restarts at the same samples.
    n_block = hop * _block_frames(dialect)
    n_before = first_frame * hop % n_block
    steps = (frequency * _CYCLE).round().long()
    total = steps.cumsum(dim=-1)
    place = torch.arange(n_samples, device=mel.device)
    phase = total - total[:, (place - (place + n_before) % n_block).clamp(min=0)]
    entry = (phase & _CYCLE - 1) >> _CYCLE_BITS - _PHASE_BITS

    top = min(_TOP_HZ, dialect.sample_rate / 2.0)
    n_harmonics = (top / dialect.sample_rate / frequency).long().clamp(min=1)
    # Harmonics f apart, of power 2 f / (rate / 2) / 2 each, have the spectral density of white noise of variance 1.
    voice = 2.0 * frequency.sqrt() * _harmonics(math.ceil(top / LOWEST_HZ), mel.device)[n_harmonics, entry]
    share = dialect.stft.between_frames(voiced, n_samples=n_samples)
    return torch.lerp(noise, voice.to(noise) + _BREATH * noise, share.to(noise))


def excitation_receptive_field(dialect: MelDialect) -> ReceptiveField:
    """Return how many frames before and after it a sample of `excite` depends on."""
    return ReceptiveField(_block_frames(dialect) + CONTEXT_FRAMES + 1, CONTEXT_FRAMES + 1)


def _glide(low: Tensor, high: Tensor, fraction: Tensor) -> Tensor:
    """Interpolate frequencies; one that jumps does so half-way."""
    is_jump = (high / low).log2().abs() > 0.25
    return torch.lerp(low, high, torch.where(is_jump, fraction.round(), fraction))


@cached_tensors(maxsize=16)
def _harmonics(n_max: int, device: torch.device) -> Float[Tensor, "harmonics phases"]:
    """Return a table: row n is one period of the sum of n harmonics of amplitude 1, for n up to n_max."""
    with torch.inference_mode(False):
        k = torch.arange(n_max + 1, dtype=torch.float64)[:, None]
        period = 2.0 * math.pi / _N_PHASES * torch.arange(_N_PHASES, dtype=torch.float64)
        cosines = torch.cos(k * period - math.pi / _SPREAD * k.square())
        cosines[0] = 0.0
        return cosines.cumsum(dim=0).to(device)


def _block_frames(dialect: MelDialect) -> int:
    return max(1, round(_BLOCK_SECONDS * dialect.sample_rate / dialect.hop_length))
