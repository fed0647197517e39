"""The learned variance: its objective, and the bound of the chain that it makes."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from analytic import Gaussian
from diffusers import DDPMScheduler
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from audiodiff.condition import Condition
from audiodiff.diffusion.bound import Hybrid, learned_variance_bound, step_nats, variational_bound
from audiodiff.diffusion.denoiser import Denoiser, Prediction
from audiodiff.diffusion.divergence import prior_divergence
from audiodiff.diffusion.grid import Discrete
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.objective import Plain
from audiodiff.diffusion.preconditioning import Epsilon
from audiodiff.diffusion.process import DiscreteVP, linear_betas
from audiodiff.errors import ParameterError
from audiodiff.networks.embedding import StepTable
from audiodiff.networks.wavenet import WaveNet

N_STEPS = 20
PROCESS = DiscreteVP(linear_betas(1e-3, 0.2, N_STEPS))
BETA = torch.tensor(PROCESS.betas, dtype=torch.float64)
ALPHA_BAR = torch.cumprod(1.0 - BETA, dim=0)
SMALL = BETA[1:] * (1.0 - ALPHA_BAR[:-1]) / (1.0 - ALPHA_BAR[1:])
"""beta_tilde of Ho et al. 2020, eq. 7, from the second step on."""
SIGMA = PROCESS.sigma(torch.arange(float(N_STEPS), dtype=torch.float64))


def predict(x: Tensor, denoised: Tensor, sigma: Tensor, fraction: Tensor | None) -> Prediction:
    scalings = Epsilon(PROCESS)(sigma)
    raw = (denoised - scalings.c_skip[:, None, None] * x) / scalings.c_out[:, None, None]
    return Prediction(raw, denoised, scalings, fraction)


def best_fraction(variance: float) -> Tensor:
    """Return where the variance of x_(t-1) given x_t stands, of data N(0, variance), in the coordinate of DDPM."""
    power = ALPHA_BAR * variance + 1.0 - ALPHA_BAR
    before = torch.cat([torch.tensor([variance], dtype=torch.float64), power[:-1]])
    # x_t = sqrt(1 - beta) x_(t-1) + sqrt(beta) eps: the conditional variance of two Gaussians.
    conditional = before * BETA / power
    small = torch.cat([SMALL[:1], SMALL])  # the first step has the least variance of the second
    return torch.log(conditional / small) / torch.log(BETA / small)


@pytest.mark.parametrize("variance", [1e-3, 0.01, 0.3, 1.0])
def test_the_hybrid_trains_the_true_variance_of_gaussian_data(variance):
    # The error of the exact D has variance v sigma^2 / (v + sigma^2); the loss is quadratic in it, so that two
    # opposite errors of that size are its expectation.
    size = torch.sqrt(variance * SIGMA**2 / (variance + SIGMA**2))
    denoised = torch.zeros(N_STEPS, 1, 2, dtype=torch.float64)
    x0 = torch.stack([size, -size], dim=1)[:, None, :]
    objective = Hybrid(PROCESS, bin_width=None)
    fraction = torch.full((N_STEPS, 1, 1), 0.5, dtype=torch.float64)
    for _ in range(30):  # Newton's method, each step of the chain by itself
        fraction = fraction.detach().requires_grad_()
        loss = objective(predict(x0, denoised, SIGMA, fraction.expand_as(x0)), x0, x0, SIGMA).sum()
        (slope,) = torch.autograd.grad(loss, fraction, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), fraction)
        fraction = fraction - (slope / curvature).clamp(-0.5, 0.5)
    torch.testing.assert_close(fraction.detach().flatten(), best_fraction(variance), rtol=1e-6, atol=1e-6)
    if variance == 1.0:
        # x_t keeps the variance of the data: the greatest variance is the truth (Ho et al. 2020, section 3.2).
        torch.testing.assert_close(best_fraction(variance), torch.ones(N_STEPS, dtype=torch.float64))


@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0])
def test_with_the_true_variance_the_bound_is_the_entropy_and_the_prior(variance):
    data = Gaussian(torch.zeros(1, 1).double(), torch.full((1, 1), variance, dtype=torch.float64))
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(3))
    weights = weights / weights.sum()
    pairs = torch.cartesian_prod(nodes, nodes)
    weight = torch.cartesian_prod(weights, weights).prod(dim=1)
    x0, eps = math.sqrt(variance) * pairs[:, :1, None], pairs[:, 1:, None]

    def of_fraction(fraction: Tensor) -> Tensor:
        def given(x: Tensor, sigma: Tensor) -> Prediction:
            step = PROCESS.time(sigma).round().long()
            return predict(x, data.denoise(x, sigma), sigma, fraction[step][:, None, None].expand_as(x))

        bound = learned_variance_bound(given, x0, PROCESS, noise=lambda like, step: eps)
        return weight @ bound.total

    last = torch.sqrt(ALPHA_BAR[-1] * variance + 1.0 - ALPHA_BAR[-1])
    prior = kl_divergence(Normal(torch.zeros_like(last), last), Normal(torch.zeros_like(last), torch.ones_like(last)))
    exact = 0.5 * math.log(2.0 * math.pi * math.e * variance) + prior
    torch.testing.assert_close(of_fraction(best_fraction(variance)), exact, rtol=0.0, atol=1e-9)
    if variance < 1.0:
        assert of_fraction(torch.ones(N_STEPS).double()) > exact + 1e-3
    assert of_fraction(torch.zeros(N_STEPS).double()) > exact + 1e-3


def test_a_steps_term_is_the_divergence_of_ddpms_two_normals():
    generator = torch.Generator().manual_seed(0)
    x0, denoised, x_t, learned = torch.randn(4, N_STEPS - 1, 1, 30, generator=generator, dtype=torch.float64)
    scheduler = DDPMScheduler(trained_betas=np.array(PROCESS.betas), variance_type="learned_range")
    scheduler.alphas_cumprod, scheduler.betas = ALPHA_BAR, BETA
    alpha_bar, before, beta = (part[:, None, None] for part in (ALPHA_BAR[1:], ALPHA_BAR[:-1], BETA[1:]))

    def mean(of: Tensor) -> Tensor:
        """Compute Ho et al. 2020, eq. 7."""
        return (before.sqrt() * beta * of + (1.0 - beta).sqrt() * (1.0 - before) * x_t) / (1.0 - alpha_bar)

    log_variance = torch.stack(
        [scheduler._get_variance(step, predicted_variance=learned[step - 1]) for step in range(1, N_STEPS)]
    )
    p = Normal(mean(denoised), torch.exp(0.5 * log_variance))
    q = Normal(mean(x0), SMALL[:, None, None].sqrt())
    x = x_t / alpha_bar.sqrt()
    actual = step_nats(predict(x, denoised, SIGMA[1:], 0.5 * (learned + 1.0)), x0, SIGMA[1:], process=PROCESS)
    torch.testing.assert_close(actual, kl_divergence(q, p).mean(dim=(1, 2)))


def test_the_terms_of_all_steps_are_the_bound_of_the_chain():
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(2, 1, 25, generator=generator, dtype=torch.float64)
    fraction = torch.rand(x0.shape, generator=generator, dtype=torch.float64)
    data = Gaussian(torch.zeros(1, 25).double(), torch.full((1, 25), 0.3).double())
    noise = BlockNoise(seed=0, items=[0, 1])

    def given(x: Tensor, sigma: Tensor) -> Prediction:
        return predict(x, data.denoise(x, sigma), sigma, fraction)

    objective = Hybrid(PROCESS, vlb_weight=0.25)
    total = torch.zeros(2, dtype=torch.float64)
    for step in range(N_STEPS):
        sigma = SIGMA[step].expand(2)
        x = x0 + SIGMA[step] * noise(x0, N_STEPS - 1 - step)
        prediction = given(x, sigma)
        total += objective(prediction, x0, x, sigma) - Plain()(prediction, x0, x, sigma)
    bound = learned_variance_bound(given, x0, PROCESS, noise=noise, bin_width=2.0**-15)
    assert bound.diffusion.shape == (2, N_STEPS - 1)
    # One step of N is drawn at a time, and counts N times.
    torch.testing.assert_close(total / (0.25 * N_STEPS), bound.total - bound.prior)
    torch.testing.assert_close(bound.prior, prior_divergence(x0, float(SIGMA[-1]), data_variance=1.0))


def test_the_least_variance_is_the_chain_of_the_plain_bound():
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(2, 1, 25, generator=generator, dtype=torch.float64)
    data = Gaussian(torch.zeros(1, 25).double(), torch.full((1, 25), 0.3).double())
    noise = BlockNoise(seed=0, items=[0, 1])

    def given(x: Tensor, sigma: Tensor) -> Prediction:
        return predict(x, data.denoise(x, sigma), sigma, torch.zeros_like(x))

    learned = learned_variance_bound(given, x0, PROCESS, noise=noise)
    plain = variational_bound(data.denoise, x0, Discrete(PROCESS)(N_STEPS), noise=noise, data_variance=1.0)
    torch.testing.assert_close(learned.diffusion, plain.diffusion)
    torch.testing.assert_close(learned.prior, plain.prior)


def test_the_bounds_gradient_reaches_the_variance_alone():
    torch.manual_seed(0)
    network = WaveNet(StepTable(N_STEPS), channels=4, n_layers=2, dilation_cycle=2, out_channels=2).double()
    torch.nn.init.normal_(network.output_projection.weight)
    denoiser = Denoiser(network, Epsilon(PROCESS), learns_variance=True)
    x0, eps = torch.randn(2, N_STEPS, 1, 40, dtype=torch.float64)
    x = x0 + SIGMA[:, None, None] * eps
    weight = network.output_projection.weight  # the first row makes eps, the second the fraction

    def gradient(objective: Plain | Hybrid) -> Tensor:
        return torch.autograd.grad(objective(denoiser(x, SIGMA, Condition()), x0, x, SIGMA).sum(), weight)[0]

    plain, hybrid, double = gradient(Plain()), gradient(Hybrid(PROCESS)), gradient(Hybrid(PROCESS, vlb_weight=0.002))
    torch.testing.assert_close(hybrid[0], plain[0])
    assert (plain[1] == 0.0).all()
    assert (hybrid[1] != 0.0).all()
    torch.testing.assert_close(double[1], 2.0 * hybrid[1])


def test_the_hybrid_is_finite_in_float32_at_every_step_of_a_long_table():
    process = DiscreteVP(linear_betas(1e-4, 0.02, 1000))
    generator = torch.Generator().manual_seed(0)
    x0, denoised, learned = 0.1 * torch.randn(3, 1000, 1, 16, generator=generator)
    sigma = process.sigma(torch.arange(1000.0, dtype=torch.float64))
    fraction = (100.0 * learned).requires_grad_()
    scalings = Epsilon(process)(sigma.float().double())
    single = Hybrid(process)(Prediction(denoised, denoised, scalings, fraction), x0, x0, sigma.float())
    exact = Hybrid(process)(
        Prediction(denoised.double(), denoised.double(), scalings, fraction.double()), x0.double(), x0.double(), sigma
    )
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=0.0)
    single.sum().backward()
    assert fraction.grad is not None
    assert fraction.grad.isfinite().all()


def test_a_denoiser_that_learns_no_variance_is_refused():
    x0 = torch.zeros(1, 1, 4, dtype=torch.float64)
    with pytest.raises(ParameterError, match=r"set model\.denoiser\.learns_variance=true"):
        Hybrid(PROCESS)(predict(x0, x0, SIGMA[:1], None), x0, x0, SIGMA[:1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Hybrid, PROCESS, vlb_weight=0.0), "vlb_weight=0.0 must be positive"),
        (partial(Hybrid, PROCESS, bin_width=0.0), "bin_width=0.0 must be positive"),
    ],
)
def test_invalid_options_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
