"""Compatibility checks of a composed configuration. Each check yields one error message.

The rules read the classes that a configuration chooses, before anything but the process is built: a part that is given
the wrong kind of process would fail with a message of its own, or only in training.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from audiodiff.diffusion.adaptive_density import LossSecondMoment, VariationalTime
from audiodiff.diffusion.bound import Hybrid
from audiodiff.diffusion.density import DiscreteSteps, LogitNormal, LogNormal, LogUniform, UniformTime
from audiodiff.diffusion.grid import Discrete, TimeUniform
from audiodiff.diffusion.objective import MultiResolution, SpectrallyWeighted, Squared
from audiodiff.diffusion.preconditioning import EDM, Sample, V, Velocity
from audiodiff.diffusion.process import VE, Flow, Process, VELinear
from audiodiff.diffusion.solvers import REGISTRY
from audiodiff.diffusion.weighting import Sigmoid, Uniform, Vdm
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.conditioners.mel import MelConditioner
from audiodiff.models.representations.log_mel import LogMelRepresentation
from audiodiff.networks.refiner import SpectralRefiner
from audiodiff.networks.restorer import SpectralRestorer
from audiodiff.training.adversarial import Adversarial
from audiodiff.training.choices import Choices, Rule, Together
from audiodiff.training.distillation import Reflow
from audiodiff.training.refinement import Refinement
from audiodiff.training.restoration import Restoration
from audiodiff.training.shortcut import Shortcut

LEVELS = (
    Rule(
        lambda c: c.in_steps and c.draws(LogNormal),
        "density=log_normal draws noise levels that the steps of the process do not reach: choose density=discrete",
    ),
    Rule(
        lambda c: c.in_steps and c.draws(LogUniform),
        "density=log_uniform draws noise levels that the steps of the process do not reach: choose density=discrete",
    ),
    Rule(
        lambda c: not c.in_steps and c.draws(DiscreteSteps),
        "density=discrete draws the steps of a table, and this process has none: choose density=uniform_time",
    ),
    Rule(
        lambda c: not c.in_steps and c.grid is Discrete,
        "sampler=discrete visits the steps of a table, and this process has none: choose sampler=flow",
    ),
    Rule(
        lambda c: c.learnt != c.draws(VariationalTime),
        "process=variational is learnt through density=variational, and each of them needs the other: choose both, "
        "or density=uniform_time with another process",
    ),
    Rule(
        lambda c: isinstance(c.process, VELinear) and c.draws(UniformTime, LogitNormal),
        "density draws the clock of process=edm, which is sigma itself: nearly every example would be noise; "
        "choose density=log_normal",
    ),
    Rule(
        lambda c: isinstance(c.process, VELinear) and c.grid is TimeUniform,
        "sampler spaces the clock of process=edm evenly, which is sigma itself: nearly every step would be in "
        "noise; choose sampler=karras",
    ),
)
"""Noise levels of training and of sampling, and those of the process."""

TARGETS = (
    Rule(
        lambda c: isinstance(c.process, VELinear) and c.target is not EDM,
        "preconditioning={c.target_name} gives the network the clock of process=edm, which is sigma itself: it could "
        "not tell small noise levels apart; choose preconditioning=edm, or process=ve",
    ),
    Rule(
        lambda c: isinstance(c.process, VE) and c.target in (V, Velocity),
        "preconditioning={c.target_name} with process=ve: the network's target would grow with the noise, up to "
        "sigma={c.process.sigma_max:g}; choose preconditioning=edm or epsilon",
    ),
    Rule(
        lambda c: c.learnt and c.target is Velocity,
        "preconditioning=velocity with process=variational: the target is the rate of a clock that changes in "
        "training; choose preconditioning=v",
    ),
    Rule(
        lambda c: c.learnt and c.target is EDM,
        "preconditioning=edm with process=variational: EDM has no process, so that the learnt one would not be saved; "
        "choose preconditioning=v",
    ),
)
"""Parameterisation and process."""

OBJECTIVES = (
    Rule(
        lambda c: c.objective is SpectrallyWeighted and not c.by_noisy and c.conditioner is not MelConditioner,
        "objective=spectral weights errors by the level of the clean signal, which the network cannot know without a "
        "mel: it would learn the quietest of all sounds; set objective.by_noisy=true",
    ),
    Rule(
        lambda c: c.objective is Hybrid and not c.in_steps,
        "objective=hybrid holds a bound over the steps of a table of betas, and this process has none: choose "
        "process=diffwave50, or objective=vdm",
    ),
    Rule(
        lambda c: c.objective is Hybrid and c.in_steps and not c.draws(DiscreteSteps),
        "objective=hybrid holds a bound whose terms exist at whole steps only: choose density=discrete",
    ),
    Rule(
        lambda c: c.objective is Hybrid and not c.learns_variance,
        "objective=hybrid trains a variance that the denoiser does not learn: set "
        "model.denoiser.learns_variance=true, or choose objective=plain_l2",
    ),
    Rule(
        lambda c: c.objective is not Hybrid and c.learns_variance,
        "model.denoiser.learns_variance=true, and this objective does not train the variance: choose "
        "objective=hybrid, or set model.denoiser.learns_variance=false",
    ),
    Rule(
        lambda c: c.weighting in (Vdm, Sigmoid) and c.in_steps,
        "objective={c.weighting_name} weights by the rate of a continuous clock, and this process has steps: "
        "choose objective=hybrid, or process=vp_cosine",
    ),
    Rule(
        lambda c: c.weighting in (Vdm, Sigmoid) and not c.in_steps and c.draws(VariationalTime),
        "objective={c.weighting_name} weights by the rate of the clock, as density=variational does: choose "
        "objective=plain_l2 with preconditioning=epsilon, which is the bound there",
    ),
    Rule(
        lambda c: c.weighting in (Vdm, Sigmoid) and not c.in_steps and not c.draws(VariationalTime, UniformTime),
        "objective={c.weighting_name} is a bound where the clock is drawn uniformly: choose "
        "density=uniform_time, or objective=min_snr_l2",
    ),
    Rule(
        lambda c: c.weighting not in (None, Uniform) and c.power not in (None, Squared),
        "objective.weighting={c.weighting.__name__} weights the squared error of x0, and objective.power="
        "{c.power.__name__} is another one: choose Squared, or objective=plain_l1 without a weighting",
    ),
    Rule(
        lambda c: c.objective is SpectrallyWeighted and c.representation is LogMelRepresentation,
        "objective=spectral weights the bands of a waveform, and representation=log_mel has none: choose "
        "objective=plain_l2, or representation=waveform",
    ),
)
"""The loss, and the process, density and network output that it is made for."""

PRESETS = (
    Together(
        "preset=prior",
        {
            "conditioner=degraded": lambda c: c.conditioner is DegradedConditioner,
            "network=spectral_restorer": lambda c: c.network is SpectralRestorer,
            "method=restoration": lambda c: c.method is Restoration,
        },
    ),
    Together(
        "preset=refiner",
        {
            "model.warm_start=true": lambda c: c.warm_start,
            "network=spectral_refiner": lambda c: c.network is SpectralRefiner,
            "method=refinement": lambda c: c.method is Refinement or (c.warm_start and c.method is Adversarial),
            "objective=mrstft": lambda c: c.objective is MultiResolution,
        },
    ),
    Rule(
        lambda c: c.network is SpectralRestorer and not (isinstance(c.process, Flow) and c.target is Sample),
        "network=spectral_restorer computes sigma from the clock of a flow: choose process=flow preconditioning=sample",
    ),
    Rule(
        lambda c: c.network is SpectralRefiner and not (isinstance(c.process, Flow) and c.target is Sample),
        "network=spectral_refiner predicts the sound itself: choose process=flow preconditioning=sample",
    ),
)
"""Parts that were made for each other."""

METHODS = (
    Rule(
        lambda c: c.solver != c.solver_of_method,
        "method={c.method_name} trains a model for sampler.solver.name={c.solver_of_method}, and sampler.solver.name="
        "{c.solver} does not fit it: set sampler.solver.name={c.solver_of_method}",
    ),
    Rule(
        lambda c: c.method is Reflow and c.teacher_solver in REGISTRY and REGISTRY[c.teacher_solver].stochastic,
        "method.solver.name={c.teacher_solver} draws noise, and method=reflow pairs each noise with one sound: choose "
        "method.solver.name=heun",
    ),
    Rule(
        lambda c: c.solver == "shortcut" and c.step_size is None,
        "sampler.solver.name=shortcut jumps, and this denoiser has no step size as input: choose "
        "recipes=techniques/shortcut, or sampler.solver.name=euler",
    ),
    Rule(
        lambda c: c.step_size is not None and c.method is not Shortcut,
        "model.denoiser.step_size is set, and method={c.method_name} does not train the jumps: choose method=shortcut, "
        "or set model.denoiser.step_size=null",
    ),
    Rule(
        lambda c: c.method is Shortcut and c.batch_size == 1,
        "train.batch_size=1 leaves method=shortcut no example to learn jumps from: set train.batch_size=2 or more",
    ),
    Rule(
        lambda c: c.few_step and c.learns_variance,
        "model.denoiser.learns_variance=true, and method={c.method_name} has no target for the variance: set "
        "model.denoiser.learns_variance=false",
    ),
    Rule(
        lambda c: c.few_step and c.draws(LossSecondMoment, VariationalTime),
        "density adapts to the losses of denoising, which method={c.method_name} does not compute: choose "
        "density=uniform_time with a process that is not learnt",
    ),
    Rule(
        lambda c: c.variance == "learned" and not c.learns_variance,
        "sampler.solver.variance=learned, and this denoiser does not learn it: set "
        "model.denoiser.learns_variance=true with objective=hybrid, or sampler.solver.variance=small",
    ),
)
"""The training method, and the sampler, the density and what else the denoiser learns."""

RULES = (*LEVELS, *TARGETS, *OBJECTIVES, *PRESETS, *METHODS)


def check_choices(config: Mapping[str, Any], *, process: Process) -> Iterator[str]:
    """Yield a message for each rule that a configuration breaks."""
    choices = Choices(config, process=process)
    for rule in RULES:
        yield from rule(choices)
