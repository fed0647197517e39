"""What is normal, learnt from what a model errs on normal recordings, in two ways.

| way | for | a recording is scored by |
|---|---|---|
| `Surprise` | models that know labels | how little the labels explain it, against normal ones of the same labels |
| `Distance` | all models | how far all its errors are from those of normal recordings, to either side |

An error alone tells loudness and complexity as well as normality: a hum is denoised better than any speech. `Distance`
takes less error than usual for as strange as more, and `Surprise` compares like with like.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.errors import Probe, denoising_errors, in_db

FEWEST = 10
"""Recordings that a normality is learnt from, at least."""
_N_FOLDS = 5
_RIDGE = 1.0
"""Recordings' worth of trust in there being no effect of a label on the error."""

State = Mapping[str, Float[Tensor, "..."]]


@dataclass(frozen=True)
class Observation:
    """What there is to be said of a recording before anything is known of what is normal.

    Args:
        frames: errors in dB over time.
        whole: numbers in dB that stand for all of it.
        heard: 1 for the labels that the model errs least with, 0 for the others.
    """

    frames: Float[Tensor, "values frames"]
    whole: Float[Tensor, "numbers"]
    heard: Float[Tensor, "labels"]


class AnomalyScorer(ABC):
    """Tell how strange an observation is: about 0 and mostly below 2 for normal ones, greater for others."""

    kind: str
    probe: Probe
    """How this way observes."""

    @staticmethod
    @abstractmethod
    def observe(
        model: Synthesizer,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        allowed: Mapping[str, Sequence[str]],
    ) -> Observation:
        """Let a model say what there is to be said of a recording.

        Args:
            model: a trained one.
            audio: the recording.
            sample_rate: of the audio, Hz.
            allowed: the values of each label that are normal.
        """

    @classmethod
    @abstractmethod
    def fit(cls, observations: Sequence[Observation]) -> "AnomalyScorer":
        """Learn from observations of normal recordings."""

    @abstractmethod
    def score(self, observation: Observation) -> float:
        """Return how strange a recording is."""

    @abstractmethod
    def frame_scores(self, observation: Observation) -> Float[Tensor, "frames"]:
        """Return how strange each frame is."""

    @abstractmethod
    def state(self) -> State:
        """Return what was learnt, as `restore` takes it."""

    @classmethod
    @abstractmethod
    def restore(cls, state: State) -> "AnomalyScorer":
        """Undo `state`."""


@dataclass(frozen=True)
class LabelSurprise(AnomalyScorer):
    """Score a recording by how little the labels that are allowed explain it.

    Each label's value is heard as the one with which alone the model errs least. Two things are then compared with what
    is usual where these labels are heard (a mean and the sum of their effects over normal recordings), in standard
    deviations, and added: the error when all that was heard is told, and by how much more the model errs when one label
    is left out, for the label that helps least.

    Args:
        usual: of the error and each label's help, in dB: the mean over normal recordings.
        effects: of the labels that are heard, on each.
        spread: standard deviations of what remains.
        scale: mean and standard deviation of the sum over recordings, so that its scores are about 0 and 1.
        frame_spread: standard deviation of what remains of the error, over frames.

    Source: Li et al. 2023, "Your diffusion model is secretly a zero-shot classifier", for the labels.
    """

    usual: Float[Tensor, "numbers"]
    effects: Float[Tensor, "labels numbers"]
    spread: Float[Tensor, "numbers"]
    scale: Float[Tensor, "2"]
    frame_spread: Float[Tensor, ""]

    kind = "surprise"
    probe = Probe(n_levels=6, first=1, last=4, n_draws=1, n_bands=1)

    @staticmethod
    def observe(
        model: Synthesizer,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        allowed: Mapping[str, Sequence[str]],
    ) -> Observation:
        if model.labels is None:
            raise ParameterError("score=surprise needs a model that knows labels, and this one knows none")

        def errors(told: Sequence[Mapping[str, str]]) -> Float[Tensor, "told levels frames"]:
            return denoising_errors(model, audio, sample_rate=sample_rate, probe=LabelSurprise.probe, labels=told)[
                :, :, 0
            ]

        singles = [(name, value) for name, values in allowed.items() for value in values]
        levels = _levels_db(errors([dict([single]) for single in singles]))
        # What comes last stands: the value of each label with the least error.
        heard = dict(single for _, single in sorted(zip(levels, singles, strict=True), reverse=True))
        less = [{other: heard[other] for other in heard if other != name} for name in heard]
        found = errors([heard, *less])
        error = torch.tensor(_levels_db(found))
        # The error with a label less the error without it: more is stranger in all numbers.
        whole = torch.cat([error[:1], error[0] - error[1:]])
        return Observation(in_db(found[0]).mean(dim=0, keepdim=True), whole, model.labels.vectors([heard])[0].cpu())

    @classmethod
    def fit(cls, observations: Sequence[Observation]) -> "LabelSurprise":
        numbers = torch.stack([each.whole for each in observations]).double()
        heard = torch.stack([each.heard for each in observations]).double()
        usual = numbers.mean(dim=0)
        ridge = _RIDGE * torch.eye(heard.shape[1], dtype=torch.float64)
        effects = torch.linalg.solve(heard.T @ heard + ridge, heard.T @ (numbers - usual))
        remainder = numbers - usual - heard @ effects
        spread = remainder.std(dim=0).clamp(min=1e-3)
        sums = _sum(remainder / spread)
        scale = torch.stack([sums.mean(), sums.std().clamp(min=1e-3)])
        frames = torch.cat([each.frames[0].double() - each.whole[0] for each in observations])
        frame_spread = frames.square().mean().sqrt().clamp(min=1e-3)
        return cls(usual.float(), effects.float(), spread.float(), scale.float(), frame_spread.float())

    def score(self, observation: Observation) -> float:
        remainder = observation.whole - self._expected(observation)
        return float((_sum(remainder / self.spread) - self.scale[0]) / self.scale[1])

    def frame_scores(self, observation: Observation) -> Float[Tensor, "frames"]:
        return (observation.frames[0] - self._expected(observation)[0]) / self.frame_spread

    def state(self) -> State:
        return dict(vars(self))

    @classmethod
    def restore(cls, state: State) -> "LabelSurprise":
        return cls(**state)

    def _expected(self, observation: Observation) -> Float[Tensor, "numbers"]:
        return self.usual + observation.heard @ self.effects


@dataclass(frozen=True)
class Distance(AnomalyScorer):
    """Score a recording by Mahalanobis distances of its errors from those of normal recordings.

    Two distances, each as standard deviations of its logarithm over normal recordings, the greater of which is the
    score: that of the errors' mean over time, and the greatest of a single frame.

    Args:
        whole: the errors of recordings.
        frame: the errors of frames.
        usual: mean and standard deviation of the logarithms of both distances over recordings, and of that of frames.
    """

    whole: "Gaussian"
    frame: "Gaussian"
    usual: Float[Tensor, "3 2"]

    kind = "distance"
    probe = Probe(n_levels=6, first=0, last=6, n_draws=1, n_bands=16)

    @staticmethod
    def observe(
        model: Synthesizer,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        allowed: Mapping[str, Sequence[str]],
    ) -> Observation:
        errors = denoising_errors(model, audio, sample_rate=sample_rate, probe=Distance.probe)[0]
        frames = in_db(errors).flatten(0, 1)
        return Observation(frames, frames.mean(dim=-1), torch.zeros(0))

    @classmethod
    def fit(cls, observations: Sequence[Observation]) -> "Distance":
        # Recordings that a Gaussian was fitted to are nearer to it than others are: each is measured by one that does
        # not know it.
        found: list[Tensor] = []
        for fold in range(_N_FOLDS):
            kept = [each for index, each in enumerate(observations) if index % _N_FOLDS != fold]
            whole, frame = _gaussians(kept)
            for each in observations[fold::_N_FOLDS]:
                frames = frame.distances(each.frames.T).log()
                found.append(torch.stack([_whole(whole, each), frames.max(), frames.mean(), frames.square().mean()]))
        logs = torch.stack(found).double()
        mean, std = logs[:, :2].mean(dim=0), logs[:, :2].std(dim=0)
        frame_mean = logs[:, 2].mean()
        frame_std = (logs[:, 3].mean() - frame_mean.square()).clamp(min=0.0).sqrt()
        usual = torch.cat([torch.stack([mean, std], dim=1), torch.stack([frame_mean, frame_std])[None]]).float()
        usual[:, 1] = usual[:, 1].clamp(min=1e-3)
        return cls(*_gaussians(observations), usual)

    def score(self, observation: Observation) -> float:
        both = torch.stack([_whole(self.whole, observation), self.frame.distances(observation.frames.T).log().max()])
        return float(((both - self.usual[:2, 0]) / self.usual[:2, 1]).max())

    def frame_scores(self, observation: Observation) -> Float[Tensor, "frames"]:
        return (self.frame.distances(observation.frames.T).log() - self.usual[2, 0]) / self.usual[2, 1]

    def state(self) -> State:
        parts = {"whole": self.whole, "frame": self.frame}
        named = {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in vars(part).items()}
        return {**named, "usual": self.usual}

    @classmethod
    def restore(cls, state: State) -> "Distance":
        whole, frame = (
            Gaussian(*(state[f"{name}.{key}"] for key in ("mean", "std", "precision"))) for name in ("whole", "frame")
        )
        return cls(whole, frame, state["usual"])


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian with Ledoit and Wolf's shrunk covariance, of values brought to mean 0 and variance 1.

    Args:
        mean: of the values.
        std: of the values.
        precision: inverse covariance of the standardised values.

    Source: Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """

    mean: Float[Tensor, "values"]
    std: Float[Tensor, "values"]
    precision: Float[Tensor, "values values"]

    @classmethod
    def fit(cls, rows: Float[Tensor, "n values"]) -> "Gaussian":
        """Estimate from rows."""
        from sklearn.covariance import LedoitWolf

        mean, std = rows.mean(dim=0), rows.std(dim=0).clamp(min=1e-3)
        standardised = ((rows - mean) / std).numpy().astype(np.float64)
        precision = LedoitWolf(assume_centered=True).fit(standardised).precision_
        return cls(mean, std, torch.from_numpy(precision).float())

    def distances(self, rows: Float[Tensor, "n values"]) -> Float[Tensor, "n"]:
        """Return the Mahalanobis distances of rows, at least 1e-6."""
        centred = (rows - self.mean) / self.std
        return ((centred @ self.precision) * centred).sum(dim=1).clamp(min=1e-12).sqrt()


NORMALITIES: Mapping[str, type[AnomalyScorer]] = {LabelSurprise.kind: LabelSurprise, Distance.kind: Distance}
"""The ways by name."""


def _levels_db(errors: Float[Tensor, "told levels frames"]) -> list[float]:
    """Return the mean over levels of the errors of whole recordings, in dB."""
    return in_db(errors.mean(dim=-1)).mean(dim=-1).tolist()


def _sum(standardised: Float[Tensor, "*n numbers"]) -> Float[Tensor, "*n"]:
    """Add the error to the help of the label that helps least."""
    return standardised[..., 0] + standardised[..., 1:].amax(dim=-1)


def _gaussians(observations: Sequence[Observation]) -> tuple[Gaussian, Gaussian]:
    whole = Gaussian.fit(torch.stack([each.whole for each in observations]))
    return whole, Gaussian.fit(torch.cat([each.frames for each in observations], dim=-1).T)


def _whole(gaussian: Gaussian, observation: Observation) -> Float[Tensor, ""]:
    return gaussian.distances(observation.whole[None])[0].log()
