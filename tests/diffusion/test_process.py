import math

import pytest
import torch
from torch import Tensor

from audiodiff.diffusion.process import (
    VE,
    DiscreteVP,
    Flow,
    Process,
    SubVP,
    Variational,
    VELinear,
    VPCosine,
    VPLinear,
    VPSigmoid,
    cosine_betas,
    linear_betas,
)
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric


def bent(n_units: int = 8) -> Variational:
    """Return a learnt process that has learnt something."""
    process, generator = Variational(n_units=n_units), torch.Generator().manual_seed(0)
    for parameter in process.parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return process


PROCESSES = {
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "vp_cosine_shifted": VPCosine(shift=0.3),
    "vp_sigmoid": VPSigmoid(),
    "vp_sigmoid_sudden": VPSigmoid(start=0.0, end=3.0, temperature=0.3),
    "variational": Variational(),
    "variational_bent": bent(),
    "sub_vp": SubVP(),
    "ve": VE(),
    "edm": VELinear(),
    "flow": Flow(),
    "flow_quiet": Flow(noise_scale=0.1),
    "discrete_50": DiscreteVP(linear_betas(1e-4, 0.05, 50)),
    "discrete_200": DiscreteVP(linear_betas(1e-4, 0.02, 200)),
    "discrete_cosine": DiscreteVP(cosine_betas(200)),
}
VARIANCE_PRESERVING = [name for name in PROCESSES if name.startswith(("vp", "discrete", "variational"))]
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def logistic(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))


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


@every_process
def test_the_log_snr_falls_all_the_way(process):
    assert (process.log_snr(clock(process)).diff() < 0).all()


@every_process
def test_float32_is_float64_rounded(process):
    # Up to t = 0.99, where 1 - t has lost two of seven digits.
    t = (process.last * torch.linspace(0.01, 0.99, 37, dtype=torch.float64)).float()
    sigma = process.sigma(t)
    exact = process.sigma(t.double())
    torch.testing.assert_close(sigma, exact.float(), rtol=5e-5, atol=0.0)
    torch.testing.assert_close(process.time(sigma), process.time(sigma.double()).float(), rtol=5e-5, atol=5e-6)
    for part, other in zip(
        (*process.coefficients(t), *process.rates(t), process.alpha(sigma), process.input_scale(sigma)),
        (*process.coefficients(t.double()), *process.rates(t.double()), *[None] * 2),
        strict=True,
    ):
        assert part.dtype == torch.float32
        if other is not None:
            torch.testing.assert_close(part, other.float(), rtol=5e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in PROCESSES if not n.startswith(("discrete", "variational"))])
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


@pytest.mark.parametrize("name", VARIANCE_PRESERVING)
def test_the_variance_is_preserved(name):
    alpha_t, sigma_t = PROCESSES[name].coefficients(clock(PROCESSES[name]))
    torch.testing.assert_close(alpha_t**2 + sigma_t**2, torch.ones_like(alpha_t), rtol=1e-14, atol=0.0)


@every_process
def test_the_input_of_a_network_is_bounded_by_that_of_unit_variance(process):
    sigma = process.sigma(clock(process))
    assert (process.input_scale(sigma) * torch.sqrt(1.0 + sigma**2) <= 1.0 + 1e-12).all()


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("vp_linear", (1.0, 0.0), (math.exp(-10.05 / 2.0), math.sqrt(1.0 - math.exp(-10.05)))),
        ("vp_cosine", (1.0, 0.0), (0.0, 1.0)),
        ("vp_sigmoid", (1.0, 0.0), (0.0, 1.0)),
        ("vp_sigmoid_sudden", (1.0, 0.0), (0.0, 1.0)),
        (
            "variational_bent",
            (logistic(13.3) ** 0.5, logistic(-13.3) ** 0.5),
            (logistic(-5.0) ** 0.5, logistic(5.0) ** 0.5),
        ),
        ("sub_vp", (1.0, 0.0), (math.exp(-10.05 / 2.0), 1.0 - math.exp(-10.05))),
        ("ve", (1.0, 0.002), (1.0, 80.0)),
        ("edm", (1.0, 0.0), (1.0, 80.0)),
        ("flow_quiet", (1.0, 0.0), (0.0, 0.1)),
        ("discrete_cosine", (math.sqrt(1.0 - cosine_betas(200)[0]), math.sqrt(cosine_betas(200)[0])), (0.0, 1.0)),
    ],
)
def test_a_process_begins_and_ends_where_its_formula_says(name, first, last):
    process = PROCESSES[name]
    ends = process.coefficients(torch.tensor([0.0, process.last], dtype=torch.float64))
    # The cosine table is clipped before its end: alpha is 2.5e-4 there.
    torch.testing.assert_close(
        torch.stack(ends),
        torch.tensor([first, last], dtype=torch.float64).T,
        rtol=1e-12,
        atol=3e-4 if name == "discrete_cosine" else 1e-15,
    )


def test_the_sigmoid_schedule_is_that_of_its_paper():
    start, end, temperature = 0.0, 3.0, 0.3

    v_start, v_end = logistic(start / temperature), logistic(end / temperature)
    t = clock(PROCESSES["vp_sigmoid_sudden"])
    alpha_bar = [(v_end - logistic((s * (end - start) + start) / temperature)) / (v_end - v_start) for s in t.tolist()]
    # The differences of the paper's form lose digits near t = 1, where alpha_bar is 1e-6.
    torch.testing.assert_close(
        PROCESSES["vp_sigmoid_sudden"].coefficients(t)[0] ** 2,
        torch.tensor(alpha_bar, dtype=torch.float64),
        rtol=1e-9,
        atol=1e-14,
    )


def test_sub_vp_has_the_variance_of_vp_squared():
    t = clock(SubVP())
    (alpha_t, sigma_t), (vp_alpha_t, vp_sigma_t) = SubVP().coefficients(t), VPLinear().coefficients(t)
    torch.testing.assert_close(alpha_t, vp_alpha_t, rtol=1e-14, atol=0.0)
    # Song et al. 2021: the variance is (1 - exp(-B))^2 where VP has 1 - exp(-B).
    torch.testing.assert_close(sigma_t, vp_sigma_t**2, rtol=1e-12, atol=0.0)


def test_the_steps_of_a_discrete_process_are_products_of_one_minus_beta():
    process = DiscreteVP((0.1, 0.2, 0.5))
    alpha_t, _ = process.coefficients(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(alpha_t**2, torch.tensor([0.9, 0.72, 0.36], dtype=torch.float64))


def test_the_rates_of_a_discrete_process_are_continuous_at_its_steps():
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
        (lambda: VELinear(sigma_max=0.0), "sigma_max=0.0"),
        (lambda: SubVP(beta_min=-1.0), "beta_min=-1.0"),
        (lambda: VPSigmoid(start=3.0, end=3.0), "start=3.0"),
        (lambda: VPSigmoid(temperature=0.0), "temperature=0.0"),
        (lambda: Variational(gamma_min=5.0), "gamma_min=5.0"),
        (lambda: Variational(n_units=-1), "n_units=-1"),
        (lambda: DiscreteVP((0.1, 1.0)), r"betas\[1\]=1.0"),
        (lambda: DiscreteVP((0.1,)), "at least 2"),
    ],
)
def test_a_process_that_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
