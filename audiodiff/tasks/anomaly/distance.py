"""Anomaly scorer for all models: the Mahalanobis distance of a recording's errors from those of normal recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.error_profile import ProfileSpec, error_profile, in_db
from audiodiff.tasks.anomaly.scorer import AnomalyScorer, Observation, State

_N_FOLDS = 5


@dataclass(frozen=True)
class Distance(AnomalyScorer):
    """Score a recording by the Mahalanobis distance of its errors from those of normal recordings.

    The score is the greater of two log distances, each standardized over normal recordings: that of the errors' mean
    over time, and the largest of a single frame.

    Args:
        whole: distribution of the errors of recordings.
        frame: distribution of the errors of frames.
        usual: mean and standard deviation of the log distance of recordings, of the largest log distance of their
            frames, and of the log distance of single frames.
    """

    whole: "Gaussian"
    frame: "Gaussian"
    usual: Float[Tensor, "3 2"]

    kind = "distance"
    spec = ProfileSpec(n_levels=6, first=0, last=6, n_draws=1, n_bands=16)

    @staticmethod
    def observe(
        model: Synthesizer,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        allowed: Mapping[str, Sequence[str]],
    ) -> Observation:
        errors = error_profile(model, audio, sample_rate=sample_rate, spec=Distance.spec)[0]
        frames = in_db(errors).flatten(0, 1)
        return Observation(frames, frames.mean(dim=-1), torch.zeros(0))

    @classmethod
    def fit(cls, observations: Sequence[Observation]) -> "Distance":
        # A Gaussian is closer to the recordings that it was fitted to than to others: each recording is measured by
        # one that was fitted without it.
        rows: list[Tensor] = []
        for fold in range(_N_FOLDS):
            kept = [each for index, each in enumerate(observations) if index % _N_FOLDS != fold]
            whole, frame = _fit_gaussians(kept)
            for each in observations[fold::_N_FOLDS]:
                frames = frame.distances(each.frames.T).log()
                summary = whole.distances(each.summary[None])[0].log()
                rows.append(torch.stack([summary, frames.max(), frames.mean(), frames.square().mean()]))
        logs = torch.stack(rows).double()
        mean, std = logs[:, :2].mean(dim=0), logs[:, :2].std(dim=0)
        frame_mean = logs[:, 2].mean()
        frame_std = (logs[:, 3].mean() - frame_mean.square()).clamp(min=0.0).sqrt()
        usual = torch.cat([torch.stack([mean, std], dim=1), torch.stack([frame_mean, frame_std])[None]]).float()
        usual[:, 1] = usual[:, 1].clamp(min=1e-3)
        return cls(*_fit_gaussians(observations), usual)

    def score(self, observation: Observation) -> float:
        whole = self.whole.distances(observation.summary[None])[0].log()
        both = torch.stack([whole, self.frame.distances(observation.frames.T).log().max()])
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
    """A Gaussian with Ledoit and Wolf's shrunk covariance, of standardized values.

    Args:
        mean: of the values.
        std: of the values.
        precision: inverse covariance of the standardized values.

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
        standardized = ((rows - mean) / std).numpy().astype(np.float64)
        precision = LedoitWolf(assume_centered=True).fit(standardized).precision_
        return cls(mean, std, torch.from_numpy(precision).float())

    def distances(self, rows: Float[Tensor, "n values"]) -> Float[Tensor, "n"]:
        """Return the Mahalanobis distances of rows, at least 1e-6."""
        centered = (rows - self.mean) / self.std
        return ((centered @ self.precision) * centered).sum(dim=1).clamp(min=1e-12).sqrt()


def _fit_gaussians(observations: Sequence[Observation]) -> tuple[Gaussian, Gaussian]:
    whole = Gaussian.fit(torch.stack([each.summary for each in observations]))
    return whole, Gaussian.fit(torch.cat([each.frames for each in observations], dim=-1).T)
