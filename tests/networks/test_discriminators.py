"""Discriminators: their images by definition and by librosa, and their sizes."""

import librosa
import numpy as np
import pytest
import torch

from audiodiff.errors import ParameterError
from audiodiff.networks.discriminators import Discriminators, PeriodDiscriminator, ResolutionDiscriminator


def audio(n: int, n_samples: int) -> torch.Tensor:
    return torch.randn(n, 1, n_samples, generator=torch.Generator().manual_seed(0))


def test_a_period_discriminator_puts_the_samples_of_a_period_side_by_side():
    x = audio(2, 32)
    picture = PeriodDiscriminator(period=5, channels=1).picture(x)
    assert picture.shape == (2, 1, 7, 5)
    for row in range(6):
        torch.testing.assert_close(picture[:, 0, row], x[:, 0, 5 * row : 5 * row + 5])
    torch.testing.assert_close(picture[:, 0, 6], x[:, 0, [30, 31, 30, 29, 28]])


def test_columns_of_a_period_do_not_mix():
    x = audio(1, 700)
    discriminator = PeriodDiscriminator(period=7, channels=2)
    other = x.clone()
    other[..., 3::7] += 1.0
    (before, _), (after, _) = discriminator(x), discriminator(other)
    changed = (before != after).reshape(-1, 7).any(dim=0)
    assert changed.tolist() == [column == 3 for column in range(7)]


def test_a_resolution_discriminator_has_the_magnitudes_of_librosa():
    x = audio(1, 900)
    picture = ResolutionDiscriminator(n_fft=128, hop_length=30, win_length=100, channels=2).picture(x)
    theirs = np.abs(librosa.stft(x[0, 0].numpy(), n_fft=128, hop_length=30, win_length=100, pad_mode="reflect"))
    # Whose power is 1e-9 less, by which silence keeps a gradient.
    np.testing.assert_allclose(picture[0, 0].numpy().T, theirs, atol=4e-5, rtol=1e-5)


def test_silence_has_gradients():
    x = torch.zeros(1, 1, 400, requires_grad=True)
    scores, _ = ResolutionDiscriminator(n_fft=64, hop_length=16, win_length=64, channels=2)(x)
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    assert bool(gradient.isfinite().all())


def test_their_sizes_are_as_published():
    """HiFi-GAN's five of periods: 41.1 M; the layers of UnivNet's, one after the other."""

    def size(**kinds: list) -> int:
        module = Discriminators(**{"periods": [], "resolutions": [], **kinds})
        # Weight normalisation has a length for every output channel beside the direction.
        lengths = sum(value.numel() for name, value in module.named_parameters() if name.endswith("original0"))
        return sum(parameter.numel() for parameter in module.parameters()) - lengths

    assert size(periods=[2, 3, 5, 7, 11]) == pytest.approx(41.1e6, rel=2e-3)
    layers = [(1, 27), (32, 27), (32, 27), (32, 27), (32, 9)]
    assert size(resolutions=[[64, 16, 64]]) == sum(32 * (before * taps + 1) for before, taps in layers) + 32 * 9 + 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"periods": [], "resolutions": []}, "give at least one discriminator"),
        ({"periods": [0], "resolutions": []}, "period=0"),
        ({"periods": [2], "resolutions": [[64, 16]]}, r"resolution=\[64, 16\]"),
        ({"periods": [2], "resolutions": [[64, 16, 65]]}, r"resolution=\[64, 16, 65\]"),
        ({"periods": [2], "resolutions": [], "channels": 0}, "channels=0"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ParameterError, match=message):
        Discriminators(**settings)
