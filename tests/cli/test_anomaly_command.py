"""`audiodiff anomaly`: detector files, tables and pictures, and refusals."""

import csv
from pathlib import Path

import commands
import pytest
import tiny
import torch

from audiodiff.cli.anomaly import anomaly_command
from audiodiff.io import audio as audio_io
from audiodiff.tasks.anomaly import Detector

RATE = 22050


run, made, refusal = commands.of(anomaly_command)


def noise(path: Path, *, seed: int, seconds: float = 0.15, rate: int = RATE, n_channels: int = 1) -> Path:
    generator = torch.Generator().manual_seed(seed)
    audio = 0.05 * torch.randn(n_channels, round(seconds * rate), generator=generator)
    audio_io.write(path, audio, sample_rate=rate)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model, normal recordings and a detector of them."""
    folder = tmp_path_factory.mktemp("anomaly")
    tiny.save(folder / "model", tiny.UNCONDITIONAL)
    tiny.save(folder / "labelled", tiny.LABELLED)
    for seed in range(14):
        noise(folder / "normal" / f"{seed}.wav", seed=seed)
    made(
        "fit",
        folder / "normal",
        "-o",
        folder / "d.safetensors",
        "--model",
        folder / "model",
        "--false-alarms",
        "0.25",
    )
    return folder


@pytest.fixture(autouse=True)
def working_directory(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def scored(path: str | Path) -> dict[str, dict[str, str]]:
    with Path(path).open(newline="") as file:
        return {Path(row["path"]).name: row for row in csv.DictReader(file)}


def test_scores_of_a_folder_equal_those_of_the_library(place: Path):
    noise(Path("new/a.flac"), seed=100)
    noise(Path("new/deep/b.wav"), seed=101, rate=8000, n_channels=2, seconds=0.4)
    audio_io.write("new/tone.wav", 0.5 * torch.sin(torch.arange(6000) / 10.0)[None], sample_rate=RATE)
    said = made("score", "new", "--detector", place / "d.safetensors", "-o", "scores.csv")
    rows = scored("scores.csv")
    detector = Detector.load(place / "d.safetensors")
    assert list(rows) == ["a.flac", "b.wav", "tone.wav"]
    for row in rows.values():
        audio, rate = audio_io.read(row["path"])
        verdict = detector.score(audio, sample_rate=rate)
        assert float(row["score"]) == pytest.approx(float(verdict.score), abs=1e-3)
        assert float(row["threshold"]) == pytest.approx(detector.threshold, abs=1e-3)
        assert float(row["p"]) == pytest.approx(float(verdict.p), abs=1e-3)
        assert row["verdict"] == ("anomalous" if verdict.is_anomalous else "normal")
    assert rows["tone.wav"]["verdict"] == "anomalous"
    assert "tone.wav" in said
    assert "of normal recordings, 25 %" in said


def test_frame_tables_and_pictures_are_written(place: Path):
    noise(Path("new/deep/a.wav"), seed=100, seconds=0.5)
    made("score", "new", "--detector", place / "d.safetensors", "--frames", "frames")
    lines = Path("frames/deep/a.csv").read_text().splitlines()
    assert lines[0] == "seconds,score"
    assert len(lines) == 1 + 50
    assert float(lines[1].split(",")[0]) == pytest.approx(0.005, abs=1e-3)
    assert Path("frames/deep/a.png").read_bytes().startswith(b"\x89PNG")
    assert "exists" in refusal("score", "new", "--detector", place / "d.safetensors", "--frames", "frames")
    made("score", "new", "--detector", place / "d.safetensors", "--frames", "frames", "--force")


def test_a_file_that_cannot_be_scored_does_not_stop_the_others(place: Path):
    noise(Path("new/a.wav"), seed=100)
    noise(Path("new/short.wav"), seed=101, seconds=0.02)
    Path("new/broken.wav").write_bytes(b"no sound")
    made("score", "new", "--detector", place / "d.safetensors", "-o", "scores.csv")
    rows = scored("scores.csv")
    assert rows["a.wav"]["verdict"] in ("normal", "anomalous")
    assert rows["short.wav"]["verdict"] == rows["broken.wav"]["verdict"] == "not scored"
    assert "too short" in rows["short.wav"]["reason"]


def test_labels_restrict_what_is_normal(place: Path):
    made(
        "fit",
        place / "normal",
        "--model",
        place / "labelled",
        "--false-alarms",
        "0.25",
        "--label",
        "digit=0,2",
        "-o",
        "d",
    )
    detector = Detector.load("d")
    assert detector.scorer.kind == "surprise"
    assert detector.allowed == {"digit": ["0", "2"], "speaker": ["ann", "bob"]}
    made("score", place / "normal" / "0.wav", "--detector", "d")


def test_invalid_arguments_are_refused_before_anything_is_computed(place: Path):
    normal, detector, model = place / "normal", place / "d.safetensors", place / "model"
    assert "exists" in refusal("fit", normal, "-o", detector, "--model", model)
    assert "29 or more" in refusal("fit", normal, "-o", "d", "--model", model)
    assert "folder" in refusal("fit", normal, "-o", place, "--model", model)
    asked = ("fit", normal, "-o", "d", "--model", model, "--false-alarms", "0.25")
    assert "labels" in refusal(*asked, "--label", "digit=1")
    assert "needs recordings" in refusal("fit")
    assert "fit or score" in refusal("detect", normal)
    assert "no such file" in refusal("score", "nothing.wav", "--detector", detector)
    assert "anomaly fit" in refusal("score", normal)
    assert "no meaning" in refusal("score", normal, "--detector", detector, "--label", "digit=1")
    noise(Path("few/short.wav"), seed=0, seconds=0.01)
    assert "short.wav" in refusal(*asked[:2], "few", *asked[2:])
    assert not Path("d").exists()


def test_inputs_are_never_replaced_even_with_force(place: Path):
    sound, detector, model = noise(Path("a.wav"), seed=0), place / "d.safetensors", place / "model"
    before = sound.read_bytes(), detector.read_bytes()
    for out in (sound, Path("deep/../a.wav").absolute(), detector):
        said = refusal("score", sound, "--detector", detector, "-o", out, "--force")
        assert "is one of the inputs" in said
    said = refusal("fit", place / "normal", sound, "-o", sound, "--model", model, "--false-alarms", "0.25", "--force")
    assert "is one of the inputs" in said
    assert (sound.read_bytes(), detector.read_bytes()) == before


@pytest.mark.parametrize("out", ["folder", "file/scores.csv"])
def test_a_table_that_cannot_be_written_is_refused_before_scoring(
    place: Path, monkeypatch: pytest.MonkeyPatch, out: str
):
    Path("folder").mkdir()
    Path("file").write_text("is no folder")
    monkeypatch.setattr(Detector, "score", lambda *_, **__: pytest.fail("scored"))
    noise(Path("a.wav"), seed=0)
    assert "--out" in refusal("score", "a.wav", "--detector", place / "d.safetensors", "-o", out, "--force")


def test_a_dead_microphone_is_anomalous(place: Path):
    audio_io.write("dead.wav", torch.zeros(1, RATE), sample_rate=RATE)
    made("score", "dead.wav", "--detector", place / "d.safetensors", "-o", "scores.csv")
    assert scored("scores.csv")["dead.wav"]["verdict"] == "anomalous"
