"""The STFT and its inverse."""

import pytest
import torch

from audiodiff.dsp.stft import Stft
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric

# n_fft, hop_length, win_length, padding; each keeps the sum of squared windows away from zero inside the signal
SIZES = [
    (1024, 256, 1024, 512),
    (1024, 256, 1024, 384),
    (2048, 300, 1200, 1024),
    (512, 160, 400, 256),
    (510, 128, 510, 255),
    (64, 17, 50, 32),
    (64, 33, 64, 32),
    (16, 1, 16, 8),
]


@pytest.mark.parametrize(("n_fft", "hop_length", "win_length", "padding"), SIZES)
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
@pytest.mark.parametrize("length", [1, 2, 1000, 2047])
def test_inverse_reconstructs_every_sample(n_fft, hop_length, win_length, padding, pad_mode, length):
    stft = Stft(n_fft, hop_length, win_length, padding, pad_mode)
    audio = torch.rand(2, length, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    spectrum = stft.forward(audio)
    assert spectrum.shape == (2, n_fft // 2 + 1, stft.n_frames(length))
    # The last hop_length - 1 samples may lie behind every frame where the padding is short.
    last_frame = (stft.n_frames(length) - 1) * hop_length - padding
    receptive_field = min(length, last_frame + (n_fft + win_length) // 2 - win_length // 8)
    rebuilt = stft.inverse(spectrum, length=length)
    assert rebuilt.shape == audio.shape
    torch.testing.assert_close(rebuilt[:, :receptive_field], audio[:, :receptive_field], rtol=0, atol=1e-12)


def test_without_padding_the_ends_fade_out_and_the_rest_is_exact():
    stft = Stft(256, 64, 256, 0, "constant")
    audio = torch.ones(1, 1024, dtype=torch.float64)
    rebuilt = stft.inverse(stft.forward(audio), length=1024)
    torch.testing.assert_close(rebuilt[:, 20:-20], audio[:, 20:-20], rtol=0, atol=1e-12)
    assert rebuilt.abs().max() < 1 + 1e-12
    assert rebuilt[0, 0] == 0


@pytest.mark.parametrize(("n_fft", "hop_length", "win_length"), [(1024, 256, 1024), (2048, 300, 1200), (512, 160, 401)])
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_both_directions_equal_torch_where_it_can(n_fft, hop_length, win_length, pad_mode):
    stft = Stft(n_fft, hop_length, win_length, n_fft // 2, pad_mode)
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(3, 8000, dtype=torch.float64, generator=generator)
    window = torch.hann_window(win_length, dtype=torch.float64)
    theirs = torch.stft(
        audio, n_fft, hop_length, win_length, window, center=True, pad_mode=pad_mode, return_complex=True
    )
    torch.testing.assert_close(stft.forward(audio), theirs, rtol=0, atol=1e-12)
    # Any spectrum, not only one that is some signal's
    changed = theirs * torch.rand(theirs.shape, dtype=torch.float64, generator=generator)
    expected = torch.istft(changed, n_fft, hop_length, win_length, window, center=True, length=7900)
    torch.testing.assert_close(stft.inverse(changed, length=8000)[:, :7900], expected, rtol=0, atol=1e-12)


def test_inverse_is_the_least_squares_solution():
    """The residual of a projection is orthogonal to every STFT: stft(inverse(S)) - S has the inverse zero."""
    stft = Stft(64, 16, 64, 24, "constant")
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.randn(1, 33, 20, dtype=torch.complex128, generator=generator)
    spectrum[:, [0, -1]] = spectrum[:, [0, -1]].real.to(spectrum.dtype)
    rebuilt = stft.forward(stft.inverse(spectrum, length=320))
    assert stft.inverse(rebuilt - spectrum, length=320).abs().max() < 1e-12


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_gradients_are_those_of_finite_differences(pad_mode):
    stft = Stft(16, 5, 12, 8, pad_mode)
    audio = torch.randn(1, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: torch.view_as_real(stft.forward(x)), audio)
    assert torch.autograd.gradcheck(lambda x: stft.inverse(stft.forward(x) * 0.5, length=21), audio)


def test_an_stft_used_in_inference_mode_can_be_trained_through_later():
    stft = Stft(128, 32, 96, 64, "reflect")
    with torch.inference_mode():
        stft.inverse(stft.forward(torch.zeros(1, 500)), length=500)
    audio = torch.ones(1, 500, requires_grad=True)
    stft.inverse(stft.forward(audio), length=500).sum().backward()
    assert audio.grad is not None


def test_reflection_repeats_in_a_signal_shorter_than_the_padding():
    stft = Stft(16, 4, 16, 8, "reflect")
    padded = stft.pad(torch.tensor([0.0, 1.0, 2.0]))
    assert padded.tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]


@pytest.mark.parametrize("fields", [(15, 4, 15, 0), (16, 0, 16, 0), (16, 17, 16, 0), (16, 4, 17, 0), (16, 4, 16, -1)])
def test_lengths_that_do_not_fit_are_refused(fields):
    with pytest.raises(ParameterError, match="must"):
        Stft(*fields, "reflect")


def test_a_spectrum_of_another_length_is_refused():
    stft = Stft(16, 4, 16, 8, "reflect")
    spectrum = stft.forward(torch.zeros(1, 40))
    with pytest.raises(ParameterError, match="frames"):
        stft.inverse(spectrum, length=44)
    with pytest.raises(ParameterError, match="bins"):
        stft.inverse(spectrum[:, 1:], length=40)
    with pytest.raises(ParameterError, match="no audio"):
        stft.forward(torch.zeros(1, 0))


@pytest.mark.parametrize("n_samples", [1, 700, 5000, 20_000])
@pytest.mark.parametrize(("n_fft", "hop_length", "padding"), [(1024, 256, 384), (512, 200, 256), (1024, 300, 512)])
def test_transforming_in_groups_of_frames_equals_all_at_once(
    n_samples: int, n_fft: int, hop_length: int, padding: int
) -> None:
    stft = Stft(n_fft=n_fft, hop_length=hop_length, win_length=n_fft, padding=padding, pad_mode="constant")
    audio = torch.randn(n_samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gain = torch.rand(stft.n_frames(n_samples), n_fft // 2 + 1, dtype=torch.float64)

    def change(spectrum: torch.Tensor, frames: slice) -> None:
        spectrum *= gain[frames]

    whole = stft.synthesise(stft.analyse(audio) * gain, length=n_samples)
    torch.testing.assert_close(stft.transformed(audio, change, n_frames_at_once=7), whole, atol=1e-12, rtol=0)
