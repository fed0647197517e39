"""Mel cepstral distortion against librosa and scipy."""

import math

import librosa
import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch

from audiodiff.metrics import mel_cepstral_distortion_db
from audiodiff.metrics.cepstral import _warping, all_pass_constant, mel_cepstrum, mfcc
from audiodiff.metrics.time_warping import warped_distance


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_mcd_equals_librosa_and_scipy(rate: int):
    generator = torch.Generator().manual_seed(0)
    e, r = 0.1 * torch.randn(2, rate, generator=generator, dtype=torch.float64)
    win_length = round(0.025 * rate)
    n_fft = 1
    while n_fft < 2 * win_length:
        n_fft *= 2
    cepstra = []
    for signal in (e, r):
        mel = librosa.feature.melspectrogram(
            y=signal.numpy(),
            sr=rate,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=round(0.010 * rate),
            power=1.0,
            n_mels=80,
            fmax=min(8000, rate / 2),
            pad_mode="reflect",
        )
        cepstra.append(scipy.fft.dct(np.log(np.maximum(mel, 1e-5)), type=2, norm="ortho", axis=0)[1:14])
    distance = np.linalg.norm(cepstra[0] - cepstra[1], axis=0).mean()
    expected = 10 * math.sqrt(2) / math.log(10) * distance
    # librosa keeps its mel product in float32 here and there.
    assert mel_cepstral_distortion_db(e, r, sample_rate=rate).item() == pytest.approx(expected, rel=1e-6)


def test_a_gain_is_not_seen_and_the_order_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    e, r = 0.1 * torch.randn(2, 16000, generator=generator, dtype=torch.float64)
    value = mel_cepstral_distortion_db(e, r, sample_rate=16000)
    assert mel_cepstral_distortion_db(3 * e, r, sample_rate=16000).item() == pytest.approx(value.item(), abs=1e-9)
    assert mel_cepstral_distortion_db(r, e, sample_rate=16000).item() == pytest.approx(value.item(), abs=1e-12)


def white(*, rate: int = 16000, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(2, rate, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def warped_cepstrum(frame: np.ndarray, *, alpha: float, order: int) -> np.ndarray:
    """Compute c_1.. of ln |X| = c_0 + sum_m c_m cos(m v) by integration over the warped frequency v."""
    # On a fine grid of v, each with the w that the all-pass filter maps to it: the inverse has -alpha.
    v = (np.arange(2**14) + 0.5) * math.pi / 2**14
    w = v - 2 * np.arctan2(alpha * np.sin(v), 1 + alpha * np.cos(v))
    log_magnitude = np.log(np.abs(np.exp(-1j * np.outer(w, np.arange(len(frame)))) @ frame))
    return 2 * scipy.fft.dct(log_magnitude, type=2)[1 : order + 1] / 2 / len(v)


@pytest.mark.parametrize(("rate", "alpha"), [(8000, 0.312), (16000, 0.41), (22050, 0.455), (48000, 0.554)])
def test_the_warping_constants_are_those_that_sptk_uses(rate: int, alpha: float):
    assert all_pass_constant(rate) == alpha


def test_the_mel_cepstrum_of_a_filter_is_its_closed_form():
    # One impulse in the middle of a frame, through (1 + a / zt) with 1 / zt the all-pass filter: c_m = -(-a)^m / m.
    rate, a = 16000, 0.6
    alpha = all_pass_constant(rate)
    impulse = np.zeros(rate)
    impulse[8000] = 1.0
    filtered = scipy.signal.lfilter([1 - a * alpha, a - alpha], [1, -alpha], impulse)
    found = mel_cepstrum(torch.from_numpy(filtered), rate)[:, 8000 // 160]
    expected = [-((-a) ** m) / m for m in range(1, 25)]
    # The window attenuates what comes after the impulse, by 1e-3 after 5 samples.
    assert found.tolist() == pytest.approx(expected, abs=2e-3)


def test_the_mel_cepstrum_is_the_integral_over_warped_frequencies():
    # Zeros within radius 0.9, so that the logarithm of the FFT has no aliases in its cepstrum.
    n_fft = 512
    generator = np.random.default_rng(0)
    roots = 0.9 * np.sqrt(generator.random(12)) * np.exp(1j * math.pi * generator.random(12))
    frame = np.real(np.poly(np.concatenate([roots, roots.conj()])))
    power = torch.from_numpy(np.abs(np.fft.rfft(frame, n_fft)) ** 2)
    cepstrum = torch.fft.irfft(power.log())[: n_fft // 2 + 1]
    found = _warping(n_fft, 0.312) @ cepstrum
    expected = warped_cepstrum(frame, alpha=0.312, order=24)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_the_mcd_of_a_known_filter_is_its_closed_form():
    rate, a = 16000, 0.6
    alpha = all_pass_constant(rate)
    # An impulse in every fifth hop: it lies in two frames of 400 samples, 80 before and after their centres, where the
    # window rises as much as it falls; the other three frames are silent in both signals.
    impulses = np.zeros(rate)
    impulses[880::800] = 1.0
    n_heard, n_frames = 2 * int(impulses.sum()), 1 + rate // 160
    filtered = scipy.signal.lfilter([1 - a * alpha, a - alpha], [1, -alpha], impulses)
    e, r = torch.from_numpy(filtered), torch.from_numpy(impulses)
    closed = 10 * math.sqrt(2) / math.log(10) * math.sqrt(sum((a**m / m) ** 2 for m in range(1, 25)))
    found = mel_cepstral_distortion_db(e, r, sample_rate=rate, cepstra=mel_cepstrum)
    assert found.item() == pytest.approx(closed * n_heard / n_frames, rel=0.01)


@pytest.mark.parametrize("cepstra", [mfcc, mel_cepstrum])
def test_mcd_with_warping_is_librosas_alignment(cepstra):
    rate = 8000
    e, r = white(rate=rate)
    r = (e + 0.5 * r).roll(1000)
    of_e, of_r = cepstra(e, rate).numpy(), cepstra(r, rate).numpy()
    costs, path = librosa.sequence.dtw(of_e, of_r)
    expected = 10 * math.sqrt(2) / math.log(10) * costs[-1, -1] / len(path)
    found = mel_cepstral_distortion_db(e, r, sample_rate=rate, cepstra=cepstra, warp=True)
    assert found.item() == pytest.approx(expected, rel=1e-9)
    plain = mel_cepstral_distortion_db(e, r, sample_rate=rate, cepstra=cepstra)
    assert found < 0.9 * plain


def test_mfcc_are_those_of_librosa():
    rate = 16000
    e, _ = white(rate=rate)
    mel = librosa.feature.melspectrogram(
        y=e.numpy(), sr=rate, n_fft=1024, win_length=400, hop_length=160, power=1.0, n_mels=80, fmax=8000.0,
        pad_mode="reflect",
    )  # fmt: skip
    expected = librosa.feature.mfcc(S=np.log(np.maximum(mel, 1e-5)), n_mfcc=14, norm="ortho")[1:]
    np.testing.assert_allclose(mfcc(e, rate).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 5), (7, 1), (30, 41), (41, 30)])
def test_the_warped_distance_is_the_best_over_librosas_alignments(n: int, m: int):
    generator = np.random.default_rng(n)
    e, r = generator.standard_normal((3, n)), generator.standard_normal((3, m))
    costs, path = librosa.sequence.dtw(e, r)
    assert warped_distance(e, r) == pytest.approx(costs[-1, -1] / len(path), rel=1e-12)


def test_a_sequence_that_dwells_is_at_no_distance_after_warping():
    e = np.random.default_rng(0).standard_normal((2, 20))
    assert warped_distance(np.repeat(e, [1, 3] * 10, axis=1), e) == 0.0
