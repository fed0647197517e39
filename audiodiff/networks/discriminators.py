"""Discriminators of audio: by periods of samples, and by spectrograms of several resolutions."""

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
"""What a discriminator says of many places of every example: positive for real."""
Features = Float[Tensor, "batch _ _ _"]
"""What a layer of it hands on, whose shape is its own."""
SLOPE = 0.1


class Discriminator(nn.Module, ABC):
    """Stacked two-dimensional convolutions with a score at every place of what they end in.

    Args:
        layers: of which each halves or thirds one dimension.
        last: gives the score.
    """

    def __init__(self, layers: Sequence[nn.Module], last: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.last = last

    @abstractmethod
    def picture(self, audio: Waveform) -> Float[Tensor, "batch 1 rows columns"]:
        """Return what the convolutions see."""

    def forward(self, audio: Waveform) -> tuple[Scores, list[Features]]:
        """Return the scores, and what every layer has handed on."""
        hidden, features = self.picture(audio), []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), SLOPE)
            features.append(hidden)
        return self.last(hidden).flatten(1), features


class PeriodDiscriminator(Discriminator):
    """Look at every period-th sample: a picture whose columns are the places within a period.

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
        # Reflected, as silence would tell nothing of the signal's end.
        whole = F.pad(audio, (0, missing), mode="reflect")
        return whole.reshape(len(audio), 1, -1, self.period)


class ResolutionDiscriminator(Discriminator):
    """Look at the magnitudes of an STFT.

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
        # The root of a power that is never 0: its gradient has no end there.
        power = spectrum.real.square() + spectrum.imag.square()
        return (power + 1e-9).sqrt().mT[:, None]


class Discriminators(nn.Module):
    """Several discriminators of both kinds, side by side.

    Args:
        periods: of one discriminator each, in samples.
        resolutions: n_fft, hop_length and win_length of one discriminator each, in samples.
        channels: of the first layer of those of periods, and of every layer of the others.

    Raises:
        ParameterError: if there is none, or a number is not positive.

    Example:
        >>> discriminators = Discriminators(periods=[2], resolutions=[[64, 16, 64]], channels=2)
        >>> [tuple(scores.shape) for scores, _ in discriminators(torch.zeros(3, 1, 1000))]
        [(3, 14), (3, 315)]
    """

    def __init__(self, *, periods: Sequence[int], resolutions: Sequence[Sequence[int]], channels: int = 32) -> None:
        super().__init__()
        check_whole(channels, name="channels", least=1)
        if not [*periods, *resolutions]:
            raise ParameterError("periods and resolutions name no discriminator: give one at least")
        for period in periods:
            check_whole(period, name="period", least=1)
        for resolution in resolutions:
            if len(resolution) != 3 or min(resolution) < 1 or max(resolution) > resolution[0]:
                raise ParameterError(
                    f"resolution={list(resolution)} must be n_fft, hop_length and win_length, both at most n_fft"
                )
        # Below this many samples, the longest window or period cannot be reflected at an end.
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
        """Return what each says."""
        return [each(audio) for each in self.each]
