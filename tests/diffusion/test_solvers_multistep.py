"""dpmpp_2m, dpmpp_3m, unipc, deis and pndm: what they are exact for, which are special cases, how they start."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from helpers import white
from scipy.integrate import quad
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.process import DiscreteVP, VPCosine, linear_betas
from audiodiff.diffusion.solvers import Solver, deis, dpmpp_2m, dpmpp_3m, euler, pndm, solver, unipc
from audiodiff.diffusion.solvers.adams_bashforth import exponential_moments
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric

UNEVEN = torch.tensor([9.0, 6.0, 5.0, 3.0, 1.0, 0.7, 0.4], dtype=torch.float64)
Polynomial = Callable[[float], float]


def power(degree: int) -> Polynomial:
    """Return a polynomial in log(sigma) of that degree."""
    return lambda sigma: (0.3 + math.log(sigma)) ** degree


def steps(solve: Solver, denoise: Callable[[Tensor, Tensor], Tensor], sigmas: Tensor) -> list[float]:
    """Return x at every level, from x = 2 on."""
    seen = [2.0]

    def after_step(x: Tensor, step: int, sigma: float) -> Tensor:
        seen.append(x.item())
        return x

    solve(denoise, torch.full((1, 1, 1), 2.0, dtype=torch.float64), sigmas, after_step=after_step)
    return seen


def exact_step(x: float, sigma: float, sigma_next: float, d: Polynomial) -> float:
    """Return x' = exp(-h) x + the integral of exp(s - h) D, by scipy's quadrature, where D depends on sigma alone."""
    h = math.log(sigma / sigma_next)
    return math.exp(-h) * x + quad(lambda s: math.exp(s - h) * d(sigma * math.exp(-s)), 0.0, h, epsabs=1e-13)[0]


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_dpmpp_3m_is_exact_where_d_is_a_parabola_in_log_sigma(degree):
    d = power(degree)
    x = steps(dpmpp_3m, lambda x, sigma: torch.full_like(x, d(sigma.item())), UNEVEN)
    for step in range(2, len(UNEVEN) - 1):
        sigma, sigma_next = UNEVEN[step : step + 2].tolist()
        assert x[step + 1] == pytest.approx(exact_step(x[step], sigma, sigma_next, d), abs=1e-12)


def test_half_the_curvature_is_exact_for_lines_alone():
    for degree, is_exact in ((1, True), (2, False)):
        d = power(degree)
        half = partial(dpmpp_3m, curvature=0.5)
        x = steps(half, lambda x, sigma, d=d: torch.full_like(x, d(sigma.item())), UNEVEN)
        error = abs(x[4] - exact_step(x[3], 3.0, 1.0, d))
        assert (error < 1e-12) == is_exact


@pytest.mark.parametrize(("order", "degree"), [(2, 2), (3, 0), (3, 1), (3, 2), (3, 3)])
def test_unipc_once_corrected_is_exact_where_d_is_a_polynomial(order, degree):
    d = power(degree)
    # What is corrected is seen in the next prediction: x' - x exp(-h) there is known where the predictor is exact, that
    # is of order three; at order two the corrected x is found by taking the prediction back.
    seen = steps(partial(unipc, order=order), lambda x, sigma: torch.full_like(x, d(sigma.item())), UNEVEN)
    levels = UNEVEN.tolist()
    corrected = [2.0]
    for step in range(1, len(levels) - 1):
        sigma, sigma_next, sigma_before = levels[step], levels[step + 1], levels[step - 1]
        h = math.log(sigma / sigma_next)
        known = [d(level) for level in levels[max(0, step + 1 - order) : step + 1][::-1]]
        corrected.append((seen[step + 1] - prediction(known, levels, step, order)) * math.exp(h))
        if step >= order:
            assert corrected[step] == pytest.approx(exact_step(corrected[step - 1], sigma_before, sigma, d), abs=1e-11)


def prediction(known: list[float], levels: list[float], step: int, order: int) -> float:
    """Return what UniP adds to exp(-h) x: its polynomial integrated, or at p = 2 the free formula with B2(h)."""
    sigma, sigma_next = levels[step : step + 2]
    h = math.log(sigma / sigma_next)
    if len(known) == 1:
        return -math.expm1(-h) * known[0]
    if len(known) == 2:
        slope = (known[0] - known[1]) / math.log(levels[step - 1] / sigma)
        return -math.expm1(-h) * (known[0] + 0.5 * h * slope)
    places = [math.log(sigma / level) for level in (sigma, levels[step - 1], levels[step - 2])]

    def lagrange(s: float) -> float:
        total = 0.0
        for k, value in enumerate(known):
            others = [place for j, place in enumerate(places) if j != k]
            total += value * math.prod((s - place) / (places[k] - place) for place in others)
        return total

    return quad(lambda s: math.exp(s - h) * lagrange(s), 0.0, h, epsabs=1e-13)[0]


@pytest.mark.parametrize(("order", "degree"), [(order, degree) for order in (1, 2, 3, 4) for degree in range(order)])
def test_deis_is_exact_where_eps_is_a_polynomial_in_log_sigma(order, degree):
    eps = power(degree)
    x = steps(partial(deis, order=order), lambda x, sigma: x - sigma.item() * eps(sigma.item()), UNEVEN)
    for step in range(order - 1, len(UNEVEN) - 1):
        sigma, sigma_next = UNEVEN[step : step + 2].tolist()
        assert x[step + 1] - x[step] == pytest.approx(quad(eps, sigma, sigma_next, epsabs=1e-13)[0], abs=1e-11)


def test_pndm_is_exact_where_eps_is_a_cubic_in_sigma_on_even_levels():
    sigmas = torch.linspace(9.0, 1.0, 9, dtype=torch.float64)

    def eps(sigma: float) -> float:
        return 0.1 * (sigma - 4.0) ** 3 + sigma

    # The middle of a step in sigma itself is Simpson's.
    class Even(VPCosine):
        def time(self, sigma: Tensor) -> Tensor:
            return sigma

        def sigma(self, t: Tensor) -> Tensor:
            return t

    x = steps(partial(pndm, process=Even()), lambda x, sigma: x - sigma.item() * eps(sigma.item()), sigmas)
    for (sigma, sigma_next), (before, after) in zip(pairwise(sigmas.tolist()), pairwise(x), strict=True):
        assert after - before == pytest.approx(quad(eps, sigma, sigma_next)[0], abs=1e-11)


@pytest.mark.parametrize("rate", [-40.0, -3.0, -1.0, -0.999, -1e-3, 0.0, 1e-6, 0.5, 1.0, 4.0])
def test_exponential_moments_are_the_integrals(rate):
    for j, moment in enumerate(exponential_moments(rate, 4)):
        expected = quad(lambda s, j=j: s**j * math.exp(rate * s), 0.0, 1.0, epsabs=0.0, epsrel=1e-13)[0]
        assert moment == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("sigmas", [Karras()(9), UNEVEN], ids=["karras", "uneven"])
def test_special_cases(data, sigmas):
    start = sigmas[0] * white(0)

    def run(solve: Solver, levels: Tensor = sigmas) -> Tensor:
        return solve(data.denoise, start, levels)

    def same(left: Tensor, right: Tensor) -> None:
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)

    same(run(solver("deis", order=1)), run(euler))
    for name in ("dpmpp_2m", "dpmpp_3m", "unipc", "deis"):
        same(run(solver(name), sigmas[:2]), run(euler, sigmas[:2]))
    same(run(dpmpp_3m, sigmas[:3]), run(dpmpp_2m, sigmas[:3]))
    # A grid of three levels and 0: the last two calls are one step of dpmpp_2m and one to 0.
    ending = torch.cat([sigmas[:3], sigmas.new_zeros(1)])
    same(run(dpmpp_3m, ending), run(dpmpp_2m, ending))


def test_unipc_of_order_one_is_an_exponential_trapezoid(data):
    """UniC-1 with B2(h): x' = exp(-h) x + (1 - exp(-h)) (D + D') / 2 with D' at the prediction, which is euler's."""
    x, known = 9.0 * white(0), None
    for sigma, sigma_next in pairwise(UNEVEN.tolist()):
        d = data.denoise(x, torch.tensor([sigma], dtype=torch.float64)) if known is None else known
        ratio = sigma_next / sigma
        predicted = ratio * x + (1.0 - ratio) * d
        known = data.denoise(predicted, torch.tensor([sigma_next], dtype=torch.float64))
        x = ratio * x + (1.0 - ratio) * 0.5 * (d + known)
    # The last prediction has no evaluation that could correct it.
    result = unipc(data.denoise, 9.0 * white(0), UNEVEN, order=1)
    torch.testing.assert_close(result, predicted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("solve", "order"),
    [
        (partial(unipc, order=1), 2),
        (partial(unipc, order=1, variant="bh1"), 2),
        (partial(unipc, variant="bh1"), 3),
        (partial(unipc, order=3), 4),
        (partial(deis, order=1), 1),
        (partial(deis, order=2), 2),
        (partial(deis, order=4), 4),
        (partial(dpmpp_3m, curvature=0.5), 2),
        (partial(pndm, process=VPCosine()), 2),
    ],
    # Each process of pytest-xdist must give a test the same name, so no address of a function may be in it.
    ids=["unipc 1", "unipc 1 bh1", "unipc bh1", "unipc 3", "deis 1", "deis 2", "deis 4", "dpmpp_3m", "pndm"],
)
def test_options_change_the_order_as_stated(data, solve, order):
    start = 10.0 * white(0)
    exact = data.flow(start, 10.0, 0.1)
    errors = []
    for n_steps in (256, 512):
        # First steps of a width of 1 / n^3: a start of order one is of order six.
        sigmas = 10.0 * 0.01 ** (torch.linspace(0.0, 1.0, n_steps + 1, dtype=torch.float64) ** 3)
        errors.append((solve(data.denoise, start, sigmas) - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, rel=0.04)


@pytest.mark.parametrize("solve", [dpmpp_3m, deis])
def test_the_first_step_limits_the_order_to_two_if_d_changes_there(data, solve):
    start = 2.0 * white(0)
    errors = []
    for n_steps in (256, 512):
        sigmas = torch.logspace(math.log10(2.0), -1.0, n_steps + 1, dtype=torch.float64)
        errors.append((solve(data.denoise, start, sigmas) - data.flow(start, 2.0, 0.1)).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_pndm_halves_the_clock_of_the_process(data):
    process = DiscreteVP(linear_betas(1e-4, 0.05, 51))
    levels: list[float] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        levels.append(process.time(sigma).item())
        return data.denoise(x, sigma)

    clock = torch.arange(50.0, -1.0, -10.0, dtype=torch.float64)
    sigmas = process.sigma(clock)
    pndm(denoise, sigmas[0] * white(0), sigmas, process=process)
    expected = [50, 45, 45, 40, 40, 35, 35, 30, 30, 25, 25, 20, 20, 10]
    assert levels == pytest.approx(expected, abs=1e-9)


def test_the_correction_of_unipc_adds_to_what_after_step_made_of_x(data):
    sigmas = torch.tensor([5.0, 3.0, 2.0], dtype=torch.float64)
    start, shift = 5.0 * white(0), 0.5

    def hooked(x: Tensor, step: int, sigma: float) -> Tensor:
        return x + shift if step == 0 else x

    first = data.denoise(start, sigmas[:1])
    moved = 0.6 * start + 0.4 * first + shift
    second = data.denoise(moved, sigmas[1:2])
    corrected = moved + 0.4 * 0.5 * (second - first)
    slope = (second - first) / math.log(5.0 / 3.0) * math.log(3.0 / 2.0)
    expected = corrected * 2.0 / 3.0 + (second + 0.5 * slope) / 3.0
    result = unipc(data.denoise, start, sigmas, after_step=hooked)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("solve", "message"),
    [
        (partial(unipc, order=4), "order=4 must be 1, 2 or 3"),
        (partial(unipc, variant="bh3"), "variant='bh3' must be one of bh1, bh2"),
        (partial(deis, order=5), "order=5 must be 1, 2, 3 or 4"),
    ],
)
def test_unknown_options_are_refused(data, solve, message):
    with pytest.raises(ParameterError, match=message):
        solve(data.denoise, 80.0 * white(0), Karras()(4))
