"""Mel dialects as text, for command-line options: NAME or NAME:field=value,field=value."""

from audiodiff.dsp.mel import MelDialect, dialect
from audiodiff.errors import ParameterError

_NUMBERS = {
    "sample_rate": int,
    "n_fft": int,
    "hop_length": int,
    "win_length": int,
    "n_mels": int,
    "f_min": float,
    "f_max": float,
}


def parse_dialect(text: str) -> MelDialect:
    """Read `NAME` or `NAME:field=value,field=value`.

    Raises:
        ParameterError: if the name, a field or a value is unknown, or they do not fit together.

    Example:
        >>> parse_dialect("hifigan:sample_rate=16000,hop_length=200").hop_length
        200
    """
    name, _, rest = text.partition(":")
    fields: dict[str, int | float] = {}
    for part in filter(None, rest.split(",")):
        field, _, value = part.partition("=")
        if field not in _NUMBERS:
            raise ParameterError(
                f"{text!r}: {field!r} is not a field of a dialect; the fields are {', '.join(_NUMBERS)}"
            )
        try:
            fields[field] = _NUMBERS[field](value)
        except ValueError:
            raise ParameterError(f"{text!r}: {field}={value!r} must be a number") from None
    return dialect(name, **fields)  # pyright: ignore[reportArgumentType]
