"""Adaptive solvers of ordinary differential equations, with separate steps for every example of a batch."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError

States = Float[Tensor, "batch numbers"]
"""One vector for each example, float64."""
Slope = Callable[[Float[Tensor, "batch"], States], States]
"""(u, y) -> dy / du, with one u = log(sigma) for each example."""

METHODS = ("RK23", "RK45", "DOP853")


@dataclass(frozen=True)
class Tolerance:
    """Set the error of a step, as a root mean square over the numbers of one example.

    Args:
        rtol: relative error that is tolerated in a step.
        atol: absolute error that is tolerated in a step.
        method: RK23, RK45 (Dormand and Prince) or DOP853; a step is of order 3, 5 or 8.

    Raises:
        ParameterError: if a tolerance is not positive or there is no such method.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    method: str = "RK45"

    def __post_init__(self) -> None:
        if not (self.rtol > 0.0 and self.atol > 0.0):
            raise ParameterError(f"rtol={self.rtol} and atol={self.atol} must be positive")
        if self.method not in METHODS:
            raise ParameterError(f"method={self.method!r} must be one of {', '.join(METHODS)}")


def integrate(slope: Slope, start: States, first: float, last: float, tolerance: Tolerance) -> States:
    """Integrate each example from u = first to u = last with its own steps, and evaluate slopes in batches.

    scipy's solvers call the slope and wait for it. So each example has a thread that requests a slope and waits until
    the batch is evaluated here, in the caller's thread. A finished example stays in the batch, unchanged.

    Args:
        slope: called with all examples, the first time at u = first.
        start: the states at u = first.
        first: log(sigma) to start at.
        last: log(sigma) to end at.
        tolerance: of a step.

    Raises:
        ParameterError: if a slope is not finite, or the tolerance cannot be met.

    Source: scipy.integrate for the solvers.
    """
    n_batch = len(start)
    states = start.detach().cpu().numpy().copy()
    places = np.full(n_batch, first)
    lines = [_Line() for _ in range(n_batch)]
    running = list(range(n_batch))
    with ThreadPoolExecutor(n_batch) as pool:
        ends = [
            pool.submit(_carry, line, state, first, last, tolerance)
            for line, state in zip(lines, states.copy(), strict=True)
        ]
        try:
            while running:
                questions = [(example, lines[example].requests.get()) for example in running]
                questions = [(example, question) for example, question in questions if question is not None]
                running = [example for example, _ in questions]
                for example, question in questions:
                    places[example], states[example] = question
                if running:
                    batch = torch.from_numpy(states.copy()).to(start.device)
                    given = slope(torch.from_numpy(places.copy()).to(start.device), batch).detach().cpu().numpy()
                    for example in running:
                        # scipy would never finish.
                        if not np.isfinite(given[example]).all():
                            sigma = math.exp(places[example])
                            raise ParameterError(
                                f"denoise is not finite, or its gradient is not, at sigma={sigma:.6g} in example "
                                f"{example} of the batch"
                            )
                        lines[example].slopes.put(given[example])
        finally:
            # After an error, end all threads.
            for line in lines:
                line.slopes.put(None)
    return torch.from_numpy(np.stack([end.result() for end in ends])).to(start.device)


@dataclass(frozen=True)
class _Line:
    """Exchange of one example's thread: it requests a slope at (u, y) and receives it; None ends either."""

    requests: SimpleQueue = field(default_factory=SimpleQueue)
    slopes: SimpleQueue = field(default_factory=SimpleQueue)

    def slope(self, u: float, state: np.ndarray) -> np.ndarray:
        self.requests.put((u, state))
        given = self.slopes.get()
        if given is None:
            raise InterruptedError
        return given


def _carry(line: _Line, start: np.ndarray, first: float, last: float, tolerance: Tolerance) -> np.ndarray:
    """Integrate one example, as a vector, in its own thread."""
    import scipy.integrate  # imported here: `import audiodiff` loads nothing heavier than torch

    rtol, atol = tolerance.rtol, tolerance.atol
    try:
        solver = getattr(scipy.integrate, tolerance.method)(line.slope, first, start, last, rtol=rtol, atol=atol)
        while solver.status == "running":
            solver.step()
    finally:
        line.requests.put(None)
    if solver.status == "failed":
        raise ParameterError(
            f"rtol={rtol} and atol={atol} cannot be met between sigma={math.exp(first):.6g} and {math.exp(last):.6g}: "
            "raise them, or choose a method of fixed steps"
        )
    return solver.y
