"""Laws of the stochastic solvers on Gaussian data, derived independently of the solvers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from analytic import Gaussian
from helpers import noise, white
from scipy import integrate
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.solvers import REGISTRY, solver

pytestmark = pytest.mark.numeric

VARIANCE = 0.04


NARROW = Gaussian(torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[VARIANCE]], dtype=torch.float64))


N_DRAWS = 40_000


@dataclass(frozen=True)
class Steps:
    """The coefficients of a linear chain's step from sigma to sigma', worked out apart from the solvers.

    A step is x' = decay x + (1 - decay) D + sum_k gains[k] D_k + std z, with the last D's newest first.
    """

    decay: Callable[[float, float], float]
    std: Callable[[float, float], float]
    gains: Callable[[list[float]], list[float]] = lambda levels: [0.0, 0.0, 0.0]


def squared(s: float, t: float) -> float:
    return (t / s) ** 2


def posterior_std(s: float, t: float) -> float:
    return t * math.sqrt(1.0 - (t / s) ** 2)


def lagrange_gains(eta: float, order: int) -> Callable[[list[float]], list[float]]:
    """Integrate the polynomial through the last D's by quadrature, less what the constant D gives."""

    def gains(levels: list[float]) -> list[float]:
        *past, arrival = levels
        nodes = [-math.log(level) for level in past[-order:]][::-1]
        begin, end = nodes[0], -math.log(arrival)

        def weight(index: int) -> float:
            others = [node for node in nodes if node != nodes[index]]

            def kernel(moment: float) -> float:
                share = math.prod((moment - other) / (nodes[index] - other) for other in others)
                return (1.0 + eta) * math.exp((1.0 + eta) * (moment - end)) * share

            return float(integrate.quad(kernel, begin, end, epsabs=1e-13, epsrel=1e-13)[0])

        weights = [weight(index) for index in range(len(nodes))]
        weights[0] -= 1.0 - math.exp((1.0 + eta) * (begin - end))
        return weights + [0.0] * (3 - len(weights))

    return gains


def trapezoidal_gains(eta: float) -> Callable[[list[float]], list[float]]:
    """Take D half a step ahead for D over the whole step."""

    def gains(levels: list[float]) -> list[float]:
        if len(levels) < 3:
            return [0.0, 0.0, 0.0]
        before, now, arrival = (-math.log(level) for level in levels[-3:])
        total = (1.0 - math.exp((1.0 + eta) * (now - arrival))) * 0.5 * (arrival - now) / (now - before)
        return [total, -total, 0.0]

    return gains


def both_gains(eta: float) -> Callable[[list[float]], list[float]]:
    """Take the parabola, and in the second step what dpmpp_2m takes."""
    parabola, line = lagrange_gains(eta, 3), trapezoidal_gains(eta)
    return lambda levels: line(levels) if len(levels) < 4 else parabola(levels)


def sde_std(eta: float) -> Callable[[float, float], float]:
    # The variance of the integral of sqrt(2 eta) sigma exp((1 + eta) (lambda - end)) dw, written in sigma.
    return lambda s, t: t * math.sqrt(1.0 - (t / s) ** (2.0 * eta))


def sde_decay(eta: float) -> Callable[[float, float], float]:
    return lambda s, t: (t / s) ** (1.0 + eta)


CHAINS: dict[str, tuple[str, dict, Steps]] = {
    "small": ("ddpm", {"variance": "small"}, Steps(squared, posterior_std)),
    "large": (
        "ddpm",
        {"variance": "large"},
        Steps(squared, lambda s, t: math.sqrt((1.0 + t**2) / (1.0 + s**2) * (s**2 - t**2))),
    ),
    "euler_maruyama": ("euler_maruyama", {}, Steps(squared, lambda s, t: math.sqrt(s**2 - t**2))),
    "2m, midpoint": ("dpmpp_2m_sde", {}, Steps(sde_decay(1.0), sde_std(1.0), trapezoidal_gains(1.0))),
    "2m, heun": (
        "dpmpp_2m_sde",
        {"solver_type": "heun", "eta": 0.5},
        Steps(sde_decay(0.5), sde_std(0.5), lagrange_gains(0.5, 2)),
    ),
    "3m": ("dpmpp_3m_sde", {}, Steps(sde_decay(1.0), sde_std(1.0), both_gains(1.0))),
    "3m, eta 0.5": ("dpmpp_3m_sde", {"eta": 0.5}, Steps(sde_decay(0.5), sde_std(0.5), both_gains(0.5))),
}


def chain_variance(steps: Steps, sigmas: Tensor) -> float:
    """Return the variance that a chain ends with on NARROW, from the covariance of (x, D_1, D_2) step by step."""
    levels = sigmas.tolist()
    covariance = np.zeros((3, 3))
    covariance[0, 0] = VARIANCE + levels[0] ** 2
    for index, (s, t) in enumerate(pairwise(levels)):
        shrink = VARIANCE / (VARIANCE + s**2)
        if t == 0.0:
            return shrink**2 * float(covariance[0, 0])
        decay, gains = steps.decay(s, t), steps.gains(levels[: index + 2])
        move = np.array(
            [[decay + (1.0 - decay + gains[0]) * shrink, gains[1], gains[2]], [shrink, 0.0, 0.0], [0.0, 1.0, 0.0]]
        )
        covariance = move @ covariance @ move.T
        covariance[0, 0] += steps.std(s, t) ** 2
    return float(covariance[0, 0])


def law(name: str, options: dict, data: Gaussian, sigmas: Tensor) -> float:
    """Return the exact variance of a solver's result on Gaussian data of one sample.

    The result is linear in the start and in every draw. Example k of the batch gives draw k the value 1 and all others
    0, and so ends, less the mean, at that draw's coefficient.
    """

    def one_hot(like: Tensor, step: int) -> Tensor:
        unit = torch.zeros_like(like)
        unit[step] = 1.0
        return unit

    start = torch.zeros(len(sigmas), 1, 1, dtype=torch.float64)
    start[0] = torch.sqrt(data.variance + sigmas[0] ** 2)
    result = solver(name, **options)(data.denoise, data.mean + start, sigmas, noise=one_hot)
    return float(((result - data.mean) ** 2).sum())


def geometric(n_steps: int) -> Tensor:
    return torch.logspace(1.0, -1.0, n_steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("chain", CHAINS)
def test_the_law_of_a_chain_is_the_derived_one(chain):
    name, options, steps = CHAINS[chain]
    for sigmas in (Karras()(30), geometric(9)):
        assert law(name, options, NARROW, sigmas) == pytest.approx(chain_variance(steps, sigmas), rel=1e-10)


@pytest.mark.parametrize("chain", CHAINS)
def test_draws_are_from_the_law_of_their_chain(chain):
    name, options, steps = CHAINS[chain]
    sigmas = Karras()(24)
    start = 0.5 + math.sqrt(VARIANCE + 80.0**2) * white(0, (N_DRAWS, 1, 1))
    result = solver(name, **options)(NARROW.denoise, start, sigmas, noise=noise)
    expected = chain_variance(steps, sigmas)
    # Five standard errors.
    assert result.mean().item() == pytest.approx(0.5, abs=5.0 * math.sqrt(expected / N_DRAWS))
    assert result.var().item() == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / N_DRAWS))


@pytest.mark.parametrize("chain", CHAINS)
def test_the_law_of_a_chain_approaches_the_data_at_its_order(chain):
    name, options, _ = CHAINS[chain]
    truth = VARIANCE + 0.1**2
    coarse, fine = (abs(law(name, options, NARROW, geometric(n_steps)) - truth) for n_steps in (400, 800))
    # The terms of the next order still show at 3m: 2.15.
    assert math.log2(coarse / fine) == pytest.approx(REGISTRY[name].order, abs=0.2)
    assert fine < 0.01 * truth


def test_large_variance_is_exact_on_white_data_of_unit_variance():
    unit = Gaussian(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    sigmas = geometric(7)
    exact = 1.0 + 0.1**2
    assert law("ddpm", {"variance": "large"}, unit, sigmas) == pytest.approx(exact, rel=1e-13)
    assert law("ddpm", {"variance": "small"}, unit, sigmas) < 0.9 * exact
    assert law("euler_maruyama", {}, unit, sigmas) > 1.1 * exact


def test_small_variance_is_exact_where_the_data_are_one_point():
    point = Gaussian(torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    assert law("ddpm", {"variance": "small"}, point, geometric(7)) == pytest.approx(0.1**2, rel=1e-13)
    assert law("ddpm", {"variance": "large"}, point, geometric(7)) > 0.11**2
