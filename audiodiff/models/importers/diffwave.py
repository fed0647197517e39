"""DiffWave in three forms: LMNT's, SpeechBrain's, and that of its authors (philsyn), which SaShiMi and BDDM use."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from audiodiff.errors import CheckpointError
from audiodiff.models.importers.family import Family, Imported, Options
from audiodiff.models.importers.nodes import Node, dialect_node, renamed, sampler_node, synthesizer_node, with_prior
from audiodiff.models.importers.source import Source

FAST = [1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5]
"""Betas of DiffWave's six steps (Kong et al. 2021, appendix B)."""
FRAMES = 256
"""Samples per frame of the upsampler that all three build: two stages of 16."""

_LMNT = {
    "residual_layers.": "stack.blocks.",
    "diffusion_projection": "step_projection",
    "conditioner_projection": "condition_projection",
    "diffusion_embedding.": "step_encoder.",
    "spectrogram_upsampler.conv1": "upsample.stages.0",
    "spectrogram_upsampler.conv2": "upsample.stages.1",
}
_PHILSYN = {
    "init_conv.0.conv.": "input_projection.",
    "residual_layer.fc_t1.": "step_encoder.projection1.",
    "residual_layer.fc_t2.": "step_encoder.projection2.",
    "residual_layer.residual_blocks.": "stack.blocks.",
    ".fc_t.": ".step_projection.",
    ".dilated_conv_layer.conv.": ".dilated_conv.",
    ".mel_conv.conv.": ".condition_projection.",
    "final_conv.0.conv.": "skip_projection.",
    "final_conv.2.conv.": "output_projection.",
}
_SCHEDULE = "betas of the training schedule: a list"
_CYCLE = "layers after which dilations begin again at 1"


def _is_lmnt(tensors: Mapping[str, Tensor]) -> bool:
    return "residual_layers.0.dilated_conv.weight" in tensors and "spectrogram_upsampler.0.weight" not in tensors


def _is_speechbrain(tensors: Mapping[str, Tensor]) -> bool:
    return "residual_layers.0.dilated_conv.conv.weight" in tensors


def _is_philsyn(tensors: Mapping[str, Tensor]) -> bool:
    return "residual_layer.residual_blocks.0.dilated_conv_layer.conv.weight" in tensors


def _lmnt(source: Source, options: Options) -> Imported:
    """Read a checkpoint of the package diffwave: its settings stand beside the weights."""
    if not source.settings:
        options.assumed.append("family=diffwave (PriorGrad's weights have the same names: --from priorgrad)")
    bands = _bands(source, "residual_layers.0.conditioner_projection.weight")
    rate = options("sample_rate", 22050)
    dialect = None
    if bands is not None:
        n_fft = options("n_fft", 1024)
        dialect = dialect_node(
            "diffwave", sample_rate=rate, n_fft=n_fft, hop_length=_hop(source, options, key="hop_samples"), n_mels=bands
        )
    return _lmnt_model(source, options, sample_rate=rate, dialect=dialect)


def _lmnt_model(source: Source, options: Options, *, sample_rate: int, dialect: Node | None) -> Imported:
    """Return LMNT's network with the noise schedule beside its weights."""
    return _model(
        source,
        options,
        weights=renamed(source.tensors, _LMNT),
        blocks="residual_layers.{}.dilated_conv.weight",
        betas=options("betas", torch.linspace(1e-4, 0.05, 50, dtype=torch.float64).tolist(), key="noise_schedule"),
        sample_rate=sample_rate,
        dialect=dialect,
        clamp=True,
    )


def _priorgrad(source: Source, options: Options) -> Imported:
    """Read a checkpoint of PriorGrad: LMNT's network, with noise as loud as the mel; settings stand beside it."""
    bands = source.shape("residual_layers.0.conditioner_projection.weight")[1]
    if "global_condition_upsampler.conv1.weight" in source.tensors or bands == 81:
        raise CheckpointError(f"{source.path}: PriorGrad conditioned on its prior cannot be imported yet")
    rate = options("sample_rate", 22050)
    dialect = dialect_node(
        "hifigan", sample_rate=rate, hop_length=_hop(source, options, key="hop_samples"), n_mels=bands
    )
    # sqrt(80 * 1e-5) is e of silence; the greatest e is what the original's settings override its data's with.
    prior = {
        "energy_min": options("energy_min", math.sqrt(bands * 1e-5)),
        "energy_max": options("energy_max", 4.0, key="max_energy_override"),
        "std_min": options("std_min", 0.1),
    }
    found = _lmnt_model(source, options, sample_rate=rate, dialect=dialect)
    return with_prior(found, **prior, is_limited=True)


def _speechbrain(source: Source, options: Options) -> Imported:
    """Read a checkpoint of SpeechBrain's recipe: weights alone, of convolutions that reflect at the ends."""
    tensors = renamed(source.tensors, {".conv.weight": ".weight", ".conv.bias": ".bias", ".w.": "."})
    bands = _bands(source, "residual_layers.0.conditioner_projection.conv.weight")
    rate = options("sample_rate", 22050)
    dialect = None
    if bands is not None:
        dialect = dialect_node("speechbrain", sample_rate=rate, hop_length=_hop(source, options), n_mels=bands)
    return _model(
        source,
        options,
        weights=renamed(tensors, _LMNT),
        blocks="residual_layers.{}.dilated_conv.conv.weight",
        betas=options("betas", torch.linspace(1e-4, 0.05, 50).tolist()),
        sample_rate=rate,
        dialect=dialect,
        clamp=True,
        reflect=True,
    )


def _philsyn(source: Source, options: Options) -> Imported:
    """Read a checkpoint of the authors' code: gates the other way round, an upsampler in each block."""
    bands = _bands(source, "residual_layer.residual_blocks.0.mel_conv.conv.weight")
    channels, _, _ = source.shape("init_conv.0.conv.weight")
    rate = options("sample_rate", 22050 if bands is not None else 16000, key="trainset_config.sampling_rate")
    n_steps = options("n_steps", 50 if channels == 64 else 200, key="diffusion_config.T")
    first = options("beta_first", 1e-4, key="diffusion_config.beta_0")
    last = options("beta_last", 0.05 if n_steps == 50 else 0.02, key="diffusion_config.beta_T")
    dialect = None
    if bands is not None:
        dialect = dialect_node("tacotron2", sample_rate=rate, hop_length=_hop(source, options), n_mels=bands)
    weights: dict[str, Tensor] = {}
    for name, weight in renamed(source.tensors, _PHILSYN).items():
        if ".upsample_conv2d." in name:
            block, _, rest = name.removeprefix("stack.blocks.").partition(".upsample_conv2d.")
            weights[f"upsamplers.{block}.stages.{rest}"] = weight
        elif ".skip_conv." in name:
            continue
        elif ".res_conv." in name:
            skip = source.tensors.get(name.replace("stack.blocks.", _BLOCKS).replace("res_conv", "skip_conv"))
            if skip is None or skip.shape != weight.shape:
                raise CheckpointError(
                    f"{source.path}: skip_conv of a block is missing or not as wide as res_conv, "
                    f"{tuple(weight.shape)}: other widths cannot be imported yet"
                )
            weights[name.replace("res_conv", "output_projection")] = torch.cat([weight, skip])
        elif ".dilated_conv." in name or ".condition_projection." in name:
            # tanh of the first half by the sigmoid of the second; here it is the other way round.
            weights[name] = torch.cat(weight.chunk(2)[::-1])
        else:
            weights[name] = weight
    return _model(
        source,
        options,
        weights=weights,
        blocks="residual_layer.residual_blocks.{}.dilated_conv_layer.conv.weight",
        betas=[first + (last - first) * k / (n_steps - 1) for k in range(n_steps)],
        cycle=options("dilation_cycle", 10 if bands is not None else 12, key="wavenet_config.dilation_cycle"),
        sample_rate=rate,
        dialect=dialect,
        clamp=False,
        embedding={"_target_": "audiodiff.networks.embedding.StepSinusoid"},
        upsample_per_block=bands is not None,
        # h = x; h += step changes x too, in the code that these were trained by.
        step_in_residual=options("step_in_residual", True),
    )


_BLOCKS = "residual_layer.residual_blocks."


def _bands(source: Source, name: str) -> int | None:
    """Return the mel bands that the blocks are conditioned on; None for an unconditional model."""
    return source.shape(name)[1] if name in source.tensors else None


def _hop(source: Source, options: Options, key: str | None = None) -> int:
    """Return the hop length, which must be that of the upsampler."""
    hop = options("hop_length", FRAMES, key=key)
    if hop != FRAMES:
        raise CheckpointError(f"{source.path}: hop_length={hop} does not fit the upsampler of the file, {FRAMES}")
    return FRAMES


def _model(
    source: Source,
    options: Options,
    *,
    weights: Mapping[str, Tensor],
    blocks: str,
    betas: list[float],
    sample_rate: int,
    dialect: Node | None,
    clamp: bool,
    cycle: int | None = None,
    embedding: Node | None = None,
    **network: Any,
) -> Imported:
    """Return a WaveNet that predicts the noise, with the table of betas that it was trained on."""
    n_layers = source.count(lambda n: blocks.format(n))
    process = {"_target_": "audiodiff.diffusion.process.DiscreteVP", "betas": [float(beta) for beta in betas]}
    start = {"start": {"_target_": "audiodiff.diffusion.sampler.unit_start", "process": process}}
    if clamp:
        start["after_step"] = {"_target_": "audiodiff.diffusion.sampler.clamp_scaled", "process": process}
    default = "fast" if clamp and dialect is not None else "full"
    if options.choice("schedule", default, among=("fast", "full")) == "full":
        grid: Node = {"_target_": "audiodiff.diffusion.grid.Discrete", "process": process}
        n_steps = len(betas)
    else:
        fast = options("fast_betas", FAST, key="inference_noise_schedule")
        grid, n_steps = {"_target_": "audiodiff.diffusion.grid.BetaTable", "betas": list(map(float, fast))}, len(fast)
    width = weights["stack.blocks.0.dilated_conv.weight"].shape
    condition = {} if dialect is None else {"frame_bands": dialect["n_mels"], "hop_length": dialect["hop_length"]}
    return Imported(
        synthesizer_node(
            sample_rate=sample_rate,
            dialect=dialect,
            network={
                "_target_": "audiodiff.networks.wavenet.WaveNet",
                "embedding": embedding or {"_target_": "audiodiff.networks.embedding.StepTable", "n_steps": len(betas)},
                "channels": width[1],
                "n_layers": n_layers,
                "dilation_cycle": options("dilation_cycle", 10, key="dilation_cycle_length")
                if cycle is None
                else cycle,
                "kernel_size": width[2],
                "step_features": weights["step_encoder.projection1.weight"].shape[0],
                **condition,
                **network,
            },
            preconditioning={"_target_": "audiodiff.diffusion.preconditioning.Epsilon", "process": process},
            sampler=sampler_node("euler_ancestral", grid, n_steps, **start),
        ),
        weights,
        tuple(options.assumed),
    )


_COMMON = {
    "sample_rate": "Hz",
    "hop_length": f"samples per frame, {FRAMES}",
    "schedule": "fast: DiffWave's six steps; full: all steps of training",
    "fast_betas": "betas of the fast schedule: a list",
    "dilation_cycle": _CYCLE,
}
LMNT = Family(
    "diffwave",
    "DiffWave by LMNT (package diffwave): vocoder, or unconditional",
    _is_lmnt,
    _lmnt,
    {**_COMMON, "betas": _SCHEDULE, "n_fft": "of the mel"},
)
PRIORGRAD = Family(
    "priorgrad",
    "PriorGrad's vocoder (its weights have the names of LMNT's DiffWave: state --from priorgrad)",
    _is_lmnt,
    _priorgrad,
    {
        **_COMMON,
        "betas": _SCHEDULE,
        "energy_min": "least root of the summed mel in the training data (energy_min_train.npy)",
        "energy_max": "greatest one, or the override of the settings",
        "std_min": "least standard deviation of the noise",
    },
)
SPEECHBRAIN = Family(
    "speechbrain-diffwave",
    "DiffWave by SpeechBrain: vocoder, or unconditional",
    _is_speechbrain,
    _speechbrain,
    {**_COMMON, "betas": _SCHEDULE},
)
PHILSYN = Family(
    "diffwave-philsyn",
    "DiffWave by its authors (philsyn), also of SaShiMi's and BDDM's code",
    _is_philsyn,
    _philsyn,
    {
        **_COMMON,
        "n_steps": "steps of the training schedule",
        "beta_first": "first beta of the training schedule",
        "beta_last": "last beta of the training schedule",
        "step_in_residual": "the step embedding is also added to the residual path; false for SaShiMi's newer code",
    },
)
