"""Tests of every solver in the registry; those of single solvers are in test_solvers_*.py."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from analytic import Gaussian, Mixture
from helpers import noise, white
from scipy.integrate import solve_ivp
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.solvers import REGISTRY, Solver, solver
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric

FLOW = [name for name, method in REGISTRY.items() if not method.stochastic]
COUNTED = [name for name, method in REGISTRY.items() if method.n_evaluations is not None]
MIXTURE = Mixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [1.0, -0.2]], dtype=torch.float64),
    torch.tensor([0.2, 0.4], dtype=torch.float64),
)


@dataclass
class Toy:
    """Give a denoiser that counts its evaluations, and that jumps as far as euler does where it is asked to jump."""

    function: Callable[[Tensor, Tensor], Tensor]
    levels: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.levels.append(float(sigma[0]))
        return self.function(x, sigma)

    def predict_jump(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return self(x, sigma)


@pytest.fixture(scope="module")
def ends() -> dict[float, Tensor]:
    """Where the mixture's probability flow carries 10 z: to sigma = 0.1 and 0.002."""

    def slope(log_sigma: float, x: np.ndarray) -> np.ndarray:
        sigma = torch.full((4,), math.exp(log_sigma), dtype=torch.float64)
        return x - MIXTURE.denoise(torch.from_numpy(x).reshape(4, 2, 1), sigma).reshape(-1).numpy()

    start = (10.0 * white(0, (4, 2, 1))).reshape(-1).numpy()
    levels = [0.1, 0.002]
    span = (math.log(10.0), math.log(0.002))
    solution = solve_ivp(slope, span, start, t_eval=np.log(levels), method="DOP853", rtol=1e-12, atol=1e-12)
    return {level: torch.from_numpy(end).reshape(4, 2, 1) for level, end in zip(levels, solution.y.T, strict=True)}


def graded(n_steps: int) -> Tensor:
    """Descend from 10 to 0.1 with first steps of a width of 1 / n^2.

    Methods that remember begin with a step of order one, whose error on an even grid is that of order two.
    """
    return 10.0 * 0.01 ** (torch.linspace(0.0, 1.0, n_steps + 1, dtype=torch.float64) ** 2)


def plain(name: str) -> Solver:
    """Return the solver, one that chooses its steps itself with a tolerance that lets it take every level at once."""
    return solver(name) if REGISTRY[name].n_evaluations is not None else solver(name, rtol=1e2, atol=1e4)


@pytest.mark.parametrize("name", FLOW)
def test_a_solver_converges_at_its_order(name, data, ends):
    order = REGISTRY[name].order
    # At order five more steps leave no digits to measure with.
    coarse = 48 if order > 4 else 128
    for denoise, start, exact in (
        (data.denoise, 10.0 * white(0, (1, 1, 32)), data.flow(10.0 * white(0, (1, 1, 32)), 10.0, 0.1)),
        (MIXTURE.denoise, 10.0 * white(0, (4, 2, 1)), ends[0.1]),
    ):
        errors = [
            (plain(name)(Toy(denoise), start, graded(n_steps)) - exact).abs().max().item()
            for n_steps in (coarse, 2 * coarse)
        ]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, rel=0.04)


@pytest.mark.parametrize("name", FLOW)
def test_a_solver_that_goes_to_zero_ends_at_the_flows_end(name, data, ends):
    start = 80.0 * white(0, (1, 1, 32))
    # One that chooses its steps itself needs no others.
    n_steps = 256 if REGISTRY[name].n_evaluations is not None else 4
    result = solver(name)(Toy(data.denoise), start, Karras()(n_steps))
    # The order-one error of euler; the others are a hundred times nearer.
    bound = 0.05 if REGISTRY[name].order == 1 else 5e-4
    assert (result - data.flow(start, 80.0, 0.0)).abs().max() < bound
    result = solver(name)(Toy(MIXTURE.denoise), 10.0 * white(0, (4, 2, 1)), Karras(sigma_max=10.0)(n_steps))
    # The last step is exact to sigma_min^2, 4e-6, times the curvature of the density.
    assert (result - ends[0.002]).abs().max() < bound


@pytest.mark.parametrize("name", [name for name in FLOW if REGISTRY[name].order > 1])
@pytest.mark.parametrize(("n_steps", "share"), [(12, 0.5), (24, 0.1)])
def test_a_higher_order_has_a_smaller_error_than_euler_in_as_many_steps(name, n_steps, share, data):
    start, sigmas = 80.0 * white(0, (1, 1, 32)), Karras()(n_steps)
    exact = data.flow(start, 80.0, 0.0)
    error, of_euler = (
        (solver(which)(data.denoise, start, sigmas) - exact).square().mean().item() for which in (name, "euler")
    )
    assert error < share * of_euler


@pytest.mark.parametrize("name", REGISTRY)
def test_a_perfect_denoiser_is_reached_by_every_solver(name):
    x0 = white(5, (2, 1, 16))
    result = solver(name)(Toy(lambda x, sigma: x0), white(0, (2, 1, 16)), Karras()(7), noise=noise)
    torch.testing.assert_close(result, x0, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("n_steps", range(1, 8))
def test_a_solver_makes_the_stated_number_of_evaluations(name, n_steps, data):
    denoise = Toy(data.denoise)
    solver(name)(denoise, 80.0 * white(0, (1, 1, 32)), Karras()(n_steps), noise=noise)
    calls = REGISTRY[name].n_evaluations
    assert calls is not None
    assert len(denoise.levels) == calls(n_steps)
    assert min(denoise.levels) > 0.0


@pytest.mark.parametrize("name", COUNTED)
def test_a_single_step_to_zero_is_the_denoiser(name, data):
    start = 3.0 * white(0, (1, 1, 32))
    sigmas = torch.tensor([3.0, 0.0], dtype=torch.float64)
    result = solver(name)(Toy(data.denoise), start, sigmas, noise=noise)
    torch.testing.assert_close(result, data.denoise(start, sigmas[:1]), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_hooks_see_every_step_and_the_level_it_arrives_at(name, data):
    seen: list[tuple[int, float]] = []
    steps: list[int] = []

    def on_step(step: int, denoised: Tensor) -> None:
        assert denoised.shape == (1, 1, 32)
        steps.append(step)

    def after_step(x: Tensor, step: int, sigma: float) -> Tensor:
        seen.append((step, sigma))
        return x + 1.0

    sigmas = Karras()(4)
    start = white(0, (1, 1, 32))
    result = solver(name)(Toy(data.denoise), start, sigmas, noise=noise, on_step=on_step, after_step=after_step)
    assert seen == list(enumerate(sigmas[1:].tolist()))
    assert steps == [0, 1, 2, 3]
    without = solver(name)(Toy(data.denoise), start, sigmas, noise=noise, on_step=on_step)
    assert torch.equal(without, solver(name)(Toy(data.denoise), start, sigmas, noise=noise))
    assert not torch.allclose(result, without)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_first_step_reports_the_denoiser_at_the_first_level(name, data):
    seen: list[Tensor] = []
    start = 80.0 * white(0, (1, 1, 32))
    solver(name)(Toy(data.denoise), start, Karras()(3), noise=noise, on_step=lambda _, denoised: seen.append(denoised))
    expected = data.denoise(start, torch.tensor([80.0], dtype=torch.float64))
    torch.testing.assert_close(seen[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_solution_does_not_depend_on_the_batch_and_keeps_the_start(name):
    start, sigmas = 80.0 * white(0, (3, 2, 1)), Karras()(6)
    before = start.clone()

    def alike(like: Tensor, step: int) -> Tensor:
        return white(step, (1, 2, 1)).expand_as(like)

    together = solver(name)(Toy(MIXTURE.denoise), start, sigmas, noise=alike)
    for example in range(3):
        alone = solver(name)(Toy(MIXTURE.denoise), start[example : example + 1], sigmas, noise=alike)
        # The mixture's own sums may round by the size of the batch, float64.
        torch.testing.assert_close(together[example : example + 1], alone, rtol=1e-13, atol=1e-13)
    assert torch.equal(start, before)


@pytest.mark.parametrize("name", REGISTRY)
def test_float32_gives_what_float64_gives(name, data):
    # Below sigma = 0.05 the score (D - x) / sigma^2 of predictor_corrector has few digits left in float32.
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras(sigma_min=0.05)(12)
    exact = solver(name)(Toy(data.denoise), start, sigmas, noise=noise)
    single = Gaussian(data.mean.float(), data.variance.float())
    result = solver(name)(Toy(single.denoise), start.float(), sigmas, noise=noise)
    assert result.dtype == torch.float32
    # 80 is rounded to 4e-6, which the flow shrinks, but every level rounds anew.
    torch.testing.assert_close(result.double(), exact, rtol=0.0, atol=1e-5)


def test_names_in_the_registry_are_those_of_the_functions():
    assert all(method.solve.__name__ == name for name, method in REGISTRY.items())
    assert solver("heun") is REGISTRY["heun"].solve
    with pytest.raises(ParameterError, match="sampler='rk4' must be one of euler, euler_ancestral, heun, dpmpp_2m"):
        solver("rk4")
    with pytest.raises(ParameterError, match="eta=1 is no option of the sampler heun, which has s_churn, s_tmin"):
        solver("heun", eta=1)
