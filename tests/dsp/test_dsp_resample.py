"""Resampling against torchaudio, SciPy and soxr, its pass band, stop band and refusals."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
import scipy.special
import soxr
import torch
from peers import torchaudio

from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError

RATES = [(44100, 22050), (48000, 22050), (16000, 22050), (22050, 16000), (8000, 16000)]
WIDTH, ROLLOFF, BETA = 64, 0.9476, 14.77  # librosa's kaiser_best
# The Kaiser window's transition band is 14.7 % of the lower Nyquist frequency, centred on the roll-off.
PASSBAND, STOPBAND = 0.87, 1.03


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tone(frequency: float, *, rate: int, n_samples: int) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(n_samples, dtype=torch.float64) / rate + 0.3)


def level_db(audio: torch.Tensor) -> float:
    """Return the RMS level of the middle half, which the silence outside the signal does not reach."""
    n = audio.shape[-1] // 4
    return 10 * math.log10(float(audio[..., n:-n].square().mean()))


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize(
    # float32: torchaudio computes the kernel itself in float32, with an error of up to 1e-5 of the peak.
    ("dtype", "bound"),
    [(torch.float64, 1e-7), (torch.float32, 1e-5)],
)
def test_resampling_is_torchaudios(rates: tuple[int, int], dtype: torch.dtype, bound: float):
    from_rate, to_rate = rates
    reference = torchaudio.transforms.Resample(
        from_rate,
        to_rate,
        lowpass_filter_width=WIDTH,
        rolloff=ROLLOFF,
        resampling_method="sinc_interp_kaiser",
        beta=BETA,
        dtype=dtype,
    )
    audio = noise(2, 3, 5000).to(dtype)
    result = resample(audio, from_rate=from_rate, to_rate=to_rate)
    assert result.dtype == dtype
    torch.testing.assert_close(result, reference(audio), rtol=0, atol=bound)


@pytest.mark.parametrize("rates", RATES)
def test_resampling_is_scipys_polyphase_filter_with_the_same_prototype(rates: tuple[int, int]):
    from_rate, to_rate = rates
    factor = math.gcd(from_rate, to_rate)
    down, up = from_rate // factor, to_rate // factor
    cutoff = ROLLOFF * min(down, up)
    half = math.ceil(WIDTH * down * up / cutoff)
    half += -half % down  # so that the delay is a whole number of output samples
    t = cutoff * np.arange(-half, half + 1) / (down * up)
    window = scipy.special.i0(BETA * np.sqrt(np.clip(1 - (t / WIDTH) ** 2, 0, None))) / scipy.special.i0(BETA)
    prototype = cutoff / down * np.sinc(t) * window * (np.abs(t) <= WIDTH)
    audio = noise(4001)
    result = resample(audio, from_rate=from_rate, to_rate=to_rate)
    expected = scipy.signal.upfirdn(prototype, audio.numpy(), up=up, down=down)[half // down :][: len(result)]
    assert len(result) == math.ceil(4001 * to_rate / from_rate)
    # sinc(W) is not exactly zero: the window's last value, 1e-5 of its first, times it.
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rates", RATES)
def test_the_pass_band_is_flat_to_a_hundredth_of_a_decibel(rates: tuple[int, int]):
    from_rate, to_rate = rates
    for share in (0.01, 0.3, 0.6, PASSBAND):
        sine = tone(share * min(rates) / 2, rate=from_rate, n_samples=from_rate // 4)
        result = resample(sine, from_rate=from_rate, to_rate=to_rate)
        expected = tone(share * min(rates) / 2, rate=to_rate, n_samples=len(result))
        assert level_db(result) == pytest.approx(level_db(expected), abs=0.01)
        assert level_db(result - expected) < -100  # the phase is right too


@pytest.mark.parametrize("rates", [(44100, 22050), (48000, 22050), (22050, 16000)])
def test_frequencies_above_the_new_nyquist_frequency_are_removed(rates: tuple[int, int]):
    from_rate, to_rate = rates
    for share in (STOPBAND, 1.1, 0.95 * from_rate / to_rate):
        sine = tone(share * to_rate / 2, rate=from_rate, n_samples=from_rate // 4)
        assert level_db(resample(sine, from_rate=from_rate, to_rate=to_rate)) < -120


@pytest.mark.parametrize("rates", [(16000, 22050), (8000, 16000)])
def test_upsampling_makes_no_images(rates: tuple[int, int]):
    from_rate, to_rate = rates
    sine = tone(0.45 * from_rate, rate=from_rate, n_samples=from_rate)
    result = resample(sine, from_rate=from_rate, to_rate=to_rate)
    power = np.abs(np.fft.rfft(result.numpy() * np.blackman(len(result)) ** 2)) ** 2
    frequency = np.fft.rfftfreq(len(result), 1 / to_rate)
    image = power[frequency > STOPBAND * from_rate / 2].max()
    assert 10 * math.log10(image / power.max()) < -100


@pytest.mark.parametrize("rates", RATES)
def test_a_chirp_comes_out_where_soxr_puts_it(rates: tuple[int, int]):
    from_rate, to_rate = rates
    time = torch.arange(from_rate, dtype=torch.float64) / from_rate
    chirp = torch.sin(2 * math.pi * (50 * time + 0.5 * (0.8 * min(rates) / 2 - 50) * time.square()))
    result = resample(chirp, from_rate=from_rate, to_rate=to_rate)
    expected = torch.from_numpy(soxr.resample(chirp.numpy(), from_rate, to_rate, quality="VHQ"))
    assert result.shape == expected.shape
    assert level_db(result - expected) < -100


def test_resampling_has_the_gradient_of_its_linear_map():
    audio = noise(2, 40).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resample(x, from_rate=8000, to_rate=12000), audio)


def test_a_kernel_made_under_inference_serves_training():
    with torch.inference_mode():
        resample(noise(100), from_rate=9000, to_rate=12000)
    audio = noise(100).requires_grad_()
    resample(audio, from_rate=9000, to_rate=12000).sum().backward()
    assert audio.grad is not None


@pytest.mark.parametrize("shape", [(7,), (0, 7), (2, 0, 7), (2, 3, 7)])
def test_any_leading_shape_is_kept(shape: tuple[int, ...]):
    assert resample(noise(*shape), from_rate=8000, to_rate=16000).shape == (*shape[:-1], 14)


@pytest.mark.gpu
def test_resampling_on_a_gpu_is_resampling_on_the_cpu():
    audio = noise(2, 5000)
    on_gpu = resample(audio.cuda(), from_rate=48000, to_rate=22050).cpu()
    torch.testing.assert_close(on_gpu, resample(audio, from_rate=48000, to_rate=22050), rtol=0, atol=1e-12)


def test_the_package_resamples_without_torchaudio():
    code = (
        "import sys; sys.modules['torchaudio'] = None\n"  # an import of it now raises ImportError
        "import torch; from audiodiff.dsp.resample import resample\n"
        "print(resample(torch.ones(100), from_rate=8000, to_rate=16000).shape[-1])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "200\n"


ODD_RATES = [(22051, 22050), (22254, 44100), (11127, 22050), (44101, 16000), (16000, 44101)]


@pytest.mark.parametrize(("from_rate", "to_rate"), [*ODD_RATES, (440_999, 441_001)])
def test_rates_that_share_no_factor_keep_a_tone(from_rate: int, to_rate: int):
    audio = tone(1000.0, rate=from_rate, n_samples=from_rate // 4)
    result = resample(audio, from_rate=from_rate, to_rate=to_rate)
    truth = tone(1000.0, rate=to_rate, n_samples=math.ceil(len(audio) * to_rate / from_rate))
    assert result.shape == truth.shape
    inner = slice(len(truth) // 4, -len(truth) // 4)
    assert (result - truth)[inner].abs().max() < 1e-6  # the ripple of the pass band


@pytest.mark.parametrize(("from_rate", "to_rate"), [(22050, 16000), (16000, 22050), (44100, 48000), (8000, 8000)])
def test_a_resampled_tone_is_the_tone(from_rate, to_rate):
    def tone(rate):
        return torch.sin(2 * torch.pi * 1000 * torch.arange(rate // 2, dtype=torch.float64) / rate)[None]

    audio = tone(from_rate)[:, :-1]
    result = resample(audio, from_rate=from_rate, to_rate=to_rate)
    assert result.shape[-1] == -(-audio.shape[-1] * to_rate // from_rate)
    inner = slice(1000, 3000)  # the filter sees silence outside the signal
    assert (result[:, inner] - tone(to_rate)[:, inner]).abs().max() < 1e-4


def test_a_tone_above_half_the_new_rate_vanishes():
    audio = torch.sin(2 * torch.pi * 9000 * torch.arange(22050, dtype=torch.float64) / 22050)[None]
    result = resample(audio, from_rate=22050, to_rate=16000)
    assert result[:, 500:-500].abs().max() < 1e-4


@pytest.mark.parametrize(("from_rate", "to_rate"), [(22, 16000), (16000, 0), (16000, 10_000_000)])
def test_impossible_rates_are_refused(from_rate, to_rate):
    with pytest.raises(ParameterError, match="rate"):
        resample(torch.zeros(1, 100), from_rate=from_rate, to_rate=to_rate)
