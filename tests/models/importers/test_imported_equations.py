"""Imported models of projects without a package, beside their equations, written out on the file's tensors."""

import json
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.models.checkpoint import load
from audiodiff.models.importers.registry import import_checkpoint

pytestmark = pytest.mark.numeric

WIDTH, N_LAYERS, CYCLE, BANDS, N_FRAMES = 8, 4, 2, 80, 3
N_STEPS = 50


def normalised(shape: tuple[int, ...], draw: torch.Generator, gain: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return norm and direction of a weight, as torch's older weight norm saves them."""
    direction = torch.randn(shape, generator=draw)
    norm = gain * (0.5 + torch.rand(shape[0], *[1] * (len(shape) - 1), generator=draw))
    return norm, direction


def philsyn_weights(*, conditional: bool) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}

    def conv(name: str, *shape: int, plain: bool = False) -> None:
        if plain:
            found[f"{name}.weight"] = torch.randn(shape, generator=draw) / math.sqrt(math.prod(shape[1:]))
        else:
            found[f"{name}.weight_g"], found[f"{name}.weight_v"] = normalised(shape, draw)
        found[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)

    conv("init_conv.0.conv", WIDTH, 1, 1)
    conv("residual_layer.fc_t1", 512, 128, plain=True)
    conv("residual_layer.fc_t2", 512, 512, plain=True)
    for n in range(N_LAYERS):
        block = f"residual_layer.residual_blocks.{n}"
        conv(f"{block}.fc_t", WIDTH, 512, plain=True)
        conv(f"{block}.dilated_conv_layer.conv", 2 * WIDTH, WIDTH, 3)
        if conditional:
            for stage in range(2):
                found[f"{block}.upsample_conv2d.{stage}.weight_g"] = torch.full((1, 1, 1, 1), 2.0)
                found[f"{block}.upsample_conv2d.{stage}.weight_v"] = torch.randn(1, 1, 3, 32, generator=draw)
                found[f"{block}.upsample_conv2d.{stage}.bias"] = 0.1 * torch.randn(1, generator=draw)
            conv(f"{block}.mel_conv.conv", 2 * WIDTH, BANDS, 1)
        conv(f"{block}.res_conv", WIDTH, WIDTH, 1)
        conv(f"{block}.skip_conv", WIDTH, WIDTH, 1)
    conv("final_conv.0.conv", WIDTH, WIDTH, 1)
    conv("final_conv.2.conv", 1, WIDTH, 1, plain=True)
    return found


def philsyn(w: dict[str, Tensor], x: Tensor, t: float, mel: Tensor | None, *, in_residual: bool) -> Tensor:
    """Compute the noise that the network of Kong et al. predicts, (1, 1, time)."""

    def weight(name: str) -> Tensor:
        if f"{name}.weight" in w:
            return w[f"{name}.weight"]
        g, v = w[f"{name}.weight_g"], w[f"{name}.weight_v"]
        return g * v / v.flatten(1).norm(dim=1).reshape(g.shape)

    def conv(name: str, y: Tensor, **options: int) -> Tensor:
        return F.conv1d(y, weight(name), w[f"{name}.bias"], **options)

    def linear(name: str, y: Tensor) -> Tensor:
        return F.linear(y, weight(name), w[f"{name}.bias"])

    frequencies = torch.exp(torch.arange(64) * -(math.log(10000.0) / 63.0))
    step = torch.cat([torch.sin(t * frequencies), torch.cos(t * frequencies)])[None]
    step = F.silu(linear("residual_layer.fc_t2", F.silu(linear("residual_layer.fc_t1", step))))
    x = F.relu(conv("init_conv.0.conv", x))
    total = torch.zeros_like(x)
    for n in range(N_LAYERS):
        block = f"residual_layer.residual_blocks.{n}"
        h = x + linear(f"{block}.fc_t", step)[..., None]
        residual = h if in_residual else x
        dilation = 2 ** (n % CYCLE)
        h = conv(f"{block}.dilated_conv_layer.conv", h, dilation=dilation, padding=dilation)
        if mel is not None:
            image = mel[:, None]
            for stage in range(2):
                name = f"{block}.upsample_conv2d.{stage}"
                image = F.conv_transpose2d(image, weight(name), w[f"{name}.bias"], stride=(1, 16), padding=(1, 8))
                image = F.leaky_relu(image, 0.4)
            h = h + conv(f"{block}.mel_conv.conv", image[:, 0, :, : h.shape[-1]])
        h = torch.tanh(h[:, :WIDTH]) * torch.sigmoid(h[:, WIDTH:])
        x = (residual + conv(f"{block}.res_conv", h)) * math.sqrt(0.5)
        total = total + conv(f"{block}.skip_conv", h)
    return conv("final_conv.2.conv", F.relu(conv("final_conv.0.conv", total * math.sqrt(1.0 / N_LAYERS))))


@pytest.mark.parametrize("conditional", [True, False], ids=["vocoder", "unconditional"])
@pytest.mark.parametrize("in_residual", [True, False], ids=["step in residual", "step outside"])
def test_the_authors_diffwave_samples_by_its_equations(tmp_path, conditional, in_residual):
    tensors = philsyn_weights(conditional=conditional)
    torch.save({"model_state_dict": tensors, "optimizer_state_dict": {}}, tmp_path / "1000000.pkl")
    settings = {
        "diffusion_config": {"T": N_STEPS, "beta_0": 0.0001, "beta_T": 0.05},
        "wavenet_config": {"dilation_cycle": CYCLE},
        "trainset_config": {"sampling_rate": 22050},
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    options = {} if in_residual else {"step_in_residual": "false"}
    family, _ = import_checkpoint(tmp_path / "1000000.pkl", tmp_path / "model", options=options)
    assert family.name == "diffwave-philsyn"
    own = load(tmp_path / "model", device="cpu")
    n_samples = 256 * N_FRAMES
    mel = torch.randn(1, BANDS, N_FRAMES) - 4.0 if conditional else None
    noise = [torch.randn(1, 1, n_samples) for _ in range(N_STEPS)]

    beta = torch.linspace(0.0001, 0.05, N_STEPS)
    alpha = 1.0 - beta
    alpha_bar = alpha.cumprod(0)
    x = noise[0]
    with torch.no_grad():
        for t in range(N_STEPS - 1, -1, -1):
            eps = philsyn(tensors, x, float(t), mel, in_residual=in_residual)
            x = (x - beta[t] / torch.sqrt(1.0 - alpha_bar[t]) * eps) / torch.sqrt(alpha[t])
            if t > 0:
                variance = beta[t] * (1.0 - alpha_bar[t - 1]) / (1.0 - alpha_bar[t])
                x = x + torch.sqrt(variance) * noise[N_STEPS - t]
        condition = Condition() if mel is None else Condition(frames=mel)
        actual = own.sampler(own.denoiser.bind(condition), torch.zeros_like(x), lambda like, step: noise[step])
    torch.testing.assert_close(actual, x, rtol=0.0, atol=1e-4 * float(x.abs().max()))


RATES, SIZES, KERNELS = (4, 2), (8, 4), (3, 5)
DILATIONS = {"1": ((1, 3, 5), (1, 2, 4)), "2": ((1, 3), (2, 4))}


def hifigan_weights(kind: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    found: dict[str, Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        found[f"{name}.weight_g"], found[f"{name}.weight_v"] = normalised(shape, draw)
        found[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)

    conv("conv_pre", 16, BANDS, 7)
    for stage, size in enumerate(SIZES):
        conv(f"ups.{stage}", 16 // 2**stage, 8 // 2**stage, size)
        found[f"ups.{stage}.bias"] = torch.zeros(8 // 2**stage)
        width = 8 // 2**stage
        for number, kernel in enumerate(KERNELS):
            name = f"resblocks.{stage * len(KERNELS) + number}"
            for k in range(len(DILATIONS[kind][number])):
                for convs in ("convs1", "convs2") if kind == "1" else ("convs",):
                    conv(f"{name}.{convs}.{k}", width, width, kernel)
    conv("conv_post", 1, 4, 7)
    return found


def hifigan(w: dict[str, Tensor], mel: Tensor, kind: str) -> Tensor:
    """Compute the audio of HiFi-GAN's generator, (1, 1, time)."""

    def weight(name: str) -> Tensor:
        g, v = w[f"{name}.weight_g"], w[f"{name}.weight_v"]
        return g * v / v.flatten(1).norm(dim=1).reshape(g.shape)

    def conv(name: str, y: Tensor, dilation: int = 1) -> Tensor:
        kernel = weight(name)
        padding = dilation * (kernel.shape[-1] // 2)
        return F.conv1d(y, kernel, w[f"{name}.bias"], padding=padding, dilation=dilation)

    x = conv("conv_pre", mel)
    for stage, (rate, size) in enumerate(zip(RATES, SIZES, strict=True)):
        x = F.leaky_relu(x, 0.1)
        x = F.conv_transpose1d(
            x, weight(f"ups.{stage}"), w[f"ups.{stage}.bias"], stride=rate, padding=(size - rate) // 2
        )
        each = []
        for number, dilations in enumerate(DILATIONS[kind]):
            name, y = f"resblocks.{stage * len(KERNELS) + number}", x
            for k, dilation in enumerate(dilations):
                first = "convs1" if kind == "1" else "convs"
                z = conv(f"{name}.{first}.{k}", F.leaky_relu(y, 0.1), dilation)
                if kind == "1":
                    z = conv(f"{name}.convs2.{k}", F.leaky_relu(z, 0.1))
                y = y + z
            each.append(y)
        x = sum(each) / len(each)
    return torch.tanh(conv("conv_post", F.leaky_relu(x, 0.01)))


@pytest.mark.parametrize("kind", ["1", "2"], ids=["resblock 1", "resblock 2"])
def test_hifigan_gives_the_audio_of_its_equations(tmp_path, kind):
    tensors = hifigan_weights(kind)
    torch.save({"generator": tensors}, tmp_path / "g_02500000")
    settings = {
        "resblock": kind,
        "upsample_rates": RATES,
        "resblock_dilation_sizes": DILATIONS[kind],
        "sampling_rate": 22050,
        "hop_size": 8,
        "n_fft": 1024,
        "win_size": 1024,
        "fmin": 0,
        "fmax": 8000,
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    family, imported = import_checkpoint(tmp_path / "g_02500000", tmp_path / "model")
    assert family.name == "hifigan"
    assert imported.assumed == ()
    own = load(tmp_path / "model", device="cpu")
    mel = torch.randn(1, BANDS, 20) - 4.0
    expected = hifigan(tensors, mel, kind)
    actual = own.generate(mel, n_samples=160)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-5)
