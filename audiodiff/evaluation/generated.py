"""Evaluation of generated sounds against real ones, by the embeddings and predictions of a classifier."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from audiodiff.data import Entry, label_indices, load_entries, load_whole
from audiodiff.data.manifest import MANIFEST_NAMES, read_manifest
from audiodiff.dsp.level import constant_offset
from audiodiff.errors import DataError, ParameterError
from audiodiff.evaluation.generative_report import GenerationReport, LabelScores, SetScores
from audiodiff.io import audio as audio_io
from audiodiff.io.jobs import find_files
from audiodiff.io.paths import user_path
from audiodiff.metrics import generative
from audiodiff.models import classifier
from audiodiff.models.classifier import Classifier, Prediction
from audiodiff.types import OnProgress

TRAIN = "train"
TESTED = ("test", "val")
"""Default splits of the real sounds; the first that exists is used."""
N_DRAWS = 10
_FILES_AT_ONCE = 64


@dataclass(frozen=True)
class _Sounds:
    """A set of sounds, with predictions and the requested or true values of labels, -1 if unknown."""

    name: str
    prediction: Prediction
    expected: Int[Tensor, "n labels"]

    def __len__(self) -> int:
        return len(self.expected)


def evaluate_generated(
    generated: str | os.PathLike[str],
    against: str | os.PathLike[str],
    where: str | os.PathLike[str],
    *,
    seed: int = 0,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> GenerationReport:
    """Compare generated sounds with real ones by a classifier.

    FID, inception scores and AM are computed at the number of sounds of the smallest set; for larger sets they are
    means over 10 draws without replacement, stratified by the values of labels.

    Args:
        generated: a folder with a manifest that has a column path and one for each requested label; without a manifest,
            only labels that are folder names are known.
        against: the real sounds: a folder or manifest whose split train is the generator's training data, with
            `:split` for the real sounds to compare with; by default test, or else val.
        where: folder of the classifier, or the run that trained it.
        seed: of the draws.
        device: of the classifier.
        on_progress: called as sounds are classified.

    Raises:
        CheckpointError: if there is no classifier.
        DataError: if a set is missing or too small, or a label has a value unknown to the classifier.
        AudioFileError: if a generated file cannot be read.
        ParameterError: if a generated file has another rate than the classifier.
    """
    folder = user_path(generated, name="the folder of generated sounds")
    model = classifier.load(user_path(where, name="the classifier"), device=device)
    entries = _list_generated(folder, model)
    is_listed = any((folder / name).is_file() for name in MANIFEST_NAMES)
    expected = _requested(entries, model, is_listed=is_listed)
    root, split = _parse_split(str(against))
    scan = load_entries(root, on_bad="skip", columns=list(model.columns.values()))
    split = split or next((name for name in TESTED if name in scan.splits), TESTED[0])
    if split == TRAIN:
        raise ParameterError(f"against={against}: the split {TRAIN} is the training data of generators: name another")
    real = {name: scan.split(name) for name in (TRAIN, split)}
    true_values = {name: label_indices(of, model.labels, model.columns) for name, of in real.items()}
    n = min(len(entries), *(len(of) for of in real.values()))
    if n < 2:
        counts = ", ".join(f"{len(of)} real {name}" for name, of in real.items())
        raise DataError(f"{len(entries)} generated, {counts}: each set must have at least two sounds")

    def loaded(entry: Entry) -> Tensor:
        return load_whole(entry, sample_rate=model.sample_rate, n_channels=1)

    def classified(name: str, entries: Sequence[Entry], read: Callable[[Entry], Tensor]) -> Prediction:
        return _classify(model, entries, read, name=name, on_progress=on_progress)

    def read_generated(entry: Entry) -> Tensor:
        audio, _ = audio_io.read(entry.path)
        return audio - constant_offset(audio)  # as of real sounds

    made = _Sounds("generated", classified("generated", entries, read_generated), expected)
    train, test = (
        _Sounds(f"real {name}", classified(f"real {name}", of, loaded), true_values[name]) for name, of in real.items()
    )
    generator = torch.Generator().manual_seed(seed)
    notes = _notes(n, model=model, expected=expected, n_skipped=len(scan.skipped), split=split)
    rows = tuple(_scores(each, train=train, test=test, n=n, generator=generator) for each in (made, train, test))
    return GenerationReport(rows, n, model.n_features, model.labels.vocabularies, notes)


def _list_generated(folder: Path, model: Classifier) -> list[Entry]:
    """List the generated files, and check the rate of each."""
    if not folder.is_dir():
        raise DataError(f"--generated {folder}: no such folder")
    manifest = next((folder / name for name in MANIFEST_NAMES if (folder / name).is_file()), None)
    if manifest is not None:
        entries = read_manifest(manifest)
    elif "folder" in model.columns.values():
        entries = [Entry(path) for path in find_files(folder)]
    else:
        raise DataError(
            f"{folder} has no {' or '.join(MANIFEST_NAMES)}: write one with a column path and one for each requested "
            f"label ({', '.join(model.labels.names)}), as generate-wav --label does"
        )
    for entry in entries:
        rate = audio_io.info(entry.path).sample_rate
        if rate != model.sample_rate:
            raise ParameterError(
                f"{entry.path}: {rate} Hz is not the classifier's rate, {model.sample_rate} Hz: resample the files, or "
                "train a classifier at their rate"
            )
    return entries


def _requested(entries: Sequence[Entry], model: Classifier, *, is_listed: bool) -> Int[Tensor, "n labels"]:
    """Return the requested values, from columns named as the labels, or else as in training.

    The folder of a file that a manifest lists is not a label.
    """
    columns: dict[str, str] = {}
    for name, column in model.columns.items():
        candidates = [f"label_{name}", name, *([] if is_listed and column == "folder" else [column])]
        source = next((known for known in candidates if any(entry.value(known) for entry in entries)), None)
        if source is not None:
            columns[name] = source
    rows = [_indices(entry, columns, model=model) for entry in entries]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(model.columns))


def _indices(entry: Entry, columns: Mapping[str, str], *, model: Classifier) -> list[int]:
    try:
        return model.labels.indices({name: entry.value(column) for name, column in columns.items()})
    except ParameterError as error:
        raise DataError(f"{entry.path}: {error}; the classifier does not know this value") from error


def _parse_split(against: str) -> tuple[Path, str]:
    """Return the path and the split of PATH[:SPLIT]; the split is empty if there is none."""
    path, _, split = against.rpartition(":")
    whole = user_path(against, name="--against")
    return (whole, "") if whole.exists() or not path else (user_path(path), split)


def _classify(
    model: Classifier,
    entries: Sequence[Entry],
    read: Callable[[Entry], Tensor],
    *,
    name: str,
    on_progress: OnProgress | None,
) -> Prediction:
    parts: list[Prediction] = []
    for first in range(0, len(entries), _FILES_AT_ONCE):
        some = entries[first : first + _FILES_AT_ONCE]
        parts.append(classifier.classify(model, [read(entry) for entry in some]))
        if on_progress is not None:
            on_progress(f"classifying {name}", first + len(some), len(entries))
    log_p = {label: torch.cat([part.log_probabilities[label] for part in parts]) for label in model.labels.names}
    return Prediction(log_p, torch.cat([part.embedding for part in parts]))


def _scores(sounds: _Sounds, *, train: _Sounds, test: _Sounds, n: int, generator: torch.Generator) -> SetScores:
    embedding, of_test = sounds.prediction.embedding, test.prediction.embedding
    training = train.prediction.embedding
    nearest_of_test = generative.nearest_distances(of_test, training)
    nearest = (
        generative.nearest_other_distances(embedding)
        if sounds is train
        else generative.nearest_distances(embedding, training)
    )
    draws = _draws(sounds, n=n, generator=generator)
    others = _draws(test, n=n, generator=generator)
    n_pairs = max(len(draws), len(others))
    distances = torch.tensor(
        [
            generative.frechet_distance(embedding[draws[k % len(draws)]], of_test[others[k % len(others)]])
            for k in range(n_pairs if sounds is not test else 0)
        ]
    )
    return SetScores(
        name=sounds.name,
        n=len(sounds),
        fid=distances.mean().item(),
        fid_spread=distances.std().item() if len(distances) > 1 else math.nan,
        nearest=nearest.median().item(),
        closer_p=math.nan if sounds is test else generative.closer_p_value(nearest, nearest_of_test),
        labels={
            label: _label_scores(sounds, label, index=index, train=train, draws=draws)
            for index, label in enumerate(sounds.prediction.log_probabilities)
        },
    )


def _label_scores(
    sounds: _Sounds, label: str, *, index: int, train: _Sounds, draws: Sequence[Int[Tensor, "n"]]
) -> LabelScores:
    log_p, real = (each.prediction.log_probabilities[label] for each in (sounds, train))
    expected, predicted = sounds.expected[:, index], log_p.argmax(-1)
    known = expected >= 0
    confusion = generative.confusion_matrix(expected[known], predicted[known], n_classes=log_p.shape[1])

    values = torch.where(known, expected, predicted).tolist()

    def averaged(score: Callable[[Tensor], float]) -> float:
        return sum(score(log_p[draw]) for draw in draws) / len(draws)

    return LabelScores(
        n_right=int(confusion.diagonal().sum()),
        n_asked=int(known.sum()),
        inception=averaged(generative.inception_score),
        modified_inception=averaged(generative.modified_inception_score),
        am=averaged(lambda some: generative.am_score(some, real)),
        diversity=generative.within_class_distance(sounds.prediction.embedding, values),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _draws(sounds: _Sounds, *, n: int, generator: torch.Generator) -> list[Int[Tensor, "n"]]:
    """Return random selections of n sounds, stratified by the values of all labels."""
    total = len(sounds)
    if total == n:
        return [torch.arange(n)]
    predicted = torch.stack([log_p.argmax(-1) for log_p in sounds.prediction.log_probabilities.values()], dim=1)
    values = torch.where(sounds.expected >= 0, sounds.expected, predicted)
    strata = values.unique(dim=0, return_inverse=True)[1]
    draws = []
    for _ in range(N_DRAWS):
        shuffled = torch.randperm(total, generator=generator)
        in_strata = shuffled[strata[shuffled].argsort(stable=True)]
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        draws.append(in_strata[((torch.arange(n) + offset) * total / n).long().clamp(max=total - 1)])
    return draws


def _notes(
    n: int, *, model: Classifier, expected: Int[Tensor, "n labels"], n_skipped: int, split: str
) -> tuple[str, ...]:
    notes = [
        f"FID, IS, mIS and AM at n = {n} of each set, FID against real {split} in {model.n_features} features; larger "
        f"sets: mean of {N_DRAWS} draws of n",
        "the values depend on this classifier: compare them only with its rows of real sounds",
    ]
    if n <= model.n_features:
        notes.append(
            f"warning: n = {n} is not above the {model.n_features} features of the embedding, so covariances are "
            "singular and FID is mostly bias: give more sounds"
        )
    if split not in TESTED[:1]:
        notes.append(f"the real sounds are of the split {split!r}, which may have been used to select a model")
    for index, name in enumerate(model.labels.names):
        n_asked = int((expected[:, index] >= 0).sum())
        if n_asked < len(expected):
            notes.append(
                f"{name}: requested for {n_asked} of {len(expected)} generated sounds; the diversity of the "
                "others is that within predicted values"
            )
    if n_skipped:
        notes.append(f"{n_skipped} real files cannot be used and were skipped")
    return tuple(notes)
