import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import runs
import typer

import audiodiff
from audiodiff.cli import demo
from audiodiff.cli.demo import demo_command
from audiodiff.data import load_entries, speech_folder
from audiodiff.errors import AudioFileError, TrainingError
from audiodiff.evaluation import vocoding
from audiodiff.evaluation.vocoding import METRICS
from audiodiff.io import audio as audio_io
from audiodiff.metrics import registry
from audiodiff.training.overrides import hydra_arguments


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AudioFileError, match="--force"):
        demo_command(out=tmp_path)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny vocoder on noise, for two steps."""
    folder = tmp_path_factory.mktemp("tiny")
    runs.trained(runs.recordings(folder / "recordings"), folder / "run", "train.steps=2")
    return folder / "run"


@pytest.fixture
def trained_already(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a tiny model in the place of the demo's training, and a piece of one sentence in that of the test set."""

    def train(config: object, *, run: Path) -> None:
        shutil.copytree(tiny_run, run, dirs_exist_ok=True)

    monkeypatch.setattr(demo, "train", train)
    monkeypatch.setattr(vocoding, "DEFAULT_ITERATIONS", 1)
    monkeypatch.setattr(vocoding, "GRIFFIN_LIM_ITERATIONS", 1)
    load_whole = vocoding.load_whole
    monkeypatch.setattr(vocoding, "load_whole", lambda *entry, **options: load_whole(*entry, **options)[:, :16384])
    scan = load_entries(speech_folder(), split="test")
    monkeypatch.setattr(demo, "load_entries", lambda *_, **__: replace(scan, entries=scan.entries[:1]))


@pytest.mark.usefixtures("trained_already")
@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("evaluation.vocoding.griffin_lim", RuntimeError("out of memory")),
        ("cli.demo.draw_spectrograms", OSError(28, "No space left on device")),
        ("evaluation.vocoding.audio_io.write", OSError(28, "No space left on device")),
        ("evaluation.vocoding.metrics.summarise", MemoryError("1 GB wanted")),
    ],
)
def test_a_comparison_that_fails_leaves_the_trained_model(
    stage: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(f"audiodiff.{stage}", fails)
    with pytest.raises(typer.Exit) as leaving:
        demo_command(out=tmp_path / "demo")
    assert leaving.value.exit_code == 1
    said = capsys.readouterr().err
    assert f"training is complete, and the comparison after it failed ({type(error).__name__}: {error})" in said
    assert f"generate-wav YOUR.wav --model {tmp_path / 'demo' / 'run'}" in said
    assert audiodiff.load(tmp_path / "demo" / "run", device="cpu").dialect is not None
    # The table is written before the pictures are drawn.
    assert (tmp_path / "demo" / "metrics.json").exists() == (stage == "cli.demo.draw_spectrograms")


@pytest.mark.usefixtures("trained_already")
def test_a_metric_that_fails_is_an_empty_cell_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> NoReturn:
        raise RuntimeError("no utterance")

    broken = replace(registry.METRICS["pesq_wb"], compute=fails)
    monkeypatch.setattr(registry, "METRICS", {**registry.METRICS, "pesq_wb": broken})
    demo_command(out=tmp_path / "demo")
    report = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert report["no_value"]["network alone"]["pesq_wb"].startswith("RuntimeError: no utterance (")
    assert report["systems"]["network alone"]["lsd"] > 0
    captured = capsys.readouterr()
    assert "network alone: no value of pesq_wb: RuntimeError: no utterance" in captured.err
    assert "nan" not in captured.out


def test_training_goes_on_in_the_folder_of_a_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(config: object, *, run: Path) -> NoReturn:
        raise TrainingError("validation failed")

    monkeypatch.setattr(demo, "train", stopped)
    with pytest.raises(TrainingError):
        demo_command(out=tmp_path / "demo", steps=7)
    overrides = hydra_arguments([f"train.resume={tmp_path / 'demo' / 'run'}"])
    assert {"recipes=quickstart/vocoder", "train.steps=7"} <= set(overrides)


@pytest.mark.slow
def test_the_demo_leaves_what_it_says(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    demo_command(out=out, steps=2)
    systems = json.loads((out / "metrics.json").read_text())["systems"]
    entries = load_entries(speech_folder(), split="test").entries
    assert len(systems) == 6
    for values in systems.values():
        assert set(METRICS) < set(values)
    assert systems["ground truth"]["pesq_wb"] == pytest.approx(4.644, abs=1e-3)
    assert math.isinf(systems["ground truth"]["snr_db"])
    for folder in ("network", "network_constraint", "constraint_few", "constraint", "griffin_lim", "truth"):
        for entry in entries:
            assert audio_io.info(out / "wavs" / folder / f"{entry.path.stem}.wav").sample_rate == 22050
    assert len(list((out / "spectrograms").glob("*.png"))) == len(entries)
    assert (out / "run" / "checkpoints" / "latest").is_file()
