"""Receptive fields of networks, measured by gradients."""

import math

import pytest
import tiny
import torch

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.network import Network
from audiodiff.networks.refiner import SpectralRefiner
from audiodiff.networks.spectral import SpectralWaveNet
from audiodiff.networks.wavenet import WaveNet

pytestmark = pytest.mark.numeric

SMALL = {"channels": 12, "n_layers": 3, "dilation_cycle": 2, "step_features": 8}


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
    made |= {
        "refiner": SpectralRefiner(Sinusoidal(), dialect=hifigan, **SMALL),
        "refiner at another hop": SpectralRefiner(Sinusoidal(), dialect=hifigan, n_fft=512, hop_length=96, **SMALL),
    }
    for look_ahead in (0, 2, 4, 100):
        ahead = {"look_ahead": look_ahead, **SMALL}
        made |= {
            f"wavenet that looks {look_ahead} ahead": WaveNet(Sinusoidal(), frame_bands=80, hop_length=256, **ahead),
            f"spectral that looks {look_ahead} ahead": SpectralWaveNet(
                Sinusoidal(), dialect=hifigan, n_fft=1024, hop_length=256, **ahead
            ),
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
def test_outputs_depend_on_the_receptive_field_and_on_nothing_beyond(name):
    network, hop = NETWORKS[name], hop_of(NETWORKS[name])
    n_frames = 2 * (max(network.receptive_field) // hop + 3)
    x = (0.1 * torch.randn(1, 1, n_frames * hop)).requires_grad_()
    mel = (torch.rand(1, 80, n_frames) - 6.0).requires_grad_()
    before, after = 0, 0
    # Over a hop: where in a frame an output lies decides how far it sees.
    for middle in range(n_frames * hop // 2, (n_frames // 2 + 1) * hop, 37):
        x.grad = mel.grad = None
        evaluated(network, x, mel)[0, 0, middle].backward()
        assert x.grad is not None
        touched = x.grad[0, 0].nonzero()[:, 0] - middle
        before, after = max(before, -int(touched.min())), max(after, int(touched.max()))
        if mel.grad is not None:
            frames = mel.grad[0].abs().sum(0).nonzero()[:, 0]
            # A frame stands for a hop of samples, of which the nearest counts: windows begin and end between frames.
            before = max(before, middle - (int(frames.min()) + 1) * hop + 1)
            after = max(after, int(frames.max()) * hop - middle)
    # Generous by less than half: what a window wastes.
    assert 0.5 * network.receptive_field.before < before <= network.receptive_field.before
    assert 0.5 * network.receptive_field.after < after <= network.receptive_field.after


@pytest.mark.parametrize("name", NETWORKS)
def test_an_aligned_window_gives_the_result_of_the_whole(name):
    network, hop = NETWORKS[name], hop_of(NETWORKS[name])
    start = math.lcm(network.alignment, hop)
    before, after = (-(-margin // start) * start for margin in network.receptive_field)
    n_samples = before + after + 3 * start
    draw = torch.Generator().manual_seed(3)
    x = 0.1 * torch.randn(1, 1, n_samples, generator=draw)
    mel = torch.rand(1, 80, n_samples // hop, generator=draw) - 6.0
    with torch.no_grad():
        whole = evaluated(network, x, mel)
        part = evaluated(network, x[..., start:-start], mel[..., start // hop : -start // hop])
    expected = whole[..., start + before : n_samples - start - after]
    atol = 1e-5 * float(whole.abs().max())
    torch.testing.assert_close(part[..., before : before + start], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "looks 100 ahead" in name])
def test_a_look_ahead_beyond_the_symmetric_one_changes_nothing(name):
    both_ways = NETWORKS["wavenet of frames" if "wavenet" in name else "spectral of a mel"]
    both_ways.load_state_dict(NETWORKS[name].state_dict(), strict=True)
    assert NETWORKS[name].receptive_field == both_ways.receptive_field
    x, mel = 0.1 * torch.randn(1, 1, 4096), torch.rand(1, 80, 16) - 6.0
    assert torch.equal(evaluated(NETWORKS[name], x, mel), evaluated(both_ways, x, mel))


def test_a_causal_stack_looks_ahead_by_the_window_or_the_upsampler():
    assert NETWORKS["spectral that looks 0 ahead"].receptive_field.after == 1024
    assert NETWORKS["wavenet that looks 0 ahead"].receptive_field.after == 128 + 8


def test_a_negative_look_ahead_is_refused():
    with pytest.raises(ParameterError, match="look_ahead=-1 must not be negative"):
        WaveNet(Sinusoidal(), look_ahead=-1, **SMALL)
