"""Side by side with k-diffusion, from the same start with the same noise, in float64."""

import importlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.solvers import solver

SHAPE = (2, 1, 32)
CHURN = {"s_churn": 4.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.007}


@pytest.fixture(scope="module")
def sampling() -> Iterator[Any]:
    """Import k_diffusion.sampling alone: the package imports models and data sets that samplers do not need."""
    spec = find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("k-diffusion is not installed")
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    stubs = {name: ModuleType(name) for name in ("torchvision", "torchvision.transforms")}
    vars(stubs["torchvision.transforms"])["functional"] = ModuleType("functional")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("k_diffusion", "torchvision")]:
            patch.delitem(sys.modules, name)
        for name, module in {"k_diffusion": package, **stubs}.items():
            patch.setitem(sys.modules, name, module)
        try:
            module = importlib.import_module("k_diffusion.sampling")
        except ImportError as error:
            pytest.skip(f"k_diffusion.sampling cannot be imported: {error}")
        yield module
        for name in [name for name in sys.modules if name.partition(".")[0] == "k_diffusion"]:
            del sys.modules[name]


def white(step: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1000 + step), dtype=torch.float64)


def noise(like: Tensor, step: int) -> Tensor:
    return white(step)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("euler", "sample_euler"),
        ("heun", "sample_heun"),
        ("midpoint", "sample_dpm_2"),
        ("dpmpp_2m", "sample_dpmpp_2m"),
    ],
)
@pytest.mark.parametrize("n_steps", [1, 2, 9])
def test_a_solver_is_that_of_k_diffusion(sampling, data, name, theirs, n_steps):
    sigmas = Karras()(n_steps)
    expected = getattr(sampling, theirs)(data.denoise, 80.0 * white(0), sigmas, disable=True)
    result = solver(name)(data.denoise, 80.0 * white(0), sigmas)
    torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_churn_is_that_of_k_diffusion(sampling, data, name, monkeypatch):
    # It draws at every step, whether it churns there or not: so the numbers of the draws are those of our transitions.
    drawn = iter(range(1, 100))
    monkeypatch.setattr(sampling.torch, "randn_like", lambda x: white(next(drawn)))
    sigmas = Karras()(9)
    expected = getattr(sampling, f"sample_{name}")(data.denoise, 80.0 * white(0), sigmas, disable=True, **CHURN)
    assert next(drawn) == 10
    result = solver(name, **CHURN)(data.denoise, 80.0 * white(0), sigmas, noise=noise)
    torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-11)


def test_dpmpp_3m_with_half_the_curvature_is_k_diffusions_from_step_three(sampling, data):
    # Its second step takes the exact weight of the slope, phi_2, where dpmpp_2m and we take (1 - exp(-h)) / 2. With D
    # the same at the first two levels that makes no difference.
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return data.denoise(x, sigma) if float(sigma[0]) < 30.0 else data.mean.expand_as(x)

    sigmas = Karras()(9)
    assert (sigmas > 30.0).sum() == 2
    expected = sampling.sample_dpmpp_3m_sde(denoise, 80.0 * white(0), sigmas, disable=True, eta=0.0)
    result = solver("dpmpp_3m", curvature=0.5)(denoise, 80.0 * white(0), sigmas)
    torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_is_the_limit_that_deis_has_too(sampling, data, order):
    """Both extrapolate eps; the polynomial of lms is in sigma, that of deis in log(sigma): the same at order one."""
    sigmas = 10.0 * 0.01 ** (torch.linspace(0.0, 1.0, 257, dtype=torch.float64) ** 2)
    start = 10.0 * white(0)
    lms = sampling.sample_lms(data.denoise, start, sigmas, disable=True, order=order)
    ours = solver("deis", order=order)(data.denoise, start, sigmas)
    if order == 1:
        # scipy's quadrature gives its weights.
        torch.testing.assert_close(ours, lms, rtol=1e-9, atol=1e-9)
    else:
        exact = data.flow(start, 10.0, 0.1)
        assert (ours - exact).abs().max() < (lms - exact).abs().max() < 1e-2
