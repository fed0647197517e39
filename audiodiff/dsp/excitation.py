"""What a mel constraint starts from: the pulses of a voice where the mel tells its pitch, and noise elsewhere."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.pitch import REACH_FRAMES, pulse_train, track_pitch
from audiodiff.errors import ParameterError
from audiodiff.types import Reach

_UNVOICED, _VOICED = 0.25, 0.45  # salience at which there are no pulses, and nothing but pulses and breath
_BREATH = 0.2  # noise beside pulses, in amplitude
_TOP_HZ = 4000.0  # of the harmonics
_BLOCK_SECONDS = 0.18  # after which the phase begins anew, so that a sample depends on little before it
_TURN = 1 << 40  # of the phase, counted in whole numbers so that sums do not round


def excite(
    noise: Float[Tensor, "batch time"],
    mel: Float[Tensor, "batch n_mels frames"],
    *,
    dialect: MelDialect,
    first_frame: int = 0,
) -> Float[Tensor, "batch time"]:
    """Turn white noise of variance 1 into a first guess for `constrain`, with its flat spectrum.

    Griffin-Lim and its kin move phases slowly. Harmonics that begin in phase with one another need about half of the
    iterations for the same quality, and end at a better one: docs/mel-inversion.md.

    Every 0.18 s the phases begin anew, which costs nothing that could be measured, so that a window of a long sound
    gets what the whole gets: see `excitation_reach`.

    Args:
        noise: white, of variance 1.
        mel: in the compressed scale of the dialect.
        first_frame: number of the first frame in the longer sound that this is a window of.

    Raises:
        ParameterError: if the shapes do not belong together.
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
    phase = 2.0 * math.pi / _TURN * ((counted - counted[:, begun.clamp(min=0)]) % _TURN)

    top = min(_TOP_HZ, dialect.sample_rate / 2.0)
    harmonics = (top / dialect.sample_rate / own_turns).floor().clamp(min=1.0)
    # Harmonics f apart, of power 2 f / (rate / 2) / 2 each, have the spectral density of white noise of variance 1.
    pulses = 2.0 * own_turns.sqrt() * pulse_train(phase, harmonics)
    share = torch.lerp(voiced[:, low], voiced[:, high], between.double())
    return torch.lerp(noise, pulses.to(noise) + _BREATH * noise, share.to(noise))


def excitation_reach(dialect: MelDialect) -> Reach:
    """Return how many frames before and after it a sample of `excite` depends on."""
    return Reach(_block(dialect) + REACH_FRAMES + 1, REACH_FRAMES + 1)


def _block(dialect: MelDialect) -> int:
    return max(1, round(_BLOCK_SECONDS * dialect.sample_rate / dialect.hop_length))
