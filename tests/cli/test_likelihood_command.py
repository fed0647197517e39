"""`audiodiff likelihood` as a person uses it."""

import csv
import json

import commands
import pytest
import sounds
import tiny

from audiodiff.cli.likelihood import likelihood_command
from audiodiff.evaluation.likelihood import Settings, likelihood
from audiodiff.io.audio import read
from audiodiff.models.checkpoint import load

run, made, refusal = commands.of(likelihood_command)
FAST = ("--steps", "2", "--levels", "3")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("models") / "log_mel", tiny.LOG_MEL))


@pytest.fixture
def recordings(tmp_path):
    return [sounds.write(tmp_path / f"{name}.wav", 6000, sample_rate=22050) for name in "ab"]


def test_the_files_hold_the_numbers_of_the_function(model, recordings, tmp_path):
    shown = made(model, *recordings, *FAST, "--out", tmp_path / "l.json")
    made(model, *recordings, *FAST, "--out", tmp_path / "l.csv")
    document = json.loads((tmp_path / "l.json").read_text())
    with (tmp_path / "l.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    settings = Settings(n_steps=2, n_levels=3)
    for index, path in enumerate(recordings):
        audio, rate = read(path)
        expected = likelihood(load(model, device="cpu"), audio, sample_rate=rate, settings=settings, item=index)
        row = document["files"][index]
        assert row["path"] == rows[index]["path"] == str(path)
        assert row["n_dims"] == expected.n_dims
        for name, value in expected.nats.items():
            assert row[f"{name}_nats"] == pytest.approx(value, abs=1e-6)
            assert float(rows[index][f"{name}_bits"]) == pytest.approx(expected.bits[name], abs=1e-6)
            assert f"{row[f'{name}_nats']:.4f}" in shown
    # Both are equally long.
    flow = [row["flow_nats"] for row in document["files"]]
    assert document["mean"]["nats"]["flow"] == pytest.approx(sum(flow) / 2)
    assert document["of"] == "mel values (a density)"


def test_one_measure_can_be_left_out(model, recordings):
    shown = made(model, recordings[0], *FAST, "--measure", "bound")
    assert "bound bits" in shown
    assert "flow" not in shown


def test_refusals_come_before_the_model_is_loaded(recordings, tmp_path):
    assert "must be one of flow, bound, both" in refusal("nothing", recordings[0], "--measure", "exact")
    assert "must end in .csv or .json" in refusal("nothing", recordings[0], "--out", tmp_path / "l.txt")
    (tmp_path / "l.csv").write_text("")
    assert "--force" in refusal("nothing", recordings[0], "--out", tmp_path / "l.csv")
    assert "n_steps=0" in refusal("nothing", recordings[0], "--steps", "0")
    assert "no such file" in refusal("nothing", tmp_path / "missing.wav")


def test_labels_and_short_files_are_refused_by_name(model, recordings, tmp_path):
    assert "trained without labels" in refusal(model, recordings[0], "--label", "digit=1")
    short = sounds.write(tmp_path / "short.wav", 10, sample_rate=22050)
    assert str(short) in refusal(model, short, *FAST)
