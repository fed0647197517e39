"""Mel dialects as text, for options and advice: NAME or NAME:field=value,field=value, which `mel.dialect` reads."""

from dataclasses import replace

from audiodiff.dsp.dialect_checks import with_log_of
from audiodiff.dsp.dialects import LOGARITHMS, NUMBERS
from audiodiff.dsp.mel import MelDialect, dialect


def with_log(of: MelDialect, log_gain: float) -> MelDialect:
    """Return a dialect with a plain logarithm, without an offset; see `dialects.LOGARITHMS`."""
    return replace(of, log_gain=log_gain, log_offset=0.0)


def with_named_log(of: MelDialect) -> MelDialect:
    """Return a dialect with the logarithm of the one that its name stands for.

    Example:
        >>> with_named_log(dialect("hifigan:log=10")) == dialect("hifigan")
        True
    """
    return with_log_of(of, dialect(of.name))


def format_dialect(of: MelDialect) -> str:
    """Return the text of a dialect, which `mel.dialect` reads.

    Example:
        >>> format_dialect(dialect("rfwave:hop_length=300,log=db"))
        'rfwave:hop_length=300,log=db'
    """
    named = dialect(of.name)
    changes = {field: getattr(of, field) for field in NUMBERS if getattr(of, field) != getattr(named, field)}
    if named.f_max == named.sample_rate / 2 and of.f_max == of.sample_rate / 2:
        changes.pop("f_max", None)
    texts = [f"{field}={value:g}" for field, value in changes.items()]
    if (of.log_gain, of.log_offset) != (named.log_gain, named.log_offset):
        texts.append("log=" + next(log for log, gain in LOGARITHMS.items() if gain == of.log_gain))
    return ":".join(filter(None, [of.name, ",".join(texts)]))
