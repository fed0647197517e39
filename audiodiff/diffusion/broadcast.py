"""Broadcasting of per-example coefficients against signals."""

from jaxtyping import Float
from torch import Tensor


def pad_dims_like(sigma: Float[Tensor, "batch"], x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *ones"]:
    """Append dimensions of size one to sigma until it broadcasts against x, in x's dtype.

    Coefficients are computed in float64 and rounded only here.

    Example:
        >>> import torch
        >>> pad_dims_like(torch.ones(2), torch.zeros(2, 1, 8)).shape
        torch.Size([2, 1, 1])
    """
    return sigma.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
