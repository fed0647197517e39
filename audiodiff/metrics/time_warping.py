"""Dynamic time warping: the mean distance of two sequences along their best alignment."""

import math

import numpy as np
from jaxtyping import Float64


def warped_distance(
    estimate: Float64[np.ndarray, "dimensions frames"], reference: Float64[np.ndarray, "dimensions other_frames"]
) -> float:
    """Return the mean Euclidean distance along the alignment with the least sum of distances.

    An alignment begins with both first frames, ends with both last frames, and goes on by one frame in either sequence
    or in both. Time grows with the product of the numbers of frames, memory with their sum.

    Example:
        >>> slow, fast = np.array([[0.0, 0.0, 1.0, 1.0, 2.0]]), np.array([[0.0, 1.0, 2.0]])
        >>> warped_distance(slow, fast), warped_distance(slow, fast + 0.5)
        (0.0, 0.5)

    Source:
        Sakoe and Chiba 1978, "Dynamic programming algorithm optimization for spoken word recognition", symmetric form
        without a slope constraint.
    """
    e, r = np.ascontiguousarray(estimate.T), np.ascontiguousarray(reference.T[::-1])
    n, m = len(e), len(r)
    # Sums and lengths of the best alignments that end in the cells (i, d - i) of an antidiagonal d, at place i + 1.
    last, before = (np.full(n + 1, math.inf), np.zeros(n + 1)), (np.full(n + 1, math.inf), np.zeros(n + 1))
    before[0][0] = 0.0
    for d in range(n + m - 1):
        low, high = max(0, d - m + 1), min(n - 1, d)
        cells, above = slice(low + 1, high + 2), slice(low, high + 1)
        # Frame j of the reference is row m - 1 - j of r.
        distance = np.linalg.norm(e[low : high + 1] - r[m - 1 - d + low : m - d + high], axis=1)
        total, length = before[0][above], before[1][above]
        for other, steps in ((last[0][above], last[1][above]), (last[0][cells], last[1][cells])):
            better = other < total
            total, length = np.where(better, other, total), np.where(better, steps, length)
        current = (np.full(n + 1, math.inf), np.zeros(n + 1))
        current[0][cells], current[1][cells] = total + distance, length + 1
        before, last = last, current
    return float(last[0][n] / last[1][n])
