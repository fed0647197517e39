"""Restoration of bounded samples by sparsity: of all sounds within the bounds, one whose spectra have few bins."""

import numpy as np
from jaxtyping import Complex, Float

FRAME_SECONDS = 0.064
HOPS = 4
"""Hops in a frame."""
REDUNDANCY = 2
"""Bins of a frame's spectrum, relative to those of a transform of the frame's own length."""
STEPS = 256
"""Iterations after which a spectrum has all of its bins; each adds as many."""
TOLERANCE = 0.05
"""Distance between a frame and its sparse spectrum, relative to the frame, at which its iterations end."""
_AT_ONCE = 64


def sparsest_within(
    lowest: Float[np.ndarray, "time"], highest: Float[np.ndarray, "time"], *, sample_rate: int
) -> Float[np.ndarray, "time"]:
    """Return a sound within bounds whose short-time spectra are sparse, as clipped audio is restored.

    Frame by frame, in turn keep the strongest bins of the spectrum, a few more each time, and bring the samples back
    within their bounds, until both agree.

    Args:
        lowest: least value of each sample; equal to the greatest where the sample is known.
        highest: greatest value.
        sample_rate: in Hz.

    Source: Kitic, Bertin and Gribonval 2015, "Sparsity and cosparsity for audio declipping", algorithm 2 (A-SPADE).

    Example:
        >>> sparsest_within(np.array([0.1, -0.2]), np.array([0.1, -0.2]), sample_rate=8000)
        array([ 0.1, -0.2])
    """
    hop = 16 * max(1, round(FRAME_SECONDS * sample_rate / HOPS / 16))  # of fast transforms
    size, n_samples = HOPS * hop, len(lowest)
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    # Samples beyond the ends may have any value.
    around = (size, size + -n_samples % hop)
    low = np.pad(lowest, around, constant_values=-np.inf)
    high = np.pad(highest, around, constant_values=np.inf)
    starts = np.arange(0, len(low) - size + 1, hop)
    is_lost = np.pad(lowest != highest, around)
    lost_before = np.concatenate([[0], is_lost.cumsum()])
    starts = starts[lost_before[starts + size] > lost_before[starts]]
    total, weight = np.zeros(len(low)), np.zeros(len(low))
    for first in range(0, len(starts), _AT_ONCE):
        places = starts[first : first + _AT_ONCE, None] + np.arange(size)
        for place, frame in zip(places, _sparse_frames(low[places] * window, high[places] * window), strict=True):
            total[place] += frame * window
            weight[place] += window**2
    inside = slice(size, size + n_samples)
    made = total[inside] / np.maximum(weight[inside], 1e-12)
    return np.clip(made, lowest, highest)


def _sparse_frames(
    low: Float[np.ndarray, "frames size"], high: Float[np.ndarray, "frames size"]
) -> Float[np.ndarray, "frames size"]:
    """Return frames within bounds, each near a sparse spectrum."""
    size = low.shape[1]
    n_fft = REDUNDANCY * size
    n_bins = n_fft // 2 + 1

    def spectrum(frames: Float[np.ndarray, "frames size"]) -> Complex[np.ndarray, "frames bins"]:
        return np.fft.rfft(frames, n_fft, norm="ortho")

    result = np.clip(0.0, low, high)
    # With this transform as a tight frame, a bin besides the first and last one stands for two.
    tolerance = TOLERANCE * np.sqrt(0.5 * np.square(result).sum(axis=1))
    active, x = np.arange(len(low)), result
    dual = np.zeros((len(low), n_bins), dtype=complex)
    bins = spectrum(x)
    for step in range(1, STEPS):
        n_kept = max(1, step * n_bins // STEPS)
        shifted = bins + dual
        power = np.abs(shifted)
        least = np.partition(power, n_bins - n_kept, axis=1)[:, n_bins - n_kept, None]
        sparse = np.where(power >= least, shifted, 0.0)
        x = np.clip(np.fft.irfft(sparse - dual, n_fft, norm="ortho")[:, :size], low[active], high[active])
        bins = spectrum(x)
        rest = bins - sparse
        result[active] = x
        goes_on = np.linalg.norm(rest, axis=1) > tolerance[active]
        active, bins, dual = active[goes_on], bins[goes_on], (dual + rest)[goes_on]
        if not len(active):
            break
    return result
