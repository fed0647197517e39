"""Linear prediction: autoregressive models of audio, and gaps that they interpolate.

scipy is imported where it is used: its import takes a second, which every command would wait for.
"""

import numpy as np
from jaxtyping import Float

ORDER = 512
CONTEXT_SECONDS = 0.25
N_ITERATIONS = 8
LONG_SECONDS = 0.35
"""In longer gaps, the two sides hardly influence each other, and each is extrapolated alone."""
_NOISE_DB = -90.0


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

    Source: Janssen, Veldhuis and Vries 1986, section II, with the model of the autocorrelation method; Kauppinen and
        Roth 2002, for long gaps.
    """
    import scipy.linalg
    import scipy.signal

    result = np.where(known == 1, audio, 0.0)
    context = round(CONTEXT_SECONDS * sample_rate)
    for first, last in find_gaps(known):
        n_lost, start = last - first, max(0, first - context)
        part = result[start : last + context].copy()
        gap = slice(first - start, last - start)
        if not part.any():
            continue
        if n_lost > LONG_SECONDS * sample_rate:
            before, after = part[: gap.start], part[gap.stop :]
            fade = (np.arange(n_lost) + 0.5) / n_lost
            ahead = extrapolate(before, n_lost, order=order)
            back = extrapolate(after[::-1], n_lost, order=order)[::-1]
            result[first:last] = (1.0 - fade) * ahead + fade * back
            continue
        for _ in range(n_iterations):
            whitening, _ = autoregression(part, order=min(order, 3 * n_lost + 2, max(1, len(part) // 3)))
            b = np.correlate(whitening, whitening, "full")[len(whitening) - 1 :]
            part[gap] = 0.0
            correlated = scipy.signal.fftconvolve(part, np.concatenate([b[:0:-1], b]), "same")[gap]
            column = np.zeros(n_lost)
            column[: min(n_lost, len(b))] = b[:n_lost]
            part[gap] = scipy.linalg.solve_toeplitz(column, -correlated)
        result[first:last] = part[gap]
    return result


def extrapolate(audio: Float[np.ndarray, "time"], n_samples: int, *, order: int) -> Float[np.ndarray, "{n_samples}"]:
    """Extrapolate audio by its autoregressive model, x[n] = -a_1 x[n - 1] - ... - a_p x[n - p].

    Args:
        n_samples: to extrapolate.
        order: p, limited to a third of the number of samples.

    Returns: zeros for audio that is silent or shorter than three samples.

    Example:
        >>> extrapolate(0.5 ** np.arange(50.0), 3, order=1) / 0.5 ** np.arange(50.0, 53.0)
        array([1., 1., 1.])
    """
    import scipy.signal

    order = min(order, len(audio) // 3)
    if order == 0 or not audio.any():
        return np.zeros(n_samples)
    whitening, _ = autoregression(audio, order=order)
    state = scipy.signal.lfiltic([1.0], whitening, audio[: -order - 1 : -1])
    return scipy.signal.lfilter([1.0], whitening, np.zeros(n_samples), zi=state)[0]


def find_gaps(known: Float[np.ndarray, "time"]) -> list[tuple[int, int]]:
    """Return the first sample, and the one after the last, of every run of zeros.

    Example:
        >>> find_gaps(np.array([0.0, 1.0, 0.0, 0.0]))
        [(0, 1), (2, 4)]
    """
    edges = np.diff(np.concatenate([[0], (known == 0).astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
