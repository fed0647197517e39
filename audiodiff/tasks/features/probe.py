"""Which noise level and which layer tell most about a label: linear probes on validation recordings."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from audiodiff.data import Entry
from audiodiff.errors import DataError, check_whole
from audiodiff.io.console import progress
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.features.extract import FeatureLayer, layers, usual_scale
from audiodiff.tasks.features.files import entry_features

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_LEVELS_OF_WAVEFORMS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_LEVELS_OF_MELS = (0.1, 0.2, 0.4, 0.8, 1.6)
_PROBE_C = 0.01
_VALIDATED_OF = 3
"""One of so many is for validation, where no split says which."""


@dataclass(frozen=True)
class Choice:
    """Hold what was tried.

    Args:
        taps: where features were taken.
        accuracies: of a linear probe on the validation recordings, one for each tap.
        n_fit: recordings that the probes were fitted on.
        n_validated: recordings that they were tried on.
    """

    taps: tuple[FeatureLayer, ...]
    accuracies: tuple[float, ...]
    n_fit: int
    n_validated: int

    @property
    def best(self) -> FeatureLayer:
        """The tap of the highest accuracy; among equals the one in the middle, whose neighbours are as good."""
        highest = max(self.accuracies)
        equals = [tap for tap, accuracy in zip(self.taps, self.accuracies, strict=True) if accuracy == highest]
        return equals[len(equals) // 2]

    def table(self) -> str:
        """Show the accuracies in percent, a line for each noise level and a column for each layer."""
        levels = list(dict.fromkeys(tap.noise_level for tap in self.taps))
        depth = 1 + max(tap.layer for tap in self.taps)
        found = dict(zip(self.taps, self.accuracies, strict=True))
        lines = ["noise level " + "".join(f"{layer:>7}" for layer in range(depth))]
        for level in levels:
            shown = "".join(f"{100 * found[FeatureLayer(level, layer)]:7.1f}" for layer in range(depth))
            lines.append(f"{level:<12.4g}{shown}")
        return "\n".join(lines)


def linear_probe(*, c: float = _PROBE_C) -> "Pipeline":
    """Return logistic regression on standardised features; the smaller c, the smaller its weights."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))


def choose(
    model: Synthesizer,
    entries: Sequence[Entry],
    *,
    column: str,
    noise_levels: Sequence[float] | None = None,
    n: int = 300,
) -> Choice:
    """Try noise levels and layers by how well a linear probe on their features tells a label.

    Recordings of split val are validated on and those of train fitted on, where there are both; otherwise every third
    of a label's recordings is validated on. Those of split test are left alone.

    Args:
        model: as audiodiff.load returns it.
        entries: scanned recordings.
        column: of the label.
        noise_levels: to be tried; None tries a few between the quiet and the loud.
        n: recordings that are used at most.

    Raises:
        DataError: if there are not two values of the label with two recordings each, or, where splits divide them,
            with one to fit on and one to validate on.
    """
    check_whole(n, name="n", least=4)
    fitted, validated = _divided(entries, column=column, n=n)
    if noise_levels is None:
        levels = _LEVELS_OF_MELS if model.representation.makes_mel else _LEVELS_OF_WAVEFORMS
        noise_levels = [usual_scale(model) * level for level in levels]
    used = [*fitted, *validated]
    found: dict[float, list[np.ndarray]] = {level: [] for level in noise_levels}
    with progress("trying noise levels", total=len(used)) as bar:
        for entry in used:
            for level in noise_levels:
                found[level].append(entry_features(model, entry, noise_level=level))
            bar.advance()
    truth = np.array([entry.value(column) for entry in used])
    fit, validate = slice(None, len(fitted)), slice(len(fitted), None)
    taps = [FeatureLayer(level, layer) for level in noise_levels for layer in range(len(layers(model)))]
    accuracies: list[float] = []
    with progress("fitting probes", total=len(taps)) as bar:
        for tap in taps:
            vectors = np.stack(found[tap.noise_level])[:, tap.layer]
            probe = linear_probe().fit(vectors[fit], truth[fit])
            accuracies.append(float(probe.score(vectors[validate], truth[validate])))
            bar.advance()
    return Choice(tuple(taps), tuple(accuracies), len(fitted), len(validated))


def _divided(entries: Sequence[Entry], *, column: str, n: int) -> tuple[list[Entry], list[Entry]]:
    """Return recordings to fit on and to validate on, of every value as many as there are, n in all at most."""
    open_ = [entry for entry in entries if entry.value(column) and entry.split != "test"]
    shuffled = [open_[index] for index in np.random.default_rng(0).permutation(len(open_))]
    by_value: dict[str, list[Entry]] = defaultdict(list)
    for entry in shuffled:
        by_value[entry.value(column)].append(entry)
    enough = [own for own in by_value.values() if len(own) >= 2]
    if len(enough) < 2:
        raise DataError(
            f"column {column!r}: {len(enough)} of its values have two recordings or more outside split test, and two "
            "values must: name another column, or give more recordings"
        )
    if {"train", "val"} <= {entry.split for entry in shuffled}:
        parts = [[entry for entry in shuffled if entry.split == split] for split in ("train", "val")]
        fitted, validated = parts[0][: n - n // _VALIDATED_OF], parts[1][: n // _VALIDATED_OF]
        shared = {entry.value(column) for entry in fitted} & {entry.value(column) for entry in validated}
        if len(shared) < 2:
            raise DataError(
                f"column {column!r}: {len(shared)} of its values are both among the {len(fitted)} recordings of split "
                f"train and among the {len(validated)} of split val that are tried, and two must be: name another "
                "column, or divide the recordings otherwise"
            )
        return fitted, validated
    tried = enough[: n // 2]
    each = n // len(tried)
    fitted: list[Entry] = []
    validated: list[Entry] = []
    for own in tried:
        n_validated = max(1, min(each, len(own)) // _VALIDATED_OF)
        validated += own[:n_validated]
        fitted += own[n_validated:each]
    return fitted, validated
