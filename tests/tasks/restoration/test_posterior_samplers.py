"""Posterior samplers: their laws of restored Gaussian sounds, whose posterior is known.

Where the solver draws no noise of its own, a draw is an affine function of the noise that it starts from, so that its
law is computed without drawing: the mean is the result without noise, and the columns of a root of the covariance are
the results of unit pulses.
"""

import math
from functools import partial

import numpy as np
import pytest
import sounds
import torch
from analytic import Law, decimation
from scipy.integrate import solve_ivp
from tiny import DEGRADED, synthesizer
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.noise import noise_of
from audiodiff.diffusion.operators import LinearOperator, LowPass, Mask
from audiodiff.diffusion.solvers import euler, euler_ancestral, heun
from audiodiff.tasks.restoration import (
    DPS,
    FOR_LOSS,
    Conditional,
    PiGDM,
    Problem,
    Projection,
    RePaint,
    Sampling,
    draw,
)
from audiodiff.tasks.restoration.posterior import Denoisers
from audiodiff.tasks.restoration.sampling import draw_from
from audiodiff.types import Denoise, Noise

N = 12
KNOWN = torch.tensor([1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1], dtype=torch.float64)
OPERATORS: dict[str, LinearOperator] = {"gaps": Mask(KNOWN), "low_pass": LowPass(0.25), "decimate": decimation(2)}
GRID = Karras(sigma_min=1e-3, sigma_max=50.0)
GAINED = [*DEGRADED, "representation.gain=2.0"]


def isotropic() -> Law:
    return Law(torch.zeros(N, dtype=torch.float64), 0.25 * torch.eye(N, dtype=torch.float64))


def stationary() -> Law:
    """Return a resonance: an autoregressive law of order two, whose covariance depends on the distance alone."""
    radius, angle = 0.9, 0.9
    first, second = 2.0 * radius * math.cos(angle), -(radius**2)
    correlation = [1.0, first / (1.0 - second)]
    for _ in range(2, N):
        correlation.append(first * correlation[-1] + second * correlation[-2])
    distance = (torch.arange(N)[:, None] - torch.arange(N)).abs()
    return Law(torch.zeros(N, dtype=torch.float64), 0.25 * torch.tensor(correlation, dtype=torch.float64)[distance])


LAWS = {"isotropic": isotropic(), "stationary": stationary()}


def problem_of(law: Law, operator: LinearOperator, *, n: int = 1) -> Problem:
    """Return n times the problem of one draw of the law."""
    generator = torch.Generator().manual_seed(3)
    x0 = torch.linalg.cholesky(law.covariance) @ torch.randn(N, generator=generator, dtype=torch.float64)
    measured = operator.pseudo_inverse(operator(x0[None, None])).expand(n, -1, -1)
    known = KNOWN.expand(n, 1, N) if isinstance(operator, Mask) else torch.ones_like(measured)
    return Problem(measured, known, operator)


def white(like: Tensor, step: int) -> Tensor:
    """Draw noise for many short signals at once, faster than one by one."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(step), dtype=like.dtype)


def conditional_of(law: Law, problem: Problem) -> Denoise:
    """Return E[x0 | x, what was measured], which is the denoiser of the posterior."""
    assert problem.operator is not None
    return law.posterior(problem.operator, problem.operator(problem.measured[:1]), 0.0).denoise


def restored(law: Law, problem: Problem, sampling: Sampling, noise: Noise, *, n_steps: int, solver=euler) -> Tensor:
    with torch.no_grad():
        return draw_from(
            Denoisers(law.denoise, conditional_of(law, problem)),
            problem,
            sigmas=GRID(n_steps),
            solver=solver,
            sampling=sampling,
            noise=noise,
        )


def drawn_law(law: Law, operator: LinearOperator, sampling: Sampling, *, n_steps: int, solver=euler) -> Law:
    """Return the law of the draws, exactly."""
    problem = problem_of(law, operator, n=N + 1)
    starts = torch.cat([torch.zeros(1, N), torch.eye(N)]).double()[:, None]
    results = restored(law, problem, sampling, lambda like, step: starts, n_steps=n_steps, solver=solver)[:, 0]
    columns = results[1:] - results[0]
    return Law(results[0], columns.mT @ columns)


def exact_law(law: Law, operator: LinearOperator) -> Law:
    return law.posterior(operator, operator(problem_of(law, operator).measured), 0.0)


def distance(drawn: Law, exact: Law) -> tuple[float, float]:
    """Return how far the means are apart, and the covariances."""
    return (drawn.mean - exact.mean).norm().item(), (drawn.covariance - exact.covariance).norm().item()


EXACT = [(Conditional(), name, operator) for name in LAWS for operator in OPERATORS]
EXACT += [(PiGDM(sigma_data=0.5), "isotropic", operator) for operator in OPERATORS]


@pytest.mark.parametrize(("posterior", "data", "operator"), EXACT)
def test_a_draw_is_from_the_posterior(posterior, data, operator):
    """With Heun's solver of order two, and what the start at sigma = 50 instead of infinity leaves: v / 50^2."""
    law, sampling = LAWS[data], Sampling(posterior)
    exact = exact_law(law, OPERATORS[operator])
    means, covariances = zip(
        *(
            distance(drawn_law(law, OPERATORS[operator], sampling, n_steps=n, solver=heun), exact)
            for n in (20, 40, 160)
        ),
        strict=True,
    )
    scale = exact.covariance.norm().item()
    assert covariances[-1] < 2e-3 * scale
    assert means[-1] < 5e-3 * exact.mean.norm().item() + 1e-6
    # It is the steps that err: four times less with twice as many, where that is more than the start leaves.
    assert covariances[1] < 0.4 * covariances[0] + 1e-3 * scale


def test_temperature_narrows_the_draws_and_leaves_their_mean():
    """Of Gaussian sounds a draw is an affine function of the noise: its covariance goes with the square."""
    law, operator = LAWS["stationary"], OPERATORS["gaps"]
    whole, cool = (
        drawn_law(law, operator, Sampling(temperature=temperature), n_steps=40, solver=heun)
        for temperature in (1.0, 0.6)
    )
    torch.testing.assert_close(cool.mean, whole.mean)
    torch.testing.assert_close(cool.covariance, 0.36 * whole.covariance)


@pytest.mark.parametrize(
    ("posterior", "data", "operator"),
    [(Conditional(), "stationary", "gaps"), (PiGDM(sigma_data=0.5), "isotropic", "decimate")],
)
@pytest.mark.parametrize("solver", [heun, euler_ancestral])
def test_random_draws_have_the_mean_and_covariance_of_the_posterior(posterior, data, operator, solver):
    law, n = LAWS[data], 3000
    exact = exact_law(law, OPERATORS[operator])
    problem = problem_of(law, OPERATORS[operator], n=n)
    sampling = Sampling(posterior)
    n_steps = 60 if solver is heun else 120
    draws = restored(law, problem, sampling, white, n_steps=n_steps, solver=solver)[:, 0]
    values, vectors = torch.linalg.eigh(exact.covariance)
    free = values > 1e-6
    inside = (draws - exact.mean) @ vectors[:, free] / values[free].sqrt()
    # Five standard errors of means, variances and covariances of unit variance; the discrete steps of the ancestral
    # solver, of order one, may take up to 5 % of a variance away.
    steps = 0.05 if solver is euler_ancestral else 0.01
    assert inside.mean(0).abs().max() < 5.0 / math.sqrt(n) + 0.005
    spread = inside.mT @ inside / n - torch.eye(int(free.sum()), dtype=torch.float64)
    assert spread.diagonal().abs().max() < 5.0 * math.sqrt(2.0 / n) + steps
    assert (spread - spread.diagonal().diag()).abs().max() < 5.0 / math.sqrt(n)
    fixed = (draws - exact.mean) @ vectors[:, ~free]
    assert fixed.abs().max() < 1e-4


def projected_pair(correlation: float, *, start: float) -> tuple[float, float]:
    """Return mean and variance of what projection draws of the second of two samples, the first of which is 1.

    The first is held at 1 in the estimates, so that x moves along (1 - sigma / S) + sigma e, with S = 50 the first
    level. Of unit variances, D of the second is that of the pair.
    """
    c = np.array([[1.0, correlation], [correlation, 1.0]])

    def end(known: float, own: float, measured: float) -> float:
        def rate(sigma: float, u: np.ndarray) -> np.ndarray:
            x = np.array([measured * (1.0 - sigma / 50.0) + sigma * known, u[0]])
            return (u - (c @ np.linalg.solve(c + sigma**2 * np.eye(2), x))[1]) / sigma

        return solve_ivp(rate, (50.0, start), [50.0 * own], rtol=1e-9, atol=1e-11).y[0, -1]

    return end(0.0, 0.0, 1.0), end(1.0, 0.0, 0.0) ** 2 + end(0.0, 1.0, 0.0) ** 2


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_projection_is_biased_to_the_prior_as_its_flow_predicts(correlation):
    """Its mean lies between that of the prior, 0, and that of the posterior, the correlation; and it is too wide."""
    mean, variance = projected_pair(correlation, start=1e-3)
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)
    law = Law(torch.zeros(2, dtype=torch.float64), covariance)
    known = torch.tensor([1.0, 0.0], dtype=torch.float64)
    starts = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)[:, None]
    problem = Problem(known.expand(3, 1, 2), known.expand(3, 1, 2), Mask(known))
    result = draw_from(
        Denoisers(law.denoise),
        problem,
        sigmas=GRID(400),
        solver=heun,
        sampling=Sampling(posterior=Projection()),
        noise=lambda like, step: starts,
    )[:, 0, 1]
    assert result[0].item() == pytest.approx(mean, abs=2e-4)
    columns = result[1:] - result[0]
    assert columns.square().sum().item() == pytest.approx(variance, abs=2e-4)
    assert 0.0 < mean < correlation - 0.02
    assert variance > 1.0 - correlation**2 + 0.01


@pytest.mark.parametrize("posterior", [Projection(), PiGDM(sigma_data=0.5)])
@pytest.mark.parametrize("operator", OPERATORS)
def test_only_a_conditional_network_is_exact_for_correlated_sounds(posterior, operator):
    law = LAWS["stationary"]
    exact = exact_law(law, OPERATORS[operator])
    of = partial(drawn_law, law, OPERATORS[operator], n_steps=120, solver=heun)
    conditional, unconditional = (distance(of(Sampling(each)), exact) for each in (Conditional(), posterior))
    assert unconditional[0] > 5.0 * conditional[0]
    assert unconditional[1] > 5.0 * conditional[1]


def test_more_resampling_brings_repaint_nearer_to_the_posterior():
    law, operator = LAWS["stationary"], OPERATORS["gaps"]
    exact = exact_law(law, operator)

    def silent(like: torch.Tensor, step: int) -> torch.Tensor:
        return torch.zeros_like(like)

    errors = []
    for n_resamples in (1, 4, 16):
        sampling = Sampling(RePaint(n_resamples))
        mean = restored(law, problem_of(law, operator), sampling, silent, n_steps=20)[0, 0]
        errors.append((mean - exact.mean).norm().item())
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]


@pytest.mark.parametrize("posterior", FOR_LOSS.values(), ids=FOR_LOSS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_results_agree_with_the_measurement(posterior, operator):
    law = LAWS["stationary"]
    problem = problem_of(law, OPERATORS[operator], n=2)
    result = restored(law, problem, Sampling(posterior), noise_of(0, [0, 1]), n_steps=8)
    measure = OPERATORS[operator]
    torch.testing.assert_close(measure(result), measure(problem.measured), rtol=1e-12, atol=1e-12)
    if operator == "gaps":
        assert torch.equal(result[..., KNOWN == 1], problem.measured[..., KNOWN == 1])


@pytest.mark.parametrize("posterior", FOR_LOSS.values(), ids=FOR_LOSS)
def test_every_result_is_possible(posterior):
    law = LAWS["stationary"]
    problem = problem_of(law, OPERATORS["gaps"], n=2)
    bounded = Problem(problem.measured, problem.known, problem.operator, lambda x: torch.where(KNOWN > 0, x, x.abs()))
    result = restored(law, bounded, Sampling(posterior), noise_of(0, [0, 1]), n_steps=8)
    assert bool((result[..., KNOWN == 0] >= 0.0).all())
    assert torch.equal(result[..., KNOWN == 1], problem.measured[..., KNOWN == 1])


@pytest.mark.parametrize("posterior", FOR_LOSS.values(), ids=FOR_LOSS)
def test_a_fully_known_recording_is_returned_to_the_bit(posterior):
    audio = sounds.noise(1, 2000)[None]
    problem = Problem(audio, torch.ones_like(audio), Mask(torch.ones_like(audio)))
    model = synthesizer(GAINED)
    assert torch.equal(draw(model, problem, sampling=Sampling(posterior), noise=noise_of(0, [0])), audio)


@pytest.mark.parametrize("posterior", FOR_LOSS.values(), ids=FOR_LOSS)
def test_without_a_measurement_a_draw_is_what_the_model_generates(posterior):
    """RePaint and DPS are solvers themselves, ancestral ones: against that solver."""
    model, nothing = synthesizer(GAINED), torch.zeros(2, 1, 2000)
    posterior = RePaint(n_resamples=1) if isinstance(posterior, RePaint) else posterior
    solver = "euler_ancestral" if isinstance(posterior, DPS | RePaint) else None
    free = model.generate(batch=2, n_samples=2000, seed=7, solver=solver, iterations=0)
    sampling = Sampling(posterior)
    result = draw(model, Problem(nothing, nothing, Mask(nothing)), sampling=sampling, noise=noise_of(7, [0, 1]))
    # A batch is computed otherwise than its examples one by one: roundings of float32.
    torch.testing.assert_close(result, free, rtol=1e-4, atol=1e-5)


def test_a_model_is_given_the_recording_whatever_its_gain():
    """The condition is in the units of the recording, not of the signal that is diffused."""
    model, audio = synthesizer(GAINED), sounds.noise(1, 2000)[None]
    problem = Problem(audio, torch.ones_like(audio))
    result = draw(model, problem, sampling=Sampling(steps=2), noise=noise_of(0, [0]))
    conditional = model.denoiser.bind(model.conditioner(audio))
    sampler = model.sampler
    x = float(sampler.grid(2)[0]) * noise_of(0, [0])(audio, 0)
    with torch.no_grad():
        expected = sampler.solver(conditional, x, sampler.grid(2)) / 2.0
    assert torch.equal(result, expected)


def test_a_start_begins_at_the_guess():
    """With one step from a level to 0, the result is the denoiser's of the guess and that noise."""
    law, operator = LAWS["stationary"], OPERATORS["gaps"]
    problem = problem_of(law, operator)
    guess = torch.linspace(-1.0, 1.0, N, dtype=torch.float64)[None, None]
    given = Problem(problem.measured, problem.known, operator, guess=guess)
    sigmas = torch.tensor([0.3, 0.0], dtype=torch.float64)
    noise = noise_of(0, [0])
    result = draw_from(
        Denoisers(law.denoise),
        given,
        sigmas=sigmas,
        solver=euler,
        sampling=Sampling(posterior=Projection(), start=0.3),
        noise=noise,
    )
    expected = law.denoise(guess + 0.3 * noise(guess, 0), sigmas[:1])
    torch.testing.assert_close(result, torch.where(KNOWN > 0, problem.measured, expected), rtol=1e-12, atol=1e-12)
