"""How good generated sounds are, as a classifier hears them, beside real sounds at the same count."""

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
from audiodiff.errors import DataError, ParameterError
from audiodiff.evaluation.generative_report import GenerationReport, LabelScores, SetScores
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress
from audiodiff.io.jobs import find_files
from audiodiff.metrics import generative
from audiodiff.models import classifier
from audiodiff.models.classifier import Classifier, Prediction

TRAIN = "train"
TESTED = ("test", "val")
"""The splits that real sounds are taken from where none is named: the first of them that there is."""
N_DRAWS = 10
_FILES_AT_ONCE = 64


@dataclass(frozen=True)
class _Sounds:
    """A set of sounds, what was heard, and which values are true or were asked for, -1 where that is not known."""

    name: str
    heard: Prediction
    asked: Int[Tensor, "n labels"]

    def __len__(self) -> int:
        return len(self.asked)


def evaluate_generated(
    generated: str | os.PathLike[str],
    against: str | os.PathLike[str],
    where: str | os.PathLike[str],
    *,
    seed: int = 0,
    device: str = "cpu",
) -> GenerationReport:
    """Compare generated sounds with real ones, by what a classifier hears.

    FID, inception scores and AM are computed at one count for all sets, that of the smallest; from larger sets they are
    means over 10 draws without replacement, in which values of labels come in the proportions of their set.

    Args:
        generated: a folder with a manifest that has a column path and one for each label that was asked for; without a
            manifest, only labels that are folders' names are known.
        against: the real sounds, a folder or manifest whose split train is what the generator learnt from, with
            `:split` for the real sounds to compare with; without it, test, or else val.
        where: the classifier's folder, or the run that trained it.
        seed: of the draws.
        device: of the classifier.

    Raises:
        CheckpointError: if there is no classifier.
        DataError: if a set is missing or too small, or a label has a value that the classifier does not know.
        AudioFileError: if a generated file cannot be read.
        ParameterError: if a generated file's rate is not the classifier's.
    """
    model = classifier.load(Path(where), device=device)
    entries = _generated(Path(generated), model)
    is_listed = any((Path(generated) / name).is_file() for name in MANIFEST_NAMES)
    asked = _asked(entries, model, is_listed=is_listed)
    root, split = _place(str(against))
    scan = load_entries(root, on_bad="skip", columns=list(model.columns.values()))
    split = split or next((name for name in TESTED if name in scan.splits), TESTED[0])
    if split == TRAIN:
        raise ParameterError(f"against={against}: the split {TRAIN} is what generators learn from; name another")
    real = {name: scan.split(name) for name in (TRAIN, split)}
    truths = {name: label_indices(of, model.labels, model.columns) for name, of in real.items()}
    n = min(len(entries), *(len(of) for of in real.values()))
    if n < 2:
        counts = ", ".join(f"{len(of)} real {name}" for name, of in real.items())
        raise DataError(f"{len(entries)} generated, {counts}: each set must have two sounds or more to be compared")

    def loaded(entry: Entry) -> Tensor:
        return load_whole(entry, sample_rate=model.sample_rate, n_channels=1)

    made = _Sounds("generated", _heard(model, entries, lambda entry: audio_io.read(entry.path)[0], "generated"), asked)
    train, test = (
        _Sounds(f"real {name}", _heard(model, of, loaded, f"real {name}"), truths[name]) for name, of in real.items()
    )
    generator = torch.Generator().manual_seed(seed)
    notes = _notes(n, model=model, asked=asked, n_skipped=len(scan.skipped), split=split)
    rows = tuple(_scores(each, train=train, test=test, n=n, generator=generator) for each in (made, train, test))
    return GenerationReport(rows, n, model.n_features, model.labels.vocabularies, notes)


def _generated(folder: Path, model: Classifier) -> list[Entry]:
    """List the generated files, having looked at the header of each."""
    if not folder.is_dir():
        raise DataError(f"--generated {folder}: no such folder")
    manifest = next((folder / name for name in MANIFEST_NAMES if (folder / name).is_file()), None)
    if manifest is not None:
        entries = read_manifest(manifest)
    elif "folder" in model.columns.values():
        entries = [Entry(path) for path in find_files(folder)]
    else:
        raise DataError(
            f"{folder} holds no {' or '.join(MANIFEST_NAMES)}: write one with the column path and one for each label "
            f"that was asked for ({', '.join(model.labels.names)}); generate-wav --label does"
        )
    for entry in entries:
        rate = audio_io.info(entry.path).sample_rate
        if rate != model.sample_rate:
            raise ParameterError(
                f"{entry.path}: {rate} Hz is not the classifier's rate, {model.sample_rate} Hz: resample the files, or "
                "train a classifier at their rate"
            )
    return entries


def _asked(entries: Sequence[Entry], model: Classifier, *, is_listed: bool) -> Int[Tensor, "n labels"]:
    """Return the values that were asked for, from columns named as the labels, or else as in training.

    The folder of files that a manifest lists says nothing of them.
    """
    columns: dict[str, str] = {}
    for name, column in model.columns.items():
        places = [f"label_{name}", name, *([] if is_listed and column == "folder" else [column])]
        found = next((place for place in places if any(entry.value(place) for entry in entries)), None)
        if found is not None:
            columns[name] = found
    rows = [_indices(entry, columns, model=model) for entry in entries]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(model.columns))


def _indices(entry: Entry, columns: Mapping[str, str], *, model: Classifier) -> list[int]:
    try:
        return model.labels.indices({name: entry.value(column) for name, column in columns.items()})
    except ParameterError as error:
        raise DataError(f"{entry.path}: {error}; the classifier cannot judge it") from error


def _place(against: str) -> tuple[Path, str]:
    """Return a path and the split that is named behind its last colon, if one is."""
    path, _, split = against.rpartition(":")
    if Path(against).expanduser().exists() or not path:
        return Path(against).expanduser(), ""
    return Path(path).expanduser(), split


def _heard(model: Classifier, entries: Sequence[Entry], read: Callable[[Entry], Tensor], name: str) -> Prediction:
    parts: list[Prediction] = []
    with progress(f"listening to {name}", total=len(entries)) as bar:
        for first in range(0, len(entries), _FILES_AT_ONCE):
            chosen = entries[first : first + _FILES_AT_ONCE]
            parts.append(classifier.classify(model, [read(entry) for entry in chosen]))
            for _ in chosen:
                bar.advance()
    told = {label: torch.cat([part.log_probabilities[label] for part in parts]) for label in model.labels.names}
    return Prediction(told, torch.cat([part.embedding for part in parts]))


def _scores(sounds: _Sounds, *, train: _Sounds, test: _Sounds, n: int, generator: torch.Generator) -> SetScores:
    embedding = sounds.heard.embedding
    among = train.heard.embedding
    real = generative.nearest_distances(test.heard.embedding, among)
    nearest = (
        generative.nearest_other_distances(embedding)
        if sounds is train
        else generative.nearest_distances(embedding, among)
    )
    draws = _draws(sounds, n=n, generator=generator)
    others = _draws(test, n=n, generator=generator)
    n_pairs = max(len(draws), len(others))
    distances = torch.tensor(
        [
            generative.frechet_distance(embedding[draws[k % len(draws)]], test.heard.embedding[others[k % len(others)]])
            for k in range(n_pairs if sounds is not test else 0)
        ]
    )
    return SetScores(
        name=sounds.name,
        n=len(sounds),
        fid=distances.mean().item(),
        fid_spread=distances.std().item() if len(distances) > 1 else math.nan,
        nearest=nearest.median().item(),
        closer_p=math.nan if sounds is test else generative.closer_p_value(nearest, real),
        labels={
            label: _label_scores(sounds, label, place=place, train=train, draws=draws)
            for place, label in enumerate(sounds.heard.log_probabilities)
        },
    )


def _label_scores(
    sounds: _Sounds, label: str, *, place: int, train: _Sounds, draws: Sequence[Int[Tensor, "n"]]
) -> LabelScores:
    told, real = (each.heard.log_probabilities[label] for each in (sounds, train))
    asked, heard = sounds.asked[:, place], told.argmax(-1)
    known = asked >= 0
    confusion = generative.confusion_matrix(asked[known], heard[known], n_classes=told.shape[1])

    def averaged(score: Callable[[Tensor], float]) -> float:
        return sum(score(told[chosen]) for chosen in draws) / len(draws)

    return LabelScores(
        n_right=int(confusion.diagonal().sum()),
        n_asked=int(known.sum()),
        inception=averaged(generative.inception_score),
        modified_inception=averaged(generative.modified_inception_score),
        am=averaged(lambda some: generative.am_score(some, real)),
        diversity=generative.within_class_distance(sounds.heard.embedding, torch.where(known, asked, heard).tolist()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _draws(sounds: _Sounds, *, n: int, generator: torch.Generator) -> list[Int[Tensor, "n"]]:
    """Return random choices of n sounds, with the values of all labels in the proportions of the set."""
    total = len(sounds)
    if total == n:
        return [torch.arange(n)]
    heard = torch.stack([told.argmax(-1) for told in sounds.heard.log_probabilities.values()], dim=1)
    values = torch.where(sounds.asked >= 0, sounds.asked, heard)
    kinds = values.unique(dim=0, return_inverse=True)[1]
    chosen = []
    for _ in range(N_DRAWS):
        mixed = torch.randperm(total, generator=generator)
        in_kinds = mixed[kinds[mixed].argsort(stable=True)]
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        chosen.append(in_kinds[((torch.arange(n) + offset) * total / n).long().clamp(max=total - 1)])
    return chosen


def _notes(n: int, *, model: Classifier, asked: Int[Tensor, "n labels"], n_skipped: int, split: str) -> tuple[str, ...]:
    notes = [
        f"FID, IS, mIS and AM at n = {n} of each set, FID against real {split} in {model.n_features} features; larger "
        f"sets: mean of {N_DRAWS} draws of n",
        "they are this classifier's: compare them with its rows of real sounds alone",
    ]
    if n <= model.n_features:
        notes.append(
            f"warning: n = {n} is not above the {model.n_features} features of the embedding, so that covariances are "
            "singular and FID is mostly bias: give more sounds"
        )
    if split not in TESTED[:1]:
        notes.append(f"the real sounds are of the split {split!r}, by which a model may have been chosen")
    for place, name in enumerate(model.labels.names):
        n_asked = int((asked[:, place] >= 0).sum())
        if n_asked < len(asked):
            notes.append(
                f"{name}: asked for in {n_asked} of {len(asked)} generated sounds; the diversity of the others is "
                "within what was heard"
            )
    if n_skipped:
        notes.append(f"{n_skipped} real files cannot be used and were skipped")
    return tuple(notes)
