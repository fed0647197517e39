"""Anomaly scorer for models with labels: how badly the allowed labels explain a recording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.error_profile import ProfileSpec, error_profile, in_db
from audiodiff.tasks.anomaly.scorer import AnomalyScorer, Observation, State

_RIDGE = 1.0
"""Ridge penalty on the effects of labels, in recordings."""


@dataclass(frozen=True)
class LabelSurprise(AnomalyScorer):
    """Score a recording by how badly the allowed labels explain it.

    First the recording is classified: each label takes the value whose condition alone gives the lowest error. Then
    two numbers are compared with their usual value for these labels (a mean and a sum of label effects, fitted on
    normal recordings), in standard deviations, and added: the error with all labels, and the increase of the error
    without one label, for the label that helps least.

    Args:
        usual: mean of the error and of each label's help over normal recordings, dB.
        effects: of each label on these numbers, dB.
        spread: standard deviations of the residuals.
        scale: mean and standard deviation of the sum over recordings, so that scores have about mean 0 and variance 1.
        frame_spread: standard deviation of the residual error, over frames.

    Source: Li et al. 2023, "Your diffusion model is secretly a zero-shot classifier", for the labels.
    """

    usual: Float[Tensor, "numbers"]
    effects: Float[Tensor, "labels numbers"]
    spread: Float[Tensor, "numbers"]
    scale: Float[Tensor, "2"]
    frame_spread: Float[Tensor, ""]

    kind = "surprise"
    spec = ProfileSpec(n_levels=6, first=1, last=4, n_draws=1, n_bands=1)

    @staticmethod
    def observe(
        model: Synthesizer,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        allowed: Mapping[str, Sequence[str]],
    ) -> Observation:
        if model.labels is None:
            raise ParameterError("score=surprise needs a model with labels, and this one was trained without")

        def errors(labels: Sequence[Mapping[str, str]]) -> Float[Tensor, "labels levels frames"]:
            spec = LabelSurprise.spec
            return error_profile(model, audio, sample_rate=sample_rate, spec=spec, labels=labels)[:, :, 0]

        singles = [(name, value) for name, values in allowed.items() for value in values]
        levels = _levels_db(errors([dict([single]) for single in singles]))
        # The last entry of a name wins: its value with the lowest error.
        best = dict(single for _, single in sorted(zip(levels, singles, strict=True), reverse=True))
        without_one = [{other: best[other] for other in best if other != name} for name in best]
        profile = errors([best, *without_one])
        error = torch.tensor(_levels_db(profile))
        # The error with a label minus the error without it: higher is more anomalous in all numbers.
        summary = torch.cat([error[:1], error[0] - error[1:]])
        return Observation(in_db(profile[0]).mean(dim=0, keepdim=True), summary, model.labels.vectors([best])[0].cpu())

    @classmethod
    def fit(cls, observations: Sequence[Observation]) -> "LabelSurprise":
        numbers = torch.stack([each.summary for each in observations]).double()
        labels = torch.stack([each.labels for each in observations]).double()
        usual = numbers.mean(dim=0)
        ridge = _RIDGE * torch.eye(labels.shape[1], dtype=torch.float64)
        effects = torch.linalg.solve(labels.T @ labels + ridge, labels.T @ (numbers - usual))
        residual = numbers - usual - labels @ effects
        spread = residual.std(dim=0).clamp(min=1e-3)
        sums = _sum(residual / spread)
        scale = torch.stack([sums.mean(), sums.std().clamp(min=1e-3)])
        frames = torch.cat([each.frames[0].double() - each.summary[0] for each in observations])
        frame_spread = frames.square().mean().sqrt().clamp(min=1e-3)
        return cls(usual.float(), effects.float(), spread.float(), scale.float(), frame_spread.float())

    def score(self, observation: Observation) -> float:
        residual = observation.summary - self._expected(observation)
        return float((_sum(residual / self.spread) - self.scale[0]) / self.scale[1])

    def frame_scores(self, observation: Observation) -> Float[Tensor, "frames"]:
        return (observation.frames[0] - self._expected(observation)[0]) / self.frame_spread

    def state(self) -> State:
        return dict(vars(self))

    @classmethod
    def restore(cls, state: State) -> "LabelSurprise":
        return cls(**state)

    def _expected(self, observation: Observation) -> Float[Tensor, "numbers"]:
        return self.usual + observation.labels @ self.effects


def _levels_db(errors: Float[Tensor, "labels levels frames"]) -> list[float]:
    """Return the mean over levels of the errors of whole recordings, in dB."""
    return in_db(errors.mean(dim=-1)).mean(dim=-1).tolist()


def _sum(standardized: Float[Tensor, "*n numbers"]) -> Float[Tensor, "*n"]:
    """Add the error to the help of the label that helps least."""
    return standardized[..., 0] + standardized[..., 1:].amax(dim=-1)
