"""Mel dialects as text, for options and advice: NAME or NAME:field=value,field=value, which `mel.dialect` reads."""

from dataclasses import replace

from audiodiff.dsp.dialect_checks import with_values_of
from audiodiff.dsp.dialects import LOGARITHMS, NUMBERS, log_gain
from audiodiff.dsp.mel import MelDialect, dialect


def with_log(of: MelDialect, log: str) -> MelDialect:
    """Return a dialect with a plain logarithm, without an offset; see `dialects.LOGARITHMS`."""
    return replace(of, log_gain=log_gain(log, power=of.power), log_offset=0.0)


def log_of(of: MelDialect) -> str | None:
    """Return the name of a dialect's logarithm, as log= takes it; None for a logarithm without a name.

    Example:
        >>> log_of(dialect("wavefm")), log_of(dialect("diffwave")), log_of(dialect("diffwave:log=db"))
        ('e', None, 'db')
    """
    return next((log for log in LOGARITHMS if with_log(of, log) == of), None)


def with_named_values(of: MelDialect) -> MelDialect:
    """Return a dialect with logarithm, mean, std and order of the one that its name stands for.

    Example:
        >>> with_named_values(dialect("hifigan:log=10,mean=-5.5")) == dialect("hifigan")
        True
    """
    return with_values_of(of, dialect(of.name, power=of.power))


def format_dialect(of: MelDialect) -> str:
    """Return the text of a dialect, which `mel.dialect` reads.

    Statistics of each band are too long for a text: stats=FILE stands for them.

    Example:
        >>> format_dialect(dialect("rfwave:hop_length=300,log=db"))
        'rfwave:hop_length=300,log=db'
    """
    named = dialect(of.name, power=of.power)
    changes = {field: getattr(of, field) for field in NUMBERS if getattr(of, field) != getattr(named, field)}
    if named.f_max == named.sample_rate / 2 and of.f_max == of.sample_rate / 2:
        changes.pop("f_max", None)
    texts = [f"{field}={value:g}" for field, value in changes.items()]
    if of.power != dialect(of.name).power:
        texts.append(f"power={of.power}")
    if (of.log_gain, of.log_offset) != (named.log_gain, named.log_offset):
        texts.append(f"log={log_of(of)}")
    if of.is_normalised:
        is_short = isinstance(of.mean, float) and isinstance(of.std, float)
        texts += [f"mean={of.mean:.8g},std={of.std:.8g}"] if is_short else ["stats=FILE"]
    if of.frames_first:
        texts.append("frames_first=true")
    return ":".join(filter(None, [of.name, ",".join(texts)]))
