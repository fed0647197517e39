"""What is asked of a model that makes sound from nothing: `--label`, `--seed`, `--between` and `--count` of a command.

A request is a grid of cells, one for each combination of the values that are named, with `count` sounds each. The
label that is given first varies slowest; the way between two values or seeds varies faster than all labels; the number
within a cell varies fastest.

The text of a label is NAME=VALUES: a value that the model knows, several with commas between them, `all` of them, or
A:B, the way from one to the other. Text that is a known value as it stands is that value, whatever is in it; otherwise
a comma or a colon that belongs to a value has a backslash before it.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from audiodiff.diffusion.noise import SeedBlend
from audiodiff.errors import ParameterError
from audiodiff.labels import LabelSet, LabelValue

ALL = "all"
_MAX_CHARACTERS = 24
_MAX_BYTES = 200
"""Of a file's name without number and suffix: file systems take 255."""


@dataclass(frozen=True)
class Interpolation:
    """From one value of a label to another, or from one seed to another.

    Args:
        first: where it begins.
        last: where it ends.
    """

    first: str
    last: str


Values = tuple[str, ...] | Interpolation


@dataclass(frozen=True)
class GenerationSpec:
    """One sound that is asked for.

    Args:
        labels: what it is to be; a label that is not there is left open.
        seed: of its noise.
        item: number of its noise: the places on a way share one, so that nothing else changes on it.
        name: of its file, without the suffix; no other sound of the request has it on any file system.
        title: what is read above its picture.
    """

    labels: Mapping[str, LabelValue]
    seed: int | SeedBlend
    item: int
    name: str
    title: str


def read_seed(text: str) -> int | Interpolation:
    """Read a seed, or two with a colon between them.

    Raises:
        ParameterError: if it is neither.

    Example:
        >>> read_seed("7"), read_seed("1:2")
        (7, Way(first='1', last='2'))
    """
    if not re.fullmatch(r"[+-]?\d+(:[+-]?\d+)?", text.strip()):
        raise ParameterError(f"--seed {text} must be a whole number, or two for the way between them: --seed 1:2")
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
        labels: what the model knows; None where it knows none.
        option: what errors call it.

    Raises:
        ParameterError: for a label or a value that the model does not know, with those that it does; for a label that
            is named twice, and for text that says nothing.

    Example:
        >>> known = LabelSet({"digit": ("0", "1", "2"), "speaker": ("ann", "bob")})
        >>> read_labels(["digit=0,2", "speaker=all"], labels=known)
        {'digit': ('0', '2'), 'speaker': ('ann', 'bob')}
        >>> read_labels(["digit=0:2"], labels=known)
        {'digit': Way(first='0', last='2')}
    """
    found: dict[str, Values] = {}
    for text in texts:
        if labels is None:
            raise ParameterError(f"{option} {text} has no meaning for this model, which was trained without labels")
        name, equals, values = (part.strip() for part in text.partition("="))
        if not (name and equals and values):
            example = f"{labels.names[0]}={labels.vocabularies[labels.names[0]][0]}"
            raise ParameterError(
                f"{option} {text!r} must be NAME=VALUE, {option} {example} for one; a label that is not named is left "
                f"open; there are: {', '.join(labels.names)}"
            )
        if name in found:
            raise ParameterError(f"{option} {name} is given twice: several values are one option, {option} {name}=A,B")
        labels.indices({name: ""})
        found[name] = _values(name, values, labels=labels, option=option)
    return found


def check_between(between: int | None, *, values: Iterable[Values], seed: int | Interpolation) -> None:
    """Refuse a way without a number of places on it, and the number without a way.

    Raises:
        ParameterError: naming what is missing, or too small a number.
    """
    ways = [way for way in (*values, seed) if isinstance(way, Interpolation)]
    if between is None and ways:
        raise ParameterError(
            f"{ways[0].first}:{ways[0].last} is a way and needs --between, how many sounds are to be made on it, both "
            "ends among them: --between 5"
        )
    if between is not None and not ways:
        raise ParameterError(f"--between {between} needs a way: two values, --label NAME=A:B, or two seeds, --seed 1:2")
    if between is not None and between < 2:
        raise ParameterError(f"--between {between} must be at least 2, the ends of the way")


def grid_shape(chosen: Mapping[str, Values], *, between: int | None, count: int | None) -> tuple[int, ...]:
    """Return the numbers along the axes of the grid of `wishes`, the last that of the sounds of a cell.

    Example:
        >>> grid_shape({"digit": ("0", "1"), "speaker": Way("ann", "bob")}, between=5, count=None)
        (2, 5, 1)
    """
    named = [len(values) for values in chosen.values() if not isinstance(values, Interpolation)]
    return (*named, *([] if between is None else [between]), 1 if count is None else count)


def generation_specs(
    chosen: Mapping[str, Values],
    *,
    labels: LabelSet | None,
    seed: int | Interpolation,
    between: int | None,
    count: int | None,
) -> list[GenerationSpec]:
    """Return all sounds that are asked for, in order.

    Args:
        chosen: the values of each label that is named, as `read_labels` reads them.
        labels: what the model knows.
        seed: as `read_seed` reads it.
        between: places on the way from one value or seed to another, both ends among them.
        count: sounds of each cell; 1 where None.

    Raises:
        ParameterError: if a number is too small or there is no way where one is needed.

    Example:
        >>> known = LabelSet({"digit": ("0", "1", "2")})
        >>> way = wishes({"digit": Way("0", "2")}, labels=known, seed=0, between=3, count=None)
        >>> [wish.labels["digit"] for wish in way]
        ['0', {'0': 0.5, '2': 0.5}, '2']
        >>> way[1].name, way[1].title
        ('digit=0-to-2_at=0.50_0', 'digit=0:2 at 0.50')
    """
    n = 1 if count is None else count
    if n < 1:
        raise ParameterError(f"--count {n} must be at least 1")
    check_between(between, values=chosen.values(), seed=seed)
    namer = _Namer(chosen, labels=labels, seed=seed, between=between)
    axes = [(values,) if isinstance(values, Interpolation) else values for values in chosen.values()]
    cells = [dict(zip(chosen, values, strict=True)) for values in itertools.product(*axes)]
    fractions = [None] if between is None else [k / (between - 1) for k in range(between)]
    placed = [
        (cell, fraction, number, k) for number, cell in enumerate(cells) for fraction in fractions for k in range(n)
    ]
    stems = [namer.stem(cell, fraction) for cell, fraction, _, _ in placed]
    if not stems[0] or any(len(stem.encode()) > _MAX_BYTES for stem in stems):
        width = len(str(len(placed) - 1))
        names = [f"generated_{index:0{width}d}" for index in range(len(placed))]
    else:
        names = [f"{stem}_{k:0{len(str(n - 1))}d}" for stem, (_, _, _, k) in zip(stems, placed, strict=True)]
    return [
        GenerationSpec(
            labels={label: _label_at(value, fraction) for label, value in cell.items()},
            seed=_seed_at(seed, fraction),
            item=number * n + k,
            name=name,
            title=namer.title(cell, fraction, k if n > 1 or not stems[0] else None),
        )
        for name, (cell, fraction, number, k) in zip(names, placed, strict=True)
    ]


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
        raise ParameterError(f"{option} {name}={text}: a way A:B stands alone, without other values")
    if "" in parts:
        raise ParameterError(f"{option} {name}={text} has an empty value: write {option} {name}=A,B")
    for part in parts:
        labels.indices({name: part})
    if len(set(parts)) != len(parts):
        raise ParameterError(f"{option} {name}={text} names a value twice; for more of it give a greater --count")
    return tuple(parts)


def _parts(text: str, mark: str, *, known: Sequence[str]) -> list[str]:
    """Cut text at a mark that has no backslash before it; a backslash before a mark goes."""
    parts = [part.strip() for part in re.split(rf"(?<!\\){mark}", text)]
    return [part if part in known else re.sub(r"\\([,:])", r"\1", part) for part in parts]


def _label_at(value: str | Interpolation, fraction: float | None) -> LabelValue:
    if not isinstance(value, Interpolation):
        return value
    assert fraction is not None
    if fraction in (0.0, 1.0):
        return value.last if fraction else value.first
    return {value.first: 1.0 - fraction, value.last: fraction}


def _seed_at(seed: int | Interpolation, fraction: float | None) -> int | SeedBlend:
    if not isinstance(seed, Interpolation):
        return seed
    assert fraction is not None
    return SeedBlend(int(seed.first), int(seed.last), fraction)


class _Namer:
    """What the cells of a request are called, in files and above pictures."""

    def __init__(
        self, chosen: Mapping[str, Values], *, labels: LabelSet | None, seed: int | Interpolation, between: int | None
    ) -> None:
        self._seed = seed if isinstance(seed, Interpolation) else None
        # As many decimals as keep the places apart.
        self._decimals = max(2, len(str((between or 2) - 2)))
        self._labels = _safe(chosen)
        self._values = {} if labels is None else {name: _safe(labels.vocabularies[name]) for name in chosen}

    def stem(self, cell: Mapping[str, str | Interpolation], fraction: float | None) -> str:
        parts = [f"{self._labels[name]}={self._safe_value(name, value)}" for name, value in cell.items()]
        parts += [] if self._seed is None else [f"seed={self._seed.first}-to-{self._seed.last}"]
        parts += [] if fraction is None else [f"at={fraction:.{self._decimals}f}"]
        return "_".join(parts)

    def title(self, cell: Mapping[str, str | Interpolation], fraction: float | None, number: int | None) -> str:
        parts = [f"{name}={_shown(value)}" for name, value in cell.items()]
        parts += [] if self._seed is None else [f"seed={_shown(self._seed)}"]
        parts += [] if fraction is None else [f"at {fraction:.{self._decimals}f}"]
        parts += [] if number is None else [f"#{number}"]
        return " ".join(parts)

    def _safe_value(self, name: str, value: str | Interpolation) -> str:
        safe = self._values[name]
        return f"{safe[value.first]}-to-{safe[value.last]}" if isinstance(value, Interpolation) else safe[value]


def _shown(value: str | Interpolation) -> str:
    return f"{value.first}:{value.last}" if isinstance(value, Interpolation) else value


def _safe(texts: Iterable[str]) -> dict[str, str]:
    """Return short names of letters and digits, different on file systems that know no case too, for different texts.

    Example:
        >>> _safe(["theo", "7"])
        {'theo': 'theo', '7': '7'}
        >>> _safe(["a/b", "A:b"])
        {'a/b': '0-a-b', 'A:b': '1-A-b'}
    """
    texts = list(texts)
    safe = [
        re.sub(r"[^\w.+]+", "-", unicodedata.normalize("NFKC", text)).strip("-.")[:_MAX_CHARACTERS] for text in texts
    ]
    if "" in safe or len({text.casefold() for text in safe}) < len(safe):
        width = len(str(len(texts) - 1))
        safe = [f"{index:0{width}d}-{text}" for index, text in enumerate(safe)]
    return dict(zip(texts, safe, strict=True))
