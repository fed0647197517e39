"""Sampling of restored signals: how a posterior sampler is run with a model."""

import contextlib
import math
from dataclasses import InitVar, dataclass, field

import torch

from audiodiff.compat import warn
from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers import AfterStep, OnStep, Solver
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration.posterior import Conditional, Denoisers, PosteriorSampler, posterior_named
from audiodiff.tasks.restoration.repair import Problem
from audiodiff.types import Noise, Signal

_FINEST = 2**20


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampling.

    Args:
        posterior: the sampler of the posterior, see `audiodiff.tasks.restoration.posterior`.
        steps: of the solver; None is the model's own number.
        start: noise level, in the amplitude of the recording at the model's level, at which to start from the
            recording instead of from noise: the lower, the less the model may change. None starts from noise alone.
        solver: another solver than the model's; DPS and RePaint, which are solvers themselves, do not use it.
        temperature: factor of all noise that is drawn: the lower, the nearer draws are to their mean.
        guidance: scale of the conditional estimate against the unconditional one; 1 is none.
        method: name of the posterior sampler in audiodiff 0.1.

    Raises:
        ParameterError: if a value is out of its range.
    """

    posterior: PosteriorSampler = field(default_factory=Conditional)
    steps: int | None = None
    start: float | None = None
    solver: Solver | None = None
    temperature: float = 1.0
    guidance: float = 1.0
    method: InitVar[str | None] = None

    def __post_init__(self, method: str | None) -> None:
        if method is not None:
            posterior = posterior_named(method)
            warn(f"method={method!r}", f"posterior={posterior}")
            object.__setattr__(self, "posterior", posterior)
        if not isinstance(self.posterior, PosteriorSampler):
            raise ParameterError(f"posterior={self.posterior!r} must be a sampler, for example Projection()")
        if self.steps is not None:
            check_whole(self.steps, name="steps", least=1)
        if self.start is not None and not self.start > 0.0:
            raise ParameterError(f"start={self.start} must be positive: a noise level")
        if not 0.0 <= self.temperature <= 1.0:
            raise ParameterError(f"temperature={self.temperature} must lie in [0, 1]; 1 draws from the posterior")
        if not math.isfinite(self.guidance):
            raise ParameterError(f"guidance={self.guidance} must be a finite number; 1 is none")


def check_model(model: object, *, posterior: PosteriorSampler) -> Synthesizer:
    """Return a model that can restore with this posterior sampler.

    Raises:
        ParameterError: if it cannot, with a remedy.
    """
    if not isinstance(model, Synthesizer) or not isinstance(model.representation, WaveformRepresentation):
        raise ParameterError(
            "restoration needs a trained model of waveforms, for example speech-prior-16k, not one of mel spectrograms"
        )
    if model.needs_mel or model.representation.n_channels != 1:
        raise ParameterError("restoration needs a model of mono sound that takes no mel: train recipes=speech/prior")
    if posterior.is_conditional and not isinstance(model.conditioner, DegradedConditioner):
        raise ParameterError(
            f"posterior={posterior.name} needs a model that takes degraded recordings (conditioner=degraded, "
            "recipes=speech/prior): give one, or another posterior: denoising for noise, projection for lost parts"
        )
    return model


@torch.no_grad()
def draw(
    model: Synthesizer, problem: Problem, *, sampling: Sampling, noise: Noise, on_step: OnStep | None = None
) -> Signal:
    """Draw a restored signal for each example.

    Args:
        model: as `check_model` returns it.
        problem: at the model's rate and level, on its device.
        sampling: how.
        noise: white noise by step, as `audiodiff.diffusion.noise.noise_of` makes it.
        on_step: called after every step.

    Returns: (batch, 1, time). Where the problem has an operator, A of it is A of the measurement, and every estimate
        is a possible one.

    Raises:
        ParameterError: if the posterior sampler cannot solve this problem, or the start is above the model's noise
            levels.
    """
    gain = model.representation.encode(problem.measured.new_ones(1, 1, 1)).item()
    conditional = None
    if sampling.posterior.is_conditional:
        conditional = model.denoiser.bind(DegradedConditioner.observed(problem.measured, problem.known))
    unconditional = model.denoiser.bind(model.conditioner.null(len(problem.measured)))
    restored = draw_from(
        Denoisers(unconditional, conditional, sampling.guidance),
        problem.scaled(gain),
        sigmas=_sigmas(model, sampling, gain=gain),
        solver=model.sampler.solver,
        sampling=sampling,
        noise=noise,
        on_step=on_step,
        after_step=model.sampler.after_step,
    )
    return restored / gain


def draw_from(
    denoisers: Denoisers,
    problem: Problem,
    *,
    sigmas: Sigmas,
    solver: Solver,
    sampling: Sampling,
    noise: Noise,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Draw with denoisers instead of a model.

    Args:
        denoisers: of the problem.
        problem: in the units of the denoisers.
        sigmas: noise levels, the last of them 0.
        solver: used unless the sampling names another.
        sampling: how; its steps, start and guidance are in the sigmas and denoisers.
        noise: see `draw`, and so for on_step.
        on_step: see noise.
        after_step: applied to the result of every step.

    Returns: as `draw`.
    """

    def drawn(like: Signal, step: int) -> Signal:
        return sampling.temperature * noise(like, step)

    denoise, solve = sampling.posterior.prepare(
        denoisers,
        problem,
        solver=solver if sampling.solver is None else sampling.solver,
        extra=noise(problem.measured, 2 * len(sigmas)),  # a step that no solver takes
    )
    x = float(sigmas[0]) * drawn(problem.measured, 0)
    if sampling.start is not None:
        x = x + (problem.measured if problem.guess is None else problem.guess)
    restored = solve(denoise, x, sigmas, noise=drawn, on_step=on_step, after_step=after_step)
    operator = problem.operator
    if operator is not None:
        # In this order, so that under a mask nothing is rounded.
        rest = restored - operator.pseudo_inverse(operator(restored))
        restored = operator.pseudo_inverse(operator(problem.measured)) + rest
    return restored if problem.possible is None else problem.possible(restored)


def _sigmas(model: Synthesizer, sampling: Sampling, *, gain: float) -> Sigmas:
    """Return the noise levels from the first to 0, for the same number of steps whatever the start."""
    n_steps = model.sampler.n_steps if sampling.steps is None else sampling.steps
    if sampling.start is None:
        return model.sampler.grid(n_steps)
    start = gain * sampling.start
    fine = model.sampler.grid(max(256, 8 * n_steps))
    if start > float(fine[0]):
        raise ParameterError(
            f"start={sampling.start} must be at most {float(fine[0]) / gain:.4g}, where sampling starts"
        )
    # Few levels lie below a low start: a finer grid has more, until it no longer reaches below the start.
    with contextlib.suppress(ParameterError):
        while int((fine < start).sum()) <= n_steps and len(fine) < _FINEST:
            fine = model.sampler.grid(2 * len(fine))
    below = fine[fine < start]
    if len(below) <= n_steps:
        raise ParameterError(
            f"start={sampling.start} leaves {len(below) - 1} noise levels of the model below it, fewer than "
            f"steps={n_steps}: give a higher start or fewer steps"
        )
    # Evenly along the model's own clock, from the start to 0.
    places = torch.linspace(0, len(below) - 1, n_steps + 1).round().long()[1:]
    return torch.cat([fine.new_tensor([start]), below[places]])
