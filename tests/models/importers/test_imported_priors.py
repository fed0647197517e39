"""Imported models whose noise follows the mel, and WaveNeXt, beside their equations on the file's tensors."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from audiodiff.diffusion.noise import noise_of
from audiodiff.models.checkpoint import load
from audiodiff.models.importers.registry import import_checkpoint

pytestmark = pytest.mark.numeric

WIDTH, N_LAYERS, CYCLE, BANDS, N_FRAMES = 8, 4, 2, 80, 5


def drawn(draw: torch.Generator, *shape: int, gain: float = 1.0) -> Tensor:
    return gain * torch.randn(shape, generator=draw) / math.sqrt(max(1, math.prod(shape[1:])))


def mel_of_noise(draw: torch.Generator, bands: int, n_frames: int) -> Tensor:
    """Return a mel whose energy changes from frame to frame, from quiet to beyond the largest."""
    level = torch.linspace(-8.0, -1.3, n_frames)
    return level + 0.5 * torch.randn(1, bands, n_frames, generator=draw)


def lmnt_weights() -> dict[str, Tensor]:
    draw, found = torch.Generator().manual_seed(0), {}

    def layer(name: str, *shape: int) -> None:
        found[f"{name}.weight"] = drawn(draw, *shape)
        found[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)

    layer("input_projection", WIDTH, 1, 1)
    layer("diffusion_embedding.projection1", 512, 128)
    layer("diffusion_embedding.projection2", 512, 512)
    for n in (1, 2):
        found[f"spectrogram_upsampler.conv{n}.weight"] = 0.1 * torch.randn(1, 1, 3, 32, generator=draw)
        found[f"spectrogram_upsampler.conv{n}.bias"] = 0.1 * torch.randn(1, generator=draw)
    for n in range(N_LAYERS):
        layer(f"residual_layers.{n}.dilated_conv", 2 * WIDTH, WIDTH, 3)
        layer(f"residual_layers.{n}.diffusion_projection", WIDTH, 512)
        layer(f"residual_layers.{n}.conditioner_projection", 2 * WIDTH, BANDS, 1)
        layer(f"residual_layers.{n}.output_projection", 2 * WIDTH, WIDTH, 1)
    layer("skip_projection", WIDTH, WIDTH, 1)
    layer("output_projection", 1, WIDTH, 1)
    return found


def diffwave(w: dict[str, Tensor], x: Tensor, t: float, mel: Tensor) -> Tensor:
    """Compute the noise that DiffWave predicts at a step between those of training, (1, 1, time)."""

    def conv(name: str, y: Tensor, **options: int) -> Tensor:
        return F.conv1d(y, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def linear(name: str, y: Tensor) -> Tensor:
        return F.linear(y, w[f"{name}.weight"], w[f"{name}.bias"])

    frequencies = 10.0 ** (torch.arange(64) * 4.0 / 63.0)
    below, above = (torch.cat([torch.sin(k * frequencies), torch.cos(k * frequencies)]) for k in (int(t), math.ceil(t)))
    step = (below + (above - below) * (t - int(t)))[None]
    step = F.silu(linear("diffusion_embedding.projection2", F.silu(linear("diffusion_embedding.projection1", step))))
    image = mel[:, None]
    for n in (1, 2):
        name = f"spectrogram_upsampler.conv{n}"
        image = F.conv_transpose2d(image, w[f"{name}.weight"], w[f"{name}.bias"], stride=(1, 16), padding=(1, 8))
        image = F.leaky_relu(image, 0.4)
    x, total = F.relu(conv("input_projection", x)), torch.zeros(())
    for n in range(N_LAYERS):
        name, dilation = f"residual_layers.{n}", 2 ** (n % CYCLE)
        y = x + linear(f"{name}.diffusion_projection", step)[..., None]
        y = conv(f"{name}.dilated_conv", y, dilation=dilation, padding=dilation)
        gate, content = (y + conv(f"{name}.conditioner_projection", image[:, 0])).chunk(2, dim=1)
        residual, skip = conv(f"{name}.output_projection", torch.sigmoid(gate) * torch.tanh(content)).chunk(2, dim=1)
        x, total = (x + residual) / math.sqrt(2.0), total + skip
    return conv("output_projection", F.relu(conv("skip_projection", total / math.sqrt(N_LAYERS))))


def test_priorgrad_samples_by_its_equations(tmp_path):
    """Ancestral sampling from the prior in six steps, clamped after each, as in the public code."""
    tensors = lmnt_weights()
    torch.save({"step": 1, "model": tensors, "optimizer": {}, "scaler": {}}, tmp_path / "weights.pt")
    options = {"dilation_cycle": str(CYCLE), "energy_min": "0.05"}
    family, imported = import_checkpoint(
        tmp_path / "weights.pt", tmp_path / "model", family="priorgrad", options=options
    )
    assert family.name == "priorgrad"
    assert "energy_max=4.0" in imported.assumed
    assert "std_min=0.1" in imported.assumed
    own = load(tmp_path / "model", device="cpu")
    mel = mel_of_noise(torch.Generator().manual_seed(1), BANDS, N_FRAMES)
    noise = noise_of(7, [0], offset=0)
    like = torch.zeros(1, 1, 256 * N_FRAMES)

    energy = mel.exp().sum(dim=1).sqrt().clamp(max=4.0)
    std = ((energy - 0.05) / (4.0 - 0.05)).clamp(min=0.1).repeat_interleave(256, dim=1)[:, None]
    assert float(std.max()) == 1.0
    assert float(std.min()) == pytest.approx(0.1)
    trained = np.cumprod(1 - np.linspace(1e-4, 0.05, 50))
    beta = np.array([0.0001, 0.001, 0.01, 0.05, 0.2, 0.5])
    alpha_bar = np.cumprod(1 - beta)
    x = noise(like, 0) * std
    with torch.no_grad():
        for n in range(5, -1, -1):
            t = next(t for t in range(49) if trained[t + 1] <= alpha_bar[n] <= trained[t])
            t += (trained[t] ** 0.5 - alpha_bar[n] ** 0.5) / (trained[t] ** 0.5 - trained[t + 1] ** 0.5)
            eps = diffwave(tensors, x, t, mel)
            x = (x - beta[n] / (1 - alpha_bar[n]) ** 0.5 * eps) / (1 - beta[n]) ** 0.5
            if n > 0:
                variance = (1 - alpha_bar[n - 1]) / (1 - alpha_bar[n]) * beta[n]
                x = x + variance**0.5 * std * noise(like, 6 - n)
            x = x.clamp(-1.0, 1.0)
    actual = own.generate(mel, seed=7, iterations=0)
    torch.testing.assert_close(actual, x, rtol=0.0, atol=1e-4)
    assert 0.05 < float(x.abs().mean()) < 0.95


def test_a_stream_of_priorgrad_equals_the_whole(tmp_path):
    torch.save({"model": lmnt_weights()}, tmp_path / "weights.pt")
    options = {"dilation_cycle": str(CYCLE)}
    import_checkpoint(tmp_path / "weights.pt", tmp_path / "model", family="priorgrad", options=options)
    own = load(tmp_path / "model", device="cpu")
    mel = mel_of_noise(torch.Generator().manual_seed(2), BANDS, 40)
    whole = own.generate(mel, seed=3, iterations=0)
    streamed = torch.cat(list(own.stream(mel.split(13, dim=-1), chunk_frames=8, seed=3, iterations=0)), dim=-1)
    torch.testing.assert_close(streamed, whole, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("with_settings", [True, False], ids=["config beside", "assumed"])
def test_wavenext_gives_the_audio_of_its_equations(tmp_path, with_settings):
    draw, w = torch.Generator().manual_seed(3), {}
    channels, hidden, hop, last = 12, 24, 256, 30

    def layer(name: str, *shape: int) -> None:
        w[f"{name}.weight"] = drawn(draw, *shape)
        w[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)

    def norm(name: str) -> None:
        w[f"{name}.weight"], w[f"{name}.bias"] = 1 + drawn(draw, channels), 0.1 * drawn(draw, channels)

    layer("backbone.embed", channels, BANDS, 7)
    norm("backbone.norm")
    for n in range(2):
        layer(f"backbone.convnext.{n}.dwconv", channels, 1, 7)
        norm(f"backbone.convnext.{n}.norm")
        layer(f"backbone.convnext.{n}.pwconv1", hidden, channels)
        layer(f"backbone.convnext.{n}.pwconv2", channels, hidden)
        w[f"backbone.convnext.{n}.gamma"] = drawn(draw, channels)
    norm("backbone.final_layer_norm")
    layer("head.linear_1", last, channels)
    w["head.linear_2.weight"] = drawn(draw, hop, last)
    w["feature_extractor.mel_spec.spectrogram.window"] = torch.hann_window(1024)
    torch.save(w, tmp_path / "pytorch_model.bin")
    if with_settings:
        mel_settings = {"sample_rate": 22050, "n_fft": 1024, "hop_length": 256, "n_mels": 80, "mel_scale": "slaney"}
        settings = {"feature_extractor": {"init_args": {**mel_settings, "f_max": 8000}}}
        (tmp_path / "config.json").write_text(json.dumps(settings))
    family, imported = import_checkpoint(tmp_path / "pytorch_model.bin", tmp_path / "model")
    assert family.name == "wavenext"
    assert (imported.assumed == ()) == with_settings
    own = load(tmp_path / "model", device="cpu")
    assert own.dialect is not None
    assert own.dialect.name == "wavenext"
    mel = torch.randn(1, BANDS, 20, generator=draw) - 4.0

    def layer_norm(name: str, y: Tensor) -> Tensor:
        y = (y - y.mean(1, keepdim=True)) / torch.sqrt(y.var(1, correction=0, keepdim=True) + 1e-6)
        return y * w[f"{name}.weight"][:, None] + w[f"{name}.bias"][:, None]

    def linear(name: str, y: Tensor) -> Tensor:
        bias = w.get(f"{name}.bias")
        return torch.einsum("oi,bit->bot", w[f"{name}.weight"], y) + (0.0 if bias is None else bias[:, None])

    x = layer_norm("backbone.norm", F.conv1d(mel, w["backbone.embed.weight"], w["backbone.embed.bias"], padding=3))
    for n in range(2):
        name = f"backbone.convnext.{n}"
        y = F.conv1d(x, w[f"{name}.dwconv.weight"], w[f"{name}.dwconv.bias"], padding=3, groups=channels)
        y = linear(f"{name}.pwconv1", layer_norm(f"{name}.norm", y))
        y = linear(f"{name}.pwconv2", y * 0.5 * (1 + torch.erf(y / math.sqrt(2))))
        x = x + w[f"{name}.gamma"][:, None] * y
    x = linear("head.linear_2", linear("head.linear_1", layer_norm("backbone.final_layer_norm", x)))
    expected = x.mT.reshape(1, 1, -1).clamp(-1.0, 1.0)
    assert 0.01 < float(expected.std()) < 0.9
    torch.testing.assert_close(own.generate(mel, iterations=0), expected, rtol=0.0, atol=1e-5)


def test_weights_that_two_families_share_are_taken_for_one_with_a_notice(tmp_path):
    torch.save({"model": lmnt_weights()}, tmp_path / "weights.pt")
    family, imported = import_checkpoint(tmp_path / "weights.pt", tmp_path / "model", options={"dilation_cycle": "2"})
    assert family.name == "diffwave"
    assert any("--from priorgrad" in each for each in imported.assumed)
