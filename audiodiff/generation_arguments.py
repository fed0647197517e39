"""What every model checks of the arguments of `generate`."""

from collections.abc import Sequence

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.types import Mel


def checked_items(items: Sequence[int] | None, *, batch: int) -> Sequence[int]:
    """Return the numbers that key the noise of each example: 0, 1, ... unless given."""
    if items is None:
        return range(batch)
    if len(items) != batch:
        raise ParameterError(f"items has {len(items)} numbers, and the batch {batch} examples: give one for each")
    return items


def checked_n_samples(n_samples: int | None, *, mel: Mel, dialect: MelDialect) -> int:
    """Return the length to generate: what the frames say unless given, and never more than they cover."""
    n_frames = mel.shape[-1]
    if n_samples is None:
        return max(1, dialect.n_samples(n_frames))
    if dialect.n_frames(n_samples) != n_frames or n_samples > n_frames * dialect.hop_length:
        raise ParameterError(
            f"n_samples={n_samples} does not belong to {n_frames} frames of {dialect.hop_length} samples: "
            f"give at least {dialect.n_samples(n_frames)}, and less than one hop more"
        )
    return n_samples
