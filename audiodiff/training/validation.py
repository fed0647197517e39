"""Validation of the averaged model on held-out recordings: metrics and sounds."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audiodiff.data.dataset import CropDataset, load_whole
from audiodiff.data.loader import collate
from audiodiff.data.scanning import Scan
from audiodiff.errors import ParameterError, check_whole
from audiodiff.labels import LabelSet
from audiodiff.metrics import METRICS, Metric, score, select
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.config import build_part, readable, settings
from audiodiff.training.ema import Ema
from audiodiff.training.failure import in_a_line
from audiodiff.training.log import Log
from audiodiff.training.step import Float32Batch, TrainingStep


class Validator(ABC):
    """Base class of further measurements of a model in training.

    One of your own is named in the configuration, as in `+validation.validators.mine._target_=my_module.Mine`, and
    built with the other keys of its node. With several processes, the first one validates.
    """

    @abstractmethod
    def measure(self, model: Synthesizer, *, step: int, log: Log) -> Mapping[str, float]:
        """Return numbers by name, for the curves validation/NAME, metrics.json and the model card.

        Args:
            model: with the averaged weights, in evaluation mode, without gradients.
            step: optimiser steps that were made.
            log: for sounds and more numbers.
        """


N_SHOWN = 4
"""Vocoded recordings that are logged as sound."""


@dataclass(frozen=True)
class ValidationSettings:
    """Settings of validation.

    Args:
        n_examples: recordings that are vocoded, or sounds that are generated.
        max_seconds: a recording is cut to this length.
        metrics: names as in `audiodiff.metrics`, or metrics of one's own; only for models that take a mel.
        iterations: of the mel constraint; None is the model's default.
        n_loss_examples: crops for the mean loss, with the same noise each time, so that its curve is smooth.
        validators: further measurements.
    """

    n_examples: int
    max_seconds: float
    metrics: Sequence[str | Metric]
    iterations: int | None
    n_loss_examples: int = 32
    validators: Sequence[Validator] = ()

    def __post_init__(self) -> None:
        check_whole(self.n_examples, name="validation.n_examples", least=0)
        check_whole(self.n_loss_examples, name="validation.n_loss_examples", least=1)
        if self.iterations is not None:
            check_whole(self.iterations, name="validation.iterations", least=0)
        if not isinstance(self.max_seconds, int | float) or not self.max_seconds > 0:
            raise ParameterError(f"validation.max_seconds={self.max_seconds} must be a positive number")


def build_settings(node: Mapping[str, Any]) -> ValidationSettings:
    """Build the settings of the configuration group `validation`, with metrics and validators of the user's own.

    Raises:
        ParameterError: for a setting that is unknown or out of range.
    """
    listed = node.get("metrics") or []
    metrics = [
        name if isinstance(name, str) else build_part(name, kind=Metric, name="validation.metrics")
        for name in ([listed] if isinstance(listed, str | Mapping) else listed)
    ]
    validators = [
        build_part(part, kind=Validator, name=f"validation.validators.{name}")
        for name, part in (node.get("validators") or {}).items()
        if part is not None
    ]
    with readable("validation.metrics"):
        select(metrics or None)
    return settings(ValidationSettings, {**node, "metrics": metrics, "validators": validators}, name="validation")


def check(settings: ValidationSettings, *, model: Synthesizer) -> None:
    """Refuse at the start settings with which a validation would fail after hours.

    Raises:
        ParameterError: for an unknown metric, one of the user's own that fails, or a number of iterations that the
            model cannot take.
    """
    for metric in select(list(settings.metrics)) if settings.metrics else ():
        if METRICS.get(metric.name) is not metric:
            _try(metric, sample_rate=model.sample_rate)
    makes_mel = model.representation.makes_mel
    n_iterations = model.n_iterations if settings.iterations is None else settings.iterations
    if makes_mel and n_iterations == 0:
        raise ParameterError(
            "validation.iterations=0 must be positive: this model makes a mel, which only the mel constraint turns "
            "into sound; set validation.iterations=null and model.n_iterations=16"
        )
    if settings.iterations and not (model.needs_mel or makes_mel):
        raise ParameterError(
            f"validation.iterations={n_iterations} needs a mel, and this model has none: set validation.iterations=null"
        )


def _try(metric: Metric, *, sample_rate: int) -> None:
    """Compute a metric of the user's own for a second of noise."""
    reference, error = 0.1 * torch.randn(2, sample_rate, generator=torch.Generator().manual_seed(0))
    try:
        value = metric.compute(reference + 0.1 * error, reference, sample_rate)
    except Exception as failure:
        raise ParameterError(f"validation.metrics: {metric.name} fails: {in_a_line(failure)}") from failure
    if not isinstance(value, Tensor) or value.shape != ():
        raise ParameterError(
            f"validation.metrics: {metric.name} gives {value!r} for two signals of shape ({sample_rate},), and must "
            "give one value per example, a tensor of shape ()"
        )


class Validation:
    """Measure a model in training.

    Args:
        module: the model with its objective.
        ema: whose averaged weights are measured.
        scan: the recordings, of which those of the split val are held out.
        crops: the same as crops for the loss.
        settings: what to measure.
    """

    def __init__(
        self,
        *,
        module: TrainingStep,
        ema: Ema,
        scan: Scan,
        crops: CropDataset,
        settings: ValidationSettings,
    ) -> None:
        self._module = module
        self._ema = ema
        self._crops = crops
        self._settings = settings
        model = module.synthesizer
        n_samples = max(1, round(settings.max_seconds * model.sample_rate))
        self._truths: list[tuple[str, Tensor]] = []
        if model.needs_mel and model.dialect is not None:
            hop = model.dialect.hop_length
            for entry in scan.split("val")[: settings.n_examples]:
                audio = load_whole(
                    entry,
                    sample_rate=model.sample_rate,
                    n_channels=1,
                    max_seconds=settings.max_seconds,
                    read=scan.read,
                )[:, :n_samples]
                self._truths.append((entry.path.stem, audio[:, : max(1, audio.shape[-1] // hop) * hop]))

    @torch.no_grad()
    def __call__(self, step: int, log: Log) -> dict[str, float]:
        """Return the means by name, and log the sounds."""
        with self._ema.in_place():
            self._module.eval()
            try:
                values = {"loss": self._loss()}
                if self._module.synthesizer.needs_mel:
                    values |= self._vocode(step, log)
                else:
                    self._generate(step, log)
                for validator in self._settings.validators:
                    values |= validator.measure(self._module.synthesizer, step=step, log=log)
            finally:
                self._module.train()
        return values

    def _loss(self) -> float:
        device = self._module.synthesizer.device
        batch = collate([self._crops[k] for k in range(self._settings.n_loss_examples)])
        generator = torch.Generator().manual_seed(0)
        parts = [batch[name].split(8) for name in ("audio", "n_valid", "labels")]
        mels = [mel.to(device) for mel in batch["mel"].split(8)] if "mel" in batch else [None] * len(parts[0])
        losses = [
            self._module(Float32Batch(audio.to(device), n_valid, labels.to(device), mel), generator)[0]
            for audio, n_valid, labels, mel in zip(*parts, mels, strict=True)
        ]
        return float(torch.cat(losses).mean())

    def _vocode(self, step: int, log: Log) -> Mapping[str, float]:
        model, settings = self._module.synthesizer, self._settings
        found: dict[str, list[float]] = {}
        for index, (name, truth) in enumerate(self._truths):
            mel = model.mel(truth[None])
            if self._crops.mels is not None:
                mel = self._crops.mels.window(index, first=0, n_frames=mel.shape[-1])[None].to(model.device)
            estimate = model.generate(
                mel, n_samples=truth.shape[-1], iterations=settings.iterations, seed=0, items=[index]
            )[0].cpu()
            if index < N_SHOWN:
                tag = _tag(index, name)
                log.audio(tag, estimate, sample_rate=model.sample_rate, step=step, reference=truth)
            if settings.metrics:
                scores = score(estimate, truth, sample_rate=model.sample_rate, names=list(settings.metrics))
                for name, value in scores.items():
                    found.setdefault(name, []).append(float(value.mean()))
        return {name: mean for name, values in found.items() if (mean := _finite_mean(values)) is not None}

    def _generate(self, step: int, log: Log) -> None:
        model, settings = self._module.synthesizer, self._settings
        if settings.n_examples == 0:
            return
        names = [""] * settings.n_examples
        if model.labels is None:
            audio = model.generate(
                batch=settings.n_examples, seconds=settings.max_seconds, iterations=settings.iterations, seed=0
            )
        else:
            rows = self._crops.label_indices
            spread = rows[:: max(1, len(rows) // max(1, settings.n_examples))][: settings.n_examples]
            shown = [_assignment(row, model.labels) for row in spread.tolist()]
            names = ["_".join(f"{name}-{value}" for name, value in row.items()) for row in shown]
            audio = model.generate(labels=shown, iterations=settings.iterations, seed=0)
        for index, (name, clip) in enumerate(zip(names, audio.cpu(), strict=True)):
            log.audio(_tag(index, name), clip, sample_rate=model.sample_rate, step=step)


def _tag(index: int, name: str) -> str:
    """Return the name of a clip in logs, of letters, digits, dots and hyphens as TensorBoard asks for."""
    return re.sub(r"[^\w.-]+", "_", f"clip_{index}_{name}", flags=re.ASCII).rstrip("_")


def _assignment(indices: Sequence[int], labels: LabelSet) -> dict[str, str]:
    """Return the labels that are known of a recording."""
    places = zip(labels.vocabularies.items(), indices, strict=True)
    return {name: known[index] for (name, known), index in places if index >= 0}


def _finite_mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    return sum(finite) / len(finite) if finite else None
