"""Vocos and WaveNeXt: ConvNeXt blocks at the frame rate, then an inverse STFT or a linear layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.errors import ParameterError
from audiodiff.networks.frame_vocoder import FrameVocoder
from audiodiff.types import ReceptiveField

_LARGEST = 100.0
"""Magnitudes of the STFT are cut here."""
_REACH = 3
"""Frames to either side in each convolution over time."""


class Vocos(FrameVocoder):
    """Predict log magnitudes and phases of an STFT from mel frames, at the frame rate, and invert it.

    Args:
        frame_bands: bands of the mel.
        channels: width of the blocks.
        hidden_channels: width inside a block.
        n_layers: number of blocks.
        n_fft: of the STFT, with a Hann window as long.
        hop_length: samples per frame.
        padding: where the first frame lies: center, in the middle of the first sample's window, as a centred STFT has
            it; or same, in the middle of its own hop.

    Example:
        >>> network = Vocos(frame_bands=20, channels=16, hidden_channels=32, n_layers=2, n_fft=64, hop_length=16)
        >>> network.vocode(torch.zeros(1, 20, 10)).shape
        torch.Size([1, 1, 160])

    Source: Siuzdak 2024 (Vocos), section 3; Liu et al. 2022 (ConvNeXt) for the blocks.
    """

    window: Tensor

    def __init__(
        self,
        *,
        frame_bands: int = 100,
        channels: int = 512,
        hidden_channels: int = 1536,
        n_layers: int = 8,
        n_fft: int = 1024,
        hop_length: int = 256,
        padding: str = "center",
    ) -> None:
        super().__init__(frame_bands=frame_bands, hop_length=hop_length)
        if padding not in ("center", "same"):
            raise ParameterError(f"padding={padding!r} must be center or same")
        if n_fft % 2 or (n_fft - hop_length) % 2 or not 0 < 2 * hop_length <= n_fft:
            raise ParameterError(f"n_fft={n_fft} must be even, and at least 2 * hop_length={2 * hop_length}")
        self.n_fft = n_fft
        self.padding = padding
        self.backbone = _Backbone(frame_bands, channels, hidden_channels, n_layers)
        self.last = nn.Linear(channels, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @property
    def receptive_field(self) -> ReceptiveField:
        radius = self.backbone.radius * self.hop_length + self.n_fft
        return ReceptiveField(radius, radius)

    def vocode(self, frames: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch 1 time"]:
        log_magnitude, phase = self.last(self.backbone(frames)).chunk(2, dim=-1)
        spectrum = torch.polar(log_magnitude.exp().clamp(max=_LARGEST), phase)
        return self._inverse(spectrum)[:, None]

    def _inverse(self, spectrum: Tensor) -> Float[Tensor, "batch time"]:
        """Return the signal whose STFT is nearest: frames * hop_length samples."""
        pieces = torch.fft.irfft(spectrum, self.n_fft) * self.window  # (batch, frames, n_fft)
        weight = self.window.square().expand(1, *pieces.shape[1:])
        n_samples = pieces.shape[1] * self.hop_length
        start = self.n_fft // 2 if self.padding == "center" else (self.n_fft - self.hop_length) // 2
        audio, total = (self._added(each)[:, start : start + n_samples] for each in (pieces, weight))
        return audio / total

    def _added(self, pieces: Float[Tensor, "batch frames n_fft"]) -> Float[Tensor, "batch time"]:
        """Overlap and add."""
        length = (pieces.shape[1] - 1) * self.hop_length + self.n_fft
        return F.fold(pieces.mT, (1, length), (1, self.n_fft), stride=(1, self.hop_length)).flatten(1)


class WaveNext(FrameVocoder):
    """Predict the samples of each frame by a linear layer, clipped to [-1, 1].

    Args:
        frame_bands: bands of the mel.
        channels: width of the blocks.
        hidden_channels: width inside a block.
        n_layers: number of blocks.
        last_channels: width between the two linear layers at the end.
        hop_length: samples per frame.

    Example:
        >>> sizes = {"channels": 16, "hidden_channels": 32, "n_layers": 2, "last_channels": 9}
        >>> network = WaveNext(frame_bands=20, hop_length=4, **sizes)
        >>> network.vocode(torch.zeros(1, 20, 10)).shape
        torch.Size([1, 1, 40])

    Source: Okamoto et al. 2023 (WaveNeXt).
    """

    def __init__(
        self,
        *,
        frame_bands: int = 80,
        channels: int = 512,
        hidden_channels: int = 1536,
        n_layers: int = 8,
        last_channels: int = 1026,
        hop_length: int = 256,
    ) -> None:
        super().__init__(frame_bands=frame_bands, hop_length=hop_length)
        self.backbone = _Backbone(frame_bands, channels, hidden_channels, n_layers)
        self.expand = nn.Linear(channels, last_channels)
        self.last = nn.Linear(last_channels, hop_length, bias=False)

    @property
    def receptive_field(self) -> ReceptiveField:
        radius = (self.backbone.radius + 1) * self.hop_length
        return ReceptiveField(radius, radius)

    def vocode(self, frames: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch 1 time"]:
        return self.last(self.expand(self.backbone(frames))).flatten(1)[:, None].clamp(-1.0, 1.0)


class _Backbone(nn.Module):
    """Map mel frames to features of each frame."""

    def __init__(self, frame_bands: int, channels: int, hidden_channels: int, n_layers: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(frame_bands, channels, 2 * _REACH + 1, padding=_REACH)
        self.first_norm = nn.LayerNorm(channels, eps=1e-6)
        self.blocks = nn.ModuleList(_ConvNeXt(channels, hidden_channels, 1.0 / n_layers) for _ in range(n_layers))
        self.last_norm = nn.LayerNorm(channels, eps=1e-6)

    @property
    def radius(self) -> int:
        """Frames to either side that a frame depends on."""
        return (len(self.blocks) + 1) * _REACH

    def forward(self, frames: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch frames channels"]:
        x = self.first_norm(self.first(frames).mT)
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x)


class _ConvNeXt(nn.Module):
    """Add to x a convolution over time in each channel, and two linear layers with a GELU between them."""

    def __init__(self, channels: int, hidden_channels: int, scale: float) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(channels, channels, 2 * _REACH + 1, padding=_REACH, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, hidden_channels)
        self.shrink = nn.Linear(hidden_channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Float[Tensor, "batch frames channels"]) -> Float[Tensor, "batch frames channels"]:
        y = self.norm(self.over_time(x.mT).mT)
        return x + self.scale * self.shrink(F.gelu(self.expand(y)))
