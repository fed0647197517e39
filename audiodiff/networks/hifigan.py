"""The generators of HiFi-GAN and BigVGAN: transposed convolutions, each with parallel residual blocks behind it."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.errors import ParameterError
from audiodiff.networks.frame_vocoder import FrameVocoder
from audiodiff.types import ReceptiveField

ACTIVATIONS = ("leaky_relu", "snake", "snakebeta")
"""HiFi-GAN has the first, BigVGAN the others."""
KERNEL_SIZE = 7
"""Of the first and of the last convolution."""
_TAPS = 12
"""Taps of the filters around a periodic activation, at twice the rate."""


class HifiGan(FrameVocoder):
    """Generate audio from mel frames with the generator of HiFi-GAN, or with that of BigVGAN.

    Args:
        frame_bands: bands of the mel.
        channels: after the first convolution; each stage halves them.
        upsample_rates: factor of each stage; their product is the hop length.
        upsample_kernel_sizes: of each stage's transposed convolution.
        kernel_sizes: of the parallel residual blocks, odd.
        dilations: of each residual block's convolutions.
        paired: each dilated convolution is followed by one without dilation ("resblock 1"); else it stands alone.
        activation: leaky_relu, or a periodic one computed at twice the rate: snake, or snakebeta, which has an
            amplitude of its own.
        log_scale: the parameters of periodic activations are logarithms.
        final_bias: the last convolution has a bias.
        final_tanh: the audio is bounded by tanh; else it is clipped.

    Example:
        >>> network = HifiGan(frame_bands=80, channels=16, upsample_rates=[8, 4], upsample_kernel_sizes=[16, 8])
        >>> network.vocode(torch.zeros(1, 80, 3)).shape
        torch.Size([1, 1, 96])

    Source: Kong et al. 2020 (HiFi-GAN), section 2.2 and appendix A; Lee et al. 2023 (BigVGAN), section 3.
    """

    def __init__(
        self,
        *,
        frame_bands: int = 80,
        channels: int = 512,
        upsample_rates: Sequence[int] = (8, 8, 2, 2),
        upsample_kernel_sizes: Sequence[int] = (16, 16, 4, 4),
        kernel_sizes: Sequence[int] = (3, 7, 11),
        dilations: Sequence[Sequence[int]] = ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        paired: bool = True,
        activation: str = "leaky_relu",
        log_scale: bool = True,
        final_bias: bool = True,
        final_tanh: bool = True,
    ) -> None:
        super().__init__(frame_bands=frame_bands, hop_length=math.prod(upsample_rates))
        if len(upsample_rates) != len(upsample_kernel_sizes) or not upsample_rates:
            raise ParameterError(
                f"upsample_kernel_sizes has {len(upsample_kernel_sizes)} entries, upsample_rates "
                f"{len(upsample_rates)}: give one kernel size for each rate"
            )
        if len(kernel_sizes) != len(dilations) or not kernel_sizes:
            raise ParameterError(
                f"dilations has {len(dilations)} entries, kernel_sizes {len(kernel_sizes)}: give one list for each"
            )
        for rate, size in zip(upsample_rates, upsample_kernel_sizes, strict=True):
            if rate < 1 or size < rate or (size - rate) % 2:
                raise ParameterError(
                    f"upsample_kernel_sizes: {size} must exceed the rate {rate} by an even number, or 0"
                )
        if channels % 2 ** len(upsample_rates):
            raise ParameterError(f"channels={channels} must be divisible by 2 for each of {len(upsample_rates)} stages")
        if activation not in ACTIVATIONS:
            raise ParameterError(f"activation={activation!r} must be leaky_relu, snake or snakebeta")
        self.upsample_rates, self.upsample_kernel_sizes = tuple(upsample_rates), tuple(upsample_kernel_sizes)
        self.final_tanh = final_tanh
        widths = [channels // 2**stage for stage in range(len(upsample_rates) + 1)]

        def activated(width: int, slope: float = 0.1) -> nn.Module:
            if activation == "leaky_relu":
                return nn.LeakyReLU(slope)
            return PeriodicActivation(width, log_scale=log_scale, own_amplitude=activation == "snakebeta")

        self.first = nn.Conv1d(frame_bands, channels, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        # BigVGAN has no activation before its transposed convolutions.
        self.before = activated(0) if activation == "leaky_relu" else nn.Identity()
        self.upsample = nn.ModuleList(
            nn.ConvTranspose1d(wide, narrow, size, stride=rate, padding=(size - rate) // 2)
            for (wide, narrow), size, rate in zip(pairwise(widths), upsample_kernel_sizes, upsample_rates, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                _Block(width, size, each, paired=paired, activation=activated)
                for size, each in zip(kernel_sizes, dilations, strict=True)
            )
            for width in widths[1:]
        )
        self.after = activated(widths[-1], slope=0.01)
        self.last = nn.Conv1d(widths[-1], 1, KERNEL_SIZE, padding=KERNEL_SIZE // 2, bias=final_bias)

    @property
    def receptive_field(self) -> ReceptiveField:
        radius = _reach(self.after) + KERNEL_SIZE // 2  # in samples of a stage's output
        for rate, size, blocks in zip(
            self.upsample_rates[::-1], self.upsample_kernel_sizes[::-1], reversed(self.blocks), strict=True
        ):
            assert isinstance(blocks, nn.ModuleList)
            radius += max(block.reach for block in blocks if isinstance(block, _Block))
            radius = math.ceil((radius + size) / rate)
        radius = (radius + KERNEL_SIZE // 2) * self.hop_length
        return ReceptiveField(radius, radius)

    def vocode(self, frames: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch 1 time"]:
        x = self.first(frames)
        for upsample, blocks in zip(self.upsample, self.blocks, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            x = upsample(self.before(x))
            total = torch.zeros_like(x)
            for block in blocks:
                total = total + block(x)
            x = total / len(blocks)
        x = self.last(self.after(x))
        return torch.tanh(x) if self.final_tanh else x.clamp(-1.0, 1.0)


class _Block(nn.Module):
    """Add to x, for each dilation in turn, an activated convolution or a pair of them."""

    def __init__(self, width: int, kernel_size: int, dilations: Sequence[int], *, paired: bool, activation) -> None:
        super().__init__()
        steps = [(dilation, 1) if paired else (dilation,) for dilation in dilations]
        self.steps = nn.ModuleList(
            nn.Sequential(
                *(
                    module
                    for dilation in step
                    for module in (
                        activation(width),
                        nn.Conv1d(width, width, kernel_size, dilation=dilation, padding=dilation * (kernel_size // 2)),
                    )
                )
            )
            for step in steps
        )
        convolutions = sum(dilation * (kernel_size // 2) for step in steps for dilation in step)
        self.reach = convolutions + sum(_reach(module) for module in self.modules())

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        for step in self.steps:
            x = x + step(x)
        return x


class PeriodicActivation(nn.Module):
    """Compute x + sin^2(alpha x) / beta at twice the rate, between two low-pass filters, which limits aliasing.

    Args:
        width: number of channels.
        log_scale: alpha and beta are kept as logarithms.
        own_amplitude: beta is a parameter of its own; else it is alpha.

    Source: Lee et al. 2023 (BigVGAN), section 3.2; Ziyin et al. 2020 for the function.
    """

    taps: Tensor

    def __init__(self, width: int, *, log_scale: bool, own_amplitude: bool) -> None:
        super().__init__()
        start = torch.zeros(width) if log_scale else torch.ones(width)
        self.log_scale = log_scale
        self.alpha = nn.Parameter(start.clone())
        self.beta = nn.Parameter(start.clone()) if own_amplitude else None
        self.register_buffer("taps", half_band_taps(), persistent=False)

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        width, half = x.shape[1], _TAPS // 2
        taps = self.taps.expand(width, 1, _TAPS)
        # Twice the rate: zeros between the samples, a filter of gain 2, and the first and last sample beyond the ends.
        wide = F.pad(x, (half - 1, half - 1), mode="replicate")
        wide = F.conv_transpose1d(wide, 2.0 * taps, stride=2, groups=width)[..., 3 * (half - 1) : -3 * (half - 1)]
        alpha = self.alpha if not self.log_scale else self.alpha.exp()
        beta = alpha if self.beta is None else (self.beta.exp() if self.log_scale else self.beta)
        curved = wide + torch.sin(wide * alpha[:, None]).square() / (beta[:, None] + 1e-9)
        return F.conv1d(F.pad(curved, (half - 1, half), mode="replicate"), taps, stride=2, groups=width)


def half_band_taps() -> Float[Tensor, "taps"]:
    """Return the filter around a periodic activation: a sinc of a quarter of its rate under Kaiser's window.

    Source: Karras et al. 2021 (StyleGAN3), appendix C, with a transition of 1.2 times the cutoff; Kaiser 1974 for beta.
    """
    attenuation = 2.285 * (_TAPS // 2 - 1) * math.pi * 1.2 + 7.95  # dB
    beta = 0.1102 * (attenuation - 8.7)
    places = torch.arange(_TAPS) - (_TAPS - 1) / 2
    taps = torch.kaiser_window(_TAPS, periodic=False, beta=beta) * torch.sinc(places / 2.0)
    return taps / taps.sum()


def _reach(module: nn.Module) -> int:
    """Return the samples to either side that an activation depends on."""
    return _TAPS // 2 if isinstance(module, PeriodicActivation) else 0
