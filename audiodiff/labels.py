"""Labels of sounds: their names, their vocabularies, and their one-hot vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiodiff.errors import ParameterError

LabelValue = str | Mapping[str, float] | None
"""One value, a mixture of values with weights, or None: unknown."""

_N_NAMED = 30


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The labels that a model or a data set knows.

    A vector holds one number for every value of every label: 1 where it is meant. A label that is unknown has zeros.

    Args:
        vocabularies: the values that each label may have, in the order of the vector.

    Raises:
        ParameterError: if a label has no values, or one twice.

    Example:
        >>> labels = LabelSet({"digit": ("0", "1", "2"), "speaker": ("ann", "bob")})
        >>> labels.vectors([{"digit": "1", "speaker": "bob"}, {"digit": {"0": 0.5, "2": 0.5}}])
        tensor([[0.0000, 1.0000, 0.0000, 0.0000, 1.0000],
                [0.5000, 0.0000, 0.5000, 0.0000, 0.0000]])
        >>> labels.indices({"speaker": "ann"})
        [-1, 0]
    """

    vocabularies: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabularies", {name: tuple(known) for name, known in self.vocabularies.items()})
        for name, known in self.vocabularies.items():
            if not known or len(set(known)) != len(known):
                raise ParameterError(f"the label {name!r} must have one or more different values: {list(known)}")

    def __eq__(self, other: object) -> bool:
        """Compare with their order, which is that of the vector."""
        return isinstance(other, LabelSet) and self._ordered == other._ordered

    def __hash__(self) -> int:
        return hash(self._ordered)

    @property
    def _ordered(self) -> tuple[tuple[str, Sequence[str]], ...]:
        return tuple(self.vocabularies.items())

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return tuple(self.vocabularies)

    @property
    def n_features(self) -> int:
        """Length of a vector."""
        return sum(len(known) for known in self.vocabularies.values())

    def indices(self, values: Mapping[str, str]) -> list[int]:
        """Return the index of each label's value in its vocabulary, -1 if none is given or it is empty.

        Raises:
            ParameterError: for a label or a value that is not known, with those that are.
        """
        self._check_names(values)
        return [self._index(name, values[name]) if values.get(name) else -1 for name in self.names]

    def one_hot(self, indices: Int[Tensor, "batch labels"]) -> Float[Tensor, "batch features"]:
        """Return the vectors of `indices`."""
        if indices.shape[1] != len(self.names):
            raise ParameterError(f"{indices.shape[1]} labels must be {len(self.names)}: {', '.join(self.names)}")
        sizes = [len(known) for known in self.vocabularies.values()]
        parts = [
            (column[:, None] == torch.arange(size, device=indices.device)).float()
            for column, size in zip(indices.unbind(1), sizes, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def vectors(self, assignments: Sequence[Mapping[str, LabelValue]]) -> Float[Tensor, "batch features"]:
        """Return the vectors of labels, some of which may be mixtures or missing.

        Raises:
            ParameterError: for a label or a value that is not known, or weights that are not positive or sum beyond 1.
        """
        result = torch.zeros(len(assignments), self.n_features)
        for row, values in zip(result, assignments, strict=True):
            self._check_names(values)
            first = 0
            for name, known in self.vocabularies.items():
                for value, weight in _weights(name, values.get(name)).items():
                    row[first + self._index(name, value)] = weight
                first += len(known)
        return result

    def of_each(self) -> list[slice]:
        """Return the part of a vector that belongs to each label."""
        slices, first = [], 0
        for known in self.vocabularies.values():
            slices.append(slice(first, first + len(known)))
            first += len(known)
        return slices

    def _index(self, name: str, value: str) -> int:
        known = self.vocabularies[name]
        if value not in known:
            shown = ", ".join(known[:_N_NAMED]) + (
                f" and {len(known) - _N_NAMED} more" if len(known) > _N_NAMED else ""
            )
            raise ParameterError(f"{name}={value} is not known; it must be one of: {shown}")
        return known.index(value)

    def _check_names(self, values: Mapping[str, object]) -> None:
        for name in values:
            if name not in self.vocabularies:
                raise ParameterError(f"the label {name!r} is not known; there are: {', '.join(self.names) or 'none'}")


def _weights(name: str, value: LabelValue) -> Mapping[str, float]:
    """Return the weight of each value that is meant."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {value: 1.0}
    if any(weight < 0.0 for weight in value.values()) or sum(value.values()) > 1.0 + 1e-6:
        raise ParameterError(
            f"{name}={dict(value)}: the weights of a mixture must not be negative and sum to at most 1"
        )
    return value
