"""Imported models beside the packages whose checkpoints they read: same weights, same noise, same samples."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peers import inference, installed, model, params
from torch import Tensor, nn

from audiodiff.models.checkpoint import load
from audiodiff.models.importers.registry import import_checkpoint
from audiodiff.models.synthesizer import Synthesizer

pytestmark = [
    pytest.mark.numeric,
    # Older packages normalise weights by a function that torch has replaced.
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
]

N_FRAMES = 4
BETAS = torch.linspace(1e-4, 0.05, 50, dtype=torch.float64).tolist()


def imported(folder: Path, content: Any, *, family: str, **options: Any) -> Synthesizer:
    torch.save(content, folder / "weights.pt")
    kind, _ = import_checkpoint(folder / "weights.pt", folder / "model", options=options)
    assert kind.name == family
    return load(folder / "model", device="cpu")


def shaken(network: nn.Module, std: float = 0.1) -> nn.Module:
    """Move every weight, since some of them are 0 or 1 in a new network."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(std * torch.randn_like(weight))
    return network.eval()


class Draws:
    """The noise of a sampling run, drawn once and handed to both programs."""

    def __init__(self, shape: tuple[int, ...], n: int) -> None:
        self.all = [torch.randn(shape, generator=torch.Generator().manual_seed(step)) for step in range(n)]
        self._left = iter(self.all)

    def theirs(self, *_: object, **__: object) -> Tensor:
        return next(self._left)

    def ours(self, like: Tensor, step: int) -> Tensor:
        return self.all[step].reshape(like.shape)


def sampled(own: Synthesizer, mel: Tensor | None, draws: Draws, *, n_samples: int) -> Tensor:
    condition = own.conditioner.null(1) if mel is None else type(own.conditioner.null(1))(frames=mel)
    with torch.no_grad():
        return own.sampler(own.denoiser.bind(condition), torch.zeros(1, 1, n_samples), draws.ours)


@pytest.mark.parametrize("schedule", ["fast", "full"])
def test_a_diffwave_of_lmnts_samples_as_in_its_package(tmp_path, monkeypatch, schedule):
    settings = params.AttrDict(
        {**params.params, "residual_channels": 16, "residual_layers": 6, "dilation_cycle_length": 3}
    )
    peer = shaken(model.DiffWave(settings), 0.02)
    own = imported(
        tmp_path,
        {"step": 1, "model": peer.state_dict(), "params": dict(settings)},
        family="diffwave",
        schedule=schedule,
    )
    mel = torch.rand(1, 80, N_FRAMES)
    draws = Draws((1, 256 * N_FRAMES), 50)
    monkeypatch.setattr(inference.torch, "randn", draws.theirs)
    monkeypatch.setattr(inference.torch, "randn_like", draws.theirs)
    monkeypatch.setitem(inference.models, "in memory", peer)
    expected, rate = inference.predict(
        mel, "in memory", params={}, device=torch.device("cpu"), fast_sampling=schedule == "fast"
    )
    monkeypatch.undo()
    actual = sampled(own, mel, draws, n_samples=256 * N_FRAMES)
    assert own.sample_rate == rate
    assert (expected.abs() < 0.999).float().mean() > 0.5
    torch.testing.assert_close(actual[0], expected, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("conditional", [True, False], ids=["vocoder", "unconditional"])
def test_a_diffwave_of_speechbrains_samples_as_in_its_package(tmp_path, monkeypatch, conditional):
    speechbrain = installed("speechbrain.lobes.models.DiffWave")
    peer = speechbrain.DiffWave(
        input_channels=80,
        residual_layers=6,
        residual_channels=16,
        dilation_cycle_length=3,
        total_steps=50,
        unconditional=not conditional,
    )
    peer = shaken(peer, 0.02)
    content = {name: weight for name, weight in peer.state_dict().items() if not name.endswith("embedding.embedding")}
    own = imported(tmp_path, content, family="speechbrain-diffwave", schedule="full", dilation_cycle=3)
    n_samples = 256 * N_FRAMES
    mel = torch.rand(1, 80, N_FRAMES) if conditional else None
    diffusion = speechbrain.DiffWaveDiffusion(peer, timesteps=50, beta_start=1e-4, beta_end=0.05)
    draws = Draws((1, n_samples), 50)
    monkeypatch.setattr(speechbrain.torch, "randn", draws.theirs)
    monkeypatch.setattr(speechbrain.torch, "randn_like", draws.theirs)
    with torch.no_grad():
        expected = diffusion.inference(
            not conditional, 256 if conditional else n_samples, condition=mel, device=torch.device("cpu")
        )
    monkeypatch.undo()
    actual = sampled(own, mel, draws, n_samples=n_samples)
    assert (expected.abs() < 0.999).float().mean() > 0.5
    torch.testing.assert_close(actual[0], expected, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("padding", ["center", "same"])
def test_vocos_gives_the_audio_of_its_package(tmp_path, padding):
    models, heads = installed("vocos.models"), installed("vocos.heads")
    backbone, head = shaken(models.VocosBackbone(100, 32, 64, 3)), heads.ISTFTHead(32, 1024, 256, padding)
    content = {f"backbone.{name}": weight for name, weight in backbone.state_dict().items()}
    content |= {f"head.{name}": weight for name, weight in head.state_dict().items()}
    own = imported(tmp_path, content, family="vocos", padding=padding)
    mel = torch.randn(1, 100, 40) - 3.0
    with torch.no_grad():
        expected = head(backbone(mel))
    actual = own.generate(mel, n_samples=expected.shape[-1])
    torch.testing.assert_close(actual[0], expected, rtol=0.0, atol=1e-5 * float(expected.abs().max()))


def bigvgan_settings(**changes: Any) -> dict[str, Any]:
    return {
        "num_mels": 80,
        "upsample_initial_channel": 32,
        "upsample_rates": [4, 4, 2, 2],
        "upsample_kernel_sizes": [8, 8, 4, 4],
        "resblock": "1",
        "resblock_kernel_sizes": [3, 7],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
        "activation": "snakebeta",
        "snake_logscale": True,
        "sampling_rate": 22050,
        "hop_size": 64,
        "n_fft": 1024,
        "win_size": 1024,
        "fmin": 0,
        "fmax": 8000,
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"use_bias_at_final": False, "use_tanh_at_final": False},
        {"activation": "snake", "resblock": "2", "resblock_dilation_sizes": [[1, 3], [1, 3]], "fmax": None},
        {"snake_logscale": False},
    ],
    ids=["version 2", "snake", "linear"],
)
def test_bigvgan_gives_the_audio_of_its_package(tmp_path, changes: Mapping[str, Any]):
    bigvgan, environment = installed("bigvgan.bigvgan"), installed("bigvgan.env")
    settings = bigvgan_settings(**changes)
    peer = shaken(bigvgan.BigVGAN(environment.AttrDict(settings)))
    (tmp_path / "config.json").write_text(json.dumps(settings))
    own = imported(tmp_path, {"generator": peer.state_dict()}, family="bigvgan")
    mel = torch.randn(1, 80, 30) - 4.0
    with torch.no_grad():
        expected = peer(mel)
    actual = own.generate(mel, n_samples=expected.shape[-1])
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-5 * float(expected.abs().max()))


def test_wavegrad_samples_as_in_its_package(tmp_path, monkeypatch):
    wavegrad, settings, inference = (installed(f"wavegrad.{name}") for name in ("model", "params", "inference"))
    betas = [1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5]
    peer = shaken(wavegrad.WaveGrad(settings.params), 0.002)
    peer.last_conv.weight.data.mul_(0.1)  # else untrained sampling ends in the clamp
    own = imported(
        tmp_path,
        {"step": 1, "model": peer.state_dict(), "params": {**settings.params, "sample_rate": 24000}},
        family="wavegrad",
        betas=betas,
    )
    mel = torch.rand(1, 128, N_FRAMES)
    draws = Draws((1, 300 * N_FRAMES), len(betas))
    monkeypatch.setattr(inference.torch, "randn", draws.theirs)
    monkeypatch.setattr(inference.torch, "randn_like", draws.theirs)
    monkeypatch.setitem(inference.models, "in memory", peer)
    expected, _ = inference.predict(mel, "in memory", params={"noise_schedule": betas}, device=torch.device("cpu"))
    monkeypatch.undo()
    actual = sampled(own, mel, draws, n_samples=300 * N_FRAMES)
    assert own.sample_rate == 24000
    assert (expected.abs() < 0.999).float().mean() > 0.3
    torch.testing.assert_close(actual[0], expected, rtol=0.0, atol=1e-4)
