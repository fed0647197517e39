"""PESQ and STOI against the packages, and the limits at which the packages give numbers that are none."""

import numpy as np
import pesq as itu
import pystoi
import pytest
import torch

from audiodiff.dsp.resample import resample
from audiodiff.metrics import pesq, stoi


def speechlike(*, seconds: float = 2.0, rate: int = 16000) -> torch.Tensor:
    time = torch.arange(round(seconds * rate)) / rate
    voice = sum(torch.sin(2 * torch.pi * 140 * k * time) / k for k in range(1, 20))
    return 0.1 * torch.clamp(torch.sin(2 * torch.pi * 2.2 * time), min=0.0) * voice


def noisy(reference: torch.Tensor) -> torch.Tensor:
    return reference + 0.01 * torch.randn(reference.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("band", "rate"), [("wb", 16000), ("nb", 16000), ("nb", 8000)])
def test_pesq_is_that_of_the_package(band: str, rate: int):
    reference = speechlike(rate=rate)
    estimate = noisy(reference)
    expected = itu.pesq(rate, reference.double().numpy(), estimate.double().numpy(), band)
    assert pesq(estimate, reference, sample_rate=rate, band=band).item() == pytest.approx(expected, abs=1e-6)


def test_pesq_of_another_rate_is_that_of_the_resampled_signals():
    reference = speechlike(rate=24000)
    estimate = noisy(reference)
    at_16k = [resample(s.double(), from_rate=24000, to_rate=16000) for s in (estimate, reference)]
    assert pesq(estimate, reference, sample_rate=24000).item() == pytest.approx(
        pesq(*at_16k, sample_rate=16000).item(), abs=1e-6
    )


@pytest.mark.parametrize("gain", [0.5, -1.0, 0.1])
def test_pesq_does_not_change_with_gain_and_polarity(gain: float):
    reference = speechlike()
    estimate = noisy(reference)
    for band in ("wb", "nb"):
        value = pesq(estimate, reference, sample_rate=16000, band=band)
        # P.862 aligns levels in float32.
        assert pesq(gain * estimate, reference, sample_rate=16000, band=band) == pytest.approx(value.item(), abs=2e-3)


def test_pesq_is_never_a_code_of_an_error():
    reference = speechlike()
    cases = [
        (torch.zeros_like(reference), reference),
        (reference, torch.zeros_like(reference)),
        (reference[:3999], reference[:3999]),
        (reference.clone().fill_(float("nan")), reference),
        (reference.clone().fill_(float("inf")), reference),
    ]
    for estimate, truth in cases:
        for band in ("wb", "nb"):
            assert pesq(estimate, truth, sample_rate=16000, band=band).isnan()


def test_long_pesq_is_the_mean_of_parts_and_survives_many_utterances():
    # 60 bursts: the code of P.862 has room for 50 utterances, and scored whole this can end the process.
    time = torch.arange(16000 * 33) / 16000
    generator = torch.Generator().manual_seed(0)
    reference = (
        0.1 * torch.randn(time.shape, generator=generator, dtype=torch.float64) * ((time / 0.275).int() % 2 == 1)
    )
    estimate = reference + 0.001 * torch.randn(time.shape, generator=generator, dtype=torch.float64)
    halves = pesq(estimate.reshape(2, -1), reference.reshape(2, -1), sample_rate=16000)
    assert pesq(estimate, reference, sample_rate=16000).item() == pytest.approx(halves.mean().item(), abs=1e-6)


def test_a_long_silence_does_not_spoil_a_long_pesq():
    reference = torch.cat([speechlike(seconds=15), torch.zeros(16000 * 15)])
    estimate = reference.clone()
    assert pesq(estimate, reference, sample_rate=16000) == pytest.approx(4.6439, abs=1e-4)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("rate", [10000, 16000, 22050])
def test_stoi_is_that_of_the_package(rate: int, extended: bool):
    reference = speechlike(rate=rate)
    estimate = noisy(reference)
    expected = pystoi.stoi(reference.double().numpy(), estimate.double().numpy(), rate, extended=extended)
    # ESTOI adds noise of 1e-16 of its own.
    assert stoi(estimate, reference, sample_rate=rate, extended=extended).item() == pytest.approx(expected, abs=1e-6)


def test_stoi_has_no_value_where_too_little_speech_remains():
    reference = torch.zeros(32000)
    reference[8000:11000] = speechlike()[2000:5000]
    assert stoi(noisy(reference), reference, sample_rate=16000).isnan()


def test_stoi_repeats_and_leaves_the_global_generator_alone():
    reference = speechlike()
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    values = [stoi(noisy(reference), reference, sample_rate=16000, extended=True) for _ in range(2)]
    assert values[0] == values[1]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
