"""From what is known of a recording to what it may have been: draws from the posterior.

| method | the network is told | what was measured | costs, in evaluations of the network |
|---|---|---|---|
| told | the degraded recording | replaced in every estimate | 1 a step |
| projection | nothing | replaced in every estimate | 1 a step |
| pigdm | nothing | pulls every estimate, through the network | 3 a step |
| dps | nothing | pulls every x, through the network | 3 a step |
| repaint | nothing | replaced in every x, with steps back | n_resamples a step |
| denoise | nothing | is itself noisy speech, of a known spectrum | 6 a step, 1 where the noise is white |

The last five need no training on degraded recordings: any model of waveforms will do. What they draw, of a network that
knows its data perfectly and with many steps:

| method | draws from |
|---|---|
| told | the posterior, whatever the data and the damage |
| projection | a law that leans to the prior: at every level, what is known helps only as it is under that noise |
| pigdm | the posterior of isotropic Gaussian data; of others an approximation |
| dps | no law that is known: its pull does not depend on how far the estimate is off |
| repaint | the posterior, as n_resamples grows; with 1 it leans to the prior as projection does |
| denoise | the posterior where the noise is white; of other noise an approximation |
"""

import contextlib
import math
from dataclasses import dataclass

import torch

from audiodiff.diffusion.colored_noise import posterior_mean
from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.guidance import classifier_free
from audiodiff.diffusion.posterior import dps, pigdm, projection
from audiodiff.diffusion.repaint import repaint
from audiodiff.diffusion.solvers import AfterStep, OnStep, Solver
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.restoration.problem import Problem
from audiodiff.types import Denoise, Noise, Signal

METHODS = ("told", "projection", "pigdm", "dps", "repaint")
"""For what is measured exactly, in part."""
OF_NOISY = ("told", "denoise")
"""For what is measured as a whole, with noise."""
_FINEST = 2**20


@dataclass(frozen=True)
class Sampling:
    """How to draw.

    Args:
        method: one of `METHODS` or `OF_NOISY`.
        steps: of the sampler; None is the model's own number.
        start: noise level, in the amplitude of the recording at the model's level, at which to start from what was
            measured instead of from noise: what the model may change grows with it. None starts from noise alone.
        solver: another solver than the model's; not for dps and repaint, which are solvers themselves.
        temperature: factor of all noise that is drawn: below 1, draws stay nearer to their mean, the more so the lower.
        guidance: of what the network is told against nothing told; 1 is none.
        sigma_y: std of noise in what was measured; for pigdm.
        sigma_data: std of the sounds; for pigdm. None is that of what was measured, where it is known.
        scale: the step length of dps, as an amplitude.
        n_resamples: how often repaint walks each stretch down.
    """

    method: str = "told"
    steps: int | None = None
    start: float | None = None
    solver: Solver | None = None
    temperature: float = 1.0
    guidance: float = 1.0
    sigma_y: float = 0.0
    sigma_data: float | None = None
    scale: float = 0.05
    n_resamples: int = 4

    def __post_init__(self) -> None:
        known = list(dict.fromkeys(METHODS + OF_NOISY))
        if self.method not in known:
            raise ParameterError(f"method={self.method!r} must be one of {', '.join(known)}")
        if self.steps is not None:
            check_whole(self.steps, name="steps", least=1)
        if self.start is not None and not self.start > 0.0:
            raise ParameterError(f"start={self.start} must be positive: a noise level")
        if not 0.0 <= self.temperature <= 1.0:
            raise ParameterError(f"temperature={self.temperature} must lie in [0, 1]; 1 draws from the posterior")
        if not math.isfinite(self.guidance):
            raise ParameterError(f"guidance={self.guidance} must be a finite number; 1 is none")
        check_whole(self.n_resamples, name="n_resamples", least=1)


def check_model(model: object, *, method: str) -> Synthesizer:
    """Return a model that can restore by this method.

    Raises:
        ParameterError: if it cannot, with a remedy.
    """
    if not isinstance(model, Synthesizer) or not isinstance(model.representation, WaveformRepresentation):
        raise ParameterError(
            "restoration needs a trained model of waveforms, as speech-prior-16k is, and not one of mel spectrograms"
        )
    if model.needs_mel or model.representation.n_channels != 1:
        raise ParameterError("restoration needs a model of mono sound that takes no mel: train recipes=speech/prior")
    if method == "told" and not isinstance(model.conditioner, DegradedConditioner):
        raise ParameterError(
            "method=told needs a model that hears degraded recordings (conditioner=degraded, recipes=speech/prior): "
            "give one, or another method: denoise for noise, projection for what is lost"
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

    Returns: (batch, 1, time). Where the problem has an operator, A of it is A of what was measured, and every estimate
        is a possible one.

    Raises:
        ParameterError: if the method needs an operator and the problem has none, or the start is above the model's
            noise levels.
    """
    gain = model.representation.encode(problem.measured.new_ones(1, 1, 1)).item()
    scaled = problem.scaled(gain)
    told = None
    if sampling.method == "told":
        told = model.denoiser.bind(DegradedConditioner.told(problem.measured, problem.known))
    restored = draw_from(
        model.denoiser.bind(model.conditioner.null(len(scaled.measured))),
        scaled,
        told=told,
        sigmas=_levels(model, sampling, gain=gain),
        solver=model.sampler.solver,
        sampling=sampling,
        noise=noise,
        on_step=on_step,
        after_step=model.sampler.after_step,
    )
    return restored / gain


def draw_from(
    alone: Denoise,
    problem: Problem,
    *,
    told: Denoise | None,
    sigmas: Sigmas,
    solver: Solver,
    sampling: Sampling,
    noise: Noise,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Draw with denoisers instead of a model.

    Args:
        alone: (x, sigma) -> E[x0 | x].
        problem: in the units of the denoisers.
        told: (x, sigma) -> E[x0 | x, what was measured]; for method=told alone.
        sigmas: noise levels, the last of them 0.
        solver: where the sampling names no other.
        sampling: how; of its steps and start the sigmas are made.
        noise: see `draw`, and so for on_step.
        on_step: see noise.
        after_step: applied to the result of every step.

    Returns: as `draw`.
    """

    def drawn(like: Signal, step: int) -> Signal:
        return sampling.temperature * noise(like, step)

    if sampling.method == "denoise":
        # A step that no solver takes.
        told = _of_noisy(alone, problem, extra=noise(problem.measured, 2 * len(sigmas)))
    denoise, solve = _agreeing(alone, told, problem, sampling, solver=solver)
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


def _agreeing(
    alone: Denoise, told: Denoise | None, problem: Problem, sampling: Sampling, *, solver: Solver
) -> tuple[Denoise, Solver]:
    """Return the denoiser that knows what was measured, and the solver."""
    solver = solver if sampling.solver is None else sampling.solver
    if sampling.method in OF_NOISY:
        if told is None:
            raise ParameterError("told=None: method=told needs a denoiser that is told what was measured")
        denoise = told if sampling.guidance == 1.0 else classifier_free(told, alone, scale=sampling.guidance)
        return _consistent(denoise, problem), solver
    if problem.operator is None:
        raise ParameterError(
            f"method={sampling.method} needs a linear measurement, and of this recording nothing is known exactly: "
            f"choose one of {', '.join(OF_NOISY)}"
        )
    y = problem.operator(problem.measured)
    if sampling.method == "projection":
        return _consistent(alone, problem), solver
    if sampling.method == "pigdm":
        spread = _spread(problem) if sampling.sigma_data is None else sampling.sigma_data
        guided = pigdm(alone, problem.operator, y, sigma_data=spread, sigma_y=sampling.sigma_y)
        return _possible(guided, problem), solver
    if sampling.method == "dps":
        return alone, dps(problem.operator, y, scale=sampling.scale)
    return alone, repaint(problem.operator, y, jump_length=1, n_resamples=sampling.n_resamples)


def _of_noisy(alone: Denoise, problem: Problem, *, extra: Signal) -> Denoise:
    if problem.noise_power is None:
        raise ParameterError(
            "method=denoise needs a recording with noise of a known spectrum, and of this one samples are lost: choose "
            f"one of {', '.join(METHODS)}"
        )
    return posterior_mean(alone, problem.measured, problem.noise_power, extra=extra)


def _spread(problem: Problem) -> float:
    """Return the RMS of what was measured, 1 where nothing was."""
    power = (problem.known * problem.measured.square()).sum() / problem.known.sum().clamp(min=1.0)
    return math.sqrt(power.item()) or 1.0


def _consistent(denoise: Denoise, problem: Problem) -> Denoise:
    """Return a denoiser whose estimates could have been measured as the recording was."""
    if problem.operator is not None:
        denoise = projection(denoise, problem.operator, problem.operator(problem.measured))
    return _possible(denoise, problem)


def _possible(denoise: Denoise, problem: Problem) -> Denoise:
    possible = problem.possible
    return denoise if possible is None else lambda x, sigma: possible(denoise(x, sigma))


def _levels(model: Synthesizer, sampling: Sampling, *, gain: float) -> Sigmas:
    """Return the noise levels from the first to 0, as many steps whatever the start."""
    n_steps = model.sampler.n_steps if sampling.steps is None else sampling.steps
    if sampling.start is None:
        return model.sampler.grid(n_steps)
    start = gain * sampling.start
    fine = model.sampler.grid(max(256, 8 * n_steps))
    if start > float(fine[0]):
        raise ParameterError(
            f"start={sampling.start} must be at most {float(fine[0]) / gain:.4g}, where sampling starts"
        )
    # A low start has few levels below: a finer grid has more, as long as it goes on below the start.
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
