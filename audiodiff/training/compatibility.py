"""Choices that do not fit together, found when a configuration is composed: one line of text for each.

What is compared before anything is built is read off the nodes of the configuration, since a constructor that is given
the wrong kind of process would complain in its own words.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.preconditioning import EDM, Preconditioning
from audiodiff.diffusion.process import VE, DiscreteVP, Process, Variational, VELinear, sigma_range
from audiodiff.diffusion.solvers import REGISTRY
from audiodiff.dsp.mel import MelDialect
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.models.representations.representation import Representation
from audiodiff.networks.embedding import Embedding, StepTable

DISTILLATIONS = ("Progressive", "Consistency", "Reflow")
N_DRAWN = 4096
"""Noise levels that are drawn to see what a density reaches."""
FAR = 0.25
"""Share of the clock that training knows by which sampling may start beyond it: EDM's own 80 is 0.18 beyond."""

Config = Mapping[str, Any]


def of_dialect(config: Config, *, dialect: MelDialect | None) -> Iterator[str]:
    """Compare what needs a mel dialect with whether there is one."""
    for name, other in (("conditioner", "none"), ("representation", "waveform")):
        if dialect is None and config["audio"].get("dialect") is None and "dialect" in config[name]:
            yield f"{name} needs a mel dialect, and audio has none: choose audio=hifigan, say, or {name}={other}"


def of_channels(config: Config, *, representation: Representation, conditioner: Conditioner) -> Iterator[str]:
    """Compare the channels of the data, the representation and the network."""
    n_channels, network = config["data"]["n_channels"], config["network"]
    if n_channels != 1 and (conditioner.needs_mel or representation.makes_mel):
        yield f"data.n_channels={n_channels} must be 1: a mel spectrogram is made from mono audio"
        return
    channels = representation.channels
    if network.get("in_channels", channels) != channels:
        yield (
            f"network.in_channels={network['in_channels']} must be the {channels} channels of the representation: "
            f"set network.in_channels={channels}"
        )
    given = network.get("out_channels")
    if _learns_variance(config):
        if given != 2 * channels:
            yield (
                f"model.denoiser.learns_variance=true with network.out_channels={given}: set network.out_channels="
                f"{2 * channels}, half of them for the variance, in network=wavenet or network=diffwave"
            )
    elif given not in (None, channels):
        yield (
            f"network.out_channels={given} must be the {channels} channels of the representation, unless objective="
            "hybrid learns a variance with model.denoiser.learns_variance=true: set network.out_channels=null"
        )


def of_clock(process: Process, *, embedding: Embedding, preconditioning: Preconditioning) -> Iterator[str]:
    """Compare the noise level's embedding with the clock that the network is told."""
    counts = isinstance(process, DiscreteVP) and not isinstance(preconditioning, EDM)
    n_steps = len(process.betas) if isinstance(process, DiscreteVP) and counts else None
    n_known = embedding.table.shape[0] if isinstance(embedding, StepTable) else None
    if n_steps == n_known:
        return
    if n_steps is None:
        yield (
            f"network.embedding counts {n_known} steps and the clock of the noise level is continuous: choose "
            "process=diffwave50 or diffwave200 with preconditioning=epsilon, or another network"
        )
    elif n_known is None:
        yield (
            f"the process counts {n_steps} steps and network.embedding expects a clock in [0, 1]: choose "
            "another process, or network=diffwave"
        )
    else:
        yield (
            f"network.embedding.n_steps={n_known} must be the process's {n_steps} steps: "
            f"set network.embedding.n_steps={n_steps}"
        )


def of_choices(config: Config, *, process: Process) -> Iterator[str]:
    """Compare the options of the groups with each other, before any of them but the process is built."""
    yield from of_levels(config, process=process)
    yield from of_target(config, process=process)
    yield from of_objective(config, process=process)
    yield from of_hearing(config)
    yield from of_refinement(config)
    yield from of_method(config)
    yield from of_variance(config)


def of_hearing(config: Config) -> Iterator[str]:
    """Compare who tells a degraded recording, who hears it, and whether training degrades any."""
    having = {
        "conditioner=degraded": _kind(config["conditioner"]) == "DegradedConditioner",
        "network=spectral_restorer": _kind(config["network"]) == "SpectralRestorer",
        "method=restoration": _kind(config["method"]) == "Restoration",
    }
    yield from _all_or_none(having, purpose="of degraded recordings", recipe="speech/prior")
    made_for = (_kind(config["process"]), _kind(config["preconditioning"]))
    if having["network=spectral_restorer"] and made_for != ("Flow", "Sample"):
        yield "network=spectral_restorer reads sigma off a flow's clock: choose process=flow preconditioning=sample"


def of_refinement(config: Config) -> Iterator[str]:
    """Compare who makes the first guess, who mends it, and whether training does both."""
    starts = bool(config["model"].get("warm_start"))
    methods = ("Refinement", "Adversarial") if starts else ("Refinement",)
    having = {
        "model.warm_start=true": starts,
        "network=spectral_refiner": _kind(config["network"]) == "SpectralRefiner",
        "method=refinement": _kind(config["method"]) in methods,
        "objective=mrstft": _kind(config["objective"]) == "MultiResolution",
    }
    yield from _all_or_none(having, purpose="that starts from the mel", recipe="speech/vocoder")
    made_for = (_kind(config["process"]), _kind(config["preconditioning"]))
    if having["network=spectral_refiner"] and made_for != ("Flow", "Sample"):
        yield (
            "network=spectral_refiner gives the sound itself, with next to no noise beside what it is given: choose "
            "process=flow preconditioning=sample"
        )


def of_levels(config: Config, *, process: Process) -> Iterator[str]:
    """Compare the noise levels of training and of sampling with those that the process has."""
    drawn, visited = _densities(config["density"]), _kind(config["sampler"].get("grid"))
    if isinstance(process, DiscreteVP):
        for name, group in (("LogNormal", "log_normal"), ("LogUniform", "log_uniform")):
            if name in drawn:
                yield f"density={group} draws noise levels that the steps of the process do not reach: choose discrete"
    else:
        if "DiscreteSteps" in drawn:
            yield (
                "density=discrete draws the steps of a process that counts them, this one does not: choose uniform_time"
            )
        if visited == "Discrete":
            yield "sampler=discrete visits the steps of a process that counts them, this one does not: choose flow"
    if isinstance(process, Variational) != ("VariationalTime" in drawn):
        yield (
            "process=variational is learnt through density=variational, and each of them needs the other: choose both, "
            "or density=uniform_time with another process"
        )
    if isinstance(process, VELinear):
        if drawn & {"UniformTime", "LogitNormal"}:
            yield (
                "density draws the clock of process=edm, which is sigma itself: nearly every example would be noise; "
                "choose density=log_normal"
            )
        if visited == "TimeUniform":
            yield (
                "sampler spaces the clock of process=edm evenly, which is sigma itself: nearly every step would be in "
                "noise; choose sampler=karras"
            )


def of_target(config: Config, *, process: Process) -> Iterator[str]:
    """Compare what the network predicts with the process that says how large it is."""
    target = _kind(config["preconditioning"])
    if isinstance(process, VELinear) and target != "EDM":
        yield (
            f"preconditioning={target.lower()} tells the network the clock of process=edm, which is sigma itself: "
            "small noise would all look alike; choose preconditioning=edm, or process=ve"
        )
    if isinstance(process, VE) and target in ("V", "Velocity"):
        yield (
            f"preconditioning={target.lower()} with process=ve: the network's target would grow with the noise, up to "
            f"sigma={process.sigma_max:g}; choose preconditioning=edm or epsilon"
        )
    if isinstance(process, Variational) and target == "Velocity":
        yield (
            "preconditioning=velocity with process=variational: the target is the rate of a clock that is being "
            "learnt, and would move; choose preconditioning=v"
        )
    if isinstance(process, Variational) and target == "EDM":
        yield (
            "preconditioning=edm with process=variational: EDM knows no process, so that the learnt one would not be "
            "saved; choose preconditioning=v"
        )


def of_objective(config: Config, *, process: Process) -> Iterator[str]:
    """Compare the loss with the process, the density and the network's output that it was derived for."""
    objective, drawn = config["objective"], _densities(config["density"])
    kind, weighting, power = (_kind(node) for node in (objective, objective.get("weighting"), objective.get("power")))
    if (
        kind == "SpectrallyWeighted"
        and not objective.get("by_noisy")
        and _kind(config["conditioner"]) != "MelConditioner"
    ):
        yield (
            "objective=spectral weighs errors by how loud the truth is, and no mel tells the network that: it would "
            "learn the quietest of all sounds; set objective.by_noisy=true"
        )
    hybrid, learns = kind == "Hybrid", _learns_variance(config)
    if hybrid and not isinstance(process, DiscreteVP):
        yield (
            "objective=hybrid holds a bound over the steps of a table of betas, and this process has none: choose "
            "process=diffwave50, or objective=vdm"
        )
    elif hybrid and "DiscreteSteps" not in drawn:
        yield "objective=hybrid holds a bound whose terms exist at whole steps only: choose density=discrete"
    if hybrid and not learns:
        yield (
            "objective=hybrid trains a variance that the denoiser does not learn: set "
            "model.denoiser.learns_variance=true, or choose objective=plain_l2"
        )
    if learns and not hybrid:
        yield (
            "model.denoiser.learns_variance=true, and this objective does not train the variance: choose "
            "objective=hybrid, or set model.denoiser.learns_variance=false"
        )
    if weighting in ("Vdm", "Sigmoid"):
        if isinstance(process, DiscreteVP):
            yield (
                f"objective={weighting.lower()} weighs by the rate of a continuous clock, and this process counts "
                "steps: choose objective=hybrid, or process=vp_cosine"
            )
        elif "VariationalTime" in drawn:
            yield (
                f"objective={weighting.lower()} weighs by the rate of the clock, as density=variational does: choose "
                "objective=plain_l2 with preconditioning=epsilon, which is the bound there"
            )
        elif "UniformTime" not in drawn:
            yield (
                f"objective={weighting.lower()} is a bound where the clock is drawn uniformly: choose "
                "density=uniform_time, or objective=min_snr_l2"
            )
    if weighting not in ("", "Uniform") and power not in ("", "Squared"):
        yield (
            f"objective.weighting={weighting} weighs the squared error of x0, and objective.power={power} is another "
            "one: choose Squared, or objective=plain_l1 without a weighting"
        )
    if kind == "SpectrallyWeighted" and _kind(config["representation"]) == "LogMelRepresentation":
        yield (
            "objective=spectral weighs the bands of a waveform, and representation=log_mel has none: choose "
            "objective=plain_l2, or representation=waveform"
        )


def of_method(config: Config) -> Iterator[str]:
    """Compare the way of training with the sampler, the density and what the denoiser learns beside x0."""
    method, solver = _kind(config["method"]), (config["sampler"].get("solver") or {}).get("name")
    named, step_size = method.lower(), config["model"]["denoiser"].get("step_size")
    wanted = {"Consistency": "consistency", "Progressive": "euler"}.get(method, solver)
    if solver != wanted:
        yield (
            f"method={named} trains a model for sampler.solver.name={wanted}, and sampler.solver.name={solver} would "
            f"read it as something else: set sampler.solver.name={wanted}"
        )
    teacher = str((config["method"].get("solver") or {}).get("name"))
    if method == "Reflow" and teacher in REGISTRY and REGISTRY[teacher].stochastic:
        yield f"method.solver.name={teacher} draws noise, and method=reflow pairs noise with its sound: choose heun"
    if solver == "shortcut" and step_size is None:
        yield (
            "sampler.solver.name=shortcut jumps, and this denoiser was not told where to: choose "
            "recipes=techniques/shortcut, or sampler.solver.name=euler"
        )
    if step_size is not None and method != "Shortcut":
        yield (
            f"model.denoiser.step_size is set, and method={named} does not train the jumps: choose method=shortcut, or "
            "set model.denoiser.step_size=null"
        )
    if method == "Shortcut" and config["train"]["batch_size"] == 1:
        yield "train.batch_size=1 leaves method=shortcut no example to learn jumps from: set train.batch_size=2 or more"
    if method not in (*DISTILLATIONS, "Shortcut"):
        return
    if _learns_variance(config):
        yield (
            f"model.denoiser.learns_variance=true, and method={named} has no target for the variance: set "
            "model.denoiser.learns_variance=false"
        )
    if _densities(config["density"]) & {"LossSecondMoment", "VariationalTime"}:
        yield (
            f"density learns from the losses of denoising, which method={named} does not make: choose "
            "density=uniform_time with a process that is not learnt"
        )


def of_variance(config: Config) -> Iterator[str]:
    """Compare the variance that the sampler wants with whether one is learnt."""
    solver = config["sampler"].get("solver") or {}
    if solver.get("variance") == "learned" and not _learns_variance(config):
        yield (
            "sampler.solver.variance=learned, and this denoiser does not learn it: set "
            "model.denoiser.learns_variance=true with objective=hybrid, or sampler.solver.variance=small"
        )


def of_range(
    *, process: Process, preconditioning: Preconditioning, density: SigmaDistribution, first: float
) -> Iterator[str]:
    """Compare the noise levels that training draws with the process's clock, and with where sampling starts.

    Args:
        first: the first sigma of sampling.
    """
    least, greatest = sigma_range(process)
    told_time = not isinstance(preconditioning, EDM)
    if not math.isfinite(first):
        yield "sampler.grid starts where alpha_t is 0 and sigma infinite: set sampler.grid.t_start=0.999"
        return
    if told_time and first > greatest * (1.0 + 1e-6):
        yield (
            f"the sampler starts at sigma={first:.4g}, and the clock of the process ends at sigma={greatest:.4g}, "
            "beyond which the network knows no noise level: choose sampler=flow, or another process"
        )
        return
    with torch.no_grad():
        drawn = density(N_DRAWN, generator=torch.Generator().manual_seed(0)).double()
        beyond = float(((drawn < 0.999 * least) | (drawn > 1.001 * greatest)).double().mean())
        levels = torch.stack([drawn.min(), drawn.max(), drawn.new_tensor(first)])
        lowest, highest, start = preconditioning(levels).c_noise.tolist()
    if told_time and beyond > 0.01:
        yield (
            f"density draws {100 * beyond:.0f} % of its noise levels outside sigma={least:.4g} to {greatest:.4g}, "
            "where the clock of the process ends: choose density=uniform_time, or preconditioning=edm"
        )
    elif start > highest + FAR * (highest - lowest):
        yield (
            f"the sampler starts at sigma={first:.4g}, far beyond sigma={float(drawn.max()):.4g}, the noisiest that "
            "density draws: choose a grid that starts lower, as sampler=flow does with density=uniform_time, or a "
            "density that reaches further"
        )


def _all_or_none(having: Mapping[str, bool], *, purpose: str, recipe: str) -> Iterator[str]:
    """Say which choices are missing where only some were made."""
    missing = [choice for choice, chosen in having.items() if not chosen]
    if 0 < len(missing) < len(having):
        chosen = " and ".join(choice for choice in having if choice not in missing)
        yield (
            f"{chosen} without {' and '.join(missing)}: a model {purpose} needs them all, as recipes={recipe} has them"
        )


def _learns_variance(config: Config) -> bool:
    return bool(config["model"]["denoiser"].get("learns_variance", False))


def _kind(node: Any) -> str:
    """Return the name of what a node builds, empty where there is none."""
    return str((node or {}).get("_target_", "")).rpartition(".")[2]


def _densities(node: Any) -> set[str]:
    """Return the kinds of a density and of those that it stands in for."""
    return set() if node is None else {_kind(node)} | _densities(node.get("base"))
