"""Discriminators of audio: by periods of samples, and by spectrograms at several resolutions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import Waveform

Scores = Float[Tensor, "batch _"]
"""Scores of many places of every example: positive for real audio."""
Features = Float[Tensor, "batch _ _ _"]
"""Output of a layer; its shape depends on the layer."""
SLOPE = 0.1
"""Negative slope of the leaky relu."""


class Discriminator(nn.Module, ABC):
    """Apply two-dimensional convolutions that end in a score at every place.

    Args:
        layers: convolutions, each followed by a leaky relu.
        last: computes the scores.
    """

    def __init__(self, layers: Sequence[nn.Module], last: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.last = last

    @abstractmethod
    def picture(self, audio: Waveform) -> Float[Tensor, "batch 1 rows columns"]:
        """Return the image of audio that the convolutions are applied to."""

    def forward(self, audio: Waveform) -> tuple[Scores, list[Features]]:
        """Return the scores, and the outputs of all layers."""
        hidden, features = self.picture(audio), []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), SLOPE)
            features.append(hidden)
        return self.last(hidden).flatten(1), features


class PeriodDiscriminator(Discriminator):
    """Score audio as an image with one period of samples in each row.

    Args:
        period: in samples.
        channels: of the first layer; the others have 4, 16, 32 and 32 times as many.

    Source: Kong et al. 2020 (HiFi-GAN), section 2.3.
    """

    def __init__(self, *, period: int, channels: int = 32) -> None:
        widths = [1, *(factor * channels for factor in (1, 4, 16, 32, 32))]
        strides = (3, 3, 3, 3, 1)
        super().__init__(
            [
                weight_norm(nn.Conv2d(before, after, (5, 1), (stride, 1), padding=(2, 0)))
                for (before, after), stride in zip(pairwise(widths), strides, strict=True)
            ],
            weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))),
        )
        self.period = period

    def picture(self, audio: Waveform) -> Float[Tensor, "batch 1 rows columns"]:
        missing = -audio.shape[-1] % self.period
        # Reflected: silence would hide the end of the signal.
        whole = F.pad(audio, (0, missing), mode="reflect")
        return whole.reshape(len(audio), 1, -1, self.period)


class ResolutionDiscriminator(Discriminator):
    """Score the magnitudes of an STFT.

    Args:
        n_fft: length of the transform, in samples.
        hop_length: between frames, in samples.
        win_length: of the periodic Hann window, in samples.
        channels: of every layer.

    Source: Jang et al. 2021 (UnivNet), section 2.3.
    """

    def __init__(self, *, n_fft: int, hop_length: int, win_length: int, channels: int = 32) -> None:
        kernels = [(3, 9), (3, 9), (3, 9), (3, 9), (3, 3)]
        strides = [1, 2, 2, 2, 1]
        widths = [1, *[channels] * len(kernels)]
        super().__init__(
            [
                weight_norm(nn.Conv2d(before, after, kernel, (1, stride), padding=(kernel[0] // 2, kernel[1] // 2)))
                for (before, after), kernel, stride in zip(pairwise(widths), kernels, strides, strict=True)
            ],
            weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1))),
        )
        self.n_fft, self.hop_length, self.win_length = n_fft, hop_length, win_length

    def picture(self, audio: Waveform) -> Float[Tensor, "batch 1 rows columns"]:
        window = torch.hann_window(self.win_length, dtype=audio.dtype, device=audio.device)
        spectrum = torch.stft(
            audio[:, 0], self.n_fft, self.hop_length, self.win_length, window, pad_mode="reflect", return_complex=True
        )
        # The gradient of the root is infinite at 0.
        power = spectrum.real.square() + spectrum.imag.square()
        return (power + 1e-9).sqrt().mT[:, None]


class Discriminators(nn.Module):
    """Apply several discriminators of both kinds.

    Args:
        periods: one discriminator for each, in samples.
        resolutions: n_fft, hop_length and win_length of one discriminator each, in samples.
        channels: of the first layer of a period discriminator, and of all layers of a resolution discriminator.

    Raises:
        ParameterError: if there is no discriminator, or a number is not positive.

    Example:
        >>> discriminators = Discriminators(periods=[2], resolutions=[[64, 16, 64]], channels=2)
        >>> [tuple(scores.shape) for scores, _ in discriminators(torch.zeros(3, 1, 1000))]
        [(3, 14), (3, 315)]
    """

    def __init__(self, *, periods: Sequence[int], resolutions: Sequence[Sequence[int]], channels: int = 32) -> None:
        super().__init__()
        check_whole(channels, name="channels", least=1)
        if not [*periods, *resolutions]:
            raise ParameterError("periods and resolutions are empty: give at least one discriminator")
        for period in periods:
            check_whole(period, name="period", least=1)
        for resolution in resolutions:
            if len(resolution) != 3 or min(resolution) < 1 or max(resolution) > resolution[0]:
                raise ParameterError(
                    f"resolution={list(resolution)} must be n_fft, hop_length and win_length, both at most n_fft"
                )
        # Shorter audio cannot be reflected at its ends by the longest window or period.
        self.least_samples = 1 + max([*periods, *(n_fft // 2 for n_fft, _, _ in resolutions)])
        self.each = nn.ModuleList(
            [
                *(PeriodDiscriminator(period=period, channels=channels) for period in periods),
                *(
                    ResolutionDiscriminator(n_fft=n_fft, hop_length=hop, win_length=window, channels=channels)
                    for n_fft, hop, window in resolutions
                ),
            ]
        )

    def forward(self, audio: Waveform) -> list[tuple[Scores, list[Features]]]:
        """Return scores and outputs of layers of each discriminator."""
        return [each(audio) for each in self.each]
