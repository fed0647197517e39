"""Evaluation of generated sounds: known values, result files and refusals."""

import csv
import json
import math
from pathlib import Path

import commands
import pytest
import torch

from audiodiff.cli.evaluate import evaluate_command
from audiodiff.errors import AudioFileError, DataError, ParameterError
from audiodiff.evaluation.generated import evaluate_generated
from audiodiff.evaluation.generative_report import FILES
from audiodiff.io import audio as audio_io
from audiodiff.metrics import generative
from audiodiff.models import classifier
from audiodiff.models.classifier import Classifier

RATE = 8000
SIDES = ("low", "high")
N_TEST, N_TRAIN = 16, 48

run, _, refusal = commands.of(evaluate_command)


def sound(seed: int, side: str) -> torch.Tensor:
    """Make noise of another colour for each side, and of another length each time."""
    generator = torch.Generator().manual_seed(seed)
    noise = 0.1 * torch.randn(1, 800 + 40 * (seed % 9), generator=generator)
    shifted = torch.nn.functional.pad(noise, (1, 0))[:, :-1]
    return noise + (0.9 if side == "low" else -0.9) * shifted


def folder_of(folder: Path, sounds: list[tuple[str, torch.Tensor, list[str]]], header: list[str]) -> Path:
    for name, audio, _ in sounds:
        audio_io.write(folder / name, audio, sample_rate=RATE, subtype="FLOAT")
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", *header], *([name, *cells] for name, _, cells in sounds)])
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write real sounds: in the column `colour`, what the label `side` means."""
    sounds = []
    for index in range(N_TEST + N_TRAIN + 2):
        split = "test" if index < N_TEST else "train" if index < N_TEST + N_TRAIN else "val"
        side = SIDES[index % 2]
        sounds.append((f"{index}.wav", sound(index, side), [split, side]))
    return folder_of(tmp_path_factory.mktemp("real"), sounds, ["split", "colour"])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, real: Path) -> Path:
    """Make a classifier whose embedding is random, and whose head is fitted to real train sounds in closed form."""
    torch.manual_seed(0)
    model = Classifier(
        sample_rate=RATE,
        vocabularies={"side": SIDES},
        columns={"side": "colour"},
        n_mels=16,
        channels=(4, 8),
        n_features=6,
    ).eval()
    clips = [sound(index, SIDES[index % 2]) for index in range(N_TEST, N_TEST + N_TRAIN)]
    features = classifier.classify(model, clips).embedding
    means = [features[first::2].mean(0) for first in (0, 1)]
    direction = means[1] - means[0]
    direction = 8 * direction / direction.square().sum()
    offset = (direction @ (means[0] + means[1])) / 2
    head = model.heads["label_side"]
    assert isinstance(head, torch.nn.Linear)
    head.weight.data = torch.stack([-direction, direction]).float()
    head.bias.data = torch.stack([offset, -offset]).float()
    folder = tmp_path_factory.mktemp("fitted") / "it"
    classifier.save(model, folder, metrics={}, card="")
    return folder


def made(folder: Path, seeds: range, *, wrong: int = 0, header: str = "side") -> Path:
    """Write generated sounds; the first `wrong` have the other side as their label."""
    sounds = []
    for place, seed in enumerate(seeds):
        side = SIDES[seed % 2]
        sounds.append((f"{place}.wav", sound(seed, side), [SIDES[1 - seed % 2] if place < wrong else side]))
    return folder_of(folder, sounds, [header])


def test_accuracy_counts_predictions_of_the_requested_value(real: Path, fitted: Path, tmp_path: Path):
    report = evaluate_generated(made(tmp_path, range(100, 120), wrong=5), real, fitted)
    generated, _, test = report.rows
    assert (test.labels["side"].n_right, test.labels["side"].n_asked) == (N_TEST, N_TEST)
    assert (generated.labels["side"].n_right, generated.labels["side"].n_asked) == (15, 20)
    assert generated.labels["side"].confusion == ((7, 2), (3, 8))
    assert generated.labels["side"].interval == generative.wilson_interval(15, 20)


def test_copies_of_the_test_sounds_have_no_distance_to_them(real: Path, fitted: Path, tmp_path: Path):
    report = evaluate_generated(made(tmp_path, range(N_TEST)), real, fitted)
    generated, train, test = report.rows
    assert (report.n_compared, report.n_features) == (N_TEST, 6)
    assert generated.fid < 1e-6 * train.fid
    assert generated.nearest == pytest.approx(test.nearest, rel=1e-6)
    assert generated.closer_p == pytest.approx(1.0)
    assert math.isnan(test.fid)
    for score in ("inception", "modified_inception", "am", "diversity"):
        assert getattr(generated.labels["side"], score) == pytest.approx(getattr(test.labels["side"], score), rel=1e-5)


def test_copies_of_the_training_sounds_are_detected(real: Path, fitted: Path, tmp_path: Path):
    report = evaluate_generated(made(tmp_path, range(N_TEST, N_TEST + 20)), real, fitted)
    assert report.rows[0].nearest == pytest.approx(0.0, abs=1e-5)
    assert report.rows[0].closer_p < 1e-4


def test_sets_are_compared_at_the_count_of_the_smallest(real: Path, fitted: Path, tmp_path: Path):
    small = evaluate_generated(made(tmp_path / "small", range(200, 212)), real, fitted)
    assert (small.n_compared, [row.n for row in small.rows]) == (12, [12, N_TRAIN, N_TEST])
    # Both are drawn from: the larger sets have a spread.
    assert small.rows[0].fid_spread > 0
    assert small.rows[1].fid_spread > 0
    model = classifier.load(fitted)
    train = classifier.classify(model, [sound(k, SIDES[k % 2]) for k in range(N_TEST, N_TEST + N_TRAIN)]).embedding
    test = classifier.classify(model, [sound(k, SIDES[k % 2]) for k in range(N_TEST)]).embedding
    large = evaluate_generated(made(tmp_path / "large", range(200, 264)), real, fitted).rows[1]
    # Draws of 16 of 48 are biased upwards, compared with all 48.
    assert large.fid > generative.frechet_distance(train, test)


def test_the_same_seed_gives_the_same_numbers(real: Path, fitted: Path, tmp_path: Path):
    folder = made(tmp_path, range(300, 330))
    first, again, other = (evaluate_generated(folder, real, fitted, seed=seed) for seed in (0, 0, 1))
    assert str(first) == str(again)
    assert first.rows[0].fid != other.rows[0].fid
    assert first.rows[0].labels["side"].n_right == other.rows[0].labels["side"].n_right


@pytest.mark.parametrize("header", ["side", "label_side", "colour"])
def test_requested_values_are_in_the_labels_column_or_as_in_training(
    real: Path, fitted: Path, tmp_path: Path, header: str
):
    report = evaluate_generated(made(tmp_path, range(100, 110), header=header), real, fitted)
    assert report.rows[0].labels["side"].n_asked == 10


def test_sounds_without_labels_have_all_but_an_accuracy(real: Path, fitted: Path, tmp_path: Path):
    report = evaluate_generated(made(tmp_path, range(100, 110), header="seed"), real, fitted)
    scores = report.rows[0].labels["side"]
    assert (scores.n_asked, math.isnan(scores.accuracy)) == (0, True)
    assert scores.diversity > 0
    assert any("requested for 0 of 10" in note for note in report.notes)


def test_few_sounds_give_a_warning(real: Path, fitted: Path, tmp_path: Path):
    few = evaluate_generated(made(tmp_path / "few", range(100, 106)), real, fitted)
    enough = evaluate_generated(made(tmp_path / "enough", range(100, 107)), real, fitted)
    assert any("n = 6 is not above the 6 features" in note for note in few.notes)
    assert not any("warning" in note for note in enough.notes)


def test_a_split_follows_a_colon(real: Path, fitted: Path, tmp_path: Path):
    folder = made(tmp_path, range(100, 110))
    named = evaluate_generated(folder, f"{real}:test", fitted)
    assert [row.name for row in named.rows] == ["generated", "real train", "real test"]
    manifest = evaluate_generated(folder, real / "manifest.csv", fitted)
    assert str(manifest) == str(named)
    with pytest.raises(ParameterError, match="training data of generators"):
        evaluate_generated(folder, f"{real}:train", fitted)
    with pytest.raises(DataError, match=r"split='dev' has no entries.*test, train, val"):
        evaluate_generated(folder, f"{real}:dev", fitted)


def test_the_command_prints_the_accuracy_first_and_writes_all_results(real: Path, fitted: Path, tmp_path: Path):
    folder, out = made(tmp_path / "made", range(100, 120), wrong=5), tmp_path / "out"
    given = ("--generated", folder, "--against", real, "--classifier", fitted, "-o", out)
    result = run(*given)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "classifier on real test (16 sounds): side 100.0 % (16 of 16; 80.6 to 100.0)"
    assert [line.split("  ")[0] for line in lines if line.startswith(("generated", "real"))] == [
        *("generated", "real train", "real test"),
        *("generated", "real train", "real test"),
    ]
    assert "n = 16 of each set" in result.stdout
    assert {path.name for path in out.iterdir()} == set(FILES)
    document = json.loads((out / "metrics.json").read_text())
    assert document["sets"][0]["labels"]["side"]["accuracy"] == 0.75
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [(row["set"], row["label"]) for row in rows] == [
        ("generated", "side"),
        ("real train", "side"),
        ("real test", "side"),
    ]
    assert float(rows[0]["fid"]) == pytest.approx(document["sets"][0]["fid"], rel=1e-5)
    assert rows[2]["fid"] == ""
    table = (out / "metrics.md").read_text()
    assert "| generated | 20 |" in table
    assert "--force" in refusal(*given)
    assert run(*given, "--force").exit_code == 0


def test_what_cannot_be_evaluated_is_refused(real: Path, fitted: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        evaluate_generated(tmp_path / "absent", real, fitted)
    bare = tmp_path / "bare"
    audio_io.write(bare / "a.wav", sound(0, "low"), sample_rate=RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"has no manifest\.csv.*\(side\)"):
        evaluate_generated(bare, real, fitted)
    unknown = folder_of(tmp_path / "unknown", [("a.wav", sound(0, "low"), ["middle"])], ["side"])
    with pytest.raises(DataError, match=r"a\.wav: side=middle is not known.*low, high"):
        evaluate_generated(unknown, real, fitted)
    fast = made(tmp_path / "fast", range(3))
    audio_io.write(fast / "1.wav", sound(0, "low"), sample_rate=16000, subtype="FLOAT")
    with pytest.raises(ParameterError, match=r"1\.wav: 16000 Hz is not the classifier's rate, 8000 Hz"):
        evaluate_generated(fast, real, fitted)
    with pytest.raises(DataError, match="1 generated"):
        evaluate_generated(made(tmp_path / "one", range(1)), real, fitted)
    (fast / "1.wav").unlink()
    with pytest.raises(AudioFileError, match="no such file"):
        evaluate_generated(fast, real, fitted)
    with pytest.raises(DataError, match="no such"):
        evaluate_generated(made(tmp_path / "good", range(3)), tmp_path / "absent", fitted)


def test_silent_generated_sounds_are_evaluated_like_any_other(real: Path, fitted: Path, tmp_path: Path):
    sounds = [(f"{k}.wav", torch.zeros(1, 900) if k == 0 else sound(k, SIDES[k % 2]), [SIDES[k % 2]]) for k in range(8)]
    report = evaluate_generated(folder_of(tmp_path, sounds, ["side"]), real, fitted)
    assert report.rows[0].labels["side"].n_asked == 8
    assert math.isfinite(report.rows[0].fid)
