"""Principal components of channels: what is edited of a recording of several, so that its stereo image stays."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

AUDIBLE_DB = -60.0
"""Level of a component, relative to the loudest, below which it is left as it is."""


@dataclass(frozen=True)
class Components:
    """The uncorrelated components of the channels of a recording, the loudest first.

    A source that is in all channels, at any levels, is one component. Components that are edited with noise of their
    own stay uncorrelated, so that the channels keep their levels and correlations.

    Args:
        signals: (components, time), as many as channels.
        directions: how much of each component is in each channel, an orthogonal matrix.
        equal_to: for each channel, the first that equals it.
    """

    signals: Float[Tensor, "components time"]
    directions: Float[Tensor, "channels components"]
    equal_to: tuple[int, ...]

    def joined(self, edited: Float[Tensor, "components time"]) -> Float[Tensor, "channels time"]:
        """Return channels of edited components, whose levels beside the loudest are those of the recording."""
        if len(edited) == 1:
            return edited
        levels, own = (each.double().square().mean(dim=-1, keepdim=True).sqrt() for each in (self.signals, edited))
        is_audible = (levels >= 10 ** (AUDIBLE_DB / 20) * levels[:1]) & (levels > 0) & (own > 0)
        gains = levels / levels[:1].clamp(min=1e-30) * own[:1] / own.clamp(min=1e-30)
        parts = torch.where(is_audible, gains * edited, self.signals)
        channels = (self.directions @ parts).to(edited)
        return channels[list(self.equal_to)]


def components_of(channels: Float[Tensor, "channels time"]) -> Components:
    """Return the principal components of the channels of a recording."""
    equal_to = tuple(next(k for k, other in enumerate(channels) if torch.equal(other, own)) for own in channels)
    if len(channels) == 1:
        return Components(channels, torch.ones(1, 1, dtype=torch.float64), equal_to)
    exact = channels.double().cpu()
    directions = torch.linalg.eigh(exact @ exact.T).eigenvectors.flip(-1)
    # The sign that most of the recording has.
    signs = torch.where(directions.sum(dim=0) < 0, -1.0, 1.0)
    directions = directions * signs
    return Components((directions.T @ exact).to(channels), directions.to(channels.device), equal_to)
