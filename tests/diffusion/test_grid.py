import pytest
import torch

from audiodiff.diffusion.grid import BetaTable, Discrete, Fixed, Karras, TimeUniform
from audiodiff.diffusion.process import VE, DiscreteVP, Flow, VPCosine, VPLinear, linear_betas
from audiodiff.errors import ParameterError

DISCRETE = DiscreteVP(linear_betas(1e-4, 0.05, 50))
GRIDS = {
    "karras": Karras(),
    "flow": TimeUniform(Flow()),
    "cosine": TimeUniform(VPCosine()),
    "linear": TimeUniform(VPLinear(), t_start=1.0, t_end=0.001),
    "ve": TimeUniform(VE(), t_start=1.0),
    "time_of_a_table": TimeUniform(DISCRETE, t_start=1.0),
    "discrete": Discrete(DISCRETE),
    "fast": BetaTable([1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5]),
    "fixed": Fixed([8.0, 4.0, 2.0, 1.0, 0.5, 0.25]),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_a_grid_decreases_to_zero_in_the_steps_that_it_was_asked_for(grid):
    sigmas = grid(6)
    assert sigmas.shape == (7,)
    assert sigmas.dtype == torch.float64
    assert sigmas[-1] == 0.0
    assert (sigmas.diff() < 0.0).all()
    assert sigmas.isfinite().all()


@pytest.mark.parametrize("name", ["karras", "flow", "ve", "discrete"])
def test_a_grid_of_one_step_starts_at_full_noise(name):
    assert GRIDS[name](1)[0] == GRIDS[name](20)[0]


def test_a_flow_is_cut_into_equal_steps_of_time():
    times = Flow().time(TimeUniform(Flow(), t_start=0.999)(9))
    torch.testing.assert_close(times.diff(), torch.full((9,), -0.111, dtype=torch.float64))


def test_all_steps_of_a_discrete_process_are_its_table_from_the_end():
    torch.testing.assert_close(DISCRETE.time(Discrete(DISCRETE)(50)[:-1]), torch.arange(49.0, -1.0, -1.0).double())


def test_some_steps_of_a_discrete_process_are_steps_of_its_table():
    t = DISCRETE.time(Discrete(DISCRETE)(7)[:-1])
    torch.testing.assert_close(t, t.round(), rtol=0.0, atol=1e-9)
    assert t[0].round() == 49
    assert t[-1].round() == 0


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
        (lambda: TimeUniform(Flow(), t_start=1.5), "t_start=1.5"),
    ],
)
def test_what_a_grid_cannot_do_is_refused_by_name(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
