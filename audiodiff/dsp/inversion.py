"""Mel inversion without training: the mel constraint from a pitch-based first guess, and Griffin-Lim."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.excitation import excitation_receptive_field, excite
from audiodiff.dsp.griffin_lim import griffin_lim
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_constraint import (
    DEFAULT_ITERATIONS,
    check_inputs,
    constrain,
    constrain_low_band,
    margin_frames,
)
from audiodiff.types import MelsOfSignals, ReceptiveField

__all__ = [
    "DEFAULT_ITERATIONS",
    "constrain",
    "constrain_low_band",
    "griffin_lim",
    "inversion_receptive_field",
    "invert",
    "margin_frames",
]


def invert(
    noise: Float[Tensor, "batch time"],
    mel: MelsOfSignals,
    *,
    dialect: MelDialect,
    n_iterations: int = DEFAULT_ITERATIONS,
    first_frame: int = 0,
    pairs: ChannelPairs | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "batch time"]:
    """Invert a mel without training: the mel constraint, started from harmonics where the mel shows a pitch.

    Args:
        noise: white, of variance 1.
        n_iterations: of the mel constraint, at least 1.
        first_frame: as in `constrain`; `inversion_receptive_field` from its ends a window equals the longer signal.
        pairs: as in `constrain`: the items are then the channels of one recording, inverted together.
        on_step: as in `constrain`.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not fit together.
    """
    check_inputs(noise, mel, dialect=dialect, n_iterations=n_iterations, pairs=pairs)
    with torch.no_grad():
        start = excite(noise, mel[: len(noise)], dialect=dialect, first_frame=first_frame)
    return constrain(
        start, mel, dialect=dialect, n_iterations=n_iterations, first_frame=first_frame, pairs=pairs, on_step=on_step
    )


def inversion_receptive_field(dialect: MelDialect, n_iterations: int) -> ReceptiveField:
    """Return how many frames before and after it a sample of `invert` depends on."""
    before, after = excitation_receptive_field(dialect)
    margin = margin_frames(n_iterations)
    return ReceptiveField(before + margin, after + margin)
