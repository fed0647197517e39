"""Imported vocoders of flow matching beside their equations, written out on the file's tensors."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.diffusion.noise import noise_of
from audiodiff.errors import CheckpointError
from audiodiff.models.checkpoint import load
from audiodiff.models.importers.registry import import_checkpoint

pytestmark = pytest.mark.numeric

N_FRAMES = 6


class Draw:
    """Random weights by name."""

    def __init__(self, seed: int) -> None:
        self.generator, self.weights = torch.Generator().manual_seed(seed), {}

    def __call__(self, name: str, *shape: int, offset: float = 0.0, gain: float = 1.0) -> None:
        scale = gain / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
        self.weights[name] = offset + scale * torch.randn(shape, generator=self.generator)

    def layer(self, name: str, *shape: int, bias: int | None = None) -> None:
        self(f"{name}.weight", *shape)
        self(f"{name}.bias", shape[0] if bias is None else bias)


N_FFTS, WIDTHS, CONDITION, STEP, BANDS = (512, 256), (12, 8), 10, 16, 100


def flow2gan_weights() -> dict[str, Tensor]:
    draw = Draw(0)

    def block(name: str, width: int, *, conditioned: bool) -> None:
        draw.layer(f"{name}.dwconv", width, 1, 7)
        draw(f"{name}.norm.bias", width)
        draw.weights[f"{name}.norm.log_scale"] = torch.tensor(0.2)
        draw.layer(f"{name}.pwconv1", 3 * width, width, 1)
        draw(f"{name}.act.weight", 3 * width, offset=0.25)
        draw.layer(f"{name}.pwconv2", width, 3 * width, 1)
        draw(f"{name}.residual_scale.scale", width, 1, offset=0.8, gain=0.1)
        if conditioned:
            draw.layer(f"{name}.cond_proj", width, CONDITION, 1)
            draw.layer(f"{name}.time_embed_proj", width, STEP)

    def first(name: str, width: int, *shape: int) -> None:
        draw.layer(f"{name}.in_proj", width, *shape)
        draw(f"{name}.in_norm.bias", width)
        draw.weights[f"{name}.in_norm.log_scale"] = torch.tensor(-0.1)

    first("cond_encoder", CONDITION, BANDS, 3)
    block("cond_encoder.blocks.0", CONDITION, conditioned=False)
    for n, (n_fft, width) in enumerate(zip(N_FFTS, WIDTHS, strict=True)):
        name = f"estimators.{n}.decoder"
        first(name, width, n_fft + 2, 1)
        draw.layer(f"{name}.time_mlp.0", 3 * STEP, STEP)
        draw.layer(f"{name}.time_mlp.2", STEP, 3 * STEP)
        draw.layer(f"{name}.cond_mlp.0", 3 * CONDITION, CONDITION, 1)
        draw(f"{name}.cond_mlp.1.weight", 3 * CONDITION, offset=0.25)
        draw.layer(f"{name}.cond_mlp.2", CONDITION, 3 * CONDITION, 1)
        for k in range(2):
            block(f"{name}.blocks.{k}", width, conditioned=True)
        draw.layer(f"{name}.out_proj", n_fft + 2, width, 1)
        draw.weights[f"estimators.{n}.fft.window"] = torch.hann_window(n_fft)
        draw.weights[f"estimators.{n}.ifft.window"] = torch.hann_window(n_fft)
    draw("loss_spec.fb", 513, 256)
    return draw.weights


def flow2gan(w: dict[str, Tensor], x: Tensor, t: float, mel: Tensor) -> Tensor:
    """Compute the signal that Flow2GAN predicts, (1, time)."""

    def conv(name: str, y: Tensor, **options: int) -> Tensor:
        return F.conv1d(y, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def norm(name: str, y: Tensor) -> Tensor:
        level = torch.mean((y - w[f"{name}.bias"][:, None]) ** 2, dim=1, keepdim=True) ** -0.5
        return y * level * torch.exp(w[f"{name}.log_scale"])

    def prelu(name: str, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, w[f"{name}.weight"][:, None] * y)

    def block(name: str, y: Tensor, condition: Tensor | None = None, step: Tensor | None = None) -> Tensor:
        z = norm(f"{name}.norm", conv(f"{name}.dwconv", y, padding=3, groups=y.shape[1]))
        if condition is not None and step is not None:
            z = z + conv(f"{name}.cond_proj", condition)
            z = z * (
                1 + F.linear(step, w[f"{name}.time_embed_proj.weight"], w[f"{name}.time_embed_proj.bias"])[..., None]
            )
        z = conv(f"{name}.pwconv2", prelu(f"{name}.act", conv(f"{name}.pwconv1", z)))
        return z + w[f"{name}.residual_scale.scale"] * y

    encoded = norm("cond_encoder.in_norm", conv("cond_encoder.in_proj", mel, padding=1))
    encoded = block("cond_encoder.blocks.0", encoded)
    outputs = []
    for n, n_fft in enumerate(N_FFTS):
        name, hop, window = f"estimators.{n}.decoder", n_fft // 2, torch.hann_window(n_fft)
        spectrum = torch.stft(x, n_fft, hop, window=window, return_complex=True)
        held = torch.cat([encoded[..., k : k + 1].expand(-1, -1, 256 // hop) for k in range(N_FRAMES)], dim=-1)
        held = torch.cat([held, torch.zeros(1, CONDITION, spectrum.shape[-1] - held.shape[-1])], dim=-1)
        rates = torch.exp(torch.arange(STEP // 2) * -(math.log(10000) / (STEP // 2 - 1)))
        step = torch.cat([torch.sin(1000 * t * rates), torch.cos(1000 * t * rates)])[None]
        step = F.silu(F.linear(step, w[f"{name}.time_mlp.0.weight"], w[f"{name}.time_mlp.0.bias"]))
        step = F.linear(step, w[f"{name}.time_mlp.2.weight"], w[f"{name}.time_mlp.2.bias"])
        held = conv(f"{name}.cond_mlp.2", prelu(f"{name}.cond_mlp.1", conv(f"{name}.cond_mlp.0", held)))
        y = norm(f"{name}.in_norm", conv(f"{name}.in_proj", torch.cat([spectrum.real, spectrum.imag], dim=1)))
        for k in range(2):
            y = block(f"{name}.blocks.{k}", y, held, step)
        real, imag = conv(f"{name}.out_proj", y).chunk(2, dim=1)
        outputs.append(torch.istft(torch.complex(real, imag), n_fft, hop, window=window))
    return torch.stack(outputs).mean(dim=0)


@pytest.mark.parametrize("n_steps", [1, 4])
def test_flow2gan_samples_by_its_equations(tmp_path, n_steps):
    tensors = flow2gan_weights()
    path = tmp_path / f"libritts-mel-{n_steps}-step.pt"
    torch.save({"model": {f"module.{name}": weight for name, weight in tensors.items()}}, path)
    family, imported = import_checkpoint(path, tmp_path / "model")
    assert family.name == "flow2gan"
    assert f"n_steps={n_steps}" in imported.assumed
    own = load(tmp_path / "model", device="cpu")
    assert own.dialect is not None
    assert own.dialect.name == "vocos"
    mel = torch.randn(1, BANDS, N_FRAMES, generator=torch.Generator().manual_seed(1)) - 4.0
    eps = torch.randn(1, 1, 256 * N_FRAMES, generator=torch.Generator().manual_seed(2))
    x = 0.1 * eps[:, 0]
    with torch.no_grad():
        for n in range(n_steps):
            t = n / n_steps
            x = x + (flow2gan(tensors, x, t, mel) - x) / (1 - t) / n_steps
        bound = own.denoiser.bind(Condition(frames=mel))
        actual = own.sampler(bound, torch.zeros(1, 1, 256 * N_FRAMES), lambda like, step: eps)
    assert float(x.abs().max()) > 0.05
    torch.testing.assert_close(actual[:, 0], x, rtol=0.0, atol=1e-4 * max(1.0, float(x.abs().max())))


CHANNELS, RATES, KERNELS = (12, 10, 8, 6, 4), (8, 8, 2, 2), (3, 5)


def wavefm_weights() -> dict[str, Tensor]:
    draw = Draw(3)

    def blocks(name: str, width: int, kernels: tuple[int, ...], n: int) -> None:
        for number, kernel in enumerate(kernel for kernel in kernels for _ in range(n)):
            for k in (1, 2):
                draw.layer(f"{name}.blocks.{number}.conv{k}", width, width, kernel)
                draw.weights[f"{name}.blocks.{number}.conv{k}.weight"] *= 0.3
                draw(f"{name}.blocks.{number}.act{k}.alpha", 1, width, 1, gain=0.3)
                draw(f"{name}.blocks.{number}.act{k}.beta", 1, width, 1, gain=0.3)

    draw.layer("timePre0", 20, 128)
    draw.layer("timePre1", 20, 20)
    draw.layer("convUpIn", CHANNELS[0], BANDS, 7)
    draw.layer("convDownIn", CHANNELS[-1], 1, 7)
    for n, rate in enumerate(RATES):
        draw.layer(f"ups.{n}", CHANNELS[n], CHANNELS[n + 1], 2 * rate, bias=CHANNELS[n + 1])
        draw.layer(f"downs.{n}", CHANNELS[n], CHANNELS[n + 1], 2 * rate + 1)
        draw.layer(f"timeDowns.{n}", CHANNELS[n + 1], 20)
        blocks(f"resLayerUps.{n}", CHANNELS[n + 1], KERNELS, 3)
        blocks(f"resLayerDowns.{n}", CHANNELS[n + 1], (3,), 4)
    draw.layer("convUpOut", 1, CHANNELS[-1], 7)
    draw("actUpOut.alpha", 1, CHANNELS[-1], 1)
    draw("actUpOut.beta", 1, CHANNELS[-1], 1)
    return draw.weights


def wavefm(w: dict[str, Tensor], x: Tensor, t: float, mel: Tensor) -> Tensor:
    """Compute the signal that WaveFM predicts, (1, 1, time)."""

    def conv(name: str, y: Tensor, dilation: int = 1, **options: int) -> Tensor:
        if not options:
            options = {"padding": dilation * (w[f"{name}.weight"].shape[-1] // 2), "dilation": dilation}
        return F.conv1d(y, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def snake(name: str, y: Tensor) -> Tensor:
        return y + torch.sin(w[f"{name}.alpha"].exp() * y) ** 2 / w[f"{name}.beta"].exp()

    def blocks(name: str, y: Tensor, n_kernels: int, dilations: tuple[int, ...]) -> Tensor:
        each = []
        for kernel in range(n_kernels):
            z = y
            for k, dilation in enumerate(dilations):
                block = f"{name}.blocks.{kernel * len(dilations) + k}"
                h = conv(f"{block}.conv1", snake(f"{block}.act1", z), dilation)
                z = z + conv(f"{block}.conv2", snake(f"{block}.act2", h))
            each.append(z)
        return torch.stack(each).mean(dim=0)

    # Frequencies reach 10^6: the order of the products in float32 is part of the model.
    angles = 100 * torch.tensor(t) * 10.0 ** (torch.arange(64) * 4.0 / 63.0)
    step = torch.cat([torch.sin(angles), torch.cos(angles)])[None]
    for name in ("timePre0", "timePre1"):
        step = F.silu(F.linear(step, w[f"{name}.weight"], w[f"{name}.bias"]))
    y = conv("convDownIn", x)
    skips = [y]
    for n in (3, 2, 1, 0):
        y = y + F.linear(step, w[f"timeDowns.{n}.weight"], w[f"timeDowns.{n}.bias"])[..., None]
        y = blocks(f"resLayerDowns.{n}", y, 1, (1, 1, 1, 1))
        y = conv(f"downs.{n}", y, stride=RATES[n], padding=RATES[n])
        skips.append(y)
    y = conv("convUpIn", mel) + skips[4]
    for n in range(4):
        y = F.conv_transpose1d(y, w[f"ups.{n}.weight"], w[f"ups.{n}.bias"], stride=RATES[n], padding=RATES[n] // 2)
        y = blocks(f"resLayerUps.{n}", y + skips[3 - n], len(KERNELS), (1, 3, 5))
    return torch.tanh(conv("convUpOut", snake("actUpOut", y)))


@pytest.mark.parametrize("distilled", [True, False])
def test_wavefm_samples_by_its_equations(tmp_path, distilled):
    tensors = wavefm_weights()
    content = {"velocity": tensors, "step": 1000000, **({"distilled": True} if distilled else {})}
    torch.save(content, tmp_path / "WaveFM_1000000")
    family, _ = import_checkpoint(tmp_path / "WaveFM_1000000", tmp_path / "model")
    assert family.name == "wavefm"
    own = load(tmp_path / "model", device="cpu")
    n_steps = 1 if distilled else 6
    assert own.sampler.n_steps == n_steps
    mel = torch.randn(1, BANDS, N_FRAMES, generator=torch.Generator().manual_seed(4)) + 2.0
    n_samples = 256 * (N_FRAMES - 1)  # of a centred mel
    white = noise_of(5, [0], offset=0)(torch.zeros(1, 1, n_samples), 0)
    sigma = (mel.exp().sum(dim=1, keepdim=True).sqrt() / math.sqrt(BANDS * 32768.0)).clamp(min=0.001)
    x = white * sigma.repeat_interleave(256, dim=-1)[..., :n_samples]
    # The last frame has no samples of its own here, but the first convolution of the mel sees it.
    last = F.conv1d(mel, tensors["convUpIn.weight"], tensors["convUpIn.bias"], padding=3)[..., :-1]
    flat = {**tensors, "convUpIn.weight": torch.eye(CHANNELS[0])[..., None], "convUpIn.bias": torch.zeros(CHANNELS[0])}
    with torch.no_grad():
        for n in range(n_steps):
            t, last_step = n / n_steps, n == n_steps - 1
            made = wavefm(flat, x, t, last)
            x = made if last_step else x * (1 - (n + 1) / n_steps) / (1 - t) + made / n_steps / (1 - t)
    actual = own.generate(mel, seed=5, iterations=0)
    assert 0.01 < float(x.std()) < 0.9
    torch.testing.assert_close(actual, x, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("family", ["flow2gan", "wavefm"])
def test_a_stream_of_a_flow_vocoder_equals_the_whole(tmp_path, family):
    content = {"model": flow2gan_weights()} if family == "flow2gan" else {"velocity": wavefm_weights()}
    torch.save(content, tmp_path / "weights.pt")
    import_checkpoint(tmp_path / "weights.pt", tmp_path / "model", options={"n_steps": "2"})
    own = load(tmp_path / "model", device="cpu")
    mel = torch.randn(1, BANDS, 60, generator=torch.Generator().manual_seed(6)) - 3.0
    whole = own.generate(mel, seed=1, iterations=0)
    streamed = torch.cat(list(own.stream(mel.split(25, dim=-1), chunk_frames=20, seed=1, iterations=0)), dim=-1)
    torch.testing.assert_close(streamed, whole, rtol=0.0, atol=1e-4)


def test_a_wavefm_file_whose_blocks_do_not_fit_is_refused(tmp_path):
    torch.save({"velocity": wavefm_weights()}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"6 blocks of resLayerUps are no multiple of \[1, 3, 5, 7\]"):
        import_checkpoint(tmp_path / "weights.pt", tmp_path / "model", options={"up_dilations": "[1, 3, 5, 7]"})
    assert not (tmp_path / "model").exists()
