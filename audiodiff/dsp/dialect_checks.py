"""Checks of mel dialects: whether two are the same, but for the logarithm."""

from dataclasses import fields, replace

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import MelError


def with_log_of(of: MelDialect, other: MelDialect) -> MelDialect:
    """Return a dialect with the logarithm of another, to which its mels can be converted without loss."""
    return replace(of, log_gain=other.log_gain, log_offset=other.log_offset)


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
