"""Configuration nodes become objects, and equal processes one object."""

import functools

import pytest

from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.preconditioning import V
from audiodiff.diffusion.process import Flow, Variational
from audiodiff.errors import ParameterError
from audiodiff.models.building import Builder, locate

LEARNT = {"_target_": "audiodiff.diffusion.process.Variational", "gamma_min": -4.0, "gamma_max": 4.0}
FLOW = {"_target_": "audiodiff.diffusion.process.Flow"}


def node(target: str, **more: object) -> dict[str, object]:
    return {"_target_": f"audiodiff.diffusion.{target}", **more}


def test_equal_processes_are_one_object_in_all_calls_of_a_builder():
    build = Builder()
    target, grid = build([node("preconditioning.V", process=LEARNT), node("grid.TimeUniform", process=dict(LEARNT))])
    assert isinstance(target, V)
    assert isinstance(grid, TimeUniform)
    assert isinstance(target.process, Variational)
    assert target.process is grid.process is build(LEARNT)
    assert build({**LEARNT, "gamma_max": 5.0}) is not target.process
    assert Builder()(LEARNT) is not target.process


def test_parts_of_bound_functions_share_the_process_as_well():
    build = Builder()
    solver = build({**node("solvers.solver", name="midpoint", process=LEARNT)})
    assert isinstance(solver, functools.partial)
    assert solver.keywords["process"] is build(LEARNT)


def test_partial_nodes_wait_for_their_arguments_and_lists_stay_lists():
    build = Builder()
    later = build({"_target_": "audiodiff.diffusion.process.Flow", "_partial_": True})
    assert later(noise_scale=0.5) == Flow(0.5)
    assert build({"_target_": "builtins.dict", "_args_": [[["a", [1, 2]]]], "b": None}) == {"a": [1, 2], "b": None}
    assert build({"a": FLOW, "b": (1, 2)}) == {"a": Flow(), "b": [1, 2]}


@pytest.mark.parametrize("target", ["audiodiff.diffusion.process.Flux", "audiodiff.nowhere.Flow", "nowhere", "a..b"])
def test_a_target_that_does_not_exist_is_named(target: str):
    with pytest.raises(ParameterError, match=f"_target_='{target}' does not exist"):
        locate(target)


def test_a_target_of_an_older_version_is_found():
    assert locate("audiodiff.networks.horizon.HorizonEncoder").__name__ == "StepSizeEmbedding"
