"""The probability flow by an ODE solver that chooses its steps itself."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from queue import SimpleQueue

import numpy as np
import torch
from scipy.integrate import DOP853, RK23, RK45

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal

_METHODS = {"RK23": RK23, "RK45": RK45, "DOP853": DOP853}


def adaptive(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "RK45",
) -> Signal:
    """Solve dx / dlog(sigma) = x - D to a tolerance from the first to the last positive level, then take D there.

    Between two levels the solver takes as many steps as the tolerance asks for. The levels inside the grid are no steps
    of its own but the places where it stops for the hooks and begins anew, at a cost of about ten evaluations each: a
    grid of few levels is the fastest, [80, 0.002, 0] for one. Every example has its own steps, whatever the batch; an
    evaluation of the batch serves all that are still on their way.

    Args:
        denoise: (x, sigma) -> x0, where sigma differs from example to example.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels, the first two positive; the last may be 0.
        noise: not used.
        on_step: called at every level of the grid.
        after_step: applied at every level of the grid.
        rtol: relative error that is tolerated in a step.
        atol: absolute error that is tolerated in a step, in units of x.
        method: RK23, RK45 (Dormand and Prince) or DOP853; a step is of order 3, 5 or 8.

    Raises:
        ParameterError: if the second level is not positive, there is no such method, or no step is small enough.

    Source: Song et al. 2021 (score SDE), section 4.3 and appendix D.4; scipy.integrate for the solvers.
    """
    levels = sigmas.tolist()
    if len(levels) < 2 or levels[1] == 0.0:
        raise ParameterError(
            f"sigmas={levels}: adaptive goes from the first level to the last positive one, so the second must be "
            "positive; take at least 2 steps"
        )
    if method not in _METHODS:
        raise ParameterError(f"method={method!r} must be one of {', '.join(_METHODS)}")

    tolerance = _Tolerance(rtol, atol, method)
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if sigma_next == 0.0:
            x = denoised = evaluate(denoise, x, sigma)
        else:
            x, denoised = _together(denoise, x, sigma, sigma_next, tolerance)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


@dataclass(frozen=True)
class _Tolerance:
    rtol: float
    atol: float
    method: str

    def integrate(self, line: "_Line", start: np.ndarray, sigma: float, sigma_next: float) -> np.ndarray:
        """Carry one example, as a vector, from one level to another."""
        try:
            solver = _METHODS[self.method](
                line.slope, math.log(sigma), start, math.log(sigma_next), rtol=self.rtol, atol=self.atol
            )
            while solver.status == "running":
                solver.step()
        finally:
            line.asked.put(None)
        if solver.status == "failed":
            raise ParameterError(
                f"rtol={self.rtol} and atol={self.atol} cannot be met between sigma={sigma} and {sigma_next}: "
                "raise them, or see whether the denoiser is finite there"
            )
        return solver.y


@dataclass(frozen=True)
class _Line:
    """What the thread of one example asks for, (log sigma, x), and the D that it is given; None ends either."""

    asked: SimpleQueue = field(default_factory=SimpleQueue)
    given: SimpleQueue = field(default_factory=SimpleQueue)

    def slope(self, log_sigma: float, state: np.ndarray) -> np.ndarray:
        self.asked.put((log_sigma, state))
        denoised = self.given.get()
        if denoised is None:
            raise InterruptedError
        return state - denoised


def _together(
    denoise: Denoise, x: Signal, sigma: float, sigma_next: float, tolerance: _Tolerance
) -> tuple[Signal, Signal]:
    """Integrate each example alone, but answer their questions in batches; return x at sigma_next and D at sigma.

    scipy's solvers call the slope and wait, so each example has a thread: it asks, and rests until the batch is
    evaluated here, in the caller's thread.
    """
    n_batch = len(x)
    states = x.detach().double().cpu().numpy().reshape(n_batch, -1).copy()
    log_sigmas = np.full(n_batch, math.log(sigma))
    lines = [_Line() for _ in range(n_batch)]
    running = list(range(n_batch))
    first: Signal | None = None
    with ThreadPoolExecutor(n_batch) as pool:
        ends = [
            pool.submit(tolerance.integrate, line, start, sigma, sigma_next)
            for line, start in zip(lines, states.copy(), strict=True)
        ]
        try:
            while running:
                questions = [(example, lines[example].asked.get()) for example in running]
                questions = [(example, question) for example, question in questions if question is not None]
                running = [example for example, _ in questions]
                for example, question in questions:
                    log_sigmas[example], states[example] = question
                if running:
                    batch = torch.from_numpy(states.copy()).reshape(x.shape).to(x)
                    denoised = denoise(batch, torch.from_numpy(np.exp(log_sigmas)).to(x.device))
                    first = denoised if first is None else first
                    given = denoised.detach().double().cpu().numpy().reshape(n_batch, -1)
                    for example in running:
                        lines[example].given.put(given[example])
        finally:
            # After an error in the denoiser no thread may wait for ever.
            for line in lines:
                line.given.put(None)
    assert first is not None
    return torch.from_numpy(np.stack([end.result() for end in ends])).reshape(x.shape).to(x), first
