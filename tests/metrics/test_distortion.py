"""Signal-to-noise ratios against closed forms."""

import math

import numpy as np
import pytest
import torch

from audiodiff.metrics import segmental_snr_db, si_sdr_db, snr_db

RATE = 16000


def noise(seed: int, n_samples: int = 16000) -> torch.Tensor:
    return torch.randn(n_samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("wanted_db", [-20.0, 0.0, 10.0, 60.0])
def test_snr_of_noise_scaled_to_a_power_is_that_power(wanted_db: float):
    r, n = noise(0), noise(1)
    n = n * (r.square().sum() / n.square().sum()).sqrt() * 10 ** (-wanted_db / 20)
    assert snr_db(r + n, r).item() == pytest.approx(wanted_db, abs=1e-9)


def test_snr_of_a_flipped_sign_is_minus_six_db():
    assert snr_db(-noise(0), noise(0)).item() == pytest.approx(-20 * math.log10(2), abs=1e-12)


@pytest.mark.parametrize("gain", [1e-3, 0.5, -1.0, 100.0])
def test_si_sdr_does_not_change_with_gain_sign_or_offset_of_the_estimate(gain: float):
    r = noise(0)
    e = r + 0.1 * noise(1)
    assert si_sdr_db(gain * e + 0.3, r).item() == pytest.approx(si_sdr_db(e, r).item(), abs=1e-8)


def test_si_sdr_of_orthogonal_noise_is_its_snr():
    r, n = noise(0), noise(1)
    r, n = r - r.mean(), n - n.mean()
    n = n - (n @ r) / (r @ r) * r
    assert si_sdr_db(r + n, r).item() == pytest.approx(snr_db(r + n, r).item(), abs=1e-9)


def test_si_sdr_agrees_with_a_least_squares_fit():
    r, e = noise(0).numpy(), (0.3 * noise(0) + 0.2 * noise(1) + 0.1).numpy()
    design = np.stack([r - r.mean()], axis=1)
    fitted = design @ np.linalg.lstsq(design, e - e.mean(), rcond=None)[0]
    expected = 10 * np.log10((fitted**2).sum() / ((e - e.mean() - fitted) ** 2).sum())
    assert si_sdr_db(torch.from_numpy(e), torch.from_numpy(r)).item() == pytest.approx(expected, abs=1e-9)


def test_si_sdr_is_infinite_for_multiples_and_orthogonal_signals():
    r = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert si_sdr_db(-0.5 * r, r) == math.inf
    assert si_sdr_db(torch.tensor([1.0, -1.0, 1.0, -1.0]), r) == -math.inf


def test_si_sdr_of_a_constant_has_no_value():
    r = noise(0)
    assert si_sdr_db(torch.full_like(r, 0.1), r).isnan()
    assert si_sdr_db(r, torch.full_like(r, 0.1)).isnan()


def test_segmental_snr_equals_a_loop_over_frames():
    r = noise(0) * torch.linspace(0, 1, 16000, dtype=torch.float64) ** 3
    e = r + 0.02 * noise(1)
    frames = [(r[i : i + 400], e[i : i + 400]) for i in range(0, 15601, 400)]
    loudest = max(float((a**2).sum()) for a, _ in frames)
    values = [
        min(35.0, max(-10.0, 10 * math.log10(float((a**2).sum()) / float(((a - b) ** 2).sum()))))
        for a, b in frames
        if float((a**2).sum()) >= 1e-4 * loudest
    ]
    assert 0 < len(values) < len(frames)
    assert segmental_snr_db(e, r, sample_rate=RATE).item() == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_segmental_snr_is_clipped_to_its_range():
    r = noise(0)
    assert segmental_snr_db(r, r, sample_rate=RATE) == 35
    assert segmental_snr_db(r + 1e-6 * noise(1), r, sample_rate=RATE) == 35
    assert segmental_snr_db(r + 1e3 * noise(1), r, sample_rate=RATE) == -10
