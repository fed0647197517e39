"""HiFi-GAN and BigVGAN: generators with their config.json."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from audiodiff.errors import CheckpointError
from audiodiff.models.importers.family import Family, Imported, Options
from audiodiff.models.importers.nodes import Node, dialect_node, one_call
from audiodiff.models.importers.source import Source
from audiodiff.networks.hifigan import half_band_taps


def _is_bigvgan(tensors: Mapping[str, Tensor]) -> bool:
    return "conv_pre.weight" in tensors and "activation_post.act.alpha" in tensors


def _is_hifigan(tensors: Mapping[str, Tensor]) -> bool:
    return {"conv_pre.weight", "ups.0.weight", "conv_post.weight"} <= tensors.keys()


def _hifigan(source: Source, options: Options) -> Imported:
    return _generator(source, options, ups="ups.{}.", activation="leaky_relu")


def _bigvgan(source: Source, options: Options) -> Imported:
    for name, taps in source.tensors.items():
        if name.endswith(".filter") and not torch.allclose(taps.flatten(), half_band_taps(), atol=1e-6):
            raise CheckpointError(f"{source.path}: {name} is another filter than BigVGAN's: it cannot be imported")
    snakebeta = "activation_post.act.beta" in source.tensors
    return _generator(source, options, ups="ups.{}.0.", activation="snakebeta" if snakebeta else "snake")


def _generator(source: Source, options: Options, *, ups: str, activation: str) -> Imported:
    channels, bands, _ = source.shape("conv_pre.weight")
    n_stages = source.count(lambda n: ups.format(n) + "weight")
    sizes = [source.shape(ups.format(n) + "weight")[2] for n in range(n_stages)]
    n_blocks = source.count("resblocks.{}.convs1.0.weight".format)
    paired, convs = n_blocks > 0, "convs1" if n_blocks else "convs"
    n_blocks = n_blocks or source.count("resblocks.{}.convs.0.weight".format)
    n_kernels = n_blocks // n_stages
    if not n_kernels or n_blocks % n_stages:
        raise CheckpointError(f"{source.path}: {n_blocks} residual blocks cannot be shared by {n_stages} stages")
    kernels = [source.shape(f"resblocks.{n}.{convs}.0.weight")[2] for n in range(n_kernels)]
    n_dilations = source.count(f"resblocks.0.{convs}.{{}}.weight".format)
    rate = options("sample_rate", 22050 if bands == 80 else 24000, key="sampling_rate")
    hidden: Node = {
        "upsample_rates": options("upsample_rates", [size // 2 for size in sizes]),
        "dilations": options("dilations", [[1, 3, 5][:n_dilations]] * n_kernels, key="resblock_dilation_sizes"),
        "final_bias": "conv_post.bias" in source.tensors,
    }
    if activation != "leaky_relu":
        hidden["log_scale"] = options("log_scale", True, key="snake_logscale")
        hidden["final_tanh"] = options("final_tanh", True, key="use_tanh_at_final")
    network = {
        "_target_": "audiodiff.networks.hifigan.HifiGan",
        "frame_bands": bands,
        "channels": channels,
        "upsample_kernel_sizes": sizes,
        "kernel_sizes": kernels,
        "paired": paired,
        "activation": activation,
        **hidden,
    }
    hop = math.prod(hidden["upsample_rates"])
    stated = options("hop_length", hop, key="hop_size")
    if stated != hop:
        raise CheckpointError(f"{source.path}: hop_length={stated} is not the product of upsample_rates, {hop}")
    half = 8000.0 if rate == 22050 and "fmax" not in source.settings else rate / 2
    dialect = dialect_node(
        "hifigan",
        sample_rate=rate,
        n_fft=options("n_fft", 1024),
        hop_length=hop,
        win_length=options("win_length", 1024, key="win_size"),
        n_mels=bands,
        f_min=options("f_min", 0.0, key="fmin"),
        f_max=options("f_max", half, key="fmax"),
    )
    return Imported(
        one_call(network, sample_rate=rate, dialect=dialect),
        _weights(source, ups=ups, n_kernels=n_kernels, paired=paired),
        tuple(options.assumed),
    )


def _weights(source: Source, *, ups: str, n_kernels: int, paired: bool) -> dict[str, Tensor]:
    """Return the weights by our names: blocks by stage and kernel, their layers in the order of computation."""
    found = {}
    for name, weight in source.tensors.items():
        if name.endswith(".filter"):
            continue
        name = (
            name.replace("conv_pre.", "first.").replace("conv_post.", "last.").replace("activation_post.act.", "after.")
        )
        name = re.sub("^" + ups.format(r"(\d+)").replace(".", r"\."), r"upsample.\1.", name)
        if (block := re.fullmatch(r"resblocks\.(\d+)\.(\w+?)\.(\d+)\.(?:act\.)?(\w+)", name)) is not None:
            n, kind, k, last = int(block[1]), block[2], int(block[3]), block[4]
            if kind == "activations":
                step, layer = (k // 2, 2 * (k % 2)) if paired else (k, 0)
            else:
                step, layer = k, 3 if kind == "convs2" else 1
            name = f"blocks.{n // n_kernels}.{n % n_kernels}.steps.{step}.{layer}.{last}"
        found[name] = weight
    return found


_OPTIONS = {
    "sample_rate": "Hz",
    "upsample_rates": "factor of each stage: a list",
    "dilations": "of the residual blocks: a list of lists",
    "n_fft": "of the mel",
    "win_length": "of the mel, samples",
    "hop_length": "samples per frame, the product of upsample_rates",
    "f_min": "lowest frequency of the mel, Hz",
    "f_max": "highest frequency of the mel, Hz",
}
HIFIGAN = Family("hifigan", "HiFi-GAN's generator, with its config.json", _is_hifigan, _hifigan, _OPTIONS)
BIGVGAN = Family(
    "bigvgan",
    "BigVGAN's generator, with its config.json",
    _is_bigvgan,
    _bigvgan,
    {
        **_OPTIONS,
        "log_scale": "the parameters of its activations are logarithms: true or false",
        "final_tanh": "the audio is bounded by tanh; false: it is clipped",
    },
)
