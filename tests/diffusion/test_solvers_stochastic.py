import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from analytic import Gaussian, GaussianNetwork, Mixture
from scipy import integrate, stats
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import BoundDenoiser, Denoiser
from audiodiff.diffusion.divergence import log_variance_ratio
from audiodiff.diffusion.grid import Discrete, Karras
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import VE, DiscreteVP, Flow, VPLinear, linear_betas
from audiodiff.diffusion.solvers import REGISTRY, dpmpp_2m, dpmpp_3m, euler, euler_ancestral, solver
from audiodiff.errors import ParameterError
from audiodiff.networks.network import Network
from audiodiff.types import ReceptiveField

pytestmark = pytest.mark.numeric

VARIANCE = 0.04
NARROW = Gaussian(torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[VARIANCE]], dtype=torch.float64))
BETAS = linear_betas(1e-4, 0.05, 50)
N_DRAWS = 40_000


@pytest.fixture
def data() -> Gaussian:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 32, generator=generator, dtype=torch.float64)
    return Gaussian(mean, 0.1 + torch.rand(1, 32, generator=generator, dtype=torch.float64))


def white(step: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1000 + step), dtype=torch.float64)


def noise(like: Tensor, step: int) -> Tensor:
    return white(step, tuple(like.shape)).to(like)


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
def test_the_law_of_a_chain_is_the_one_worked_out(chain):
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


@pytest.mark.parametrize("process", [None, VPLinear(), Flow(noise_scale=0.3), VE()])
def test_large_variance_is_that_of_the_forward_step_of_the_process(process):
    sigma, sigma_next = 2.0, 0.7
    clocks = (process or VPLinear()).time(torch.tensor([sigma, sigma_next], dtype=torch.float64))
    alpha_t, sigma_t = (process or VPLinear()).coefficients(clocks)
    beta = sigma_t[0] ** 2 - (alpha_t[0] / alpha_t[1]) ** 2 * sigma_t[1] ** 2
    expected = (beta.sqrt() / alpha_t[1]).item() * white(1, (1, 1, 8))
    sigmas = torch.tensor([sigma, sigma_next], dtype=torch.float64)
    large = solver("ddpm", variance="large", process=process)
    result = large(lambda x, sigma: 0.0 * x, torch.zeros(1, 1, 8, dtype=torch.float64), sigmas, noise=noise)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=0.0)


def test_large_and_small_are_the_ends_between_which_a_variance_is_learnt():
    sigmas = torch.tensor([2.0, 0.7], dtype=torch.float64)
    start = torch.zeros(1, 1, 8, dtype=torch.float64)
    large, small = (
        solver("ddpm", variance=variance)(lambda x, sigma: 0.0 * x, start, sigmas, noise=noise)
        for variance in ("large", "small")
    )
    ratio = torch.exp(0.5 * log_variance_ratio(sigmas[:1], sigmas[1:]))
    torch.testing.assert_close(large, ratio * small, rtol=1e-13, atol=0.0)


class WithFraction(Network):
    """Append a variance fraction to a network's output, as 2 v - 1."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, network: Network, fraction: Tensor) -> None:
        super().__init__()
        self.network, self.fraction = network, fraction

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        return torch.cat([self.network(x, c_noise, condition), 2.0 * self.fraction.expand_as(x) - 1.0], dim=1)


FRACTION = torch.linspace(-0.2, 1.3, 32, dtype=torch.float64)


def bound(data: Gaussian) -> BoundDenoiser:
    process = DiscreteVP(BETAS)
    network = WithFraction(GaussianNetwork(data, process, "sample"), FRACTION)
    return Denoiser(network, Sample(process), learns_variance=True).bind(Condition())


def textbook(data: Gaussian, x_t: Tensor, variance: str) -> Tensor:
    """Ho et al. 2020, algorithm 2 with the mean of eq. 7; Nichol and Dhariwal 2021, eq. 15, for the learned one."""
    alpha_bar = [1.0, *torch.cumprod(1.0 - torch.tensor(BETAS, dtype=torch.float64), dim=0).tolist()]
    for transition, step in enumerate(range(len(BETAS), 0, -1)):
        now, before, beta = alpha_bar[step], alpha_bar[step - 1], BETAS[step - 1]
        sigma = torch.tensor([math.sqrt(1.0 / now - 1.0)], dtype=torch.float64)
        x0 = data.denoise(x_t / math.sqrt(now), sigma)
        x_t = math.sqrt(before) * beta / (1.0 - now) * x0 + math.sqrt(1.0 - beta) * (1.0 - before) / (1.0 - now) * x_t
        if step > 1:
            small = (1.0 - before) / (1.0 - now) * beta
            learned = torch.exp(FRACTION * math.log(beta) + (1.0 - FRACTION) * math.log(small))
            drawn = {"small": small, "large": beta, "learned": learned}[variance]
            x_t = x_t + drawn**0.5 * white(transition + 1, tuple(x_t.shape))
    return x_t


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_ddpm_is_the_textbooks_in_x_t(data, variance):
    x_t = white(0, (1, 1, 32))
    sigmas = Discrete(DiscreteVP(BETAS))(50)
    start = x_t * torch.sqrt(1.0 + sigmas[0] ** 2)
    result = solver("ddpm", variance=variance)(bound(data), start, sigmas, noise=noise)
    torch.testing.assert_close(result, textbook(data, x_t, variance), rtol=1e-10, atol=1e-10)


def test_ddpm_with_the_small_variance_is_euler_ancestral(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    torch.testing.assert_close(
        solver("ddpm")(data.denoise, start, sigmas, noise=noise),
        euler_ancestral(data.denoise, start, sigmas, noise=noise),
        rtol=1e-13,
        atol=1e-13,
    )


def test_euler_maruyama_is_ddpm_with_the_large_variance_of_ve(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    torch.testing.assert_close(
        solver("euler_maruyama")(data.denoise, start, sigmas, noise=noise),
        solver("ddpm", variance="large", process=VE())(data.denoise, start, sigmas, noise=noise),
        rtol=1e-13,
        atol=1e-13,
    )


def test_euler_maruyama_is_the_reverse_sde_of_vp_in_its_own_coordinate(data):
    # Song et al. 2021, eq. 6 and 11, in x_t and in steps of t: the two discretisations meet as steps shrink.
    process, n_steps = VPLinear(), 400
    times = torch.linspace(1.0, 0.3, n_steps + 1, dtype=torch.float64)
    x_t = first = white(0, (1, 1, 32))
    for step, (t, t_next) in enumerate(pairwise(times)):
        beta = process.beta_min + t * (process.beta_max - process.beta_min)
        alpha_t, sigma_t = process.coefficients(t)
        denoised = data.denoise(x_t / alpha_t, process.sigma(t).reshape(1))
        score = (alpha_t * denoised - x_t) / sigma_t**2
        x_t = x_t + (0.5 * beta * x_t + beta * score) * (t - t_next)
        x_t = x_t + torch.sqrt(beta * (t - t_next)) * white(step + 1, (1, 1, 32))
    result = solver("euler_maruyama")(
        data.denoise, first / process.coefficients(times[0])[0], process.sigma(times), noise=noise
    )
    error = (process.coefficients(times[-1])[0] * result - x_t).abs().max()
    # Each is within order h of the SDE's path for additive noise; h = 0.7 / 400, and beta is up to 20.
    assert error < 20.0 * 0.7 / n_steps


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_3m_sde"])
def test_the_first_step_of_a_multistep_sde_solver_is_the_posterior(data, name):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), torch.tensor([5.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        solver(name)(data.denoise, start, sigmas, noise=noise),
        euler_ancestral(data.denoise, start, sigmas, noise=noise),
        rtol=1e-13,
        atol=1e-13,
    )


def test_dpmpp_2m_sde_without_noise_is_dpmpp_2m(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    result = solver("dpmpp_2m_sde", eta=0.0)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, dpmpp_2m(data.denoise, start, sigmas), rtol=1e-12, atol=1e-12)


def test_dpmpp_3m_sde_without_noise_is_dpmpp_3m(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    result = solver("dpmpp_3m_sde", eta=0.0)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, dpmpp_3m(data.denoise, start, sigmas), rtol=1e-11, atol=1e-11)


def test_dpmpp_3m_sde_without_noise_converges_to_the_flow_at_order_three(data):
    # From 100, where the first two steps, of lower order, do little harm: D hardly depends on sigma there.
    start = 100.0 * white(0, (1, 1, 32))
    exact = data.flow(start, 100.0, 0.1)
    solve = solver("dpmpp_3m_sde", eta=0.0)
    errors = []
    for n_steps in (64, 128, 256):
        sigmas = torch.logspace(2.0, -1.0, n_steps + 1, dtype=torch.float64)
        errors.append((solve(data.denoise, start, sigmas, noise=noise) - exact).abs().max().item())
    slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert slopes == pytest.approx([3.0, 3.0], abs=0.25)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(
    ("name", "options", "degree"), [("dpmpp_2m_sde", {"solver_type": "heun"}, 1), ("dpmpp_3m_sde", {}, 2)]
)
def test_a_multistep_sde_solver_is_exact_for_a_polynomial_in_log_sigma(name, options, degree, eta):
    def denoised(moment: float) -> float:
        return 1.0 + 2.0 * moment + (3.0 * moment**2 if degree == 2 else 0.0)

    sigmas = torch.tensor([9.0, 5.0, 2.0, 1.1, 0.4], dtype=torch.float64)
    path = [torch.full((1, 1, 1), 7.0, dtype=torch.float64)]

    def keep(x: Tensor, step: int, sigma: float) -> Tensor:
        path.append(x)
        return x

    solver(name, eta=eta, s_noise=0.0, **options)(
        lambda x, sigma: torch.full_like(x, denoised(-math.log(sigma.item()))),
        path[0],
        sigmas,
        noise=noise,
        after_step=keep,
    )
    for step in range(degree, 4):
        begin, end = -math.log(sigmas[step].item()), -math.log(sigmas[step + 1].item())
        forced = integrate.quad(
            lambda m, end=end: (1.0 + eta) * math.exp((1.0 + eta) * (m - end)) * denoised(m), begin, end
        )
        expected = math.exp((1.0 + eta) * (begin - end)) * path[step].item() + forced[0]
        assert path[step + 1].item() == pytest.approx(expected, rel=1e-12)


def test_s_noise_multiplies_the_noise():
    sigmas = torch.tensor([5.0, 1.0], dtype=torch.float64)
    start = torch.zeros(1, 1, 8, dtype=torch.float64)
    for name in ("dpmpp_2m_sde", "dpmpp_3m_sde"):
        once = solver(name)(lambda x, sigma: 0.0 * x, start, sigmas, noise=noise)
        twice = solver(name, s_noise=2.0)(lambda x, sigma: 0.0 * x, start, sigmas, noise=noise)
        torch.testing.assert_close(twice, 2.0 * once)


def corrected_variance(sigmas: Tensor, r: float, n_corrections: int) -> float:
    """Return the variance that predictor and corrector end with on NARROW, for long signals, where norms are sure."""
    marginal = VARIANCE + sigmas[0].item() ** 2
    for s, t in pairwise(sigmas.tolist()):
        predict_jump = (t / s) ** 2
        marginal *= (predict_jump + (1.0 - predict_jump) * VARIANCE / (VARIANCE + s**2)) ** 2
        if t > 0.0:
            marginal += s**2 - t**2
            for _ in range(n_corrections):
                # score = -(x - mean) / total, so that |score|^2 is marginal / total^2 for each sample.
                total = VARIANCE + t**2
                size = 2.0 * r**2 * total**2 / marginal
                marginal = (1.0 - size / total) ** 2 * marginal + 2.0 * size
    return marginal


@pytest.mark.parametrize(("r", "n_corrections"), [(0.16, 1), (0.16, 3), (0.5, 1)])
def test_predictor_and_corrector_draw_from_the_law_of_their_chain(r, n_corrections):
    sigmas = Karras()(24)
    start = 0.5 + math.sqrt(VARIANCE + 80.0**2) * white(0, (8, 1, 5000))
    solve = solver("predictor_corrector", r=r, n_corrections=n_corrections)
    result = solve(NARROW.denoise, start, sigmas, noise=noise)
    expected = corrected_variance(sigmas, r, n_corrections)
    # Five standard errors; what a finite length adds to the size of a step is 2 / 5000 of it.
    assert result.mean().item() == pytest.approx(0.5, abs=5.0 * math.sqrt(expected / N_DRAWS))
    assert result.var().item() == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / N_DRAWS))


def test_corrections_bring_the_law_nearer_and_leave_an_error_of_order_r_squared():
    def error(n_steps: int, r: float, n_corrections: int = 1) -> float:
        return corrected_variance(Karras()(n_steps), r, n_corrections) / VARIANCE - 1.0

    assert 0.0 < error(100, 0.16) < 0.3 * error(100, 0.16, n_corrections=0)
    # More steps alone do not help: the order in the registry is 0 ...
    assert error(3200, 0.16) == pytest.approx(error(1600, 0.16), rel=0.01)
    assert REGISTRY["predictor_corrector"].order == 0
    # ... r does, quadratically, and both together at order one.
    assert error(3200, 0.2) / error(3200, 0.1) == pytest.approx(4.0, rel=0.1)
    assert error(400, 0.08) / error(1600, 0.04) == pytest.approx(4.0, rel=0.1)


def test_predictor_corrector_without_corrections_is_euler_maruyama(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(6)
    result = solver("predictor_corrector", n_corrections=0)(data.denoise, start, sigmas, noise=noise)
    assert torch.equal(result, solver("euler_maruyama")(data.denoise, start, sigmas, noise=noise))


def test_a_correction_is_the_papers_step():
    # Song et al. 2021, algorithm 4, on one example: eps = 2 (r |z| / |g|)^2, x + eps g + sqrt(2 eps) z.
    x, sigmas = white(0, (1, 2, 16)), torch.tensor([2.0, 0.5], dtype=torch.float64)
    predicted = solver("euler_maruyama")(lambda x, sigma: 0.3 * x, x, sigmas, noise=noise)
    g, z = -0.7 * predicted / 0.5**2, white(2, (1, 2, 16))
    eps = 2.0 * (0.2 * z.norm() / g.norm()) ** 2
    result = solver("predictor_corrector", r=0.2)(lambda x, sigma: 0.3 * x, x, sigmas, noise=noise)
    torch.testing.assert_close(result, predicted + eps * g + torch.sqrt(2.0 * eps) * z, rtol=1e-13, atol=1e-13)
    assert ((eps * g).norm() / (torch.sqrt(2.0 * eps) * z).norm()).item() == pytest.approx(0.2, rel=1e-12)


def test_a_correction_without_slope_does_nothing():
    start, sigmas = white(0, (1, 1, 8)), Karras()(4)
    result = solver("predictor_corrector")(lambda x, sigma: x, start, sigmas, noise=noise)
    assert torch.equal(result, solver("euler_maruyama")(lambda x, sigma: x, start, sigmas, noise=noise))


def test_corrections_depend_on_the_example_alone():
    start = 80.0 * white(0, (3, 1, 64)) * torch.tensor([1.0, 100.0, 1e-3], dtype=torch.float64)[:, None, None]
    rows = white(9, (3, 64))

    def own_noise(which: list[int]) -> Callable[[Tensor, int], Tensor]:
        return lambda like, step: (rows[which] * math.cos(step) + white(step, (64,)) * math.sin(step))[:, None]

    solve = partial(solver("predictor_corrector"), lambda x, sigma: 0.1 * torch.tanh(x), sigmas=Karras()(5))
    together = solve(start, noise=own_noise([0, 1, 2]))
    for index in range(3):
        assert torch.equal(together[index : index + 1], solve(start[index : index + 1], noise=own_noise([index])))


MIXTURE = Mixture(
    weights=torch.tensor([0.3, 0.7], dtype=torch.float64),
    means=torch.tensor([[-1.0], [0.5]], dtype=torch.float64),
    variances=torch.tensor([0.09, 0.04], dtype=torch.float64),
)


def mixture_cdf(values: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    spreads = np.sqrt(MIXTURE.variances.numpy() + sigma**2)
    return stats.norm.cdf((values[..., None] - MIXTURE.means[:, 0].numpy()) / spreads) @ MIXTURE.weights.numpy()


def sample_by_sample(x: Tensor, sigma: Tensor) -> Tensor:
    """Denoise signals whose samples are independent draws from MIXTURE, all at one level."""
    spreads = MIXTURE.variances + sigma[0] ** 2
    logs = [
        torch.log(MIXTURE.weights[k]) - 0.5 * torch.log(spreads[k]) - 0.5 * (x - MIXTURE.means[k]) ** 2 / spreads[k]
        for k in (0, 1)
    ]
    share = torch.sigmoid(logs[1] - logs[0])
    ends = [MIXTURE.means[k] + MIXTURE.variances[k] / spreads[k] * (x - MIXTURE.means[k]) for k in (0, 1)]
    return ends[0] + share * (ends[1] - ends[0])


def test_the_mixture_is_denoised_sample_by_sample():
    x, sigma = 2.0 * white(3, (2, 1, 50)), torch.full((2,), 0.7, dtype=torch.float64)
    expected = MIXTURE.denoise(x.reshape(-1, 1, 1), sigma.repeat_interleave(50)).reshape(x.shape)
    torch.testing.assert_close(sample_by_sample(x, sigma), expected, rtol=1e-12, atol=1e-12)


def check_law_of_mixture(result: Tensor) -> None:
    values = result.flatten().numpy()
    # One run in a thousand would fail by chance; the seed is fixed.
    assert stats.kstest(values, mixture_cdf).pvalue > 1e-3
    mean = (MIXTURE.weights * MIXTURE.means[:, 0]).sum().item()
    second = (MIXTURE.weights * (MIXTURE.variances + MIXTURE.means[:, 0] ** 2)).sum().item()
    assert values.mean() == pytest.approx(mean, abs=5.0 * values.std() / math.sqrt(len(values)))
    assert (values**2).mean() == pytest.approx(second, abs=5.0 * (values**2).std() / math.sqrt(len(values)))


TO_MIXTURE = {
    "euler_ancestral": ({}, 300),
    "ddpm": ({"variance": "large"}, 300),
    "euler_maruyama": ({}, 300),
    "dpmpp_2m_sde": ({}, 60),
    "dpmpp_3m_sde": ({}, 60),
    "predictor_corrector": ({"r": 0.05}, 300),
}


@pytest.mark.parametrize("name", TO_MIXTURE)
def test_draws_from_a_mixture_have_its_law(name):
    options, n_steps = TO_MIXTURE[name]
    sigmas = Karras(sigma_min=0.005, sigma_max=10.0)(n_steps)
    x0 = MIXTURE.sample(10_000, torch.Generator().manual_seed(7)).reshape(2, 1, -1)
    start = x0 + 10.0 * white(5_000, tuple(x0.shape))
    # The test at 1e-3 resolves distances of the distribution function of 1.95 / sqrt(10 000) = 0.02. What these steps
    # are wrong by is less: pooled over 20 other seeds, 200 000 draws, the distance was 0.0062 for euler_maruyama,
    # 0.0054, 0.0042 and 0.0038 for predictor_corrector, ddpm and euler_ancestral, and 0.0022 or less for the multistep
    # methods, of which chance alone makes about 0.002. The least of those 120 p-values was 0.0017.
    result = solver(name, **options)(
        sample_by_sample, start, sigmas, noise=lambda like, step: white(5_000 + step, tuple(like.shape))
    )
    check_law_of_mixture(result)


def end_of_flow(x: Tensor, sigma: Tensor) -> Tensor:
    """Carry x to the end of MIXTURE's flow, which in one dimension keeps the order and so the quantiles."""
    values = np.linspace(-4.0, 4.0, 200_001)
    shares = mixture_cdf(x.numpy(), sigma[0].item())
    return torch.from_numpy(np.interp(shares, mixture_cdf(values), values))


@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_a_consistency_model_is_sampled_exactly_in_any_number_of_steps(n_steps):
    x0 = MIXTURE.sample(8_000, torch.Generator().manual_seed(7))
    sigmas = torch.tensor([*[10.0, 3.0, 1.0, 0.4, 0.1][:n_steps], 0.0], dtype=torch.float64)
    check_law_of_mixture(solver("consistency")(end_of_flow, x0 + 10.0 * white(0, (8_000, 1, 1)), sigmas, noise=noise))


def test_consistency_noises_up_from_the_level_at_which_the_model_ends():
    sigmas = torch.tensor([5.0, 1.0], dtype=torch.float64)
    start = torch.zeros(1, 1, 8, dtype=torch.float64)
    result = solver("consistency", sigma_end=0.6)(lambda x, sigma: x + 2.0, start, sigmas, noise=noise)
    torch.testing.assert_close(result, 2.0 + 0.8 * white(1, (1, 1, 8)), rtol=1e-13, atol=1e-13)


class JumpNetwork(Network):
    """Predict the x0 whose Euler step lands on a Gaussian's flow; condition.vector is (sigma, sigma_next)."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, data: Gaussian, process: VE) -> None:
        super().__init__()
        self.data, self.process = data, process

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        assert condition.vector is not None
        sigma, sigma_next = (float(level) for level in condition.vector[0])
        x = x / float(self.process.input_scale(torch.tensor(sigma, dtype=torch.float64)))
        ratio = sigma_next / sigma
        return (self.data.flow(x, sigma, sigma_next) - ratio * x) / (1.0 - ratio)


class BothLevels:
    """Tell a network both ends of a jump as they are."""

    n_features = 2

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return torch.stack([sigma, sigma_next], dim=1)


@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_shortcut_follows_a_model_of_jumps_exactly(data, n_steps):
    process = VE()
    denoiser = Denoiser(JumpNetwork(data, process), Sample(process), step_size=BothLevels())
    start = 80.0 * white(0, (2, 1, 32))
    sigmas = torch.tensor([*[80.0, 20.0, 9.0, 3.0, 1.0, 0.3, 0.1][:n_steps], 0.0], dtype=torch.float64)
    result = solver("shortcut")(denoiser.bind(Condition(vector=torch.zeros(2, 0, dtype=torch.float64))), start, sigmas)
    torch.testing.assert_close(result, data.flow(start, 80.0, 0.0), rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class Deaf:
    """A denoiser that is asked where a step goes and does not care."""

    data: Gaussian

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.data.denoise(x, sigma)

    def predict_jump(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return self.data.denoise(x, sigma)


def test_shortcut_with_an_ordinary_denoiser_is_euler(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(6)
    result = solver("shortcut")(Deaf(data), start, sigmas)
    assert torch.equal(result, euler(data.denoise, start, sigmas))
    result = solver("shortcut")(Deaf(data), start, sigmas, after_step=lambda x, step, sigma: x + sigma)
    assert torch.equal(result, euler(data.denoise, start, sigmas, after_step=lambda x, step, sigma: x + sigma))


MINE = [
    "euler_ancestral",
    "ddpm",
    "euler_maruyama",
    "predictor_corrector",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "consistency",
]


@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize("n_steps", [1, 2, 6])
def test_every_draw_has_a_number_of_its_own(name, n_steps, data):
    numbers: list[int] = []

    def counted(like: Tensor, step: int) -> Tensor:
        numbers.append(step)
        return noise(like, step)

    solver(name)(data.denoise, white(0, (1, 1, 32)), Karras(sigma_max=10.0)(n_steps + 1)[1:], noise=counted)
    transitions = list(range(1, n_steps))
    corrections = list(range(n_steps + 1, 2 * n_steps)) if name == "predictor_corrector" else []
    assert sorted(numbers) == transitions + corrections


def test_three_corrections_have_numbers_of_their_own_and_as_many_evaluations(data):
    numbers: list[int] = []
    levels: list[float] = []

    def counted(like: Tensor, step: int) -> Tensor:
        numbers.append(step)
        return noise(like, step)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        levels.append(sigma[0].item())
        return data.denoise(x, sigma)

    sigmas = torch.tensor([4.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    solver("predictor_corrector", n_corrections=3)(denoise, white(0, (1, 1, 32)), sigmas, noise=counted)
    assert numbers == [1, 4, 5, 6, 2, 7, 8, 9]
    assert levels == [4.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", MINE)
def test_no_option_without_noise_draws_any(name, data):
    quiet = {"euler_ancestral": {"eta": 0.0}, "dpmpp_2m_sde": {"eta": 0.0}, "dpmpp_3m_sde": {"eta": 0.0}}.get(name)
    sigmas = Karras()(5) if quiet is not None else torch.tensor([3.0, 0.0], dtype=torch.float64)

    def refuse(like: Tensor, step: int) -> Tensor:
        raise AssertionError(f"step {step} draws")

    solver(name, **(quiet or {}))(data.denoise, white(0, (1, 1, 32)), sigmas, noise=refuse)


@pytest.mark.parametrize("name", MINE)
def test_a_stochastic_solver_keeps_float32(name, data):
    narrow = Gaussian(data.mean.float(), data.variance.float())
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras(sigma_min=0.05)(12)
    result = solver(name)(narrow.denoise, start.float(), sigmas, noise=noise)
    assert result.dtype == torch.float32
    # x near 2 is rounded by 1e-7, and a correction's score by that over sigma^2: 5e-5, of which it takes a hundredth.
    expected = solver(name)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MINE)
def test_a_stochastic_solver_asks_for_noise(name, data):
    with pytest.raises(ParameterError, match=f"noise=None: {name} draws noise at every step"):
        solver(name)(data.denoise, torch.zeros(1, 1, 32, dtype=torch.float64), Karras()(3))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("euler_ancestral", {"eta": 1.1}, "eta=1.1 must lie between 0 and 1"),
        ("euler_ancestral", {"eta": math.nan}, "eta=nan must lie"),
        ("ddpm", {"variance": "medium"}, "variance='medium' must be one of small, large, learned"),
        ("ddpm", {"variance": "learned"}, "train with objective=hybrid"),
        ("predictor_corrector", {"r": 0.0}, "r=0.0 must be positive: n_corrections=0"),
        ("predictor_corrector", {"n_corrections": -1}, "n_corrections=-1 must be a whole number, at least 0"),
        ("dpmpp_2m_sde", {"eta": -0.1}, "eta=-0.1 must not be negative"),
        ("dpmpp_3m_sde", {"eta": math.nan}, "eta=nan must not be negative"),
        ("dpmpp_3m_sde", {"s_noise": -1.0}, "s_noise=-1.0 must not be negative"),
        ("dpmpp_2m_sde", {"solver_type": "rk4"}, "solver_type='rk4' must be midpoint or heun"),
        ("consistency", {"sigma_end": -0.1}, "sigma_end=-0.1 must not be negative"),
        ("consistency", {"sigma_end": 0.1}, "sigma_end=0.1 must not exceed any level of the grid"),
        ("shortcut", {}, "sampler=shortcut needs a denoiser that knows jumps: train with method=shortcut"),
    ],
)
def test_what_cannot_be_is_refused(name, options, message, data):
    with pytest.raises(ParameterError, match=message):
        solver(name, **options)(data.denoise, torch.zeros(1, 1, 32, dtype=torch.float64), Karras()(3), noise=noise)


def test_a_denoiser_that_has_not_learnt_its_variance_is_refused(data):
    process = DiscreteVP(BETAS)
    plain = Denoiser(GaussianNetwork(data, process, "sample"), Sample(process)).bind(Condition())
    with pytest.raises(ParameterError, match="variance=learned needs a network that has learnt it"):
        solver("ddpm", variance="learned")(plain, white(0, (1, 1, 32)), Discrete(process)(5), noise=noise)
