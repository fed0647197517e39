import math

import pytest
import torch
from torch import Tensor

from audiodiff.diffusion.process import VE, DiscreteVP, Flow, Process, VPCosine, VPLinear, linear_betas
from audiodiff.errors import ParameterError

PROCESSES = {
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "vp_cosine_shifted": VPCosine(shift=0.3),
    "ve": VE(),
    "flow": Flow(),
    "flow_quiet": Flow(noise_scale=0.1),
    "discrete_50": DiscreteVP(linear_betas(1e-4, 0.05, 50)),
    "discrete_200": DiscreteVP(linear_betas(1e-4, 0.02, 200)),
}
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def clock(process: Process) -> Tensor:
    # Away from the steps of a discrete process, where its rates jump.
    return process.last * torch.linspace(0.0013, 0.9987, 37, dtype=torch.float64)


@every_process
def test_time_is_the_inverse_of_sigma(process):
    t = clock(process)
    torch.testing.assert_close(process.time(process.sigma(t)), t, rtol=1e-11, atol=1e-11)


@every_process
def test_sigma_grows_with_the_clock(process):
    assert (process.sigma(clock(process)).diff() > 0).all()


@every_process
def test_alpha_of_sigma_is_alpha_of_the_clock_and_one_without_noise(process):
    t = clock(process)
    torch.testing.assert_close(process.alpha(process.sigma(t)), process.coefficients(t)[0], rtol=1e-12, atol=0.0)
    assert process.alpha(torch.zeros(1)).item() == 1.0


@pytest.mark.parametrize("name", [name for name in PROCESSES if not name.startswith("discrete")])
def test_rates_are_the_derivatives_of_the_coefficients(name):
    process = PROCESSES[name]
    t = clock(process).requires_grad_()
    for coefficient, rate in zip(process.coefficients(t), process.rates(t), strict=True):
        # 0 * t: a constant coefficient has a derivative too.
        (slope,) = torch.autograd.grad((coefficient + 0.0 * t).sum(), t, retain_graph=True)
        torch.testing.assert_close(rate, slope, rtol=1e-9, atol=1e-12)


@every_process
def test_log_snr_is_the_log_of_the_power_ratio(process):
    t = clock(process)
    alpha_t, sigma_t = process.coefficients(t)
    torch.testing.assert_close(process.log_snr(t), torch.log(alpha_t**2 / sigma_t**2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["vp_linear", "vp_cosine", "vp_cosine_shifted", "discrete_50", "discrete_200"])
def test_the_variance_is_preserved(name):
    alpha_t, sigma_t = PROCESSES[name].coefficients(clock(PROCESSES[name]))
    torch.testing.assert_close(alpha_t**2 + sigma_t**2, torch.ones_like(alpha_t), rtol=1e-14, atol=0.0)


@every_process
def test_the_input_of_a_network_is_bounded_by_that_of_unit_variance(process):
    sigma = process.sigma(clock(process))
    assert (process.input_scale(sigma) * torch.sqrt(1.0 + sigma**2) <= 1.0 + 1e-12).all()


def test_the_steps_of_a_discrete_process_are_products_of_one_minus_beta():
    process = DiscreteVP((0.1, 0.2, 0.5))
    alpha_t, _ = process.coefficients(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(alpha_t**2, torch.tensor([0.9, 0.72, 0.36], dtype=torch.float64))


def test_the_rates_of_a_discrete_process_are_differences_that_do_not_jump_at_its_steps():
    process = DiscreteVP((0.1, 0.2, 0.5))
    roots = torch.sqrt(torch.tensor([0.9, 0.72, 0.36], dtype=torch.float64))
    around = torch.tensor([0.0, 1.0 - 1e-12, 1.0, 1.0 + 1e-12, 2.0], dtype=torch.float64)
    middle = (roots[2] - roots[0]) / 2.0
    expected = torch.stack([roots[1] - roots[0], middle, middle, middle, roots[2] - roots[1]])
    alpha_rate, sigma_rate = process.rates(around)
    torch.testing.assert_close(alpha_rate, expected, rtol=0.0, atol=1e-11)
    # alpha_t^2 + sigma_t^2 stays 1.
    alpha_t, sigma_t = process.coefficients(around)
    torch.testing.assert_close(alpha_t * alpha_rate + sigma_t * sigma_rate, torch.zeros_like(around))


def test_the_clock_of_a_discrete_process_stays_at_its_ends():
    process = DiscreteVP((0.1, 0.2, 0.5))
    assert process.time(torch.tensor([0.0, 1e-3, 100.0])).tolist() == [0.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("betas", "steps"),
    [
        (linear_betas(1e-4, 0.05, 50), [0.0, 0.8941341, 4.0866540, 10.4518165, 22.9924933, 42.9186431]),
        (linear_betas(1e-4, 0.02, 200), [0.0, 3.2006805, 13.4302774, 33.8202884, 73.9824610, 138.0838648]),
    ],
    ids=["50", "200"],
)
def test_the_fast_schedule_has_the_fractional_steps_of_diffwave(betas, steps):
    alpha_bar = torch.cumprod(1.0 - torch.tensor([1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5], dtype=torch.float64), dim=0)
    t = DiscreteVP(betas).time(torch.sqrt(1.0 / alpha_bar - 1.0))
    # The expected values are printed with seven decimals.
    torch.testing.assert_close(t, torch.tensor(steps, dtype=torch.float64), rtol=0.0, atol=6e-8)


def test_the_terminal_of_diffwaves_table_is_far_from_silence():
    alpha_t, _ = DiscreteVP(linear_betas(1e-4, 0.05, 50)).coefficients(torch.tensor([49.0], dtype=torch.float64))
    assert math.isclose(alpha_t.item() ** 2, 0.279673, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VPLinear(beta_min=3.0, beta_max=2.0), "beta_min=3.0"),
        (lambda: VPCosine(shift=0.0), "shift=0.0"),
        (lambda: VE(sigma_min=2.0, sigma_max=1.0), "sigma_min=2.0"),
        (lambda: Flow(noise_scale=-1.0), "noise_scale=-1.0"),
        (lambda: DiscreteVP((0.1, 1.0)), r"betas\[1\]=1.0"),
        (lambda: DiscreteVP((0.1,)), "at least 2"),
    ],
)
def test_a_process_that_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
