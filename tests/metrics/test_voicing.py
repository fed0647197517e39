"""Periodicity and voicing: closed forms of tones in noise, and what must not matter."""

import math

import numpy as np
import pytest
import torch

from audiodiff.errors import ParameterError
from audiodiff.metrics import periodicity_rmse, vuv_error
from audiodiff.metrics.voicing import HOP, LONGEST_PERIOD, RATE, WINDOW, _periodicity, shortest_voicing


def tone(frequency: float, *, rate: int = RATE, seconds: float = 1.0, n_harmonics: int = 1) -> torch.Tensor:
    t = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    return sum(torch.sin(2 * math.pi * frequency * k * t + k) for k in range(1, n_harmonics + 1)) / n_harmonics


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("frequency", [70.0, 123.4, 217.0, 333.3, 487.0])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_periodic_signals_have_periodicity_one_at_any_rate(frequency: float, rate: int):
    periodicity, counted = _periodicity(tone(frequency, rate=rate, n_harmonics=5), sample_rate=rate)
    # Away from the ends, where the resampling filter meets silence; a parabola is no cosine.
    inner = periodicity[4:-4]
    assert bool(counted[4:-4].all())
    assert inner.min() > 0.995
    assert inner.max() <= 1.0


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
def test_a_tone_in_noise_has_the_share_of_its_power(ratio: float):
    """The greatest of some hundred lags lies above the mean of one, by less than three of its standard deviations."""
    n = 60 * RATE
    signal = math.sqrt(2.0 * ratio) * tone(200.0, seconds=60.0) + noise(n)
    periodicity, _ = _periodicity(signal, sample_rate=RATE)
    expected = ratio / (ratio + 1.0)
    deviation = (1.0 - expected**2) / math.sqrt(WINDOW)
    assert expected < float(periodicity.mean()) < expected + 3.0 * deviation


def test_periodicity_is_the_correlation_of_its_definition():
    signal = noise(2000, 3).cumsum(0) / 30 + noise(2000, 4)
    periodicity, _ = _periodicity(signal, sample_rate=RATE)
    x = signal.numpy()
    for number in (0, 5, len(periodicity) - 1):
        first = number * HOP
        head = x[first : first + WINDOW]
        coefficients = [
            head @ (tail := x[first + lag : first + lag + WINDOW]) / np.sqrt((head @ head) * (tail @ tail))
            for lag in range(15, LONGEST_PERIOD + 2)
        ]
        inner = np.array(coefficients[1:-1])
        best = int(inner.argmax())
        before, at, after = coefficients[best : best + 3]
        if at >= before and at >= after:
            at -= (after - before) ** 2 / 8.0 / (before - 2 * at + after)
        assert periodicity[number].item() == pytest.approx(at, abs=1e-9)


def test_noise_in_one_half_of_a_hum_is_half_an_error():
    hum = tone(120.0, seconds=4.0, n_harmonics=8)
    half = torch.cat([hum[: 2 * RATE], 0.2 * noise(2 * RATE)])
    frames = (4 * RATE - WINDOW - LONGEST_PERIOD - 1) // HOP + 1
    assert vuv_error(half, hum, sample_rate=RATE).item() == pytest.approx(0.5, abs=6 / frames)
    assert 0.5 < periodicity_rmse(half, hum, sample_rate=RATE).item() < 0.71


def test_level_and_sign_do_not_count_and_equal_signals_have_no_error():
    signal = tone(150.0, n_harmonics=3) + 0.3 * noise(RATE)
    for metric in (periodicity_rmse, vuv_error):
        assert metric(-0.01 * signal, signal, sample_rate=RATE).item() == pytest.approx(0.0, abs=1e-12)


def test_pauses_do_not_count():
    speech = torch.cat([tone(120.0), 1e-4 * noise(RATE)])
    estimate = torch.cat([tone(120.0), 1e-4 * tone(90.0)])
    # But for the frames that straddle the end of the hum.
    assert vuv_error(estimate, speech, sample_rate=RATE).item() < 6 / 100
    assert vuv_error(estimate, torch.cat([tone(120.0), noise(RATE)]), sample_rate=RATE).item() > 0.4


def test_silence_and_short_signals_have_no_value():
    assert vuv_error(noise(4000), torch.zeros(4000, dtype=torch.float64), sample_rate=RATE).isnan()
    short = shortest_voicing(RATE)
    assert vuv_error(noise(short), noise(short), sample_rate=RATE).item() == 0.0
    assert periodicity_rmse(noise(short - 1), noise(short - 1), sample_rate=RATE).isnan()
    assert vuv_error(torch.zeros(RATE).double(), tone(100.0), sample_rate=RATE).item() == 1.0


def test_low_rates_are_refused():
    with pytest.raises(ParameterError, match="sample_rate=900"):
        vuv_error(noise(4000), noise(4000), sample_rate=900)
