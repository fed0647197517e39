"""Blockwise evaluation of WaveNet on a CPU: the same sums in blocks of time that stay in the cache.

Layer by layer, a residual stack at the sample rate writes and reads hundreds of megabytes for a second of audio, and is
bound by memory. Here all layers process one block before the next. A layer that looks d samples ahead lags d samples
behind the layer before it, so that nothing is computed twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.networks.residual import ResidualBlock
from audiodiff.threads import free_workers, spread
from audiodiff.types import ReceptiveField

BLOCK_SAMPLES = 4096
"""Samples of a block: small enough for the cache, large enough for fast matrix products."""

_MIN_SEGMENT = 2
"""Least length of a thread's segment, in units of its margins."""

_SHRINK = 1.0 / math.sqrt(2.0)


@dataclass(frozen=True)
class _Layer:
    """Hold a residual block's weights for one noise level, in the form that the loop needs.

    Its input is y = x + step, the input of the dilated convolution. As tanh(c) = 2 sigmoid(2 c) - 1, one sigmoid
    computes both halves of the gate; the factors are included in the weights.
    """

    dilation: int
    receptive_field: ReceptiveField  # of the convolution
    taps: tuple[Tensor, ...]  # (2 channels, channels) each
    local: Tensor | None  # (2 channels, bands)
    bias: Tensor  # (2 channels, 1)
    residual: Tensor  # (channels, channels + 1): to the next layer's y, a bias in the last column
    skip: Tensor  # (channels, channels + 1)


def run_in_blocks(
    x: Float[Tensor, "channels time"],
    *,
    blocks: Sequence[ResidualBlock],
    step: Float[Tensor, "step_features"],
    local: Float[Tensor, "bands time"] | None,
    vector: Float[Tensor, "features"] | None,
    input_projection: nn.Conv1d,
    skip_projection: nn.Conv1d,
    output_projection: nn.Conv1d,
    block_samples: int = BLOCK_SAMPLES,
) -> Float[Tensor, "out_channels time"]:
    """Compute `WaveNet.forward` for one example, up to rounding and without gradients.

    Args:
        x: the scaled noisy signal.
        blocks: the residual blocks.
        step: the encoded noise level.
        local: the condition at the rate of x; None without one.
        vector: the global condition; None without one.
        input_projection: before the blocks.
        skip_projection: after the sum of the skip signals.
        output_projection: the last layer.
        block_samples: samples of a block; affects speed only.
    """
    layers, first_step = _prepare(blocks, step, vector)
    shared = _Shared(layers, first_step, input_projection, skip_projection, output_projection, block_samples)
    before, after = (sum(sides) for sides in zip(*(layer.receptive_field for layer in layers), strict=True))
    n_samples, n_workers = x.shape[-1], free_workers()
    length = -(-n_samples // n_workers)
    if length < _MIN_SEGMENT * (before + after):
        length = n_samples
    # One matrix product is too small for two cores: each worker computes a segment of time, with its margins.

    def segment(start: int) -> Tensor:
        first, last = max(0, start - before), min(n_samples, start + length + after)
        result = _run(shared, x[:, first:last], None if local is None else local[:, first:last])
        return result[:, start - first :][:, :length]

    return torch.cat(list(spread(segment, range(0, n_samples, length))), dim=1)


@dataclass(frozen=True)
class _Shared:
    """Hold what all segments of a signal share."""

    layers: Sequence[_Layer]
    first_step: Tensor
    input_projection: nn.Conv1d
    skip_projection: nn.Conv1d
    output_projection: nn.Conv1d
    block_samples: int


def _run(shared: _Shared, x: Tensor, local: Tensor | None) -> Tensor:
    """Compute one segment as if it were the whole signal."""
    layers, block_samples = shared.layers, shared.block_samples
    n_samples, channels = x.shape[-1], shared.input_projection.out_channels
    lags = [sum(layer.receptive_field.after for layer in layers[: index + 1]) for index in range(len(layers))]
    # Inputs of each layer: the span of its convolution, and a block. They are 0 outside the signal, as with padding.
    inputs = [x.new_zeros(channels, sum(layer.receptive_field) + block_samples) for layer in layers]
    total = x.new_zeros(channels, lags[-1] + block_samples)
    gated, opened = x.new_empty(2 * channels, block_samples), x.new_ones(channels + 1, block_samples)
    result = x.new_empty(shared.output_projection.out_channels, n_samples)
    projections = (shared.input_projection, shared.skip_projection, shared.output_projection)
    enter, leave, end = (_matrix(conv) for conv in projections)
    leave = (leave[0] / math.sqrt(len(layers)), leave[1])

    for start in range(0, n_samples + lags[-1], block_samples):
        fresh = _shifted(inputs[0], sum(layers[0].receptive_field))
        stop = min(start + block_samples, n_samples)
        if start < stop:
            part = fresh[:, : stop - start]
            torch.addmm(enter[1], enter[0], x[:, start:stop], out=part).relu_().add_(shared.first_step)
        fresh[:, max(0, stop - start) :] = 0
        for index, (layer, lag) in enumerate(zip(layers, lags, strict=True)):
            # Only samples within the signal are computed, from `low` to `high`; `at` is their place in the block.
            low, high = max(0, start - lag), min(n_samples, start - lag + block_samples)
            at = slice(low - start + lag, max(low, high) - start + lag)
            next_input = (
                _shifted(inputs[index + 1], sum(layers[index + 1].receptive_field)) if index + 1 < len(layers) else None
            )
            if low < high:
                y = gated[:, : high - low]
                z = opened[:, : high - low]
                _gate(layer, inputs[index], at, y=y, z=z, local=None if local is None else local[:, low:high])
                behind = lags[-1] - lag
                total[:, behind + at.start : behind + at.stop].addmm_(layer.skip, z)
                if next_input is not None:
                    middle = inputs[index][
                        :, layer.receptive_field.before + at.start : layer.receptive_field.before + at.stop
                    ]
                    torch.addmm(middle, layer.residual, z, beta=_SHRINK, out=next_input[:, at])
            if next_input is not None:
                next_input[:, : at.start] = 0
                next_input[:, at.stop :] = 0
        low, high = max(0, start - lags[-1]), min(n_samples, start - lags[-1] + block_samples)
        if low < high:
            done = total[:, low - start + lags[-1] : high - start + lags[-1]]
            torch.addmm(end[1], end[0], torch.addmm(leave[1], leave[0], done).relu_(), out=result[:, low:high])
        _shifted(total, lags[-1]).zero_()
    return result


def _gate(layer: _Layer, inputs: Tensor, at: slice, *, y: Tensor, z: Tensor, local: Tensor | None) -> None:
    """Write both halves of the gate to y, and half their product to z."""
    channels = len(y) // 2
    if layer.local is None or local is None:
        y.copy_(layer.bias.expand_as(y))
    else:
        torch.addmm(layer.bias, layer.local, local, out=y)
    for k, tap in enumerate(layer.taps):
        y.addmm_(tap, inputs[:, at.start + k * layer.dilation : at.stop + k * layer.dilation])
    y.sigmoid_()
    torch.sub(y[channels:], 0.5, out=z[:channels]).mul_(y[:channels])


def _shifted(buffer: Tensor, kept: int) -> Tensor:
    """Move the last `kept` columns to the front, and return the rest, which is to be overwritten."""
    buffer[:, :kept] = buffer[:, buffer.shape[1] - kept :].clone()
    return buffer[:, kept:]


def _matrix(conv: nn.Conv1d) -> tuple[Tensor, Tensor]:
    return conv.weight[..., 0], _bias(conv)


def _bias(conv: nn.Conv1d) -> Tensor:
    assert conv.bias is not None
    return conv.bias[:, None]


def _prepare(blocks: Sequence[ResidualBlock], step: Tensor, vector: Tensor | None) -> tuple[list[_Layer], Tensor]:
    """Return the layers for one noise level, and the step that is added to the input of the first."""
    steps = [block.step_projection(step)[:, None] for block in blocks]
    layers: list[_Layer] = []
    for index, block in enumerate(blocks):
        conv, projection = block.dilated_conv, block.condition_projection
        channels = conv.in_channels
        double = conv.weight.new_ones(2 * channels, 1)
        double[channels:] = 2.0
        bias = _bias(conv)
        if projection is not None:
            bias = bias + _bias(projection)
        if vector is not None and block.vector_projection is not None:
            bias = bias + block.vector_projection(vector)[:, None]
        weight, offset = _matrix(block.output_projection)
        following = steps[index + 1] if index + 1 < len(steps) else torch.zeros_like(steps[index])
        layers.append(
            _Layer(
                dilation=conv.dilation[0],
                receptive_field=block.receptive_field,
                taps=tuple((double * conv.weight[..., k]).contiguous() for k in range(conv.kernel_size[0])),
                local=None if projection is None else double * projection.weight[..., 0],
                bias=double * bias,
                residual=torch.cat(
                    [2.0 * _SHRINK * weight[:channels], _SHRINK * (offset[:channels] - steps[index]) + following], 1
                ),
                skip=torch.cat([2.0 * weight[channels:], offset[channels:]], 1),
            )
        )
    return layers, steps[0]
