"""The mel constraint: accelerated multiplicative iterations that bring the mel of audio to a target.

The method, what it was compared with and how its constants were chosen: docs/mel-inversion.md.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_bands import low_bands
from audiodiff.dsp.mel_iteration import tied_signals
from audiodiff.errors import ParameterError
from audiodiff.types import MelsOfSignals

DEFAULT_ITERATIONS = 16

EXPONENT = 1.2
MOMENTUM = 0.9
LOW_MOMENTUM = 0.98

LOW_FROM_HZ = 120.0  # lower bound of `constrain_low_band`


def constrain(
    audio: Float[Tensor, "batch time"],
    mel: MelsOfSignals,
    *,
    dialect: MelDialect,
    n_iterations: int = DEFAULT_ITERATIONS,
    momentum: float = MOMENTUM,
    exponent: float = EXPONENT,
    low_momentum: float = LOW_MOMENTUM,
    first_frame: int = 0,
    pairs: ChannelPairs | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "batch time"]:
    """Bring audio to a mel: repeat y <- iSTFT(S' / spread((bands(|S'|) / target)^exponent)), accelerated.

    spread takes the mean of the bands that a bin belongs to, weighted by their filters, so that ratios are averaged
    harmonically. S' = S + momentum * (S - S_previous) is taken in the time domain, where it costs least: the STFT is
    linear. Items are processed one by one, so a result does not depend on what else is in the batch.

    Half-way, the same iteration runs on the band below about 1.2 kHz alone, which holds the strongest harmonics: at a
    fraction of the rate, with the same frames and bins. It is repeated as many times more often as it costs less, at
    most 256 times.

    With pairs the items are the channels of one recording. Their sums and differences are iterated on beside them, each
    towards its own mel, and after every iteration all are replaced by those of the channels that fit them best.

    Args:
        audio: first guess, from `excite` or from a model. Its length is kept; its n_frames must be the mel's.
        n_iterations: at the full rate; 0 returns the audio as it is.
        momentum: 0 is the plain iteration.
        exponent: of the ratio; diverges from about 1.3 on at this momentum.
        low_momentum: of the iterations below 1.2 kHz.
        first_frame: number of the first frame in the longer signal that audio is a window of. Frames are then processed
            in the same groups, with the same rounding; `margin_frames` from its ends a window equals the longer signal,
            to 1e-5.
        pairs: of the channels; mel then holds one item for each signal of `ChannelPairs.mixed`.
        on_step: called after every iteration of the batch with the number of iterations done, 1 to n_iterations.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not fit together, or a constant lies outside its range.
    """
    check_inputs(audio, mel, dialect=dialect, n_iterations=n_iterations, pairs=pairs)
    for name, value in (("momentum", momentum), ("low_momentum", low_momentum)):
        if not 0 <= value < 1:
            raise ParameterError(f"{name}={value} must lie in [0, 1)")
    if not 0 < exponent < 2:
        raise ParameterError(f"exponent={exponent} must lie between 0 and 2")
    if n_iterations == 0:
        return audio
    low = low_bands(dialect, audio.dtype, audio.device)
    with torch.no_grad():
        recordings = tied_signals(audio, mel, dialect=dialect, first_frame=first_frame, pairs=pairs)
        for recording in recordings:
            recording.match_level()
        for step in range(n_iterations):
            for recording in recordings:
                if low is not None and step == n_iterations // 2:
                    recording.iterate_low_band(low, n_iterations, momentum=low_momentum, exponent=exponent)
                recording.iterate(momentum=momentum, exponent=exponent)
            if on_step is not None:
                on_step(step + 1)
        return torch.cat([recording.channels() for recording in recordings])


def constrain_low_band(
    audio: Float[Tensor, "batch time"],
    mel: MelsOfSignals,
    *,
    dialect: MelDialect,
    n_iterations: int,
    first_frame: int = 0,
    pairs: ChannelPairs | None = None,
) -> Float[Tensor, "batch time"]:
    """Bring the band from 120 Hz to about 1.2 kHz to a mel, as `constrain` does half-way, and leave the rest unchanged.

    Below 120 Hz, where voices have no harmonics, iterations leave more noise than a network does, which would double
    the errors of voicing.

    Args:
        audio: complete but for the low band.
        n_iterations: as many iterations run at the lower rate as in `constrain` with this number.
        first_frame: as in `constrain`, and so for pairs.
        pairs: see first_frame.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not fit together.
    """
    check_inputs(audio, mel, dialect=dialect, n_iterations=n_iterations, pairs=pairs)
    low = low_bands(dialect, audio.dtype, audio.device)
    if low is None or n_iterations == 0:
        return audio
    first_bin = round(LOW_FROM_HZ * dialect.n_fft / dialect.sample_rate)
    with torch.no_grad():
        recordings = tied_signals(audio, mel, dialect=dialect, first_frame=first_frame, pairs=pairs)
        for recording in recordings:
            recording.iterate_low_band(low, n_iterations, momentum=LOW_MOMENTUM, exponent=EXPONENT, first_bin=first_bin)
        return torch.cat([recording.channels() for recording in recordings])


def margin_frames(n_iterations: int) -> int:
    """Return how many frames around a window make its samples those of the longer signal, to 1e-4 of full scale.

    Measured on steady tones, the worst case: 56 frames leave 2e-5 after 8 iterations, 88 leave 1e-3 after 16; speech
    needs a third of either. Beyond 16 iterations, those at the lower rate amplify rounding more than a wider margin
    would save.

    Example:
        >>> margin_frames(0), margin_frames(8), margin_frames(64)
        (0, 56, 152)
    """
    return 0 if n_iterations == 0 else min(24 + 4 * n_iterations, 152)


def check_inputs(
    audio: Float[Tensor, "batch time"],
    mel: Tensor,
    *,
    dialect: MelDialect,
    n_iterations: int,
    pairs: ChannelPairs | None = None,
) -> None:
    """Refuse audio and mels that do not fit together.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not fit together, or n_iterations is negative.
    """
    if n_iterations < 0:
        raise ParameterError(f"n_iterations={n_iterations} must not be negative")
    n_items = len(audio) if pairs is None else pairs.n_signals
    if len(mel) != n_items or (pairs is not None and len(audio) != pairs.n_channels):
        raise ParameterError(f"audio has {len(audio)} items and mel has {len(mel)}: give one for each")
    if len(mel) == 0:
        raise ParameterError("the batch is empty")
    dialect.check(mel, name="mel")
    dialect.check_length(audio.shape[-1], mel.shape[-1], name="audio")
