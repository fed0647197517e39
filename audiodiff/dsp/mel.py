"""Mel spectrograms in named dialects, whose values differ even where bands and hop are the same.

Two mels are interchangeable only if every field of their dialects except the name agrees.
"""

from audiodiff.dsp.dialects import DIALECT_NAMES, dialect_fields, read_dialect
from audiodiff.dsp.mel_dialect import MelDialect
from audiodiff.dsp.mel_normalization import Statistic

__all__ = ["DIALECT_NAMES", "MelDialect", "dialect"]


def dialect(
    name: str,
    *,
    sample_rate: int | None = None,
    n_fft: int | None = None,
    hop_length: int | None = None,
    win_length: int | None = None,
    n_mels: int | None = None,
    f_min: float | None = None,
    f_max: float | None = None,
    log: int | str | None = None,
    power: int | None = None,
    mean: Statistic | None = None,
    std: Statistic | None = None,
    frames_first: bool | None = None,
) -> MelDialect:
    """Return a dialect by name, or derive it at another rate, hop or size; None keeps the value of the name.

    Fields may be in the name: "hifigan:hop_length=200,log=10". The logarithm is "e" (natural), 10, "db" (20 log10
    of amplitudes) or "none" (the values are amplitudes). With power=2 the filters sum squared magnitudes, and the
    logarithm is that of the sum. mean and std are what the values are normalised by, numbers or one for each band;
    "hifigan:stats=FILE" takes both from a file (`audiodiff.dsp.mel_normalization`). Dependent values follow: an f_max
    of half the rate follows the rate, a window as long as the frame follows n_fft, and a hop of over half a window
    gives a frame of at least four hops.

    Raises:
        ParameterError: if the name is unknown, or the values do not fit together.

    Example:
        >>> dialect("vocos", sample_rate=16000, hop_length=1000).win_length
        4096
        >>> dialect("hifigan:log=10").floor
        -5.0
        >>> round(dialect("hifigan:mean=-5.5,std=2.1").floor, 2)
        -2.86
    """
    name, fields = read_dialect(name)
    given = {"sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length, "win_length": win_length}
    given |= {"n_mels": n_mels, "f_min": f_min, "f_max": f_max, "log": log, "power": power}
    given |= {"mean": mean, "std": std, "frames_first": frames_first}
    fields |= {key: value for key, value in given.items() if value is not None}
    result = MelDialect(name=name, **dialect_fields(name, fields))
    result.filters()  # refuses filters without a bin
    return result
