"""WaveGrad: LMNT's implementation (package wavegrad)."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from audiodiff.errors import CheckpointError
from audiodiff.models.importers.family import Family, Imported, Options
from audiodiff.models.importers.nodes import Node, dialect_node, renamed, sampler_node, synthesizer_node
from audiodiff.models.importers.source import Source

FRAMES = 300
"""Samples per frame: the product of its factors 5, 5, 3, 2 and 2."""
_NAMES = {
    "downsample.0.": "enter.",
    "film.": "modulations.",
    ".input_conv.": ".enter.",
    ".output_conv.": ".leave.",
    "upsample.": "up.",
    "first_conv.": "first.",
    "last_conv.": "last.",
    ".residual_dense.": ".skip.",
    ".block1.": ".skip.",
    ".block2.0.": ".layers.0.",
    ".block2.1.": ".layers.1.",
    ".block3.0.": ".layers.2.",
    ".block3.1.": ".layers.3.",
}


def _recognises(tensors: Mapping[str, Tensor]) -> bool:
    return {"downsample.1.residual_dense.weight", "film.0.input_conv.weight"} <= tensors.keys()


def _convert(source: Source, options: Options) -> Imported:
    bands = source.shape("first_conv.weight")[1]
    rate = options("sample_rate", 24000)
    hop = options("hop_length", FRAMES, key="hop_samples")
    if hop != FRAMES:
        raise CheckpointError(f"{source.path}: hop_length={hop} does not fit the network of the file, {FRAMES}")
    betas = options("betas", torch.linspace(1e-6, 0.01, 1000, dtype=torch.float64).tolist(), key="noise_schedule")
    betas = [float(beta) for beta in betas]
    process = {"_target_": "audiodiff.diffusion.process.DiscreteVP", "betas": betas}
    grid: Node = {"_target_": "audiodiff.diffusion.grid.Discrete", "process": process}
    steps = [float(beta) for beta in options.optional("fast_betas", [])]
    if steps:
        grid = {"_target_": "audiodiff.diffusion.grid.BetaTable", "betas": steps}
    weights = {
        re.sub(r"^downsample\.(\d+)\.conv\.", lambda found: f"down.{int(found[1]) - 1}.layers.", name): weight
        for name, weight in source.tensors.items()
    }
    weights = {
        re.sub(r"^downsample\.([1-9])\.", lambda found: f"down.{int(found[1]) - 1}.", name): weight
        for name, weight in weights.items()
    }
    return Imported(
        synthesizer_node(
            sample_rate=rate,
            dialect=dialect_node("wavegrad", sample_rate=rate, hop_length=hop, n_mels=bands),
            network={"_target_": "audiodiff.networks.wavegrad.WaveGrad", "betas": betas, "frame_bands": bands},
            preconditioning={"_target_": "audiodiff.diffusion.preconditioning.Epsilon", "process": process},
            sampler=sampler_node(
                "euler_ancestral",
                grid,
                len(steps or betas),
                start={"_target_": "audiodiff.diffusion.sampler.unit_start", "process": process},
                after_step={"_target_": "audiodiff.diffusion.sampler.clamp_scaled", "process": process},
            ),
        ),
        renamed(weights, _NAMES),
        tuple(options.assumed),
    )


WAVEGRAD = Family(
    "wavegrad",
    "WaveGrad by LMNT (package wavegrad)",
    _recognises,
    _convert,
    {
        "sample_rate": "Hz",
        "hop_length": f"samples per frame, {FRAMES}",
        "betas": "betas of the training schedule: a list",
        "fast_betas": "betas of fewer steps to sample with: a list; without it, all steps of training",
    },
)
