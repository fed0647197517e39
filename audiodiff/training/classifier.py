"""Training of a classifier: learn, measure on held-out recordings, save."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from audiodiff._version import __version__
from audiodiff.data.dataset import CropDataset, load_whole
from audiodiff.data.labels import label_indices, label_set
from audiodiff.data.loader import batches
from audiodiff.data.manifest import Entry
from audiodiff.data.source import Read
from audiodiff.errors import ParameterError, TrainingError, check_whole
from audiodiff.io.console import progress, say
from audiodiff.metrics.generative import wilson_interval
from audiodiff.models import classifier, registry
from audiodiff.models.classifier import Classifier
from audiodiff.models.devices import device_named
from audiodiff.training.config import instantiate, readable
from audiodiff.training.datasets import crops, data_name, recordings
from audiodiff.training.failure import in_a_line
from audiodiff.training.progress import Progress

MEASURED = ("val", "test")
_MAX_SECONDS_HEARD = 60.0


@dataclass(frozen=True)
class Outcome:
    """Result of a training.

    Args:
        step: optimiser steps that were made.
        accuracies: by split and label, the numbers of recognised and of all recordings.
        signal: None, since this training is not stopped by signals.
    """

    step: int
    accuracies: Mapping[str, Mapping[str, tuple[int, int]]]
    signal: str | None = None


@dataclass(frozen=True)
class ClassifierTraining:
    """Train a classifier.

    The level of sounds is not varied, since the classifier normalises it.

    Args:
        n_mels, channels, n_features, dropout: of the classifier.
        shift_seconds: greatest length of silence before and after each sound, drawn at random.
        least_snr_db, most_snr_db: the power ratio of sound and added white noise is drawn between them.

    Raises:
        ParameterError: if an argument is out of range.
    """

    n_mels: int
    channels: Sequence[int]
    n_features: int
    dropout: float
    shift_seconds: float
    least_snr_db: float
    most_snr_db: float

    def __post_init__(self) -> None:
        if self.shift_seconds < 0:
            raise ParameterError(f"shift_seconds={self.shift_seconds} must not be negative")
        if self.least_snr_db > self.most_snr_db:
            raise ParameterError(f"least_snr_db={self.least_snr_db} must not exceed most_snr_db={self.most_snr_db}")

    def __call__(self, config: Mapping[str, Any], *, run: Path) -> Outcome:
        """Train, print the accuracies, and save into the folder `run`.

        Raises:
            ParameterError: if the configuration does not fit together.
            DataError: if the recordings cannot be used.
            TrainingError: if the loss becomes infinite, or `run` is in use.
        """
        steps, batch_size, seed, sample_rate = _checked(config, run=run)
        columns = dict(config["data"]["labels"])
        scan = recordings(config)
        labels = label_set(scan.split("train"), columns)
        for name, known in labels.vocabularies.items():
            if len(known) < 2:
                raise ParameterError(f"data.labels: {name} has only one value, {known[0]!r}: give at least two")
        dataset = crops(scan, "train", config=config, labels=labels, sample_rate=sample_rate, n_channels=1)
        torch.manual_seed(seed)
        model = Classifier(
            sample_rate=sample_rate,
            vocabularies=labels.vocabularies,
            columns=columns,
            n_mels=self.n_mels,
            channels=self.channels,
            n_features=self.n_features,
            dropout=self.dropout,
        )
        held_out = {split: scan.split(split) for split in MEASURED if split in scan.splits}
        truths = {split: label_indices(entries, labels, columns) for split, entries in held_out.items()}
        say(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(dataset.entries)} recordings")
        self._fit(model.to(_device(config)), dataset, config=config, steps=steps, batch_size=batch_size, seed=seed)
        try:
            accuracies = {
                split: accuracy(model, entries, truths[split], name=split, read=scan.read)
                for split, entries in held_out.items()
            }
        except Exception as error:
            _save(model, config=config, run=run, steps=steps, accuracies={}, n_train=len(dataset.entries))
            raise TrainingError(
                f"measuring the accuracy failed after training ({in_a_line(error)}); the classifier is kept in "
                f"{registry.find(run)}: use it with --classifier {run}"
            ) from error
        _save(model, config=config, run=run, steps=steps, accuracies=accuracies, n_train=len(dataset.entries))
        for split, of_labels in accuracies.items():
            say(
                f"accuracy on {split}: " + ", ".join(f"{name} {_format(*counts)}" for name, counts in of_labels.items())
            )
        if "test" not in accuracies:
            say("no recording is in the split test: only what was held out of training could be measured on")
        say(f"checkpoint {registry.find(run)}")
        return Outcome(step=steps, accuracies=accuracies)

    def _fit(
        self,
        model: Classifier,
        dataset: CropDataset,
        *,
        config: Mapping[str, Any],
        steps: int,
        batch_size: int,
        seed: int,
    ) -> None:
        schedule = instantiate(config["lr_schedule"], name="lr_schedule")
        with readable("optimizer"):
            optimizer = instantiate(config["optimizer"], name="optimizer")(model.parameters())
        rates = [group["lr"] for group in optimizer.param_groups]
        device = model.hidden.weight.device
        n_workers = config["data"]["n_workers"]
        model.train()
        with (
            closing(batches(dataset, batch_size=batch_size, n_workers=n_workers)) as stream,
            Progress(total=steps, first=0, shown=True) as bar,
        ):
            for step in range(steps):
                batch = next(stream)
                generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
                audio, n_valid = self.augmented(
                    batch["audio"], batch["n_valid"], sample_rate=dataset.sample_rate, generator=generator
                )
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * schedule(step)
                loss = _loss(model, audio.to(device), n_valid.to(device), batch["labels"].to(device))
                if not bool(torch.isfinite(loss)):
                    raise TrainingError(f"the loss is {loss.item()} at step {step}: lower optimizer.lr")
                optimizer.zero_grad()
                loss.backward()
                if config["train"]["clip_norm"] is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), config["train"]["clip_norm"])
                optimizer.step()
                bar.advance(loss=loss.item(), rate=optimizer.param_groups[0]["lr"])
        model.eval()

    def augmented(
        self,
        audio: Float[Tensor, "batch 1 time"],
        n_valid: Int[Tensor, "batch"],
        *,
        sample_rate: int,
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "batch 1 new_time"], Int[Tensor, "batch"]]:
        """Add silence before and after sounds, and noise; return them with their new lengths."""
        most = round(self.shift_seconds * sample_rate)
        before, after = torch.randint(most + 1, (2, len(audio)), generator=generator)
        longer = n_valid + before + after
        place = torch.arange(int(longer.max())) - before[:, None]
        inside = (place >= 0) & (place < n_valid[:, None])
        moved = audio[:, 0].gather(1, place.clamp(0, audio.shape[-1] - 1)) * inside
        power = moved.square().sum(-1) / n_valid
        drawn = torch.rand(len(audio), generator=generator)
        snr_db = self.least_snr_db + drawn * (self.most_snr_db - self.least_snr_db)
        level = (power * 10 ** (-snr_db / 10)).sqrt()
        noise = level[:, None] * torch.randn(moved.shape, generator=generator)
        sounds = torch.arange(moved.shape[-1]) < longer[:, None]
        return ((moved + noise) * sounds)[:, None], longer


def accuracy(
    model: Classifier, entries: Sequence[Entry], truth: Int[Tensor, "entries labels"], *, name: str, read: Read
) -> dict[str, tuple[int, int]]:
    """Count for every label the recognised recordings, and those of known value."""
    clips: list[Tensor] = []
    with progress(f"listening to {name}", total=len(entries)) as bar:
        for entry in entries:
            rate = model.sample_rate
            clips.append(load_whole(entry, sample_rate=rate, n_channels=1, max_seconds=_MAX_SECONDS_HEARD, read=read))
            bar.advance()
    prediction = classifier.classify(model, clips)
    result: dict[str, tuple[int, int]] = {}
    for index, label in enumerate(model.labels.names):
        known = truth[:, index] >= 0
        right = prediction.log_probabilities[label].argmax(-1)[known] == truth[known, index]
        result[label] = (int(right.sum()), int(known.sum()))
    return result


def _loss(
    model: Classifier,
    audio: Float[Tensor, "batch 1 time"],
    n_valid: Int[Tensor, "batch"],
    truth: Int[Tensor, "batch labels"],
) -> Tensor:
    """Sum the cross-entropies of the labels, each over the sounds whose value is known."""
    prediction = model(audio, n_valid)
    losses = [
        F.nll_loss(prediction.log_probabilities[name], truth[:, index], ignore_index=-1, reduction="sum")
        / (truth[:, index] >= 0).sum().clamp(min=1)
        for index, name in enumerate(model.labels.names)
    ]
    return torch.stack(losses).sum()


def _checked(config: Mapping[str, Any], *, run: Path) -> tuple[int, int, int, int]:
    """Return steps, batch size, seed and rate, and refuse settings that a classifier cannot be trained with."""
    train, data = config["train"], config["data"]
    check_whole(train["steps"], name="train.steps", least=1)
    check_whole(train["batch_size"], name="train.batch_size", least=1)
    check_whole(data["n_workers"], name="data.n_workers", least=0)
    check_whole(config["seed"], name="seed", least=0)
    for name in ("resume", "init_from"):
        if train[name] is not None:
            raise ParameterError(f"train.{name}={train[name]}: a classifier starts from new weights; leave it out")
    if (train.get("lora") or {"rank": 0})["rank"]:
        raise ParameterError("train.lora.rank must be 0: a classifier starts from new weights; leave it out")
    if not data["labels"]:
        raise ParameterError(
            "data.labels={} must name the labels to recognise and their columns, as in "
            "data.labels={digit: label}; the column folder is the name of a file's folder"
        )
    if (run / "checkpoints" / registry.LATEST).exists():
        raise TrainingError(f"hydra.run.dir={run} holds the checkpoints of an earlier run: choose another folder")
    return train["steps"], train["batch_size"], config["seed"], config["audio"]["sample_rate"]


def _device(config: Mapping[str, Any]) -> torch.device:
    return device_named("cpu" if config["fabric"]["accelerator"] == "cpu" else "auto")


def _format(n_right: int, n: int) -> str:
    """Return a share with its interval, in percent."""
    if n == 0:
        return "not known of any"
    low, high = wilson_interval(n_right, n)
    return f"{100 * n_right / n:.1f} % ({n_right} of {n}; {100 * low:.1f} to {100 * high:.1f})"


def _save(
    model: Classifier,
    *,
    config: Mapping[str, Any],
    run: Path,
    steps: int,
    accuracies: Mapping[str, Mapping[str, tuple[int, int]]],
    n_train: int,
) -> None:
    name = f"step_{steps:08d}"
    metrics = {
        split: {label: {"n_right": right, "n": n} for label, (right, n) in of_labels.items()}
        for split, of_labels in accuracies.items()
    }
    rows = "\n".join(
        f"| {split} | {label} | {_format(*counts)} |"
        for split, of_labels in accuracies.items()
        for label, counts in of_labels.items()
    )
    known = "\n".join(f"- {label}: {', '.join(values)}" for label, values in model.labels.vocabularies.items())
    card = f"""# Model card

- audiodiff {__version__}, {steps} steps, seed {config["seed"]}; a classifier, for evaluating generators
- audio: {model.sample_rate} Hz, one channel, any length; embedding of {model.n_features} features
- data: {data_name(config)}, {n_train} recordings; their licence governs what may be done with the weights
- use: `audiodiff evaluate --generated FOLDER --against RECORDINGS --classifier THIS_FOLDER`

{known}

| split | label | accuracy and 95 % interval |
|---|---|---|
{rows}
"""
    classifier.save(model, run / "checkpoints" / name, metrics={"step": steps, "accuracy": metrics}, card=card)
    registry.point_latest(run / "checkpoints", name)
