"""Checks of mel dialects: whether two are the same, but for what can be converted."""

from dataclasses import fields, replace

from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import MelError

_VALUES = ("log_gain", "log_offset", "mean", "std", "frames_first")


def with_values_of(of: MelDialect, other: MelDialect) -> MelDialect:
    """Return a dialect with logarithm, mean, std and order of another, to which its mels can be converted."""
    return replace(of, **{name: getattr(other, name) for name in _VALUES})


def converted(mel: Float[Tensor, "*batch n_mels frames"], own: MelDialect, to: MelDialect) -> Tensor:
    """Convert a mel to a dialect that differs in logarithm, mean and std; refuse any other.

    Raises:
        MelError: with the first field that differs.
    """
    ensure_same(with_values_of(own, to), to, name="mel")
    return mel if replace(own, name=to.name, frames_first=to.frames_first) == to else to.compress(own.amplitude(mel))


def ensure_same(
    stated: MelDialect, wanted: MelDialect, *, name: str, remedy: str = "make the mel again with that dialect"
) -> None:
    """Refuse a mel of another dialect than the wanted one.

    Args:
        stated: the dialect of the mel.
        wanted: the dialect that it must have.
        name: of the mel, or of what takes it, in the message.
        remedy: how to correct it.

    Raises:
        MelError: with the first field that differs.
    """
    for field in fields(MelDialect):
        a, b = getattr(stated, field.name), getattr(wanted, field.name)
        # tacotron2 and speechbrain are two names of the same values.
        if field.name != "name" and a != b:
            raise MelError(
                f"{name} has {field.name}={a} (dialect {stated.name}), but {field.name}={b} (dialect {wanted.name}) is "
                f"wanted; {remedy}"
            )
