"""The models that ship: they load by name, are small, say where they come from, and make what is asked."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import audiodiff
from audiodiff import metrics
from audiodiff.data import Entry, load_entries, load_whole, speech_folder
from audiodiff.models import checkpoint, registry
from audiodiff.models.synthesizer import Synthesizer

FOLDERS = sorted(path for path in (Path(audiodiff.__file__).parent / "pretrained").glob("*") if path.is_dir())
FSDD = Path(__file__).parents[3] / "shared" / "data" / "fsdd"
KATHLEEN = FSDD.parent / "kathleen"
N_PLACES = 20


def test_together_they_are_small():
    sizes = {folder.name: sum(path.stat().st_size for path in folder.iterdir()) for folder in FOLDERS}
    assert sizes["digits-8k"] < 8e6
    assert sum(sizes.values()) < 40e6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_model_is_found_by_name_and_says_where_it_comes_from(folder: Path):
    assert registry.find(folder.name) == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [checkpoint.CARD, checkpoint.CONFIG, checkpoint.METRICS, checkpoint.WEIGHTS]
    )
    card = (folder / checkpoint.CARD).read_text()
    for what in ("## Data and licence", "## Training", "## Quality", "CC BY"):
        assert what in card
    places = re.findall(r"[ =](/\w+/)", card + (folder / checkpoint.CONFIG).read_text())
    assert set(places) <= {"/my/"}
    assert json.loads((folder / checkpoint.METRICS).read_text())


@pytest.fixture(scope="module")
def digits() -> Synthesizer:
    model = audiodiff.load("digits-8k")
    assert isinstance(model, Synthesizer)
    return model


def test_digits_know_ten_digits_and_six_speakers(digits: Synthesizer):
    assert digits.labels is not None
    assert digits.labels.vocabularies["digit"] == tuple("0123456789")
    assert len(digits.labels.vocabularies["speaker"]) == 6
    lengths = digits.lengths([{"digit": "6", "speaker": "lucas"}] * 50)
    # Of the training data: 0.14 to 1.28 s.
    assert all(0.1 < n_samples / 8000 < 1.3 for n_samples in lengths)
    assert len(set(lengths)) > 5


def _picture(digits: Synthesizer, audio: torch.Tensor) -> torch.Tensor:
    """Return a log-mel of one length and level, smoothed over bands."""
    assert digits.dialect is not None
    mel = digits.dialect.mel(audio[:, : audio.shape[-1] // 80 * 80]).clamp(min=-9.0)
    picture = F.interpolate(mel[None], size=(32, N_PLACES), mode="bilinear", antialias=True)[0, 0]
    return picture - picture.mean()


@pytest.mark.slow
@pytest.mark.skipif(not FSDD.is_dir(), reason="the Free Spoken Digit Dataset is not beside the repository")
def test_digits_are_nearest_to_recordings_of_the_digit_that_was_asked_for(digits: Synthesizer):
    """A judge that knows no network: the mean picture of each digit of a speaker, 16 recordings of each."""
    entries = load_entries(FSDD, split="train").entries
    names = {"theo", "jackson", "nicolas"}

    def of(digit: str, speaker: str) -> list[Entry]:
        return [entry for entry in entries if entry.label == digit and entry.speaker == speaker][:16]

    means = {
        speaker: torch.stack(
            [
                torch.stack([_picture(digits, load_whole(e, sample_rate=8000, n_channels=1)) for e in of(d, speaker)])
                .mean(dim=0)
                .flatten()
                for d in "0123456789"
            ]
        )
        for speaker in names
    }
    rows = [{"digit": digit, "speaker": speaker} for speaker in sorted(names) for digit in "0123456789"]
    lengths = digits.lengths(rows)
    made = digits.generate(labels=rows, iterations=8)
    n_right = 0
    for row, audio, length in zip(rows, made, lengths, strict=True):
        distances = (means[row["speaker"]] - _picture(digits, audio[:, :length]).flatten()).norm(dim=1)
        n_right += int(distances.argmin()) == int(row["digit"])
    # This judge is right about 132 of the 150 test recordings of these speakers; chance is 3 of 30.
    assert n_right >= 21


def _means(entries: list[Entry], names: list[str]) -> dict[str, dict[str, float]]:
    """Return the mean scores of the vocoder, of the constraint with as many iterations, and with four times as many."""
    vocoder, none = audiodiff.load("speech-22k"), audiodiff.load("none")
    found: dict[str, list[list[float]]] = {"vocoder": [], "none": [], "none, in more time": []}
    for entry in entries:
        truth = load_whole(entry, sample_rate=22050, n_channels=1)
        truth = truth[:, : min(truth.shape[-1] // 256, 200) * 256]
        mel = vocoder.mel(truth[None])
        made = {
            "vocoder": vocoder.generate(mel, iterations=4),
            "none": none.generate(mel, iterations=4),
            "none, in more time": none.generate(mel, iterations=16),
        }
        for name, audio in made.items():
            scores = metrics.score(audio[0, 0], truth[0], sample_rate=22050, names=names)
            found[name].append([float(scores[metric]) for metric in names])
    return {
        name: dict(zip(names, torch.tensor(rows).mean(dim=0).tolist(), strict=True)) for name, rows in found.items()
    }


def test_the_vocoder_is_nearer_than_the_constraint_with_as_many_iterations():
    """On the embedded speech, which is a machine's and unlike what it was trained on."""
    means = _means(load_entries(speech_folder(), split="test").entries[:3], ["pesq_wb"])
    assert means["vocoder"]["pesq_wb"] > means["none"]["pesq_wb"]


@pytest.mark.skipif(not KATHLEEN.is_dir(), reason="needs recordings in shared/data/kathleen beside the repository")
def test_the_vocoder_mends_recorded_speech_as_no_number_of_iterations_does():
    means = _means(load_entries(KATHLEEN, split="test").entries[:4], ["pesq_wb", "mr_stft", "lsd"])
    assert means["vocoder"]["pesq_wb"] > means["none"]["pesq_wb"]
    for name in ("mr_stft", "lsd"):
        assert means["vocoder"][name] < 0.9 * means["none, in more time"][name]


def test_a_model_says_what_it_is_and_offers_little_of_torch():
    digits = audiodiff.load("digits-8k")
    assert repr(digits) == (
        "Synthesizer(sample_rate: 8000 Hz, dialect: hifigan, parameters: 3.36 M, steps: 16, iterations: 16, "
        "labels: digit, speaker, licence: CC BY-SA 4.0)"
    )
    assert {"generate", "mel", "sample_rate", "denoiser", "to"} <= set(dir(digits))
    assert not {"register_buffer", "training", "cuda", "half", "_modules"} & set(dir(digits))
