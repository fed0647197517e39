"""Flow2GAN and WaveFM: vocoders of flow matching, whose networks predict the signal on a straight path from noise."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from audiodiff.errors import CheckpointError
from audiodiff.models.importers.family import Family, Imported, Options
from audiodiff.models.importers.nodes import Node, dialect_node, renamed, sampler_node, synthesizer_node, with_prior
from audiodiff.models.importers.source import Source

_START = 1.0 - 1e-10
"""Clock of the first step, where the noise is all but all of x_t, and the network's clock rounds to 0."""
_FLOW2GAN = {
    "cond_encoder.in_proj.": "encoder.first.",
    "cond_encoder.in_norm.": "encoder.first_norm.",
    "cond_encoder.": "encoder.",
    "estimators.": "branches.",
    ".decoder.": ".",
    ".in_proj.": ".first.",
    ".in_norm.": ".first_norm.",
    ".out_proj.": ".last.",
    ".time_mlp.": ".step.",
    ".cond_mlp.": ".condition.",
    ".time_embed_proj.": ".step.",
    ".cond_proj.": ".condition.",
    ".dwconv.": ".over_time.",
    ".pwconv1.": ".expand.",
    ".pwconv2.": ".shrink.",
    ".act.": ".activation.",
    ".residual_scale.scale": ".residual_scale",
}


def _model(network: Node, *, dialect: Node, sample_rate: int, noise_scale: float, n_steps: int) -> Node:
    """Return a model that goes straight from noise to the signal, in equal steps."""
    process = {"_target_": "audiodiff.diffusion.process.Flow", "noise_scale": noise_scale}
    grid = {"_target_": "audiodiff.diffusion.grid.TimeUniform", "process": process, "t_start": _START}
    target = "audiodiff.diffusion.preconditioning.Sample"
    return synthesizer_node(
        sample_rate=sample_rate,
        dialect=dialect,
        network=network,
        preconditioning={"_target_": target, "process": process, "from_noise": True},
        sampler=sampler_node("euler", grid, n_steps),
    )


def _is_flow2gan(tensors: Mapping[str, Tensor]) -> bool:
    return {"cond_encoder.in_proj.weight", "estimators.0.decoder.in_proj.weight"} <= tensors.keys()


def _flow2gan(source: Source, options: Options) -> Imported:
    channels, bands, _ = source.shape("cond_encoder.in_proj.weight")
    n_branches = source.count("estimators.{}.decoder.in_proj.weight".format)
    shapes = [source.shape(f"estimators.{n}.decoder.in_proj.weight") for n in range(n_branches)]
    n_ffts = [shape[1] - 2 for shape in shapes]
    rate = options("sample_rate", 24000 if bands == 100 else 44100, key="sampling_rate")
    hop = options("hop_length", max(n_ffts) // 2, key="mel_hop_length")
    n_fft = options("n_fft", 4 * hop, key="mel_n_fft")
    named = re.search(r"(\d+)[-_]step", source.path.stem)
    hidden = source.shape("cond_encoder.blocks.0.pwconv1.weight")[0]
    network: dict[str, Any] = {
        "_target_": "audiodiff.networks.flow2gan.Flow2Gan",
        "frame_bands": bands,
        "hop_length": hop,
        "n_ffts": n_ffts,
        "hop_lengths": options("hop_lengths", [n_fft // 2 for n_fft in n_ffts]),
        "channels": [shape[0] for shape in shapes],
        "n_layers": [
            source.count(f"estimators.{n}.decoder.blocks.{{}}.dwconv.weight".format) for n in range(n_branches)
        ],
        "condition_channels": channels,
        "condition_layers": source.count("cond_encoder.blocks.{}.dwconv.weight".format),
        "step_features": source.shape("estimators.0.decoder.time_mlp.0.weight")[1],
        "hidden_factor": hidden // channels,
    }
    dialect = dialect_node(
        "vocos" if bands == 100 else "flow2gan-44k", sample_rate=rate, n_fft=n_fft, hop_length=hop, n_mels=bands
    )
    model = _model(
        network,
        dialect=dialect,
        sample_rate=rate,
        noise_scale=options("noise_scale", 0.1, key="init_noise_scale"),
        n_steps=options("n_steps", int(named[1]) if named else 4),
    )
    # Filters of the loss and windows belong to training, or are computed.
    kept = {
        name: weight
        for name, weight in source.tensors.items()
        if not name.startswith("loss_spec.") and not name.endswith("fft.window")
    }
    return Imported(model, renamed(kept, _FLOW2GAN), tuple(options.assumed))


def _is_wavefm(tensors: Mapping[str, Tensor]) -> bool:
    return {"convUpIn.weight", "timePre0.weight", "resLayerUps.0.blocks.0.conv1.weight"} <= tensors.keys()


def _wavefm(source: Source, options: Options) -> Imported:
    n_levels = source.count("ups.{}.weight".format)
    first, bands, _ = source.shape("convUpIn.weight")
    rates = [source.shape(f"ups.{n}.weight")[2] // 2 for n in range(n_levels)]
    up, down = options("up_dilations", [1, 3, 5]), options("down_dilations", [1, 1, 1, 1])
    kernels = []
    for part, dilations in (("resLayerUps", up), ("resLayerDowns", down)):
        n_blocks = source.count(f"{part}.0.blocks.{{}}.conv1.weight".format)
        if n_blocks % len(dilations):
            raise CheckpointError(f"{source.path}: {n_blocks} blocks of {part} are no multiple of {dilations}")
        kernels.append(
            [source.shape(f"{part}.0.blocks.{n}.conv1.weight")[2] for n in range(0, n_blocks, len(dilations))]
        )
    rate, hop = options("sample_rate", 24000), math.prod(rates)
    distilled = options("distilled", False)
    network: dict[str, Any] = {
        "_target_": "audiodiff.networks.wavefm.WaveFm",
        "frame_bands": bands,
        "channels": [first, *(source.shape(f"ups.{n}.weight")[1] for n in range(n_levels))],
        "rates": rates,
        "up_kernels": kernels[0],
        "up_dilations": up,
        "down_kernels": kernels[1],
        "down_dilations": down,
        "step_features": source.shape("timePre0.weight")[0],
    }
    dialect = dialect_node("wavefm", sample_rate=rate, hop_length=hop, n_mels=bands)
    model = _model(
        network,
        dialect=dialect,
        sample_rate=rate,
        noise_scale=1.0,
        n_steps=options("n_steps", 1 if distilled else 6),
    )
    prior = {"energy_min": 0.0, "energy_max": math.sqrt(32768.0 * bands), "std_min": 0.001, "is_limited": False}
    names = {
        "timePre0.": "step.0.",
        "timePre1.": "step.2.",
        "convUpIn.": "up_first.",
        "convDownIn.": "down_first.",
        "resLayerUps.": "up_blocks.",
        "resLayerDowns.": "down_blocks.",
        "timeDowns.": "down_steps.",
        "convUpOut.": "last.",
        "actUpOut.": "last_activation.",
    }
    return with_prior(Imported(model, renamed(source.tensors, names), tuple(options.assumed)), **prior)


FLOW2GAN = Family(
    "flow2gan",
    "Flow2GAN of mels, at 24 and at 44.1 kHz",
    _is_flow2gan,
    _flow2gan,
    {
        "sample_rate": "Hz",
        "hop_length": "samples per frame of the mel",
        "n_fft": "of the mel",
        "hop_lengths": "of the branches: a list",
        "noise_scale": "standard deviation of the noise at the start",
        "n_steps": "steps that the model was made for; else taken from the file's name, as in 4-step, or 4",
    },
)
WAVEFM = Family(
    "wavefm",
    "WaveFM of mels, distilled to one step or not",
    _is_wavefm,
    _wavefm,
    {
        "sample_rate": "Hz",
        "up_dilations": "of the blocks on the way up: a list",
        "down_dilations": "of the blocks on the way down: a list",
        "distilled": "the model makes its sound in one step: true or false",
        "n_steps": "6, or 1 for a distilled model",
    },
)
