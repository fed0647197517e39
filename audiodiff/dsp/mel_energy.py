"""Bounds of the mel spectrograms of audio in [-1, 1]: the loudest band, and the energy that a frame needs."""

import torch
from jaxtyping import Float
from torch import Tensor

Filters = Float[Tensor, "n_mels bins"]


def loudest_band(filters: Filters, *, power: int) -> float:
    """Return the largest amplitude (sum_k w_k |X_k|^power)^(1 / power) of any band, for |X| = 1.

    The norm of the filter by Cauchy and Schwarz, or the root of its largest weight for power 2.
    """
    return float((filters.amax(dim=1).sqrt() if power == 2 else filters.norm(dim=1)).max())


def energy_weights(filters: Filters, *, power: int) -> Float[Tensor, "n_mels"]:
    """Return v so that v @ amplitude^2 <= |X|^2 for the amplitudes of bands of any X."""
    if power == 2:
        # sum_b A_b^2 / max w_b = sum_k |X_k|^2 sum_b w_bk / max w_b <= max_k(sum_b w_bk / max w_b) |X|^2.
        peaks = filters.amax(dim=1)
        return 1 / (peaks * (filters / peaks[:, None]).sum(dim=0).max())
    # Rows of A are the filters at unit norm: sum_b (mel_b / |w_b|)^2 = |A X|^2 <= lambda_max(A A^T) |X|^2.
    norms = filters.norm(dim=1)
    largest = torch.linalg.matrix_norm(filters / norms[:, None], ord=2).square()
    return 1 / (norms.square() * largest)
