"""Labels and seeds on the command line: the texts of `--label` and `--seed`.

The text of a label is NAME=VALUES: a known value, several separated by commas, `all` of them, or A:B, an interpolation
from one to the other. A text that equals a known value is that value, whatever it contains; otherwise a comma or a
colon within a value has a backslash before it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from audiodiff.errors import ParameterError
from audiodiff.labels import LabelSet

ALL = "all"


@dataclass(frozen=True)
class Interpolation:
    """Interpolation from one value of a label to another, or from one seed to another.

    Args:
        first: where it begins.
        last: where it ends.
    """

    first: str
    last: str


Values = tuple[str, ...] | Interpolation


def read_seed(text: str) -> int | Interpolation:
    """Read the option `--seed`: one seed, or two separated by a colon.

    Raises:
        ParameterError: if it is neither.

    Example:
        >>> read_seed("7"), read_seed("1:2")
        (7, Interpolation(first='1', last='2'))
    """
    if not re.fullmatch(r"[+-]?\d+(:[+-]?\d+)?", text.strip()):
        raise ParameterError(f"--seed {text} must be a whole number, or two to interpolate between: --seed 1:2")
    seeds = [int(part) for part in text.split(":")]
    if len(seeds) == 1:
        return seeds[0]
    if seeds[0] == seeds[1]:
        raise ParameterError(f"--seed {text} must name two different seeds")
    return Interpolation(str(seeds[0]), str(seeds[1]))


def read_labels(texts: Sequence[str], *, labels: LabelSet | None, option: str = "--label") -> dict[str, Values]:
    """Read the options `--label`, in their order.

    Args:
        texts: NAME=VALUES, one for each option.
        labels: that the model knows; None where it knows none.
        option: its name in error messages.

    Raises:
        ParameterError: for an unknown label or value, with the known ones; for a label that is named twice, and for
            an empty text.

    Example:
        >>> known = LabelSet({"digit": ("0", "1", "2"), "speaker": ("ann", "bob")})
        >>> read_labels(["digit=0,2", "speaker=all"], labels=known)
        {'digit': ('0', '2'), 'speaker': ('ann', 'bob')}
        >>> read_labels(["digit=0:2"], labels=known)
        {'digit': Interpolation(first='0', last='2')}
    """
    found: dict[str, Values] = {}
    for text in texts:
        if labels is None:
            raise ParameterError(f"{option} {text} has no meaning for this model, which was trained without labels")
        name, equals, values = (part.strip() for part in text.partition("="))
        if not (name and equals and values):
            example = f"{labels.names[0]}={labels.vocabularies[labels.names[0]][0]}"
            raise ParameterError(
                f"{option} {text!r} must be NAME=VALUE, for example {option} {example}; labels that are not "
                f"named may have any value; there are: {', '.join(labels.names)}"
            )
        if name in found:
            raise ParameterError(
                f"{option} {name} is given twice: give several values in one option, {option} {name}=A,B"
            )
        labels.indices({name: ""})
        found[name] = _values(name, values, labels=labels, option=option)
    return found


def read_single_labels(texts: Sequence[str], *, labels: LabelSet | None, option: str = "--label") -> dict[str, str]:
    """Read labels NAME=VALUE with one value each.

    Raises:
        ParameterError: as `read_labels`, for several values, and for a label that is given twice.
    """
    remedy = "run the command once for each value, with its own --out"
    names = [text.partition("=")[0].strip() for text in texts]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"{option} {name} is given twice, and must have one value: {remedy}")
    single: dict[str, str] = {}
    for name, values in read_labels(texts, labels=labels, option=option).items():
        if isinstance(values, Interpolation) or len(set(values)) > 1:
            raise ParameterError(f"{option} {name} must have one value here, {name}=A: {remedy}")
        single[name] = values[0]
    return single


def _values(name: str, text: str, *, labels: LabelSet, option: str) -> Values:
    known = tuple(labels.vocabularies[name])
    if text in known:
        return (text,)
    if text == ALL:
        return known
    parts = _parts(text, ",", known=known)
    ends = _parts(text, ":", known=known)
    if len(parts) == 1 and len(ends) == 2:
        labels.indices({name: ends[0]})
        labels.indices({name: ends[1]})
        if "" in ends or ends[0] == ends[1]:
            raise ParameterError(f"{option} {name}={text} must name two different values, as in {option} {name}=A:B")
        return Interpolation(ends[0], ends[1])
    if len(parts) > 1 and len(ends) > 1 and not all(part in known for part in parts):
        raise ParameterError(f"{option} {name}={text}: an interpolation A:B cannot be combined with other values")
    if "" in parts:
        raise ParameterError(f"{option} {name}={text} has an empty value: write {option} {name}=A,B")
    for part in parts:
        labels.indices({name: part})
    if len(set(parts)) != len(parts):
        raise ParameterError(
            f"{option} {name}={text} names a value twice; for more sounds of it give a greater --count"
        )
    return tuple(parts)


def _parts(text: str, mark: str, *, known: Sequence[str]) -> list[str]:
    """Split text at a mark that has no backslash before it, and remove the backslashes before marks."""
    parts = [part.strip() for part in re.split(rf"(?<!\\){mark}", text)]
    return [part if part in known else re.sub(r"\\([,:])", r"\1", part) for part in parts]
