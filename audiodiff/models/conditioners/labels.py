"""Conditioning on labels: a class, a speaker, an instrument, or several; and a model of durations by label."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.labels import LabelSet
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.types import Waveform

RIDGE = 1.0
"""Strength of the ridge penalty on effects of labels on the duration, in sounds."""


class LabelConditioner(Conditioner):
    """Condition on labels as one vector, one-hot for each label.

    Training drops labels at random, so that the network also models sounds of unknown labels. The logarithm of a
    sound's duration is modelled as a sum of effects of its labels and a normal remainder, from which `seconds` draws.

    Args:
        vocabularies: the values of each label; None is refused (training fills them in from the data).
        dropout: probability that all labels of an example are dropped.
        dropout_each: probability of dropping each label independently.

    Raises:
        ParameterError: if a probability is not in [0, 1), or there are no vocabularies.

    Example:
        >>> conditioner = LabelConditioner({"digit": ["0", "1"], "speaker": ["ann", "bob", "cy"]}, dropout=0.1)
        >>> conditioner(torch.zeros(1, 1, 8), torch.tensor([[1, -1]])).vector
        tensor([[0., 1., 0., 0., 0.]])

    Source: Ho and Salimans 2022, algorithm 1, for the dropout.
    """

    labels: LabelSet
    duration_effects: Tensor
    duration_range: Tensor

    def __init__(
        self, vocabularies: Mapping[str, Sequence[str]] | None, *, dropout: float = 0.1, dropout_each: float = 0.0
    ) -> None:
        super().__init__()
        if not vocabularies:
            raise ParameterError(
                "conditioner=labels needs labels: say where they are found, as in 'data.labels={digit: label}', with a "
                "column of the manifest, or 'data.labels={class: folder}', with the names of the folders"
            )
        for name, value in (("dropout", dropout), ("dropout_each", dropout_each)):
            if not 0.0 <= value < 1.0:
                raise ParameterError(f"{name}={value} must lie in [0, 1)")
        self.labels = LabelSet(vocabularies)
        self.dropout = dropout
        self.dropout_each = dropout_each
        # The mean of log(seconds), the effect of each value of each label on it, how far the effects of each label are
        # spread, and the remainder's deviation.
        self.register_buffer("duration_effects", torch.zeros(self.labels.n_features + len(self.labels.names) + 2))
        self.register_buffer("duration_range", torch.zeros(2))

    @property
    def needs_mel(self) -> bool:
        return False

    @property
    def can_drop(self) -> bool:
        return self.dropout > 0.0

    def forward(self, audio: Waveform, labels: Int[Tensor, "batch labels"] | None = None) -> Condition:
        if labels is None:
            return self.null(len(audio))
        return Condition(vector=self.labels.one_hot(labels))

    def null(self, n: int) -> Condition:
        return Condition(vector=torch.zeros(n, self.labels.n_features, device=self.duration_range.device))

    def dropped(self, condition: Condition, generator: torch.Generator) -> Condition:
        vector = condition.vector
        assert vector is not None
        draws = torch.rand(len(vector), 1 + len(self.labels.names), generator=generator, device=generator.device)
        keeps_any, keeps_each = draws[:, :1] >= self.dropout, draws[:, 1:] >= self.dropout_each
        sizes = torch.tensor([len(known) for known in self.labels.vocabularies.values()], device=draws.device)
        keeps = keeps_any & keeps_each.repeat_interleave(sizes, dim=1)
        return replace(condition, vector=vector * keeps.to(vector))

    def fit_durations(
        self, seconds: Float[Tensor, "sounds"], labels: Int[Tensor, "sounds labels"], *, longest: float
    ) -> None:
        """Fit the model of durations.

        Args:
            seconds: their durations.
            labels: their labels, as in `forward`.
            longest: longest crop in training, in seconds.
        """
        one_hot = torch.cat([torch.ones(len(seconds), 1), self.labels.one_hot(labels.cpu())], dim=1).double()
        target = seconds.double().cpu().clamp(max=longest).log()
        # The mean is free; effects of a label are known only up to a constant, which this keeps small.
        ridge = RIDGE * torch.eye(one_hot.shape[1], dtype=torch.float64)
        ridge[0, 0] = 1e-9
        solved = torch.linalg.solve(one_hot.T @ one_hot + ridge, one_hot.T @ target)
        remainder = (target - one_hot @ solved).square().mean().sqrt()
        mean, effects = solved[0], solved[1:]
        # Centred on the mean over the training data, so that an open label adds only its spread.
        shares = one_hot[:, 1:].mean(dim=0)
        spreads: list[Tensor] = []
        for place in self.labels.of_each():
            share = shares[place] / shares[place].sum().clamp(min=1e-12)
            centre = (share * effects[place]).sum()
            effects[place] -= centre
            mean = mean + centre
            spreads.append((share * effects[place].square()).sum().sqrt())
        self.duration_effects.copy_(torch.cat([mean[None], effects, torch.stack(spreads), remainder[None]]))
        self.duration_range.copy_(torch.stack([target.min(), target.max()]).exp())

    def seconds(
        self, vectors: Float[Tensor, "batch features"], draws: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch"] | None:
        """Return durations for labels, in seconds: the quantile of each draw from N(0, 1).

        An open label takes its values in the proportions of the training data. The result lies within the durations in
        training. None if no durations were fitted.
        """
        if float(self.duration_range[1]) == 0.0:
            return None
        known = self.duration_effects.double()
        n_features = self.labels.n_features
        mean, effects, spreads, remainder = known.split([1, n_features, len(self.labels.names), 1])
        one_hot = vectors.to(known)
        open_shares = torch.stack([1.0 - one_hot[:, place].sum(dim=1) for place in self.labels.of_each()], dim=1)
        deviation = (remainder.square() + open_shares.clamp(min=0.0) @ spreads.square()).sqrt()
        shortest, longest = (math.log(float(bound)) for bound in self.duration_range)
        return (mean + one_hot @ effects + deviation * draws.to(known)).clamp(shortest, longest).exp()
