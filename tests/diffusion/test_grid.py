import math

import pytest
import torch

from audiodiff.diffusion.grid import (
    GRIDS as NAMED,
)
from audiodiff.diffusion.grid import (
    BetaTable,
    Discrete,
    Fixed,
    Karras,
    LogUniform,
    TimeBetween,
    TimeUniform,
    grid_named,
)
from audiodiff.diffusion.process import VE, DiscreteVP, Flow, VPCosine, VPLinear, linear_betas
from audiodiff.errors import ParameterError
from audiodiff.models.building import Builder
from audiodiff.training.config import compose, config_folder, plain

DISCRETE = DiscreteVP(linear_betas(1e-4, 0.05, 50))
GRIDS = {
    "karras": Karras(),
    "log_uniform": LogUniform(),
    "between": TimeBetween(VPCosine(), 0.01, 50.0),
    "flow": TimeUniform(Flow()),
    "cosine": TimeUniform(VPCosine()),
    "linear": TimeUniform(VPLinear(), t_start=1.0, t_end=0.001),
    "ve": TimeUniform(VE(), t_start=1.0),
    "time_of_a_table": TimeUniform(DISCRETE, t_start=1.0),
    "discrete": Discrete(DISCRETE),
    "quadratic": Discrete(DISCRETE, power=2.0),
    "fast": BetaTable([1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5]),
    "fixed": Fixed([8.0, 4.0, 2.0, 1.0, 0.5, 0.25]),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_a_grid_decreases_to_zero_in_the_given_number_of_steps(grid):
    sigmas = grid(6)
    assert sigmas.shape == (7,)
    assert sigmas.dtype == torch.float64
    assert sigmas[-1] == 0.0
    assert (sigmas.diff() < 0.0).all()
    assert sigmas.isfinite().all()


@pytest.mark.parametrize("name", ["karras", "log_uniform", "between", "flow", "ve", "discrete", "quadratic"])
def test_a_grid_of_one_step_starts_at_full_noise(name):
    assert GRIDS[name](1)[0] == GRIDS[name](20)[0]


def test_the_grid_of_a_flow_has_equal_steps_of_time():
    times = Flow().time(TimeUniform(Flow(), t_start=0.999)(9))
    torch.testing.assert_close(times.diff(), torch.full((9,), -0.111, dtype=torch.float64))


def test_all_steps_of_a_discrete_process_are_its_table_from_the_end():
    torch.testing.assert_close(DISCRETE.time(Discrete(DISCRETE)(50)[:-1]), torch.arange(49.0, -1.0, -1.0).double())


def test_some_steps_of_a_discrete_process_are_steps_of_its_table():
    t = DISCRETE.time(Discrete(DISCRETE)(7)[:-1])
    torch.testing.assert_close(t, t.round(), rtol=0.0, atol=1e-9)
    assert t[0].round() == 49
    assert t[-1].round() == 0


@pytest.mark.parametrize("n_steps", [1, 2, 7, 20, 49, 50])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_a_subsequence_of_a_table_visits_no_step_twice(n_steps, power):
    t = DISCRETE.time(Discrete(DISCRETE, power=power)(n_steps)[:-1])
    torch.testing.assert_close(t, t.round(), rtol=0.0, atol=1e-9)
    assert len(set(t.round().tolist())) == n_steps
    assert t[0].round() == 49
    assert n_steps == 1 or t[-1].round() == 0


def test_a_quadratic_subsequence_has_even_roots_to_the_rounding_of_steps():
    """Song et al. 2021, appendix D.2: tau_i = c i^2."""
    process = DiscreteVP(linear_betas(1e-4, 0.02, 1000))
    t = process.time(Discrete(process, power=2.0)(10)[:-1]).flip(0)
    torch.testing.assert_close(t, torch.arange(10.0).double() ** 2 * 999.0 / 81.0, rtol=0.0, atol=0.5 + 1e-9)


def test_even_steps_of_the_log_snr_are_even_steps_of_the_time_of_ve():
    sigmas = LogUniform(sigma_min=0.002, sigma_max=80.0)(12)[:-1]
    log_snr = -2.0 * sigmas.log()
    torch.testing.assert_close(log_snr.diff(), torch.full((11,), 2.0 * math.log(40000.0) / 11.0, dtype=torch.float64))
    torch.testing.assert_close(sigmas, TimeBetween(VE(), 0.002, 80.0)(12)[:-1])


def test_a_grid_of_karras_tends_to_the_log_uniform_one_as_rho_grows():
    """(1 + log(sigma) / rho)^rho tends to sigma with an error of order 1 / rho."""
    exact = LogUniform(0.01, 10.0)(9)
    errors = [(Karras(0.01, 10.0, rho=rho)(9) - exact).abs().max().item() for rho in (1e3, 1e4)]
    assert errors[0] / errors[1] == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_grid_covers_the_given_levels(name):
    for n_steps in (2, 5, 64):
        sigmas = grid_named(name, sigma_min=0.02, sigma_max=30.0)(n_steps)
        assert sigmas[[0, -2, -1]].tolist() == pytest.approx([30.0, 0.02, 0.0], rel=1e-9)
        assert (sigmas.diff() < 0.0).all()


@pytest.mark.parametrize("process", [Flow(noise_scale=0.1), VPCosine(), VPLinear()])
def test_the_grid_of_a_models_own_process_is_its_own_grid_again(process):
    own = TimeUniform(process)(8)
    name = {Flow: "flow", VPCosine: "vp_cosine", VPLinear: "vp_linear"}[type(process)]
    torch.testing.assert_close(grid_named(name, sigma_min=float(own[-2]), sigma_max=float(own[0]))(8), own)


@pytest.mark.parametrize("name", [name for name in NAMED if (config_folder() / f"process/{name}.yaml").exists()])
def test_a_grid_that_is_named_as_a_process_is_of_that_process(name):
    process = Builder()(plain(compose([f"process={name}"]))["process"])
    torch.testing.assert_close(grid_named(name, sigma_min=0.1, sigma_max=9.0)(5), TimeBetween(process, 0.1, 9.0)(5))


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_a_single_number_of_steps_states_it(name):
    only = GRIDS[name].only_steps
    assert (only is not None) == (name in ("fast", "fixed"))
    assert only is None or len(GRIDS[name](only)) == only + 1


def test_a_table_of_betas_is_the_discrete_process_of_that_table():
    betas = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)
    torch.testing.assert_close(BetaTable(betas)(6), Discrete(DiscreteVP(betas))(6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Karras()(0), "n_steps=0"),
        (lambda: Discrete(DISCRETE)(51), "n_steps=51 must not exceed the 50 steps"),
        (lambda: GRIDS["fast"](5), "n_steps=5 must be 6"),
        (lambda: GRIDS["fixed"](7), "n_steps=7 must be 6"),
        (lambda: Fixed([1.0, 2.0]), r"sigmas\[0\]=1.0"),
        (lambda: Fixed([1.0, 0.0]), r"sigmas\[1\]=0.0"),
        (lambda: Karras(sigma_min=0.0), "sigma_min=0.0"),
        (lambda: LogUniform(sigma_min=1.0, sigma_max=1.0), "sigma_min=1.0 and sigma_max=1.0"),
        (lambda: TimeBetween(Flow(), 2.0, 1.0), "sigma_min=2.0 and sigma_max=1.0"),
        (lambda: LogUniform()(0), "n_steps=0"),
        (lambda: Discrete(DISCRETE, power=0.5), "power=0.5"),
        (lambda: grid_named("cubic", sigma_min=0.1, sigma_max=1.0), "grid='cubic' must be one of karras, log_uniform"),
        (lambda: TimeUniform(Flow(), t_start=1.5), "t_start=1.5"),
    ],
)
def test_invalid_grids_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
