"""Linear prediction: autoregressive models of audio, and gaps that they interpolate.

scipy is imported where it is used: its import takes a second, which every command would wait for.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

ORDER = 512
CONTEXT_SECONDS = 0.25
N_ITERATIONS = 8
LONG_SECONDS = 0.35
"""In longer gaps, the two sides hardly influence each other, and each is extrapolated alone."""
DRAWN_SECONDS = 0.1
"""Length from which on gaps may be drawn: the most probable samples are ever quieter than the recording."""
_NOISE_DB = -90.0
_SETTLING_ORDERS = 8  # after which a simulated process no longer shows where it began


def autoregression(audio: Float[np.ndarray, "time"], *, order: int) -> tuple[Float[np.ndarray, "{order}+1"], float]:
    """Return the whitening filter 1, a_1, ..., a_p of the autocorrelation method, and the power of the residual.

    White noise 90 dB below the signal, and a floor, keep the equations definite in silence as well.

    Args:
        order: p, below the number of samples.

    Example:
        >>> whitening, power = autoregression(0.5 ** np.arange(50.0), order=1)
        >>> whitening.round(6), round(50 * power, 6)
        (array([ 1. , -0.5]), 1.0)
    """
    import scipy.linalg

    spectrum = np.abs(np.fft.rfft(audio, 2 * len(audio))) ** 2
    correlation = np.fft.irfft(spectrum)[: order + 1] / len(audio)
    correlation[0] = correlation[0] * (1.0 + 10.0 ** (_NOISE_DB / 10.0)) + 1e-12
    whitening = np.concatenate([[1.0], -scipy.linalg.solve_toeplitz(correlation[:-1], correlation[1:])])
    return whitening, max(float(whitening @ correlation), 0.0)


def interpolate_gaps(
    audio: Float[np.ndarray, "time"],
    known: Float[np.ndarray, "time"],
    *,
    sample_rate: int,
    order: int = ORDER,
    n_iterations: int = N_ITERATIONS,
    noise: Callable[[int], Float[np.ndarray, "_"]] | None = None,
) -> Float[np.ndarray, "time"]:
    """Interpolate gaps: solve in turn for the samples of least prediction error and for the model.

    Gaps of more than 0.35 s are extrapolated from either side instead, by a model of that side, with a crossfade. The
    interpolation approaches this as a gap grows, and the time it takes grows only as fast as the gap.

    Args:
        audio: the recording; its values in gaps do not matter.
        known: 1 where a sample is known, otherwise 0.
        sample_rate: in Hz.
        order: of the model, at most 3 m + 2 for a gap of m samples.
        n_iterations: of the two steps.
        noise: number of samples -> white noise of variance 1. With it, gaps of 0.1 s and more are drawn from the model
            given the known samples, instead of taking its mean, which is quieter than the recording.

    Source: Janssen, Veldhuis and Vries 1986, section II, with the model of the autocorrelation method; Kauppinen and
        Roth 2002, for long gaps; Hoffman and Ribak 1991, for the draw: x + w - (w interpolated), w from the model.
    """
    import scipy.signal

    result = np.where(known == 1, audio, 0.0)
    context = round(CONTEXT_SECONDS * sample_rate)
    for first, last in find_gaps(known):
        n_lost, start = last - first, max(0, first - context)
        part = result[start : last + context].copy()
        gap = slice(first - start, last - start)
        if not part.any():
            continue
        draw = noise if n_lost >= DRAWN_SECONDS * sample_rate else None
        if n_lost > LONG_SECONDS * sample_rate:
            before, after = part[: gap.start], part[gap.stop :]
            fade = (np.arange(n_lost) + 0.5) / n_lost
            fresh = np.zeros(2 * n_lost) if draw is None else draw(2 * n_lost)
            ahead = extrapolate(before, n_lost, order=order, noise=fresh[:n_lost])
            back = extrapolate(after[::-1], n_lost, order=order, noise=fresh[n_lost:])[::-1]
            result[first:last] = (1.0 - fade) * ahead + fade * back
            continue
        whitening, power = np.ones(1), 0.0
        for _ in range(n_iterations):
            whitening, power = autoregression(part, order=min(order, 3 * n_lost + 2, max(1, len(part) // 3)))
            part[gap] = _interpolated(part, gap, whitening)
        if draw is not None:
            settling = _SETTLING_ORDERS * len(whitening)
            excitation = np.sqrt(power) * draw(settling + len(part))
            like = np.asarray(scipy.signal.lfilter([1.0], whitening, excitation))[settling:]
            part[gap] += like[gap] - _interpolated(like, gap, whitening)
        result[first:last] = part[gap]
    return result


def _interpolated(
    part: Float[np.ndarray, "time"], gap: slice, whitening: Float[np.ndarray, "_"]
) -> Float[np.ndarray, "_"]:
    """Return the samples of a gap of least prediction error."""
    import scipy.linalg
    import scipy.signal

    n_lost = gap.stop - gap.start
    b = np.correlate(whitening, whitening, "full")[len(whitening) - 1 :]
    known = part.copy()
    known[gap] = 0.0
    correlated = scipy.signal.fftconvolve(known, np.concatenate([b[:0:-1], b]), "same")[gap]
    column = np.zeros(n_lost)
    column[: min(n_lost, len(b))] = b[:n_lost]
    return scipy.linalg.solve_toeplitz(column, -correlated)


def extrapolate(
    audio: Float[np.ndarray, "time"],
    n_samples: int,
    *,
    order: int,
    noise: Float[np.ndarray, "{n_samples}"] | None = None,
) -> Float[np.ndarray, "{n_samples}"]:
    """Extrapolate audio by its autoregressive model, x[n] = -a_1 x[n - 1] - ... - a_p x[n - p].

    Args:
        n_samples: to extrapolate.
        order: p, limited to a third of the number of samples.
        noise: white, of variance 1, to draw a continuation; None gives the mean of all.

    Returns: zeros for audio that is silent or shorter than three samples.

    Example:
        >>> extrapolate(0.5 ** np.arange(50.0), 3, order=1) / 0.5 ** np.arange(50.0, 53.0)
        array([1., 1., 1.])
    """
    import scipy.signal

    order = min(order, len(audio) // 3)
    if order == 0 or not audio.any():
        return np.zeros(n_samples)
    whitening, power = autoregression(audio, order=order)
    excitation = np.zeros(n_samples) if noise is None else np.sqrt(power) * noise
    state = scipy.signal.lfiltic([1.0], whitening, audio[: -order - 1 : -1])
    return scipy.signal.lfilter([1.0], whitening, excitation, zi=state)[0]


def find_gaps(known: Float[np.ndarray, "time"]) -> list[tuple[int, int]]:
    """Return the first sample, and the one after the last, of every run of zeros.

    Example:
        >>> find_gaps(np.array([0.0, 1.0, 0.0, 0.0]))
        [(0, 1), (2, 4)]
    """
    edges = np.diff(np.concatenate([[0], (known == 0).astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
