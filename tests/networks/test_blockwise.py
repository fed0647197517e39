"""Blockwise WaveNet beside WaveNet layer by layer."""

import pytest
import torch
from torch import nn

from audiodiff import threads
from audiodiff.condition import Condition
from audiodiff.networks.blockwise import BLOCK_SAMPLES, run_in_blocks
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.wavenet import WaveNet

pytestmark = pytest.mark.numeric


def network(**options) -> WaveNet:
    torch.manual_seed(0)
    made = WaveNet(Sinusoidal(), **{"channels": 8, "n_layers": 7, "dilation_cycle": 4, "step_features": 16, **options})
    nn.init.normal_(made.output_projection.weight)
    return made.eval()


CASES = {
    "unconditional": {},
    "frames": {"frame_bands": 5, "hop_length": 16},
    "signal": {"signal_channels": 2},
    "vector": {"vector_features": 3},
    "all, stereo, two outputs a channel": {
        "frame_bands": 5,
        "hop_length": 16,
        "signal_channels": 2,
        "vector_features": 3,
        "in_channels": 2,
        "out_channels": 4,
    },
    "kernel of 1": {"kernel_size": 1},
    "kernel of 5": {"kernel_size": 5},
    "one layer": {"n_layers": 1},
    "causal": {"look_ahead": 0, "frame_bands": 5, "hop_length": 16},
    "a little ahead": {"look_ahead": 5, "kernel_size": 5},
}


def conditioned(options: dict, *, n_samples: int, batch: int) -> Condition:
    draw = torch.Generator().manual_seed(1)
    return Condition(
        frames=torch.randn(batch, 5, n_samples // 16 + 1, generator=draw) if "frame_bands" in options else None,
        signal=torch.randn(batch, 2, n_samples, generator=draw) if "signal_channels" in options else None,
        vector=torch.randn(batch, 3, generator=draw) if "vector_features" in options else None,
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n_samples", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("block_samples", [16, 64, 5000])
def test_the_result_in_blocks_is_that_of_layers(name, n_samples, block_samples):
    own = network(**CASES[name])
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(1, own.input_projection.in_channels, n_samples, generator=draw)
    condition = own.encode(conditioned(CASES[name], n_samples=n_samples, batch=1))
    local = None if condition.signal is None else condition.signal[0, :, :n_samples]
    with torch.no_grad():
        expected = own(x, torch.tensor([0.3]), condition)[0]
        result = run_in_blocks(
            x[0],
            blocks=own.stack.layers,
            step=own.step_encoder(torch.tensor([0.3]))[0],
            local=local,
            vector=None if condition.vector is None else condition.vector[0],
            input_projection=own.input_projection,
            skip_projection=own.skip_projection,
            output_projection=own.output_projection,
            block_samples=block_samples,
        )
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_long_signals_without_gradients_are_computed_in_blocks():
    options = CASES["all, stereo, two outputs a channel"]
    own, n_samples = network(**options), BLOCK_SAMPLES + 17
    x = torch.randn(2, 2, n_samples, generator=torch.Generator().manual_seed(2))
    condition = own.encode(conditioned(options, n_samples=n_samples, batch=2))
    c_noise = torch.tensor([0.1, 0.8])
    expected = own(x, c_noise, condition)
    called: list[str] = []
    forward = own.stack.forward
    own.stack.forward = lambda *arguments: called.append("layers") or forward(*arguments)
    with torch.no_grad():
        result = own(x, c_noise, condition)
        assert called == []
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
        handle = own.stack.register_forward_hook(lambda *_: None)
        own(x, c_noise, condition)
        handle.remove()
    assert called == ["layers"]
    own(x, c_noise, condition).sum().backward()
    assert called == ["layers", "layers"]


def test_workers_compute_segments_with_the_same_result(monkeypatch):
    options = CASES["all, stereo, two outputs a channel"]
    own, n_samples = network(**options), 2 * BLOCK_SAMPLES + 5
    x = torch.randn(1, 2, n_samples, generator=torch.Generator().manual_seed(2))
    condition = own.encode(conditioned(options, n_samples=n_samples, batch=1))
    results = []
    with torch.no_grad():
        for n_workers in (1, 3):
            monkeypatch.setattr(threads, "_chosen", n_workers)
            results.append(own(x, torch.tensor([0.3]), condition))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5 * float(results[0].abs().max()))
    assert not results[1].requires_grad
