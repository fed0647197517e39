"""Posterior sampling of Gaussian data, whose posterior under a linear operator is Gaussian and known."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from analytic import Law, decimation, matrix
from helpers import noise, white
from scipy.integrate import solve_ivp
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.operators import Linear, LinearOperator, LowPass, Mask
from audiodiff.diffusion.posterior import (
    dps,
    pigdm,
    projection,
    reconstruction_guidance,
    replacement,
)
from audiodiff.diffusion.repaint import repaint
from audiodiff.diffusion.solvers import adaptive, dpmpp_2m, euler, euler_ancestral
from audiodiff.errors import ParameterError

N = 8
KNOWN = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
OPERATORS: dict[str, LinearOperator] = {"mask": Mask(KNOWN), "low_pass": LowPass(0.25), "decimate": decimation(2)}
GRID = Karras(sigma_min=0.01, sigma_max=20.0)


def isotropic(std: float = 0.5) -> Law:
    return Law(white(0, (N,)), std**2 * torch.eye(N, dtype=torch.float64))


def correlated() -> Law:
    """Return a law whose samples correlate by 0.8 with their neighbours."""
    distance = (torch.arange(N)[:, None] - torch.arange(N)).abs().double()
    return Law(0.5 * white(0, (N,)), 0.25 * 0.8**distance)


def measured(operator: LinearOperator, law: Law, sigma_y: float = 0.0) -> Tensor:
    """Return a measurement of one draw of the law."""
    x0 = law.mean + torch.linalg.cholesky(law.covariance) @ white(1, (N,))
    y = operator(x0[None, None])
    return y + sigma_y * white(2, tuple(y.shape))


def ancestral_variance(variance: float, sigmas: Tensor) -> float:
    """Return the variance that the ancestral chain of a Gaussian ends with, from sigma_max^2."""
    marginal = sigmas[0].item() ** 2
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        predict_jump = sigma_next**2 / sigma**2
        marginal = (predict_jump + (1.0 - predict_jump) * variance / (variance + sigma**2)) ** 2 * marginal
        marginal += sigma_next**2 * (1.0 - predict_jump)
    return marginal


@pytest.mark.parametrize("sigma_y", [0.0, 0.3])
@pytest.mark.parametrize("name", OPERATORS)
def test_pigdm_is_the_exact_posterior_denoiser_of_isotropic_data(name, sigma_y):
    operator, law = OPERATORS[name], isotropic()
    y, x = measured(operator, law, sigma_y), white(3, (4, 1, N))
    exact = law.posterior(operator, y, sigma_y)
    guided = pigdm(law.denoise, operator, y.expand(4, -1, -1), sigma_data=0.5, sigma_y=sigma_y)
    sigma = torch.tensor([0.02, 0.3, 2.0, 20.0], dtype=torch.float64)
    torch.testing.assert_close(guided(x, sigma), exact.denoise(x, sigma), rtol=1e-9, atol=1e-9)


def test_pigdm_samples_the_mean_and_the_covariance_of_the_posterior():
    operator, law, n = decimation(2), isotropic(), 4000
    y = measured(operator, law, 0.3)
    exact = law.posterior(operator, y, 0.3)
    guided = pigdm(law.denoise, operator, y.expand(n, -1, -1), sigma_data=0.5, sigma_y=0.3)
    sigmas = GRID(200)
    draws = euler_ancestral(guided, 20.0 * white(0, (n, 1, N)), sigmas, noise=noise)[:, 0]
    # The chain's own law: the posterior's up to its order-one error, which the variance of each eigenvector shows.
    values, vectors = torch.linalg.eigh(exact.covariance)
    chain = torch.tensor([ancestral_variance(value.item(), sigmas) for value in values], dtype=torch.float64)
    assert ((chain - values).abs() < 0.05 * values).all()
    independent = (draws - exact.mean) @ vectors / chain.sqrt()
    # Five standard errors of means, variances and covariances of unit variance; the start has forgotten the mean by
    # less than 20 / (20^2 / 0.5^2).
    assert independent.mean(0).abs().max() < 5.0 / math.sqrt(n) + 0.0125
    spread = independent.mT @ independent / n - torch.eye(N, dtype=torch.float64)
    assert spread.diagonal().abs().max() < 5.0 * math.sqrt(2.0 / n)
    assert (spread - spread.diagonal().diag()).abs().max() < 5.0 / math.sqrt(n)


@pytest.mark.parametrize("name", OPERATORS)
def test_projection_changes_only_the_measured_part_of_the_estimate(name):
    operator, law = OPERATORS[name], correlated()
    y, x, sigma = measured(operator, law), white(3, (1, 1, N)), torch.tensor([0.7], dtype=torch.float64)
    estimate, free = projection(law.denoise, operator, y)(x, sigma), law.denoise(x, sigma)
    torch.testing.assert_close(operator(estimate), y, rtol=1e-12, atol=1e-12)
    null = estimate - operator.pseudo_inverse(operator(estimate))
    torch.testing.assert_close(null, free - operator.pseudo_inverse(operator(free)), rtol=1e-12, atol=1e-12)


def methods(operator: LinearOperator, y: Tensor):
    """Return every way of posterior sampling as (denoise, start, sigmas) -> result."""

    def of_denoiser(wrap, **options):
        return lambda denoise, x, sigmas: euler_ancestral(wrap(denoise, operator, y, **options), x, sigmas, noise=noise)

    def of_hook(denoise, x, sigmas):
        hook = replacement(operator, y, noise=lambda like, step: noise(like, 500 + step))
        return euler_ancestral(denoise, x, sigmas, noise=noise, after_step=hook)

    def of_solver(solve):
        return lambda denoise, x, sigmas: solve(denoise, x, sigmas, noise=noise)

    return {
        "projection": of_denoiser(projection),
        "reconstruction_guidance": of_denoiser(reconstruction_guidance),
        "pigdm": of_denoiser(pigdm, sigma_data=0.5),
        "replacement": of_hook,
        "dps": of_solver(dps(operator, y, scale=0.3)),
        "repaint": of_solver(repaint(operator, y, jump_length=1, n_resamples=1)),
    }


ALL_METHODS = sorted(methods(Mask(KNOWN), torch.zeros(1, 1, N)))
EXACT_METHODS = ["projection", "repaint", "replacement"]


@pytest.mark.parametrize("name", EXACT_METHODS)
def test_known_samples_are_kept_to_the_bit(name):
    law, sigmas = correlated(), GRID(12)
    for known in (KNOWN, torch.ones(N)):
        y = measured(Mask(known), law)
        result = methods(Mask(known), y)[name](law.denoise, 20.0 * white(0, (1, 1, N)), sigmas)
        assert torch.equal(result[..., known == 1], y[..., known == 1])


@pytest.mark.parametrize("solve", [euler, dpmpp_2m])
def test_projection_keeps_known_samples_to_the_bit_with_other_solvers(solve):
    law, y = correlated(), measured(Mask(KNOWN), correlated())
    result = solve(projection(law.denoise, Mask(KNOWN), y), 20.0 * white(0, (1, 1, N)), GRID(12))
    assert torch.equal(result[..., KNOWN == 1], y[..., KNOWN == 1])


@pytest.mark.parametrize("name", ALL_METHODS)
def test_with_nothing_known_the_result_is_the_unconditional_one(name):
    law, sigmas, start = correlated(), GRID(12), 20.0 * white(0, (2, 1, N))
    free = euler_ancestral(law.denoise, start, sigmas, noise=noise)
    nothing = Mask(torch.zeros(N, dtype=torch.bool))
    with torch.no_grad():
        result = methods(nothing, torch.zeros(2, 1, N, dtype=torch.float64))[name](law.denoise, start, sigmas)
    assert torch.equal(result, free)
    assert not result.requires_grad


@pytest.mark.parametrize("name", ALL_METHODS)
def test_a_batch_equals_its_examples_one_by_one(name):
    """With the noise of each example its own, and no example in the gradient of another."""
    law, sigmas, start = correlated(), GRID(6), 20.0 * white(0, (3, 1, N))
    y = torch.cat([KNOWN * white(k, (1, 1, N)) for k in range(3)])

    def run(part: slice) -> Tensor:
        def own(like: Tensor, step: int) -> Tensor:
            return white(step, (3, 1, N))[part]

        operator = Mask(KNOWN)
        solves = methods(operator, y[part])
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(globals(), "noise", own)
            return solves[name](law.denoise, start[part], sigmas)

    together = run(slice(0, 3))
    for k in range(3):
        torch.testing.assert_close(run(slice(k, k + 1)), together[k : k + 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sigma_y", [0.0, 0.4])
def test_reconstruction_guidance_moves_the_estimate_by_its_jacobian(sigma_y):
    """Of a Gaussian D has the Jacobian J = C (C + sigma^2)^-1, so that the gradient is -J A^T (y - A D)."""
    operator, law = decimation(2), correlated()
    y, x, sigma = measured(operator, law), white(3, (1, 1, N)), torch.tensor([0.7], dtype=torch.float64)
    a = matrix(operator, N)
    free = law.denoise(x, sigma)
    jacobian = law.covariance @ torch.linalg.inv(law.covariance + 0.49 * torch.eye(N, dtype=torch.float64))
    move = jacobian @ a.mT @ (y[0, 0] - a @ free[0, 0]) * (0.49 / (0.49 + sigma_y**2))
    guided = reconstruction_guidance(law.denoise, operator, y, weight=3.0, sigma_y=sigma_y)(x, sigma)
    torch.testing.assert_close(guided, free + 3.0 * move, rtol=1e-10, atol=1e-10)


def test_dps_steps_down_the_gradient_of_the_length_of_the_error():
    operator, law = decimation(2), correlated()
    y, x = measured(operator, law), white(3, (1, 1, N))
    sigmas = torch.tensor([0.7, 0.3], dtype=torch.float64)
    a, free = matrix(operator, N), law.denoise(x, sigmas[:1])
    residual = y[0, 0] - a @ free[0, 0]
    jacobian = law.covariance @ torch.linalg.inv(law.covariance + 0.49 * torch.eye(N, dtype=torch.float64))
    # grad |r|^2 / |r|, with grad r = -A J
    move = 2.0 * jacobian @ a.mT @ residual / residual.norm()
    result = dps(operator, y, scale=0.2)(law.denoise, x, sigmas, noise=noise)
    free_step = euler_ancestral(law.denoise, x, sigmas, noise=noise)
    torch.testing.assert_close(result, free_step + 0.2 * move, rtol=1e-10, atol=1e-10)


def guided_mean(share, *, mean: float, variance: float, y: float) -> float:
    """Return where the flow of D' = D + share(sigma) (y - D) ends from x = m at sigma = 20, for one known sample.

    With u = x - m it is du / d sigma = (u - g u - share (y - m - g u)) / sigma, g = v / (v + sigma^2).
    """

    def rate(sigma: float, u: np.ndarray) -> np.ndarray:
        g = variance / (variance + sigma**2)
        return (u - g * u - share(sigma) * (y - mean - g * u)) / sigma

    return mean + solve_ivp(rate, (20.0, 0.01), [0.0], rtol=1e-9, atol=1e-9).y[0, -1]


def test_reconstruction_guidance_has_the_derived_bias_and_pigdm_none():
    """Of isotropic data reconstruction guidance pulls by g sigma^2 / (sigma^2 + sigma_y^2), pigdm by g sigma^2 / (g
    sigma^2 + sigma_y^2), which is more: g < 1."""
    mean, variance, sigma_y, value = 0.4, 0.25, 0.3, 1.5
    law = Law(torch.full((N,), mean, dtype=torch.float64), variance * torch.eye(N, dtype=torch.float64))
    y = torch.full((1, 1, N), value, dtype=torch.float64)
    everything = Mask(torch.ones(N))
    start, sigmas = torch.full((1, 1, N), mean, dtype=torch.float64), torch.tensor([20.0, 0.01], dtype=torch.float64)
    weak = reconstruction_guidance(law.denoise, everything, y, sigma_y=sigma_y)
    right = pigdm(law.denoise, everything, y, sigma_data=0.5, sigma_y=sigma_y)

    def g(sigma: float) -> float:
        return variance / (variance + sigma**2)

    derived = guided_mean(
        lambda sigma: g(sigma) * sigma**2 / (sigma**2 + sigma_y**2), mean=mean, variance=variance, y=value
    )
    left = variance * sigma_y**2 / (variance + sigma_y**2)
    posterior = mean + variance / (variance + sigma_y**2) * (value - mean)
    exact = posterior + math.sqrt((left + 0.01**2) / (left + 20.0**2)) * (mean - posterior)
    # A step of either integration may err by 1e-9; they take fewer than a hundred each, and the flow shrinks errors.
    solve = partial(adaptive, rtol=1e-9, atol=1e-9)
    assert solve(weak, start, sigmas)[0, 0, 0].item() == pytest.approx(derived, abs=2e-7)
    assert solve(right, start, sigmas)[0, 0, 0].item() == pytest.approx(exact, abs=1e-7)
    assert mean < derived < exact - 0.05


def test_reconstruction_guidance_without_noise_meets_the_measurement():
    """As sigma falls D' tends to y in what is known: J tends to 1 there."""
    law, y = isotropic(), measured(Mask(KNOWN), isotropic())
    result = dpmpp_2m(reconstruction_guidance(law.denoise, Mask(KNOWN), y), 20.0 * white(0, (1, 1, N)), GRID(40))
    # 1 - J = sigma_min^2 / (sigma_min^2 + sd^2) = 4e-4 of the distance.
    assert (KNOWN * (result - y)).abs().max() < 4e-3


def test_dps_brings_the_error_below_the_length_of_one_step():
    """It descends by 2 scale at each step while J is near 1, and then oscillates within one step."""
    law, y = correlated(), measured(Mask(KNOWN), correlated())
    start, sigmas = 20.0 * white(0, (4, 1, N)), GRID(60)
    free = euler_ancestral(law.denoise, start, sigmas, noise=noise)
    result = dps(Mask(KNOWN), y.expand(4, -1, -1), scale=0.1)(law.denoise, start, sigmas, noise=noise)
    errors = [(KNOWN * (x - y)).flatten(1).norm(dim=1) for x in (free, result)]
    assert (errors[0] > 0.5).all()
    assert (errors[1] < 0.2).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mask, y: pigdm(isotropic().denoise, mask, y, sigma_data=0.0), "sigma_data=0.0"),
        (lambda mask, y: pigdm(isotropic().denoise, mask, y, sigma_data=0.5, sigma_y=-1.0), "sigma_y=-1.0"),
        (lambda mask, y: reconstruction_guidance(isotropic().denoise, mask, y, weight=-1.0), "weight=-1.0"),
        (lambda mask, y: dps(mask, y, scale=math.nan), "scale=nan"),
        (lambda mask, y: projection(isotropic().denoise, Linear(mask, mask), y), "has no gain"),
        (lambda mask, y: replacement(Linear(mask, mask), y, noise=noise), "has no gain"),
        (lambda mask, y: pigdm(isotropic().denoise, Linear(mask, mask), y, sigma_data=0.5), "has no gain"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call(Mask(KNOWN), torch.zeros(1, 1, N, dtype=torch.float64))
