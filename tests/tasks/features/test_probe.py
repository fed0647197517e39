"""Probe results, and the division of recordings for probes."""

from pathlib import Path

from audiodiff.data import Entry
from audiodiff.tasks.features.extract import FeatureLayer
from audiodiff.tasks.features.probe import ProbeResults, _divide


def test_of_equally_accurate_layers_the_middle_one_is_best():
    layers = tuple(FeatureLayer(0.1, layer) for layer in range(5))
    assert ProbeResults(layers, (0.5, 0.9, 0.9, 0.9, 0.1), 2, 2).best == layers[2]
    assert ProbeResults(layers, (0.5, 0.9, 0.9, 0.9, 0.95), 2, 2).best == layers[4]


def test_at_most_n_recordings_are_used():
    entries = [Entry(Path(f"{index}.wav"), label=str(index % 20)) for index in range(60)]
    for n in (4, 30, 45, 100):
        fitted, validated = _divide(entries, column="label", n=n)
        assert len(fitted) + len(validated) <= n
        assert {entry.label for entry in fitted} == {entry.label for entry in validated}
