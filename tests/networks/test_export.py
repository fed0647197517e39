"""torch.export of networks: the exported program computes what the network does, at any length."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch.export import Dim

from audiodiff.condition import Condition
from audiodiff.dsp.mel import dialect
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.hifigan import HifiGan
from audiodiff.networks.network import Network
from audiodiff.networks.refiner import SpectralRefiner
from audiodiff.networks.restorer import SpectralRestorer
from audiodiff.networks.spectral import SpectralWaveNet
from audiodiff.networks.vocos import Vocos
from audiodiff.networks.wavenet import WaveNet

HIFIGAN = dialect("hifigan")
HOP = HIFIGAN.hop_length
SMALL: dict[str, Any] = {"channels": 8, "n_layers": 2, "dilation_cycle": 2}


@pytest.fixture(autouse=True)
def symbolic_sizes():
    """Let an int be a symbol, which the checks of types in the tests refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def vector(n_samples: int, generator: torch.Generator) -> Condition:
    return Condition(vector=torch.randn(1, 3, generator=generator))


def mel(n_samples: int, generator: torch.Generator) -> Condition:
    return Condition(frames=HIFIGAN.mel(0.1 * torch.randn(1, n_samples, generator=generator)))


def recording(n_samples: int, generator: torch.Generator) -> Condition:
    return Condition(signal=torch.cat([0.1 * torch.randn(1, 1, n_samples, generator=generator)] * 2, dim=1))


def nothing(n_samples: int, generator: torch.Generator) -> Condition:
    return Condition()


NETWORKS: dict[str, tuple[Callable[[], Network], Callable[[int, torch.Generator], Condition]]] = {
    "wavenet": (lambda: WaveNet(Sinusoidal(), vector_features=3, **SMALL), vector),
    "wavenet of mels": (lambda: WaveNet(Sinusoidal(), frame_bands=80, hop_length=HOP, **SMALL), mel),
    "spectral": (lambda: SpectralWaveNet(Sinusoidal(), dialect=HIFIGAN, **SMALL), mel),
    "unconditional": (lambda: SpectralWaveNet(Sinusoidal(), dialect=None, **SMALL), nothing),
    "refiner": (lambda: SpectralRefiner(Sinusoidal(), dialect=HIFIGAN, **SMALL), mel),
    "restorer": (lambda: SpectralRestorer(Sinusoidal(), sample_rate=22050, hop_length=128, **SMALL), recording),
    "hifigan": (lambda: HifiGan(channels=16, upsample_rates=(16, 16), upsample_kernel_sizes=(32, 32)), mel),
    "vocos": (lambda: Vocos(frame_bands=80, hop_length=HOP, channels=8, hidden_channels=8, n_layers=2), mel),
}


def dynamic(condition: Condition) -> list[dict[int, object] | None]:
    """Return the last axis of all that has one of time, for each field that is not None."""
    values = [getattr(condition, field.name) for field in fields(Condition)]
    return [{2: Dim.AUTO} if value.ndim == 3 else None for value in values if value is not None]


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_gives_the_same_output_at_any_length(name: str):
    make, condition_of = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = make().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)

    def inputs(n_samples: int) -> tuple[torch.Tensor, torch.Tensor, Condition]:
        x = 0.1 * torch.randn(1, 1, n_samples, generator=generator)
        return x, torch.tensor([0.3]), network.encode(condition_of(n_samples, generator))

    with torch.no_grad():
        given = inputs(10 * HOP)
        shapes = {"x": {2: Dim.AUTO}, "c_noise": None, "condition": dynamic(given[2])}
        program = torch.export.export(network, given, dynamic_shapes=shapes).module()
        for each in (given, inputs(17 * HOP)):
            torch.testing.assert_close(program(*each), network(*each), rtol=1e-5, atol=1e-6)


def test_what_is_computed_once_keeps_nothing_of_a_traced_program():
    network = SpectralWaveNet(Sinusoidal(), dialect=None, n_fft=96, hop_length=24, **SMALL).eval()
    inputs = (torch.randn(1, 1, 480, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3]), Condition())
    with torch.no_grad():
        torch.export.export(network, inputs)  # before anything of this size was computed
        assert type(network(*inputs)) is torch.Tensor
        assert bool(network(*inputs).isfinite().all())


def test_an_exported_program_is_saved_and_loaded(tmp_path: Path):
    network = WaveNet(Sinusoidal(), **SMALL).eval()
    inputs = (torch.randn(1, 1, 100, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3]), Condition())
    with torch.no_grad():
        torch.export.save(torch.export.export(network, inputs), tmp_path / "network.pt2")
        loaded = torch.export.load(tmp_path / "network.pt2").module()
        torch.testing.assert_close(loaded(*inputs), network(*inputs), rtol=1e-5, atol=1e-6)
