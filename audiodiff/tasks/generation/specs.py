"""Generation specifications: the grid of sounds that `--label`, `--seed`, `--interpolate` and `--count` ask for.

The grid has one cell for each combination of the named values, with `count` sounds each. The label that is given first
varies slowest; interpolation between two values or seeds varies faster than all labels; the number within a cell
varies fastest.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audiodiff.diffusion.noise import SeedBlend
from audiodiff.errors import ParameterError
from audiodiff.labels import LabelSet, LabelValue
from audiodiff.tasks.generation.labels import Interpolation, Values

_MAX_CHARACTERS = 24
_MAX_BYTES = 200
"""Of a file name without number and suffix: file systems allow 255."""


@dataclass(frozen=True)
class GenerationSpec:
    """Specification of one sound to generate.

    Args:
        labels: of the sound; a label that is missing may have any value.
        seed: of its noise.
        item: number that keys its noise; all steps of an interpolation share one, so that nothing else changes.
        name: of its file, without the suffix; unique on any file system.
        title: above its picture in the contact sheet.
    """

    labels: Mapping[str, LabelValue]
    seed: int | SeedBlend
    item: int
    name: str
    title: str


def check_interpolation(interpolate: int | None, *, values: Iterable[Values], seed: int | Interpolation) -> None:
    """Refuse an interpolation without a number of steps, and a number of steps without an interpolation.

    Raises:
        ParameterError: naming the missing option, or a number below 2.
    """
    ends = [value for value in (*values, seed) if isinstance(value, Interpolation)]
    if interpolate is None and ends:
        raise ParameterError(
            f"{ends[0].first}:{ends[0].last} is an interpolation and needs --interpolate, the number of sounds from "
            "one end to the other: --interpolate 5"
        )
    if interpolate is not None and not ends:
        raise ParameterError(
            f"--interpolate {interpolate} needs two values, --label NAME=A:B, or two seeds, --seed 1:2"
        )
    if interpolate is not None and interpolate < 2:
        raise ParameterError(f"--interpolate {interpolate} must be at least 2, the two ends")


def grid_shape(chosen: Mapping[str, Values], *, interpolate: int | None, count: int | None) -> tuple[int, ...]:
    """Return the shape of the grid of `generation_specs`; the last axis is the sounds of a cell.

    Example:
        >>> grid_shape({"digit": ("0", "1"), "speaker": Interpolation("ann", "bob")}, interpolate=5, count=None)
        (2, 5, 1)
    """
    named = [len(values) for values in chosen.values() if not isinstance(values, Interpolation)]
    return (*named, *([] if interpolate is None else [interpolate]), 1 if count is None else count)


def generation_specs(
    chosen: Mapping[str, Values],
    *,
    labels: LabelSet | None,
    seed: int | Interpolation,
    interpolate: int | None,
    count: int | None,
) -> list[GenerationSpec]:
    """Return the specifications of all sounds of a grid, in order.

    Args:
        chosen: the values of each named label, from `read_labels`.
        labels: that the model knows.
        seed: from `read_seed`.
        interpolate: sounds from one value or seed to another, both ends included.
        count: sounds of each cell; 1 where None.

    Raises:
        ParameterError: if a number is too small, or an interpolation lacks its ends or its number.

    Example:
        >>> known = LabelSet({"digit": ("0", "1", "2")})
        >>> specs = generation_specs(
        ...     {"digit": Interpolation("0", "2")}, labels=known, seed=0, interpolate=3, count=None
        ... )
        >>> [spec.labels["digit"] for spec in specs]
        ['0', {'0': 0.5, '2': 0.5}, '2']
        >>> specs[1].name, specs[1].title
        ('digit=0-to-2_at=0.50_0', 'digit=0:2 at 0.50')
    """
    n = 1 if count is None else count
    if n < 1:
        raise ParameterError(f"--count {n} must be at least 1")
    check_interpolation(interpolate, values=chosen.values(), seed=seed)
    namer = _Namer(chosen, labels=labels, seed=seed, interpolate=interpolate)
    axes = [(values,) if isinstance(values, Interpolation) else values for values in chosen.values()]
    cells = [dict(zip(chosen, values, strict=True)) for values in itertools.product(*axes)]
    fractions = [None] if interpolate is None else [k / (interpolate - 1) for k in range(interpolate)]
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
    """Names of the cells of a grid, for files and above pictures."""

    def __init__(
        self,
        chosen: Mapping[str, Values],
        *,
        labels: LabelSet | None,
        seed: int | Interpolation,
        interpolate: int | None,
    ) -> None:
        self._seed = seed if isinstance(seed, Interpolation) else None
        # As many decimals as keep the fractions different.
        self._decimals = max(2, len(str((interpolate or 2) - 2)))
        self._labels = _safe(chosen)
        self._values = {} if labels is None else {name: _safe(labels.vocabularies[name]) for name in chosen}

    def stem(self, cell: Mapping[str, str | Interpolation], fraction: float | None) -> str:
        parts = [f"{self._labels[name]}={self._safe_value(name, value)}" for name, value in cell.items()]
        parts += [] if self._seed is None else [f"seed={self._seed.first}-to-{self._seed.last}"]
        parts += [] if fraction is None else [f"at={fraction:.{self._decimals}f}"]
        return "_".join(parts)

    def title(self, cell: Mapping[str, str | Interpolation], fraction: float | None, number: int | None) -> str:
        parts = [f"{name}={_format(value)}" for name, value in cell.items()]
        parts += [] if self._seed is None else [f"seed={_format(self._seed)}"]
        parts += [] if fraction is None else [f"at {fraction:.{self._decimals}f}"]
        parts += [] if number is None else [f"#{number}"]
        return " ".join(parts)

    def _safe_value(self, name: str, value: str | Interpolation) -> str:
        safe = self._values[name]
        return f"{safe[value.first]}-to-{safe[value.last]}" if isinstance(value, Interpolation) else safe[value]


def _format(value: str | Interpolation) -> str:
    return f"{value.first}:{value.last}" if isinstance(value, Interpolation) else value


def _safe(texts: Iterable[str]) -> dict[str, str]:
    """Return short names of letters and digits for texts, unique also on file systems that ignore case.

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
