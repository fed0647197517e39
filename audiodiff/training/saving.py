"""Checkpoints of a training run, each with its model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiodiff._version import __version__
from audiodiff.errors import TrainingError
from audiodiff.models import checkpoint, registry
from audiodiff.models.adapter import adapter_weights
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.failure import how_to_go_on, in_a_line
from audiodiff.training.learner import Learner


@dataclass(frozen=True)
class CheckpointWriter:
    """Write the checkpoints of a run into its folder.

    Args:
        run: the folder.
        learner: what is saved.
        model: the resolved node that builds the model.
        exactness: what the weights depend on, which an exact resume compares.
        facts: for the model card.
        keep: number of newest checkpoints that are kept.
        steps: of the whole run.
        adapter: node of `audiodiff.models.adapter`, of a run that trains adapters.
    """

    run: Path
    learner: Learner
    model: Mapping[str, Any]
    exactness: Mapping[str, str]
    facts: "CardFacts"
    keep: int
    steps: int
    adapter: Mapping[str, Any] | None = None

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a step's checkpoint, point `latest` to it, and drop the oldest.

        Raises:
            TrainingError: if it cannot be written; earlier ones stay.
        """
        try:
            self._write(step, metrics)
        except Exception as error:
            raise TrainingError(
                f"the checkpoint of step {step} cannot be written ({in_a_line(error)}): is the disk full? "
                f"{how_to_go_on(self.run, steps=self.steps)}"
            ) from error

    def _write(self, step: int, metrics: Mapping[str, float]) -> None:
        name, folder = f"step_{step:08d}", self.run / "checkpoints"
        synthesizer = self.learner.module.synthesizer
        weights = self.learner.ema.state_dict()
        state = {"step": step, "metrics": dict(metrics), "exactness": dict(self.exactness), "adapter": self.adapter}
        checkpoint.save(
            folder / name,
            model=self.model,
            sample_rate=synthesizer.sample_rate,
            mel_dialect=synthesizer.dialect,
            weights=weights if self.adapter is None else adapter_weights(weights),
            metrics={"step": step, "validation": dict(metrics)},
            card=self.facts.card(synthesizer, step=step, metrics=metrics),
            training_state=state | self.learner.state(),
            adapter=self.adapter,
        )
        registry.point_latest(folder, name)
        registry.prune(folder, newest=name, keep=self.keep)


@dataclass(frozen=True)
class CardFacts:
    """Facts about a run for its model card.

    Args:
        origin: of the first weights.
        data: where the recordings are.
        n_train: number of recordings to train on.
        seed: of the run.
    """

    origin: str
    data: str
    n_train: int
    seed: int

    def card(self, model: Synthesizer, *, step: int, metrics: Mapping[str, float]) -> str:
        """Return the model card after a step, in Markdown."""
        measured = "\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items())
        known = {} if model.labels is None else model.labels.vocabularies
        labels = "".join(f"- label {name}: {', '.join(values)}\n" for name, values in known.items())
        if model.needs_mel:
            use = "INPUT --model FOLDER --out FILE.wav"
        elif known:
            options = " ".join(f"--label {name}={values[0]}" for name, values in known.items())
            use = f"--model FOLDER {options} -n 8"
        else:
            use = "--model FOLDER --seconds 2 --out FILE.wav"
        return f"""# Model card

- audiodiff {__version__}, {step} steps from {self.origin}, seed {self.seed}
- audio: {model.sample_rate} Hz, mel dialect: {"none" if model.dialect is None else model.dialect.name}
- data: {self.data}, {self.n_train} recordings; their licence governs what may be done with the weights
{labels}- use: `generate-wav {use}`, or `audiodiff.load("FOLDER").generate(...)`

| on held-out recordings | |
|---|---|
{measured or "| not measured yet | |"}
"""
