"""What an output of a network depends on, measured by its gradient."""

import math

import pytest
import tiny
import torch

from audiodiff.condition import Condition
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.network import Network
from audiodiff.networks.spectral import SpectralWaveNet
from audiodiff.networks.wavenet import WaveNet

SMALL = {"channels": 4, "n_layers": 3, "dilation_cycle": 2, "step_features": 8}


def networks() -> dict[str, Network]:
    torch.manual_seed(0)
    hifigan = tiny.synthesizer(tiny.VOCODER).dialect
    assert hifigan is not None
    made: dict[str, Network] = {
        "wavenet": WaveNet(Sinusoidal(), **SMALL),
        "wavenet of frames": WaveNet(Sinusoidal(), frame_bands=80, hop_length=256, **SMALL),
        "wavenet of a prime hop": WaveNet(Sinusoidal(), frame_bands=80, hop_length=257, **SMALL),
        "spectral": SpectralWaveNet(Sinusoidal(), dialect=None, n_fft=512, hop_length=128, **SMALL),
        "spectral of a mel": SpectralWaveNet(Sinusoidal(), dialect=hifigan, n_fft=1024, hop_length=256, **SMALL),
        "spectral at another hop": SpectralWaveNet(Sinusoidal(), dialect=hifigan, n_fft=512, hop_length=96, **SMALL),
    }
    for network in made.values():
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    return made


NETWORKS = networks()


def hop_of(network: Network) -> int:
    return network.upsample.hop_length if isinstance(network, WaveNet) and network.upsample else 256


def evaluated(network: Network, x: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    return network(x, torch.tensor([0.4]), network.encode(Condition(frames=mel)))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_output_depends_on_nothing_beyond_the_reach_and_on_something_near_it(name):
    network, hop = NETWORKS[name], hop_of(NETWORKS[name])
    n_frames = 2 * (network.reach // hop + 3)
    x = (0.1 * torch.randn(1, 1, n_frames * hop)).requires_grad_()
    mel = (torch.rand(1, 80, n_frames) - 6.0).requires_grad_()
    middle = n_frames * hop // 2
    evaluated(network, x, mel)[0, 0, middle].backward()
    assert x.grad is not None
    touched = x.grad[0, 0].nonzero()[:, 0] - middle
    assert touched.abs().max() <= network.reach
    furthest = int(touched.abs().max())
    if mel.grad is not None:
        frames = mel.grad[0].abs().sum(0).nonzero()[:, 0]
        ends = torch.stack([frames * hop - middle, (frames + 1) * hop - middle])
        assert ends.min() >= -network.reach
        assert ends.max() <= network.reach + hop
        furthest = max(furthest, int(ends.abs().max()))
    # Generous by less than half: what a window wastes.
    assert furthest > 0.5 * network.reach


@pytest.mark.parametrize("name", NETWORKS)
def test_a_window_that_starts_at_the_grain_gives_what_the_whole_gives(name):
    network, hop = NETWORKS[name], hop_of(NETWORKS[name])
    start = math.lcm(network.grain, hop)
    margin = -(-network.reach // start) * start
    n_samples = 2 * margin + 2 * start
    draw = torch.Generator().manual_seed(3)
    x = 0.1 * torch.randn(1, 1, n_samples, generator=draw)
    mel = torch.rand(1, 80, n_samples // hop, generator=draw) - 6.0
    with torch.no_grad():
        whole = evaluated(network, x, mel)
        part = evaluated(network, x[..., start:], mel[..., start // hop :])
    expected = whole[..., start + margin :]
    torch.testing.assert_close(part[..., margin:], expected, rtol=0, atol=1e-5 * float(whole.abs().max()))
