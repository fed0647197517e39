"""The classifier: invariances, files, training on tones, and refusals."""

import csv
import json
import math
import signal
import subprocess
from pathlib import Path

import pytest
import runs
import torch
import yaml

from audiodiff.errors import AudiodiffError, CheckpointError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint, classifier, registry
from audiodiff.models.classifier import Classifier, Prediction
from audiodiff.training.classifier import ClassifierTraining, Outcome
from audiodiff.training.config import compose, instantiate, plain

RATE = 8000
PITCHES_HZ = {"low": 300.0, "high": 900.0}


def made(**more: object) -> Classifier:
    torch.manual_seed(0)
    values = {"sample_rate": RATE, "vocabularies": {"digit": ["0", "1", "2"], "who": ["a", "b"]}}
    model = Classifier(**values, columns={"digit": "label", "who": "speaker"}, **more)  # pyright: ignore
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model.eval()


def clips(*seconds: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(1, round(RATE * each), generator=generator) for each in seconds]


def assert_alike(first: Prediction, second: Prediction, *, atol: float) -> None:
    assert torch.allclose(first.embedding, second.embedding, atol=atol)
    for name, expected in first.log_probabilities.items():
        assert torch.allclose(expected, second.log_probabilities[name], atol=atol)


def tones(folder: Path, *, n: int = 24) -> Path:
    """Write a data set of tones: the pitch is one label, whether it has a fourth harmonic the other."""
    generator = torch.Generator().manual_seed(2)
    rows = []
    for index in range(n):
        pitch, timbre = list(PITCHES_HZ)[index % 2], ("pure", "rich")[index // 2 % 2]
        n_samples = int(torch.randint(1600, 3200, (), generator=generator))
        detune = 1 + 0.1 * torch.rand((), generator=generator)
        phase = 2 * math.pi * PITCHES_HZ[pitch] * detune * torch.arange(n_samples) / RATE
        audio = 0.3 * phase.sin() + (0.3 * (4 * phase).sin() if timbre == "rich" else 0.0)
        audio_io.write(folder / f"{index}.wav", audio[None], sample_rate=RATE)
        split = ("train", "train", "val", "test")[index // 4 % 4]
        rows.append([f"{index}.wav", split, pitch, timbre])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", "label", "timbre"], *rows])
    return folder


OWN = (
    "task=classifier",
    "audio=plain",
    f"audio.sample_rate={RATE}",
    "data=folder",
    "+data.labels.pitch=label",
    "+data.labels.timbre=timbre",
    "data.crop_frames=null",
    "data.crop_seconds=0.5",
    "data.n_workers=0",
    "train.batch_size=8",
)
"""How anyone trains a classifier of their own labels."""


def trained(root: Path, run: Path, *overrides: str) -> Outcome:
    config = plain(compose([*OWN, f"data.root={root}", *overrides]))
    return instantiate(config["task"], name="task")(config, run=run)


def test_predictions_do_not_depend_on_the_batch():
    model, some = made(), clips(0.31, 0.05, 0.5, 0.011, 0.4003)
    together = classifier.classify(model, some)
    alone = [classifier.classify(model, [clip]) for clip in some]
    # Rounding of float32: convolutions of another batch sum in another order.
    assert_alike(
        together,
        Prediction(
            {name: torch.cat([each.log_probabilities[name] for each in alone]) for name in together.log_probabilities},
            torch.cat([each.embedding for each in alone]),
        ),
        atol=1e-4,
    )
    assert together.embedding.std(0).max() > 1e-2  # else the comparison would be trivial


def test_predictions_do_not_depend_on_the_level():
    model, some = made(), clips(0.3, 0.2)
    assert_alike(
        classifier.classify(model, some), classifier.classify(model, [clip * 0.013 for clip in some]), atol=1e-4
    )


def test_padding_does_not_change_batch_statistics():
    model, [clip] = made(dropout=0.0).train(), clips(0.3)
    again = made(dropout=0.0).train()
    n_valid = torch.tensor([clip.shape[-1]])
    model(clip[None], n_valid)
    again(torch.nn.functional.pad(clip, (0, 4000))[None], n_valid)
    for (name, first), second in zip(model.named_buffers(), again.buffers(), strict=True):
        assert torch.allclose(first.double(), second.double(), atol=1e-4), name


def test_probabilities_sum_to_one_for_silence_too():
    prediction = classifier.classify(made(), [torch.zeros(1, 800), *clips(0.1), torch.randn(2, 900)])
    for log_probabilities in prediction.log_probabilities.values():
        assert torch.allclose(log_probabilities.exp().sum(-1), torch.ones(3, dtype=torch.float64), atol=1e-5)
    assert bool(torch.isfinite(prediction.embedding).all())
    with pytest.raises(ParameterError, match="at least one"):
        classifier.classify(made(), [])


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_any_sample_rate_has_a_spectrogram(rate: int):
    model = Classifier(sample_rate=rate, vocabularies={"a": ["x", "y"]}, columns={"a": "folder"}).eval()
    assert model.front.n_fft >= 0.025 * rate > model.front.n_fft / 4
    assert model(torch.randn(1, 1, rate // 4), torch.tensor([rate // 4])).embedding.shape == (1, 64)


def test_a_saved_classifier_is_loaded_bit_by_bit(tmp_path: Path):
    model = made()
    classifier.save(model, tmp_path / "it", metrics={"accuracy": {}}, card="card")
    back = classifier.load(tmp_path / "it")
    first, second = classifier.classify(model, clips(0.2, 0.3)), classifier.classify(back, clips(0.2, 0.3))
    assert_alike(first, second, atol=0.0)
    assert (back.labels, back.columns) == (model.labels, model.columns)
    assert {path.name for path in (tmp_path / "it").iterdir()} == {
        "config.yaml",
        "model.safetensors",
        "metrics.json",
        "README.md",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "os.system"}, "holds no classifier"),
        ({"_target_": "audiodiff.models.synthesizer.Synthesizer"}, "holds no classifier"),
        ({"n_features": 32}, "shape"),
        ({"command": "rm"}, "does not build"),
        ({"vocabularies": {"digit": []}}, "does not build"),
        ({"n_mels": 20}, "dialect.n_mels"),
    ],
)
def test_a_changed_folder_is_refused(tmp_path: Path, change: dict[str, object], message: str):
    classifier.save(made(), tmp_path, metrics={}, card="")
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["model"] |= change
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(CheckpointError, match=message):
        classifier.load(tmp_path)


def test_a_classifier_is_not_loaded_as_a_synthesizer(tmp_path: Path):
    classifier.save(made(), tmp_path, metrics={}, card="")
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dropout": 1.0}, "dropout"),
        ({"n_features": 1}, "n_features"),
        ({"channels": (0, 3)}, "channels"),
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, object], message: str):
    with pytest.raises(ParameterError, match=message):
        made(**wrong)
    with pytest.raises(ParameterError, match="column for each label"):
        Classifier(sample_rate=RATE, vocabularies={"a": ["x"]}, columns={"b": "label"})


def test_augmentation_shifts_whole_sounds_and_adds_noise_in_range():
    training = ClassifierTraining(40, (8, 8), 8, 0.0, shift_seconds=0.1, least_snr_db=20.0, most_snr_db=30.0)
    generator = torch.Generator().manual_seed(0)
    audio = torch.zeros(64, 1, 5000)
    n_valid = torch.randint(2000, 5000, (64,), generator=generator)
    for row, n in zip(audio, n_valid, strict=True):
        row[0, :n] = 1.0
    moved, longer = training.augmented(audio, n_valid, sample_rate=RATE, generator=generator)
    assert bool(((longer >= n_valid) & (longer <= n_valid + 1600)).all())
    assert moved.shape[-1] == longer.max()
    for row, before, after in zip(moved[:, 0], n_valid, longer, strict=True):
        assert not row[after:].any()
        sound = row > 0.5  # the noise, of std 0.1 at most, is five deviations away
        assert int(sound.sum()) == before
        first = int(sound.int().argmax())
        assert bool(sound[first : first + before].all())
        noise_db = 10 * math.log10(float((row[:after] - sound[:after].float()).square().mean()))
        # The power of 2000 samples or more has a standard error of 3 % (0.14 dB); four of these.
        assert -30.6 < noise_db < -19.4
    again = training.augmented(audio, n_valid, sample_rate=RATE, generator=torch.Generator().manual_seed(5))
    once_more = training.augmented(audio, n_valid, sample_rate=RATE, generator=torch.Generator().manual_seed(5))
    assert torch.equal(again[0], once_more[0])


def test_two_labels_of_tones_are_learnt_in_60_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tones(tmp_path / "tones", n=96)
    outcome = trained(root, tmp_path / "run", "train.steps=60")
    for split in ("val", "test"):
        assert outcome.accuracies[split] == {"pitch": (24, 24), "timbre": (24, 24)}
    said = capsys.readouterr().err
    assert "accuracy on test: pitch 100.0 % (24 of 24; 86.2 to 100.0)" in said
    folder = registry.find(tmp_path / "run")
    assert json.loads((folder / "metrics.json").read_text())["accuracy"]["test"]["pitch"] == {"n_right": 24, "n": 24}
    assert "| test | timbre | 100.0 %" in (folder / "README.md").read_text()
    model = classifier.load(tmp_path / "run")
    tone = 0.2 * torch.sin(2 * math.pi * 320 * torch.arange(2000) / RATE)
    scores = classifier.classify(model, [tone[None]]).log_probabilities["pitch"]
    assert model.labels.vocabularies["pitch"][int(scores.argmax())] == "low"


def test_training_is_determined_by_its_seed(tmp_path: Path):
    root = tones(tmp_path / "tones")
    weights = []
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        trained(root, tmp_path / run, "train.steps=3", f"seed={seed}")
        weights.append(classifier.load(tmp_path / run).hidden.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.root=null",), "data.root=null"),
        (("train.resume=/somewhere",), "from new weights"),
        (("train.steps=0",), "train.steps"),
        (("data.labels.timbre=colour",), "colour"),
        (("data.labels.timbre=split",), "give at least two"),
        (("task.least_snr_db=60.0",), "least_snr_db"),
        (("task.shift_seconds=-1.0",), "shift_seconds"),
    ],
)
def test_invalid_training_is_refused_before_any_work(tmp_path: Path, overrides: tuple[str, ...], message: str):
    with pytest.raises(AudiodiffError, match=message):
        trained(tones(tmp_path / "tones", n=16), tmp_path / "run", *overrides)
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_is_not_overwritten(tmp_path: Path):
    root = tones(tmp_path / "tones", n=16)
    trained(root, tmp_path / "run", "train.steps=1")
    with pytest.raises(AudiodiffError, match="earlier run"):
        trained(root, tmp_path / "run", "train.steps=1")


def test_the_recipe_of_spoken_digits_trains_both_labels(tmp_path: Path):
    """Two steps of it on the miniature of its layout."""
    root, generator = tmp_path / "fsdd", torch.Generator().manual_seed(3)
    rows = []
    for index in range(24):
        digit, speaker, split = index % 2, ("ann", "bob")[index // 2 % 2], ("train", "val", "test")[index // 4 % 3]
        audio_io.write(root / f"{index}.flac", 0.1 * torch.rand(1, 2000, generator=generator), sample_rate=RATE)
        rows.append([f"{index}.flac", split, digit, speaker])
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", "label", "speaker"], *rows])
    overrides = ["recipes=fsdd/classifier", f"data.root={root}", "train.steps=2", "train.batch_size=4"]
    config = plain(compose(overrides))
    outcome = instantiate(config["task"], name="task")(config, run=tmp_path / "run")
    assert {split: set(labels) for split, labels in outcome.accuracies.items()} == {
        "val": {"digit", "speaker"},
        "test": {"digit", "speaker"},
    }
    model = classifier.load(tmp_path / "run")
    assert model.labels.vocabularies == {"digit": ("0", "1"), "speaker": ("ann", "bob")}
    assert model.sample_rate == RATE


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path):
    root, run = tones(tmp_path / "tones"), tmp_path / "run"
    arguments = [*OWN, f"data.root={root}", f"hydra.run.dir={run}", "train.steps=100000"]
    process = subprocess.Popen([runs.COMMAND, "train", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "parameters" in said
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130, rest
    assert "Ctrl-C" in rest
    assert not (run / "checkpoints").exists()
