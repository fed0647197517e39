"""Perceptual metrics of speech, PESQ and STOI, by the packages pesq 0.0.4 and pystoi 0.4."""

import math
import warnings
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.metrics.pairs import in_float64, one_by_one, result_like

PESQ_SHORTEST_SECONDS = 0.25
# The code of P.862 has room for 50 utterances and writes beyond it (a crash, or a wrong value). Utterances and the gaps
# between them are at least about 0.2 s long, so 18 s cannot contain 50.
_PESQ_LONGEST_SECONDS = 18.0
STOI_SHORTEST_SECONDS = 0.4
# The value of pystoi, with a warning, if fewer than 30 frames are not silent.
_STOI_TOO_LITTLE_SPEECH = 1e-5


def pesq(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    sample_rate: int,
    band: Literal["wb", "nb"] = "wb",
) -> Float[Tensor, "*batch"]:
    """Predict the listening quality (MOS-LQO) of speech by ITU-T P.862, per example.

    Signals are resampled with `audiodiff.dsp.resample` (Kaiser-windowed sinc) to 16 kHz; narrow band at 8 kHz is
    not resampled. Signals longer than 18 s (P.862 is for up to 30 s) are split into equal parts of at most 18 s, whose
    values are averaged where they exist. The value does not depend on gain and polarity, and little on a delay.

    Args:
        sample_rate: in Hz.
        band: "wb" is P.862.2 (50 to 7000 Hz), "nb" is P.862.1 (telephone band). Their values are not comparable.

    Returns:
        A value from about 1 to 4.644 (wb) or 4.549 (nb), the value of identical signals; NaN where either signal is
        silent, not finite, shorter than 0.25 s, or has no utterance.

    Raises:
        ParameterError: if the shapes differ or band is neither.

    Example:
        >>> time = torch.arange(16000) / 16000
        >>> tone = torch.sin(2 * torch.pi * 440 * time) * (time * 4 % 2 < 1)
        >>> pesq(tone, tone, sample_rate=16000)
        tensor(4.6439)

    Source:
        ITU-T P.862 (2001), P.862.1 and P.862.2, through the package `pesq`.
    """
    if band not in ("wb", "nb"):
        raise ParameterError(f"band={band!r} must be 'wb' or 'nb'")
    e, r = in_float64(estimate, reference)
    rate = 8000 if band == "nb" and sample_rate == 8000 else 16000

    def one(e: Tensor, r: Tensor) -> float:
        if e.shape[-1] < PESQ_SHORTEST_SECONDS * sample_rate or not _is_sound(e) or not _is_sound(r):
            return math.nan
        e = resample(e, from_rate=sample_rate, to_rate=rate)
        r = resample(r, from_rate=sample_rate, to_rate=rate)
        n_parts = math.ceil(r.shape[-1] / (_PESQ_LONGEST_SECONDS * rate))
        parts = zip(e.tensor_split(n_parts), r.tensor_split(n_parts), strict=True)
        values = torch.tensor([_pesq_of_part(e_part, r_part, rate=rate, band=band) for e_part, r_part in parts])
        return values.nanmean().item()

    return result_like(one_by_one(one, e, r), estimate)


def _pesq_of_part(estimate: Float[Tensor, "time"], reference: Float[Tensor, "time"], *, rate: int, band: str) -> float:
    # Exceptions, since the error codes of on_error=RETURN_VALUES, -7 and -6, could be averaged by mistake.
    import pesq as itu

    if not _is_sound(estimate) or not _is_sound(reference):
        return math.nan
    try:
        return float(itu.pesq(rate, reference.numpy(), estimate.numpy(), band))
    except (itu.NoUtterancesError, itu.BufferTooShortError, ValueError):
        return math.nan


def stoi(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    sample_rate: int,
    extended: bool = False,
) -> Float[Tensor, "*batch"]:
    """Predict the intelligibility of speech by the short-time correlation of third-octave envelopes, per example.

    Frames of the reference 40 dB below the loudest are left out. A delay lowers the value (10 ms: ESTOI 0.78), so align
    the signals first.

    Args:
        sample_rate: in Hz; pystoi resamples to 10 kHz itself.
        extended: ESTOI, which is also valid for modulated noise.

    Returns:
        A value up to 1, the value of identical signals; NaN where either signal is silent or not finite, or has less
        than about 0.4 s of speech.

    Raises:
        ParameterError: if the shapes differ or sample_rate is below 1000.

    Example:
        >>> noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
        >>> stoi(noise, noise, sample_rate=16000)
        tensor(1.)

    Source:
        Taal, Hendriks, Heusdens and Jensen 2011; Jensen and Taal 2016 (extended); through the package `pystoi`.
    """
    if sample_rate < 1000:
        raise ParameterError(f"sample_rate={sample_rate} Hz must be at least 1000; is it in kHz?")
    e, r = in_float64(estimate, reference)

    def one(e: Tensor, r: Tensor) -> float:
        if e.shape[-1] < STOI_SHORTEST_SECONDS * sample_rate or not _is_sound(e) or not _is_sound(r):
            return math.nan
        return _stoi_of_pair(e, r, sample_rate=sample_rate, extended=extended)

    return result_like(one_by_one(one, e, r), estimate)


def _stoi_of_pair(
    estimate: Float[Tensor, "time"], reference: Float[Tensor, "time"], *, sample_rate: int, extended: bool
) -> float:
    import numpy as np
    import pystoi

    # ESTOI adds noise of 1e-16 from NumPy's global generator, which is seeded for reproducible values, then restored.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Not enough STFT frames", category=RuntimeWarning)
            value = float(pystoi.stoi(reference.numpy(), estimate.numpy(), sample_rate, extended=extended))
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return math.nan if value == _STOI_TOO_LITTLE_SPEECH else value


def _is_sound(signal: Float[Tensor, "time"]) -> bool:
    return bool(torch.isfinite(signal).all() and (signal != 0).any())
