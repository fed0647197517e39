"""The WaveNet a block of time at a time, on a CPU: the same sums, in memory that does not grow with depth.

Layer by layer, a residual stack at the rate of samples writes and reads hundreds of megabytes for a second of audio,
and waits for memory. Here every layer works on one block, as far as the layer before it has come, and hands on what it
made while that is in cache; a layer that looks d samples ahead lags d behind the one before, so nothing is computed
twice.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.networks.residual import ResidualBlock
from audiodiff.types import ReceptiveField

BLOCK_SAMPLES = 4096
"""Samples of a block: small enough for the cache, large enough for matrix products to run at full speed."""

_MARGINS_OF_A_STRETCH = 2
"""How many times its margins a stretch has to be for a thread of its own."""

_SHRINK = 1.0 / math.sqrt(2.0)


@dataclass(frozen=True)
class _Layer:
    """A residual block's weights for one noise level, as the loop needs them.

    Its input is held as y = x + step, as the dilated convolution wants it. tanh(c) is 2 sigmoid(2 c) - 1, so that one
    sigmoid makes both halves of the gate: the factors are in the weights.
    """

    dilation: int
    receptive_field: ReceptiveField  # of the convolution
    taps: tuple[Tensor, ...]  # (2 channels, channels) each
    local: Tensor | None  # (2 channels, bands)
    bias: Tensor  # (2 channels, 1)
    onward: Tensor  # (channels, channels + 1): to the next layer's y, a bias in the last column
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
    """Compute what `WaveNet.forward` computes for one example, without gradients, to rounding.

    Args:
        x: the scaled noisy signal.
        blocks: the residual blocks.
        step: the encoded noise level.
        local: the condition at the rate of x; None if there is none.
        vector: the global condition; None if there is none.
        input_projection: before the blocks.
        skip_projection: after the sum of the skip signals.
        output_projection: the last one.
        block_samples: of a block; a matter of speed alone.
    """
    layers, first_step = _prepare(blocks, step, vector)
    own = _Own(layers, first_step, input_projection, skip_projection, output_projection, block_samples)
    before, after = (sum(sides) for sides in zip(*(layer.receptive_field for layer in layers), strict=True))
    n_samples, n_threads = x.shape[-1], torch.get_num_threads()
    length = -(-n_samples // n_threads)
    if n_threads == 1 or length < _MARGINS_OF_A_STRETCH * (before + after):
        return _run(own, x, local)
    # One matrix product is too small for two cores, so each takes a stretch of time of its own, and its margins.
    starts = range(0, n_samples, length)

    def stretch(start: int) -> Tensor:
        torch.set_num_threads(1)
        first, last = max(0, start - before), min(n_samples, start + length + after)
        with torch.no_grad():
            result = _run(own, x[:, first:last], None if local is None else local[:, first:last])
        return result[:, start - first :][:, :length]

    try:
        with ThreadPoolExecutor(n_threads) as pool:
            return torch.cat(list(pool.map(stretch, starts)), dim=1)
    finally:
        torch.set_num_threads(n_threads)


@dataclass(frozen=True)
class _Own:
    """What all stretches of a signal have in common."""

    layers: Sequence[_Layer]
    first_step: Tensor
    input_projection: nn.Conv1d
    skip_projection: nn.Conv1d
    output_projection: nn.Conv1d
    block_samples: int


def _run(own: _Own, x: Tensor, local: Tensor | None) -> Tensor:
    """Compute one stretch as if it were everything."""
    layers, block_samples = own.layers, own.block_samples
    n_samples, channels = x.shape[-1], own.input_projection.out_channels
    lags = [sum(layer.receptive_field.after for layer in layers[: index + 1]) for index in range(len(layers))]
    # What a layer sees: as much from before as its convolution spans, and a block. Outside the signal it is 0, as
    # padding makes it.
    inputs = [x.new_zeros(channels, sum(layer.receptive_field) + block_samples) for layer in layers]
    total = x.new_zeros(channels, lags[-1] + block_samples)
    gated, opened = x.new_empty(2 * channels, block_samples), x.new_ones(channels + 1, block_samples)
    result = x.new_empty(own.output_projection.out_channels, n_samples)
    enter, leave, end = (_matrix(conv) for conv in (own.input_projection, own.skip_projection, own.output_projection))
    leave = (leave[0] / math.sqrt(len(layers)), leave[1])

    for start in range(0, n_samples + lags[-1], block_samples):
        fresh = _shifted(inputs[0], sum(layers[0].receptive_field))
        stop = min(start + block_samples, n_samples)
        if start < stop:
            part = fresh[:, : stop - start]
            torch.addmm(enter[1], enter[0], x[:, start:stop], out=part).relu_().add_(own.first_step)
        fresh[:, max(0, stop - start) :] = 0
        for index, (layer, lag) in enumerate(zip(layers, lags, strict=True)):
            # Only what lies within the signal is computed, from `low` to `high`; `at` is its place in the block.
            low, high = max(0, start - lag), min(n_samples, start - lag + block_samples)
            at = slice(low - start + lag, max(low, high) - start + lag)
            onward = (
                _shifted(inputs[index + 1], sum(layers[index + 1].receptive_field)) if index + 1 < len(layers) else None
            )
            if low < high:
                y = gated[:, : high - low]
                z = opened[:, : high - low]
                _gate(layer, inputs[index], at, y=y, z=z, local=None if local is None else local[:, low:high])
                behind = lags[-1] - lag
                total[:, behind + at.start : behind + at.stop].addmm_(layer.skip, z)
                if onward is not None:
                    middle = inputs[index][
                        :, layer.receptive_field.before + at.start : layer.receptive_field.before + at.stop
                    ]
                    torch.addmm(middle, layer.onward, z, beta=_SHRINK, out=onward[:, at])
            if onward is not None:
                onward[:, : at.start] = 0
                onward[:, at.stop :] = 0
        low, high = max(0, start - lags[-1]), min(n_samples, start - lags[-1] + block_samples)
        if low < high:
            done = total[:, low - start + lags[-1] : high - start + lags[-1]]
            torch.addmm(end[1], end[0], torch.addmm(leave[1], leave[0], done).relu_(), out=result[:, low:high])
        _shifted(total, lags[-1]).zero_()
    return result


def _gate(layer: _Layer, own: Tensor, at: slice, *, y: Tensor, z: Tensor, local: Tensor | None) -> None:
    """Fill y with the two halves of the gate, and z with half their product."""
    channels = len(y) // 2
    if layer.local is None or local is None:
        y.copy_(layer.bias.expand_as(y))
    else:
        torch.addmm(layer.bias, layer.local, local, out=y)
    for k, tap in enumerate(layer.taps):
        y.addmm_(tap, own[:, at.start + k * layer.dilation : at.stop + k * layer.dilation])
    y.sigmoid_()
    torch.sub(y[channels:], 0.5, out=z[:channels]).mul_(y[:channels])


def _shifted(buffer: Tensor, kept: int) -> Tensor:
    """Move the last `kept` columns to the front, and return the rest, to be filled."""
    buffer[:, :kept] = buffer[:, buffer.shape[1] - kept :].clone()
    return buffer[:, kept:]


def _matrix(conv: nn.Conv1d) -> tuple[Tensor, Tensor]:
    return conv.weight[..., 0], _bias(conv)


def _bias(conv: nn.Conv1d) -> Tensor:
    assert conv.bias is not None
    return conv.bias[:, None]


def _prepare(blocks: Sequence[ResidualBlock], step: Tensor, vector: Tensor | None) -> tuple[list[_Layer], Tensor]:
    """Return the layers for one noise level, and what is added to the first one's input."""
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
                onward=torch.cat(
                    [2.0 * _SHRINK * weight[:channels], _SHRINK * (offset[:channels] - steps[index]) + following], 1
                ),
                skip=torch.cat([2.0 * weight[channels:], offset[channels:]], 1),
            )
        )
    return layers, steps[0]
