"""Validation of audio, mels and their axes."""

import math

import numpy as np
import pytest
import torch

from audiodiff.errors import ParameterError
from audiodiff.models.validation import checked_recording, checked_recordings, without_added_axes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [8000, np.int64(44100)])
def test_floating_point_becomes_float32_of_the_same_values(dtype: torch.dtype, rate: int):
    audio = torch.tensor([[0.5, -0.25], [1.5, 0.0]], dtype=dtype)
    checked = checked_recording(audio, sample_rate=rate)
    assert checked.dtype == torch.float32
    assert checked.tolist() == audio.tolist()


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((1, 9)), "audio is a ndarray; give a torch tensor"),
        ([[0.0]], "audio is a list"),
        (torch.zeros(9), r"audio has shape \(9,\) .*give audio\[None\]"),
        (torch.zeros(1, 1, 9), r"audio has shape \(1, 1, 9\) .*one by one"),
        (torch.zeros(0, 9), "no samples"),
        (torch.zeros(2, 0), "no samples"),
        (torch.zeros(1, 9, dtype=torch.int16), "dtype torch.int16 .*divide"),
        (torch.zeros(1, 9, dtype=torch.complex64), "floating point"),
        (torch.tensor([[0.0, math.nan]]), "NaN or infinite"),
        (torch.tensor([[math.inf, 0.0]]), "NaN or infinite"),
        (torch.tensor([[1e300]], dtype=torch.float64), "NaN or infinite"),
    ],
)
def test_invalid_recordings_are_refused(audio: object, message: str):
    with pytest.raises(ParameterError, match=message):
        checked_recording(audio, sample_rate=16000)


@pytest.mark.parametrize("shape", [(9,), (2, 9), (3, 2, 9)])
def test_missing_axes_are_added_and_removed(shape: tuple[int, ...]):
    audio = torch.rand(shape)
    recordings = checked_recordings(audio, sample_rate=16000)
    assert recordings.shape == (1, 1, 1, *shape)[-3:]
    assert torch.equal(without_added_axes(recordings, given=audio), audio)


@pytest.mark.parametrize("rate", [0, -1, 7, 10**9, 16000.5, 16000.0, "16000", None, True])
def test_invalid_rates_are_refused_by_name(rate: object):
    with pytest.raises(ParameterError, match="sample_rate="):
        checked_recording(torch.zeros(1, 9), sample_rate=rate)
