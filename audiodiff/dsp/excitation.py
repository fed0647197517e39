"""What a mel constraint starts from: the harmonics of a voice where the mel tells its pitch, and noise elsewhere."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.pitch import LOWEST_HZ, REACH_FRAMES, track_pitch
from audiodiff.errors import ParameterError
from audiodiff.types import ReceptiveField

_UNVOICED, _VOICED = 0.25, 0.45  # salience at which there are no harmonics, and nothing but them and breath
_BREATH = 0.2  # noise beside harmonics, in amplitude
_TOP_HZ = 4000.0  # of the harmonics
_BLOCK_SECONDS = 0.18  # after which the phase begins anew, so that a sample depends on little before it
_TURN = 1 << 40  # of the phase, counted in whole numbers so that sums do not round
_PLACES = 1 << 12  # of a period, where harmonics are looked up
_SPREAD = 15.0  # of the harmonics' phases: N in Schroeder's -pi k^2 / N


def excite(
    noise: Float[Tensor, "batch time"],
    mel: Float[Tensor, "batch n_mels frames"],
    *,
    dialect: MelDialect,
    first_frame: int = 0,
) -> Float[Tensor, "batch time"]:
    """Turn white noise of variance 1 into a first guess for `constrain`, with its flat spectrum.

    Griffin-Lim and its kin move phases slowly, so that harmonics that begin as such save iterations. Phases that fall
    with the square of a harmonic's number keep them from adding up to pulses, whose peaks would stay:
    docs/mel-inversion.md.

    Every 0.18 s the phases begin anew, which costs nothing that could be measured, so that a window of a long sound
    gets what the whole gets: see `excitation_reach`.

    Args:
        noise: white, of variance 1.
        mel: in the compressed scale of the dialect.
        first_frame: number of the first frame in the longer sound that this is a window of.

    Raises:
        ParameterError: if the shapes do not belong together.

    Source: Schroeder 1970, "Synthesis of low-peak-factor signals", for the phases.
    """
    n_samples, n_frames, hop = noise.shape[-1], mel.shape[-1], dialect.hop_length
    if dialect.n_frames(n_samples) != n_frames:
        raise ParameterError(
            f"noise of {n_samples} samples has {dialect.n_frames(n_samples)} frames, but mel has {n_frames}; "
            f"give {dialect.n_samples(n_frames)} samples"
        )
    # In float64, and then to a grid: what a window's size changes in the last digits is not to change the pitch.
    pitch = track_pitch(mel.double(), dialect=dialect)
    turns = (pitch.frequency / dialect.sample_rate * 2.0**16).round() * 2.0**-16
    voiced = ((pitch.salience - _UNVOICED) / (_VOICED - _UNVOICED)).clamp(0.0, 1.0)
    voiced = (voiced * 2.0**10).round() * 2.0**-10

    # Sample i lies so many half samples after the centre of the first frame.
    place = 2 * torch.arange(n_samples, device=mel.device) + 1 - 2 * (dialect.n_fft // 2 - dialect.stft.padding)
    place = place.clamp(0, 2 * hop * (n_frames - 1))
    low, between = place.div(2 * hop, rounding_mode="floor"), (place % (2 * hop)) / (2.0 * hop)
    high = (low + 1).clamp(max=n_frames - 1)
    leap = (turns[:, high] / turns[:, low]).log2().abs() > 0.25
    along = torch.where(leap, between.round(), between.double())
    own_turns = torch.lerp(turns[:, low], turns[:, high], along)
    counted = (own_turns * _TURN).round().long().cumsum(dim=-1)
    # Of the whole sound, so that a window counts from the same samples.
    n_block = hop * _block(dialect)
    skipped = first_frame * hop % n_block
    begun = (torch.arange(n_samples, device=mel.device) + skipped) // n_block * n_block - skipped
    turned = ((counted - counted[:, begun.clamp(min=0)]) % _TURN) // (_TURN // _PLACES)

    top = min(_TOP_HZ, dialect.sample_rate / 2.0)
    n_harmonics = (top / dialect.sample_rate / own_turns).long().clamp(min=1)
    # Harmonics f apart, of power 2 f / (rate / 2) / 2 each, have the spectral density of white noise of variance 1.
    voice = 2.0 * own_turns.sqrt() * _harmonics(math.ceil(top / LOWEST_HZ), mel.device)[n_harmonics, turned]
    share = torch.lerp(voiced[:, low], voiced[:, high], between.double())
    return torch.lerp(noise, voice.to(noise) + _BREATH * noise, share.to(noise))


def excitation_reach(dialect: MelDialect) -> ReceptiveField:
    """Return how many frames before and after it a sample of `excite` depends on."""
    return ReceptiveField(_block(dialect) + REACH_FRAMES + 1, REACH_FRAMES + 1)


@lru_cache(maxsize=16)
def _harmonics(most: int, device: torch.device) -> Float[Tensor, "harmonics places"]:
    """Return one period of so many harmonics of amplitude 1, up to most, in each row."""
    with torch.inference_mode(False):
        k = torch.arange(most + 1, dtype=torch.float64)[:, None]
        period = 2.0 * math.pi / _PLACES * torch.arange(_PLACES, dtype=torch.float64)
        cosines = torch.cos(k * period - math.pi / _SPREAD * k.square())
        cosines[0] = 0.0
        return cosines.cumsum(dim=0).to(device)


def _block(dialect: MelDialect) -> int:
    return max(1, round(_BLOCK_SECONDS * dialect.sample_rate / dialect.hop_length))
