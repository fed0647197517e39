"""The condition of a network: all its inputs besides the noisy signal and the noise level."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils import _pytree


@dataclass(frozen=True)
class Condition:
    """Hold what a network is conditioned on; a field that is None is not used.

    Args:
        vector: one embedding per example (a class, a speaker).
        frames: features at a frame rate, in the compressed scale of their mel dialect.
        signal: features at the rate of x itself (a degraded recording).
        tokens: a sequence of token indices (text).
        token_mask: True where a token is real.
        mask: True where x is part of its example, from its beginning; elsewhere it is padding, of which an example
            learns nothing. None where all of x is.
    """

    vector: Float[Tensor, "batch features"] | None = None
    frames: Float[Tensor, "batch bands frames"] | None = None
    signal: Float[Tensor, "batch channels time"] | None = None
    tokens: Int[Tensor, "batch length"] | None = None
    token_mask: Bool[Tensor, "batch length"] | None = None
    mask: Bool[Tensor, "batch signal_time"] | None = None


# For torch.export: torch.export.register_dataclass does the same, and loads much that nothing else here needs. A saved
# program holds the inputs it was made with, which torch.load takes only of classes that are known to be safe.
_pytree.register_dataclass(Condition, serialized_type_name="audiodiff.condition.Condition")
torch.serialization.add_safe_globals([Condition])
