"""Choice of layer and noise level: linear probes that predict a label on validation recordings."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from audiodiff.data import Entry
from audiodiff.errors import DataError, check_whole
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.features.extract import FeatureLayer, block_names, signal_scale
from audiodiff.tasks.features.files import entry_features
from audiodiff.types import OnProgress

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_WAVEFORM_LEVELS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_MEL_LEVELS = (0.1, 0.2, 0.4, 0.8, 1.6)
_PROBE_C = 0.01
_VALIDATION_SHARE = 3
"""One in this many recordings is for validation, where there are no splits."""


@dataclass(frozen=True)
class ProbeResults:
    """Accuracies of linear probes.

    Args:
        layers: that were tried, each at several noise levels.
        accuracies: on the validation recordings, one for each of `layers`.
        n_fit: recordings that the probes were fitted on.
        n_validated: recordings that they were validated on.
    """

    layers: tuple[FeatureLayer, ...]
    accuracies: tuple[float, ...]
    n_fit: int
    n_validated: int

    @property
    def best(self) -> FeatureLayer:
        """The layer of the highest accuracy; of several the one in the middle, whose neighbours are as good."""
        highest = max(self.accuracies)
        ties = [layer for layer, accuracy in zip(self.layers, self.accuracies, strict=True) if accuracy == highest]
        return ties[len(ties) // 2]

    def table(self) -> str:
        """Format the accuracies in percent, a line per noise level and a column per layer."""
        levels = list(dict.fromkeys(each.noise_level for each in self.layers))
        depth = 1 + max(each.layer for each in self.layers)
        accuracies = dict(zip(self.layers, self.accuracies, strict=True))
        lines = ["noise level " + "".join(f"{layer:>7}" for layer in range(depth))]
        for level in levels:
            cells = "".join(f"{100 * accuracies[FeatureLayer(level, layer)]:7.1f}" for layer in range(depth))
            lines.append(f"{level:<12.4g}{cells}")
        return "\n".join(lines)


def linear_probe(*, c: float = _PROBE_C) -> "Pipeline":
    """Return logistic regression on standardised features; a smaller c shrinks the weights more."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))


def choose_layer(
    model: Synthesizer,
    entries: Sequence[Entry],
    *,
    column: str,
    noise_levels: Sequence[float] | None = None,
    n: int = 300,
    on_progress: OnProgress = lambda *_: None,
) -> ProbeResults:
    """Fit a linear probe of a label at each layer and several noise levels, and measure its accuracy.

    Probes are fitted on the recordings of split train and validated on those of split val, where there are both;
    otherwise every third recording of each label is for validation. Those of split test are never used.

    Args:
        model: as audiodiff.load returns it.
        entries: scanned recordings.
        column: of the label.
        noise_levels: to try; None is a few that span the useful range.
        n: most recordings that are used.
        on_progress: called after each recording, then after each probe.

    Raises:
        DataError: if there are not two values of the label with two recordings each, or, where splits divide them,
            with one to fit on and one to validate on.
    """
    check_whole(n, name="n", least=4)
    fitted, validated = _divide(entries, column=column, n=n)
    if noise_levels is None:
        levels = _MEL_LEVELS if model.representation.makes_mel else _WAVEFORM_LEVELS
        noise_levels = [signal_scale(model) * level for level in levels]
    used = [*fitted, *validated]
    vectors: dict[float, list[np.ndarray]] = {level: [] for level in noise_levels}
    for done, entry in enumerate(used, start=1):
        for level in noise_levels:
            vectors[level].append(entry_features(model, entry, noise_level=level))
        on_progress("extracting features", done, len(used))
    truth = np.array([entry.value(column) for entry in used])
    fit, validate = slice(None, len(fitted)), slice(len(fitted), None)
    layers = [FeatureLayer(level, layer) for level in noise_levels for layer in range(len(block_names(model)))]
    accuracies: list[float] = []
    for each in layers:
        own = np.stack(vectors[each.noise_level])[:, each.layer]
        accuracies.append(float(linear_probe().fit(own[fit], truth[fit]).score(own[validate], truth[validate])))
        on_progress("fitting probes", len(accuracies), len(layers))
    return ProbeResults(tuple(layers), tuple(accuracies), len(fitted), len(validated))


def _divide(entries: Sequence[Entry], *, column: str, n: int) -> tuple[list[Entry], list[Entry]]:
    """Divide at most n recordings, balanced over the values of a column, into those to fit on and to validate on."""
    usable = [entry for entry in entries if entry.value(column) and entry.split != "test"]
    shuffled = [usable[index] for index in np.random.default_rng(0).permutation(len(usable))]
    by_value: dict[str, list[Entry]] = defaultdict(list)
    for entry in shuffled:
        by_value[entry.value(column)].append(entry)
    enough = [own for own in by_value.values() if len(own) >= 2]
    if len(enough) < 2:
        raise DataError(
            f"column {column!r}: {len(enough)} of its values have two recordings or more outside split test, and two "
            "values must have: name another column, or give more recordings"
        )
    if {"train", "val"} <= {entry.split for entry in shuffled}:
        parts = [[entry for entry in shuffled if entry.split == split] for split in ("train", "val")]
        fitted, validated = parts[0][: n - n // _VALIDATION_SHARE], parts[1][: n // _VALIDATION_SHARE]
        shared = {entry.value(column) for entry in fitted} & {entry.value(column) for entry in validated}
        if len(shared) < 2:
            raise DataError(
                f"column {column!r}: {len(shared)} of its values are both among the {len(fitted)} recordings of split "
                f"train and among the {len(validated)} of split val that are used, and two must be: name another "
                "column, or change the splits"
            )
        return fitted, validated
    tried = enough[: n // 2]
    each = n // len(tried)
    fitted: list[Entry] = []
    validated: list[Entry] = []
    for own in tried:
        n_validated = max(1, min(each, len(own)) // _VALIDATION_SHARE)
        validated += own[:n_validated]
        fitted += own[n_validated:each]
    return fitted, validated
