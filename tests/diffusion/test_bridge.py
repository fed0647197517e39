"""Bridges between clean and noisy speech: their own equations, solved, give what the one denoiser gives."""

import math

import numpy as np
import pytest
import torch
from analytic import Law
from scipy.integrate import quad, solve_ivp

from audiodiff.diffusion.bridge import Bridge, BridgeGrid, NoisyFlow, OrnsteinUhlenbeck, SchroedingerBridge
from audiodiff.diffusion.solvers import euler, euler_ancestral, heun
from audiodiff.errors import ParameterError

BRIDGES: dict[str, Bridge] = {
    "ouve": OrnsteinUhlenbeck(),
    "flow": NoisyFlow(),
    "bridge": SchroedingerBridge(),
}
N = 4


def joint(seed: int = 0) -> tuple[torch.Tensor, Law]:
    """Return one y, and the law of x0 given it, of a joint Gaussian law of x0 and y."""
    generator = torch.Generator().manual_seed(seed)
    root = 0.2 * torch.randn(2 * N, 2 * N, generator=generator, dtype=torch.float64)
    covariance = root @ root.mT
    x0_x0, x0_y, y_y = covariance[:N, :N], covariance[:N, N:], covariance[N:, N:]
    y = torch.linalg.cholesky(y_y) @ torch.randn(N, generator=generator, dtype=torch.float64)
    gain = torch.linalg.solve(y_y, x0_y.mT).mT
    return y, Law(gain @ y, x0_x0 - gain @ x0_y.mT)


def denoised(law: Law, bridge: Bridge, x_t: np.ndarray, y: torch.Tensor, t: float) -> tuple[np.ndarray, float]:
    """Return E[x0 | x_t, y] from the joint law of x_t and x0 given y, without going through sigma; and s."""
    w_x, w_y, s = (float(part) for part in bridge.coefficients(torch.tensor(t, dtype=torch.float64)))
    c, m = law.covariance.numpy(), law.mean.numpy()
    residual = x_t - w_x * m - w_y * y.numpy()
    return m + w_x * c @ np.linalg.solve(w_x**2 * c + s**2 * np.eye(N), residual), s


@pytest.mark.parametrize("name", BRIDGES)
def test_a_bridge_begins_at_the_clean_speech_and_its_weights_sum_to_one(name: str):
    t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    w_x, w_y, s = BRIDGES[name].coefficients(t)
    torch.testing.assert_close(w_x + w_y, torch.ones_like(t))
    assert (w_x[0], w_y[0], s[0]) == (1.0, 0.0, 0.0)
    sigma = BRIDGES[name].sigma(t)
    assert (sigma[1:] > sigma[:-1]).all()


def test_the_ornstein_uhlenbeck_variance_is_that_of_its_equation():
    # d/dt E[x] = gamma (y - E[x]), d/dt var = -2 gamma var + g^2: integrals, and not the closed form.
    process = OrnsteinUhlenbeck()
    rate = math.log(process.sigma_max / process.sigma_min)

    def added(u: float, t: float) -> float:
        g = process.sigma_min * math.exp(rate * u) * math.sqrt(2.0 * rate)
        return g**2 * math.exp(-2.0 * process.gamma * (t - u))

    for t in (0.03, 0.5, 1.0):
        _, _, s = process.coefficients(torch.tensor(t, dtype=torch.float64))
        assert float(s) ** 2 == pytest.approx(quad(added, 0.0, t, args=(t,))[0], rel=1e-10)


def test_the_schroedinger_bridge_is_brownian_motion_given_both_its_ends():
    # Of dx = g dw from x0, with variances v(t) and covariance v(min): the law of x_t given x_1 = y.
    process = SchroedingerBridge()
    for t in (0.1, 0.6, 0.95):
        at, end = (quad(lambda u: process.c * process.k ** (2 * u), 0.0, stop)[0] for stop in (t, 1.0))
        w_x, w_y, s = process.coefficients(torch.tensor(t, dtype=torch.float64))
        assert float(w_y) == pytest.approx(at / end, rel=1e-10)
        assert float(w_x) == pytest.approx(1.0 - at / end, rel=1e-10)
        assert float(s) ** 2 == pytest.approx(at - at**2 / end, rel=1e-10)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("name", BRIDGES)
def test_the_denoiser_is_that_of_the_bridge(name: str, t: float):
    y, law = joint()
    x_t = torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w_x, w_y, _ = BRIDGES[name].coefficients(torch.tensor(t, dtype=torch.float64))
    sigma = BRIDGES[name].sigma(torch.tensor([t], dtype=torch.float64))
    ours = law.denoise(((x_t - w_y * y) / w_x)[None, None], sigma)[0, 0]
    np.testing.assert_allclose(ours.numpy(), denoised(law, BRIDGES[name], x_t.numpy(), y, t)[0], rtol=1e-9)


@pytest.mark.parametrize("name", ["ouve", "flow"])
def test_the_flow_in_the_coordinates_of_the_paper_ends_where_ours_does(name: str):
    y, law = joint()
    bridge = BRIDGES[name]
    first, last = 0.95, 0.02

    def ouve(t: float, x: np.ndarray) -> np.ndarray:
        process = OrnsteinUhlenbeck()
        x0, s = denoised(law, process, x, y, t)
        w_x = math.exp(-process.gamma * t)
        score = -(x - w_x * x0 - (1.0 - w_x) * y.numpy()) / s**2
        rate = math.log(process.sigma_max / process.sigma_min)
        g = process.sigma_min * math.exp(rate * t) * math.sqrt(2.0 * rate)
        # Richter et al. 2023, eq. 3 and 4, and the probability flow of eq. 7: f - g^2 / 2 score.
        return process.gamma * (y.numpy() - x) - 0.5 * g**2 * score

    def flow(t: float, x: np.ndarray) -> np.ndarray:
        x0, _ = denoised(law, NoisyFlow(), x, y, t)
        # The velocity of x_t for one (x0, y, eps) is y + noise_scale eps - x0; its mean given x_t.
        return y.numpy() - x0 + (x - (1.0 - t) * x0 - t * y.numpy()) / t

    x_first = torch.randn(N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    theirs = solve_ivp({"ouve": ouve, "flow": flow}[name], (first, last), x_first.numpy(), rtol=1e-10, atol=1e-12)
    ends = torch.tensor([first, last], dtype=torch.float64)
    w_x, w_y, _ = bridge.coefficients(ends)
    sigma = bridge.sigma(ends)
    x = (x_first - w_y[0] * y) / w_x[0]
    # A Gaussian's probability flow in x0 + sigma eps, along the eigenvectors of its covariance.
    values, vectors = torch.linalg.eigh(law.covariance)
    shrink = ((values + sigma[1] ** 2) / (values + sigma[0] ** 2)).sqrt()
    x = law.mean + vectors @ (shrink * (vectors.mT @ (x - law.mean)))
    np.testing.assert_allclose((w_x[1] * x + w_y[1] * y).numpy(), theirs.y[:, -1], atol=1e-8)


@pytest.mark.parametrize(("t", "t_next"), [(0.9, 0.6), (0.5, 0.4), (0.2, 0.0)])
def test_a_step_of_the_flow_is_a_step_of_euler(t: float, t_next: float):
    y, law = joint()
    x_t = torch.randn(N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x0, _ = denoised(law, NoisyFlow(), x_t.numpy(), y, t)
    velocity = y.numpy() - x0 + (x_t.numpy() - (1.0 - t) * x0 - t * y.numpy()) / t
    ours = ((x_t - t * y) / (1.0 - t))[None, None]
    ours = euler(law.denoise, ours, NoisyFlow().sigma(torch.tensor([t, t_next], dtype=torch.float64)))[0, 0]
    np.testing.assert_allclose(
        ((1.0 - t_next) * ours + t_next * y).numpy(), x_t.numpy() + (t_next - t) * velocity, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize(("t", "t_next"), [(0.9, 0.6), (0.5, 0.4), (0.2, 0.01)])
@pytest.mark.parametrize("is_random", [False, True])
def test_the_bridges_first_order_samplers_are_euler_and_its_ancestral_form(t: float, t_next: float, is_random: bool):
    y, law = joint()
    bridge = SchroedingerBridge()
    generator = torch.Generator().manual_seed(4)
    x_t, eps = torch.randn(2, N, generator=generator, dtype=torch.float64)
    ends = torch.tensor([t, t_next], dtype=torch.float64)
    (v, v_next), whole = bridge.variance(ends), bridge.variance(torch.ones((), dtype=torch.float64))
    x0 = torch.from_numpy(denoised(law, bridge, x_t.numpy(), y, t)[0])
    if is_random:
        # The law of a Brownian path at v_next, given x0 at 0 and x_t at v: Jukić et al. 2024, the SDE sampler.
        theirs = v_next / v * x_t + (1.0 - v_next / v) * x0 + (v_next * (1.0 - v_next / v)).sqrt() * eps
    else:
        # Jukić et al. 2024, the ODE sampler, alpha = 1, with the stds s of what has passed and r of what is to come.
        s, s_next, r, r_next = v.sqrt(), v_next.sqrt(), (whole - v).sqrt(), (whole - v_next).sqrt()
        theirs = (
            s_next * r_next / (s * r) * x_t
            + (r_next**2 - r * s_next * r_next / s) / whole * x0
            + (s_next**2 - s * s_next * r_next / r) / whole * y
        )
    w_x, w_y, _ = bridge.coefficients(ends)
    ours = ((x_t - w_y[0] * y) / w_x[0])[None, None]
    if is_random:
        ours = euler_ancestral(law.denoise, ours, bridge.sigma(ends), noise=lambda like, step: eps.expand_as(like))
    else:
        ours = euler(law.denoise, ours, bridge.sigma(ends))
    torch.testing.assert_close(w_x[1] * ours[0, 0] + w_y[1] * y, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "t_start"), [("ouve", 1.0), ("flow", 0.9999), ("bridge", 0.999999)])
def test_a_draw_from_noisy_speech_has_the_law_of_the_flow(name: str, t_start: float):
    y, law = joint()
    sigmas = BridgeGrid(BRIDGES[name], t_start=t_start)(1)
    start = float(sigmas[0])
    # Evenly in log sigma, with many steps: what is tested is the start, not the grid.
    levels = torch.cat([torch.logspace(math.log10(start), -4, 600, dtype=torch.float64), sigmas[1:]])
    pulses = torch.cat([torch.zeros(1, N), torch.eye(N)]).double()[:, None]
    made = heun(law.denoise, y + start * pulses, levels)[:, 0]
    mean, root = made[0], (made[1:] - made[0]).mT
    values, vectors = torch.linalg.eigh(law.covariance)
    left = (values / (values + start**2)).sqrt()
    of_flow = law.mean + vectors @ (left * (vectors.mT @ (y - law.mean)))
    covariance = vectors @ torch.diag(values * start**2 / (values + start**2)) @ vectors.mT
    # Heun's error with 600 steps over up to nine decades.
    torch.testing.assert_close(mean, of_flow, atol=2e-4, rtol=0.0)
    torch.testing.assert_close(root @ root.mT, covariance, atol=2e-4, rtol=0.0)
    if start > 100.0:
        torch.testing.assert_close(mean, law.mean, atol=5e-3, rtol=0.0)
        torch.testing.assert_close(root @ root.mT, law.covariance, atol=5e-4, rtol=0.0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: OrnsteinUhlenbeck(gamma=0.0), "gamma"),
        (lambda: OrnsteinUhlenbeck(sigma_min=0.6), "sigma_min"),
        (lambda: NoisyFlow(noise_scale=-1.0), "noise_scale"),
        (lambda: SchroedingerBridge(c=0.0), "c=0.0"),
        (lambda: SchroedingerBridge(k=1.0), "k=1.0"),
        (lambda: BridgeGrid(NoisyFlow(), t_start=1.5), "t_start"),
    ],
)
def test_invalid_bridges_are_refused(make, name: str):
    with pytest.raises(ParameterError, match=name):
        make()
