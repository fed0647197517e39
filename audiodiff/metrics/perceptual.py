"""Models of hearing, computed by the packages that everybody reports: pesq 0.0.4 and pystoi 0.4."""

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
# The code of P.862 has room for 50 utterances and writes past it (a crash, or worse, a wrong value). Utterances and
# the gaps between them are about 0.2 s long at least, so that 18 s cannot hold 50.
_PESQ_LONGEST_SECONDS = 18.0
STOI_SHORTEST_SECONDS = 0.4
# What pystoi returns, with a warning, where fewer than 30 frames are left without silence.
_STOI_TOO_LITTLE_SPEECH = 1e-5


def pesq(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    sample_rate: int,
    band: Literal["wb", "nb"] = "wb",
) -> Float[Tensor, "*batch"]:
    """Predict the listening quality (MOS-LQO) of speech by ITU-T P.862, per example.

    Signals are resampled with `audiodiff.dsp.resample` (Kaiser-windowed sinc) to 16 kHz; narrow band at 8 kHz stays
    there. Signals longer than 18 s (P.862 is made for up to 30 s) are cut into the fewest equal pieces that are not,
    and the pieces' values averaged where they exist. The value does not change with gain and polarity, and little
    with a delay.

    Args:
        sample_rate: in Hz.
        band: "wb" is P.862.2 (50 to 7000 Hz), "nb" is P.862.1 (telephone band). Their values are not comparable.

    Returns:
        A value from about 1 to 4.644 (wb) or 4.549 (nb), which identity reaches; NaN where either signal is silent,
        not finite, shorter than 0.25 s, or no utterance is found in it.

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
        n_pieces = math.ceil(r.shape[-1] / (_PESQ_LONGEST_SECONDS * rate))
        pieces = zip(e.tensor_split(n_pieces), r.tensor_split(n_pieces), strict=True)
        values = torch.tensor([_pesq_of_piece(e_piece, r_piece, rate=rate, band=band) for e_piece, r_piece in pieces])
        return values.nanmean().item()

    return result_like(one_by_one(one, e, r), estimate)


def _pesq_of_piece(estimate: Float[Tensor, "time"], reference: Float[Tensor, "time"], *, rate: int, band: str) -> float:
    # With on_error=RETURN_VALUES the package gives -7 and -6, which scripts have averaged in: exceptions cannot be.
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

    Frames of the reference 40 dB under the loudest are left out. A delay lowers the value (10 ms: ESTOI 0.78): align
    first.

    Args:
        sample_rate: in Hz; pystoi resamples to 10 kHz itself.
        extended: ESTOI, which also holds for modulated noise.

    Returns:
        A value up to 1, which identity reaches; NaN where either signal is silent or not finite, or less than about
        0.4 s of speech remains.

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

    # ESTOI adds noise of 1e-16 from numpy's global generator: it is seeded, so that a value repeats, and put back.
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
