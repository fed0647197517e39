"""One-step methods: Euler, Heun and midpoint."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.process import Process
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, weighted_sum
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal


def check_churn(sigmas: Sigmas, *, guided: bool = False, s_churn: float = 0.0, **options: float) -> None:
    """Check the amount of churn."""
    if s_churn < 0.0:
        raise ParameterError(f"s_churn={s_churn} must not be negative")


@dataclass(frozen=True)
class _Churn:
    """Raise x to a higher level before a step (Karras et al. 2022, algorithm 2, lines 4 to 6)."""

    s_churn: float
    s_tmin: float
    s_tmax: float
    s_noise: float
    noise: Noise | None

    def __post_init__(self) -> None:
        if self.s_churn > 0.0 and self.noise is None:
            raise ParameterError(
                f"noise=None: s_churn={self.s_churn} draws noise before a step; give a noise function, or s_churn=0"
            )

    def __call__(self, x: Signal, sigma: float, step: int, n_steps: int) -> tuple[Signal, float]:
        if self.s_churn == 0.0 or self.noise is None or not self.s_tmin <= sigma <= self.s_tmax:
            return x, sigma
        raised = sigma * (1.0 + min(self.s_churn / n_steps, math.sqrt(2.0) - 1.0))
        added = self.s_noise * math.sqrt(raised**2 - sigma**2)
        return x + added * self.noise(x, step + 1), raised


def euler(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Signal:
    """Step x' = D + (sigma' / sigma) (x - D): order one, one evaluation a step.

    Args:
        denoise: (x, sigma) -> x0; with churn it is evaluated at up to sqrt(2) times the levels of the grid.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the churn of transition k with step number k + 1; needed only with s_churn.
        on_step: called after every step.
        after_step: applied to the result of every step.
        s_churn: amount of noise that is added and removed again over all steps; 0 is the probability flow.
        s_tmin: lowest level at which noise is added.
        s_tmax: highest level at which noise is added.
        s_noise: factor of the added noise; slightly above 1 compensates for a denoiser that removes too much.

    Raises:
        ParameterError: if s_churn is negative, or positive without noise.

    Source: Song et al. 2021 (DDIM), eq. 12 with eta = 0; Karras et al. 2022, algorithm 2, for churn.
    """
    check_churn(sigmas, s_churn=s_churn)
    levels = sigmas.tolist()
    churn = _Churn(s_churn, s_tmin, s_tmax, s_noise, noise)
    for step, (level, sigma_next) in enumerate(pairwise(levels)):
        x, sigma = churn(x, level, step, len(levels) - 1)
        denoised = evaluate(denoise, x, sigma)
        x = denoised + (sigma_next / sigma) * (x - denoised)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def heun(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Signal:
    """Average the slopes at both ends of a step: order two, two evaluations a step, one where sigma' = 0.

    Args:
        denoise: (x, sigma) -> x0; with churn it is evaluated at up to sqrt(2) times the levels of the grid.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the churn of transition k with step number k + 1; needed only with s_churn.
        on_step: called after every step.
        after_step: applied to the result of every step.
        s_churn: amount of noise that is added and removed again over all steps; 0 is the probability flow.
        s_tmin: lowest level at which noise is added.
        s_tmax: highest level at which noise is added.
        s_noise: factor of the added noise; Karras et al. use 1.003 to 1.007.

    Raises:
        ParameterError: if s_churn is negative, or positive without noise.

    Source: Karras et al. 2022, algorithm 1; algorithm 2 with churn.
    """
    check_churn(sigmas, s_churn=s_churn)
    levels = sigmas.tolist()
    churn = _Churn(s_churn, s_tmin, s_tmax, s_noise, noise)
    for step, (level, sigma_next) in enumerate(pairwise(levels)):
        x, sigma = churn(x, level, step, len(levels) - 1)
        denoised = evaluate(denoise, x, sigma)
        slope = (x - denoised) / sigma
        predicted = x + (sigma_next - sigma) * slope
        if sigma_next > 0.0:
            slope_next = (predicted - evaluate(denoise, predicted, sigma_next)) / sigma_next
            predicted = x + 0.5 * (sigma_next - sigma) * (slope + slope_next)
        x = finish(predicted, denoised, step, sigma_next, on_step, after_step)
    return x


def midpoint(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    process: Process | None = None,
) -> Signal:
    """Take D and eps = (x - D) / sigma from the middle of a step: order two, two evaluations a step.

    With a process, the middle is that of its clock, and the step is one of dx_t = D dalpha_t + eps dsigma_t with
    x_t = alpha_t x; for rectified flow this is the midpoint rule of its velocity. Without a process, the middle is that
    of log(sigma), and the step is one of dx = eps dsigma. A step to sigma = 0 is euler's, at one evaluation, unless the
    process's clock includes sigma = 0, which those of VE and of tables of betas do not.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: not used.
        on_step: called after every step, with D at the start of the step.
        after_step: applied to the result of every step.
        process: the middle is that of its clock; None takes that of log(sigma).

    Raises:
        ParameterError: if one of the levels is outside the process.

    Source: Lu et al. 2022 (DPM-Solver), algorithm 1 with r_1 = 1/2 (DPM-Solver-2), without a process.
    """
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        middle = middle_level(sigma, sigma_next, process)
        if middle == 0.0:
            x = denoised
        else:
            stage = weighted_sum([middle / sigma, 1.0 - middle / sigma], [x, denoised])
            alpha, alpha_next = (1.0, 1.0) if process is None else (_alpha(process, sigma), _alpha(process, sigma_next))
            of_eps = (alpha_next * sigma_next - alpha * sigma) / middle
            weights = [alpha, of_eps, alpha_next - alpha - of_eps]
            signals = [x, stage, evaluate(denoise, stage, middle)]
            x = weighted_sum([weight / alpha_next for weight in weights], signals)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def middle_level(sigma: float, sigma_next: float, process: Process | None) -> float:
    """Return the middle level in the process's clock, or in log(sigma) without a process; 0 if there is none.

    Raises:
        ParameterError: if sigma, or a sigma_next other than 0, is outside the process.
    """
    if process is None:
        return math.sqrt(sigma * sigma_next)
    times = []
    for level in (sigma, sigma_next):
        t = process.time(torch.tensor(level, dtype=torch.float64))
        # Outside its range a clock stays at its end or is infinite.
        reached = bool(torch.isfinite(t)) and math.isclose(float(process.sigma(t)), level, rel_tol=1e-6)
        if not reached and level == 0.0:
            return 0.0
        if not reached:
            raise ParameterError(
                f"process={type(process).__name__} never has sigma={level}: choose a grid within it, or process=None"
            )
        times.append(t)
    return float(process.sigma(0.5 * (times[0] + times[1])))


def _alpha(process: Process, sigma: float) -> float:
    return float(process.alpha(torch.tensor(sigma, dtype=torch.float64)))
