"""The level of an added high band, and its harmonics.

What a model draws above a cutoff is plausible in every detail but its level, and it has few harmonics. So the drawn
band gets, in each frame, the power that band powers of speech lead to expect from what lies below the cutoff
(`audiodiff.dsp.speech_bands`); and where that is little, as in vowels, its fine structure is that of the band below,
mirrored at the cutoff (spectral folding, Makhoul and Berouti 1979). The drawn fine structure stays in fricatives.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from audiodiff.dsp import speech_bands
from audiodiff.dsp.level import constant_offset
from audiodiff.dsp.speech_bands import band_weights, log_band_power, n_below, smoothed

VOICED_DB = 10.0
"""Estimated fall of the mean power, from below the cutoff to above, at which half of the power is folded."""
WIDTH_DB = 2.0
"""Change of that fall over which the share of the folded power grows from a half to 1 / (1 + 1 / e)."""
SMOOTH_FRAMES = 5
"""Frames, of 8 ms, over which the estimate is averaged."""
WHITENING_FRAMES = 17
"""Frames over which the power of the fine structure is averaged: faster changes, as of pulses, stay."""
TINY = 1e-30


def shaped(
    recording: Float[Tensor, "channels time"],
    drawn: Float[Tensor, "channels time"],
    *,
    cutoff: float,
    levels: Float[Tensor, "channels"],
    sample_rate: int,
) -> Float[Tensor, "channels time"]:
    """Return the recording with a band above the cutoff that has the estimated level.

    Args:
        recording: the narrow-band recording.
        drawn: the draw of a model, of which the band above the cutoff is used.
        cutoff: in Hz.
        levels: active level of each channel, 0 where it is silent.
        sample_rate: of both, in Hz.

    Returns: the recording below the cutoff, and the shaped band above it; the draw as it is where the cutoff leaves no
        band of speech to estimate.
    """
    stft = speech_bands.stft(sample_rate)
    bin_hz, n_known = sample_rate / stft.n_fft, n_below(cutoff)
    if n_known in (0, speech_bands.N_BANDS):
        return drawn
    narrow = stft.analyse(recording - constant_offset(recording))
    edge = math.ceil(cutoff / bin_hz)
    level_log = 2.0 * torch.log(levels.clamp(min=TINY) / speech_bands.LEVEL)[:, None, None]
    power = log_band_power(narrow * torch.exp(-0.5 * level_log), bin_hz=bin_hz)
    estimate = smoothed(speech_bands.of_speech().estimate(power[..., :n_known]), SMOOTH_FRAMES)
    fall = smoothed(_mean_log(power[..., :n_known]) - _mean_log(estimate), SMOOTH_FRAMES)
    folded_share = torch.sigmoid((10.0 / math.log(10.0) * fall - VOICED_DB) / WIDTH_DB)
    folded = _white(_folded(narrow, edge), bin_hz)
    own = _white(stft.analyse(drawn), bin_hz)
    mixed = folded_share.sqrt() * folded + (1.0 - folded_share).sqrt() * own
    # Frames overlap, so that the spectrum of the result is not yet what was mixed.
    mixed = stft.analyse(stft.synthesise(mixed, length=recording.shape[-1]))
    gain = estimate + level_log - _smooth_power(mixed, bin_hz)[..., n_known:]
    high = mixed * _spread(torch.cat([gain[..., :1].expand(-1, -1, n_known), gain], dim=-1), mixed, bin_hz)
    result = torch.cat([narrow[..., :edge], high[..., edge:]], dim=-1)
    return stft.synthesise(result, length=recording.shape[-1])


def _folded(spectrum: Complex[Tensor, "*batch bins"], edge: int) -> Complex[Tensor, "*batch bins"]:
    """Mirror the bins below the edge at it, and back and forth above twice the edge."""
    place = torch.arange(spectrum.shape[-1])
    turned = ((place - edge) % (2 * edge) - edge).abs().clamp(max=edge - 1)
    return spectrum[..., torch.where(place < edge, place, turned)].conj()


def _white(spectrum: Complex[Tensor, "*batch frames bins"], bin_hz: float) -> Complex[Tensor, "*batch frames bins"]:
    """Divide a spectrum by the smoothed power of its bands."""
    return spectrum * _spread(-_smooth_power(spectrum, bin_hz), spectrum, bin_hz)


def _smooth_power(
    spectrum: Complex[Tensor, "*batch frames bins"], bin_hz: float
) -> Float[Tensor, "*batch frames bands"]:
    return smoothed(log_band_power(spectrum, bin_hz=bin_hz), WHITENING_FRAMES)


def _spread(log_power: Tensor, spectrum: Tensor, bin_hz: float) -> Float[Tensor, "*batch frames bins"]:
    """Return the gain of each bin, interpolated between gains of bands."""
    return torch.exp(0.5 * log_power @ band_weights(spectrum.shape[-1], bin_hz).T)


def _mean_log(log_power: Float[Tensor, "*batch bands"]) -> Float[Tensor, "*batch 1"]:
    """Return the logarithm of the mean power."""
    return torch.logsumexp(log_power, dim=-1, keepdim=True) - math.log(log_power.shape[-1])
