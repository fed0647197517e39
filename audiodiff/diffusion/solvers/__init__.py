"""Solvers: plain functions from noise to signal that evaluate a denoiser (x, sigma) -> x0.

All solve dx / dsigma = (x - D(x, sigma)) / sigma (Karras et al. 2022, eq. 1 with s(t) = 1 and sigma(t) = t), or its
stochastic form, along a decreasing sequence of sigma. Coefficients are Python floats, so x keeps its dtype.

| here | elsewhere |
|---|---|
| euler | DDIM with eta = 0; DPM-Solver-1; rectified flow's Euler; with s_churn, k-diffusion's sample_euler |
| heun | Karras et al. 2022, algorithm 1; algorithm 2 with s_churn; diffusers' Heun without it |
| midpoint | DPM-Solver-2; k-diffusion's sample_dpm_2; with process=Flow(), torchdiffeq's midpoint of the velocity |
| dpmpp_2m | DPM-Solver++(2M) |
| dpmpp_3m | DPM-Solver++(3M); with curvature=0.5, the authors' code and diffusers |
| unipc | UniPC-p, B1(h) and B2(h), data prediction |
| deis | rho-AB-DEIS with polynomials in log(rho); diffusers' DEIS |
| pndm | F-PNDM; diffusers' PNDM with skip_prk_steps=False |
| adaptive | score_sde's probability flow sampler |
| euler_ancestral | DDPM's posterior; DDIM with that eta |
| ddpm | DDPM with the posterior's variance (fixedsmall), beta (fixedlarge), or a learned one |
| euler_maruyama | the reverse diffusion sampler of the VE SDE |
| predictor_corrector | the PC sampler of score_sde |
| dpmpp_2m_sde | SDE-DPM-Solver++(2M); k-diffusion's sample_dpmpp_2m_sde |
| dpmpp_3m_sde | k-diffusion's sample_dpmpp_3m_sde, except for the weight of the second difference |
| consistency | multistep consistency sampling, Song et al. 2023, algorithm 1 |
| shortcut | the jumps of shortcut models and MeanFlow |
"""

import inspect
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.adams_bashforth import check_deis, deis, pndm
from audiodiff.diffusion.solvers.adaptive import adaptive, check_adaptive
from audiodiff.diffusion.solvers.few_step import check_consistency, check_shortcut, consistency, shortcut
from audiodiff.diffusion.solvers.langevin import check_predictor_corrector, predictor_corrector
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, Solver, SolverInfo
from audiodiff.diffusion.solvers.multistep import dpmpp_2m, dpmpp_3m
from audiodiff.diffusion.solvers.one_step import check_churn, euler, heun, midpoint
from audiodiff.diffusion.solvers.sde import check_sde, dpmpp_2m_sde, dpmpp_3m_sde
from audiodiff.diffusion.solvers.stochastic import (
    check_ddpm,
    check_euler_ancestral,
    ddpm,
    euler_ancestral,
    euler_maruyama,
)
from audiodiff.diffusion.solvers.unipc import check_unipc, unipc
from audiodiff.errors import ParameterError

__all__ = [
    "REGISTRY",
    "AfterStep",
    "OnStep",
    "Solver",
    "SolverInfo",
    "adaptive",
    "check_solver",
    "consistency",
    "ddpm",
    "deis",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m",
    "dpmpp_3m_sde",
    "euler",
    "euler_ancestral",
    "euler_maruyama",
    "evaluations_in_a_row",
    "heun",
    "midpoint",
    "pndm",
    "predictor_corrector",
    "shortcut",
    "solver",
    "unipc",
]

REGISTRY: Mapping[str, SolverInfo] = MappingProxyType(
    {
        "euler": SolverInfo(euler, order=1, n_evaluations=lambda n: n, check=check_churn),
        "euler_ancestral": SolverInfo(
            euler_ancestral, order=1, n_evaluations=lambda n: n, stochastic=True, check=check_euler_ancestral
        ),
        "heun": SolverInfo(heun, order=2, n_evaluations=lambda n: 2 * n - 1, check=check_churn),
        "dpmpp_2m": SolverInfo(dpmpp_2m, order=2, n_evaluations=lambda n: n),
        "midpoint": SolverInfo(midpoint, order=2, n_evaluations=lambda n: 2 * n - 1),
        "dpmpp_3m": SolverInfo(dpmpp_3m, order=3, n_evaluations=lambda n: n),
        "unipc": SolverInfo(unipc, order=3, n_evaluations=lambda n: n, check=check_unipc),
        "deis": SolverInfo(deis, order=3, n_evaluations=lambda n: n, check=check_deis),
        "pndm": SolverInfo(pndm, order=2, n_evaluations=lambda n: n + 3 * min(3, n - 1)),
        "adaptive": SolverInfo(adaptive, order=5, n_evaluations=None, local=False, check=check_adaptive),
        "ddpm": SolverInfo(ddpm, order=1, n_evaluations=lambda n: n, stochastic=True, check=check_ddpm),
        "euler_maruyama": SolverInfo(euler_maruyama, order=1, n_evaluations=lambda n: n, stochastic=True),
        "predictor_corrector": SolverInfo(
            predictor_corrector,
            order=0,
            n_evaluations=lambda n: 2 * n - 1,
            stochastic=True,
            local=False,
            check=check_predictor_corrector,
        ),
        "dpmpp_2m_sde": SolverInfo(dpmpp_2m_sde, order=2, n_evaluations=lambda n: n, stochastic=True, check=check_sde),
        "dpmpp_3m_sde": SolverInfo(dpmpp_3m_sde, order=2, n_evaluations=lambda n: n, stochastic=True, check=check_sde),
        "consistency": SolverInfo(
            consistency, order=0, n_evaluations=lambda n: n, stochastic=True, check=check_consistency
        ),
        "shortcut": SolverInfo(shortcut, order=1, n_evaluations=lambda n: n, jumps=True, check=check_shortcut),
    }
)
"""All solvers by name, for the command line, the configuration and the tests."""

_COMMON = ("denoise", "x", "sigmas", "noise", "on_step", "after_step")


def solver(name: str, **options: Any) -> Solver:
    """Return the solver of a name with options.

    Args:
        name: a key of REGISTRY.
        options: keyword arguments of that solver beyond those of all solvers, for example `eta` of euler_ancestral.

    Raises:
        ParameterError: if there is no such solver or option; the message names those that exist.

    Example:
        >>> solver("heun").__name__
        'heun'
        >>> solver("euler_ancestral", eta=0.5).keywords
        {'eta': 0.5}
    """
    if name not in REGISTRY:
        raise ParameterError(f"sampler={name!r} must be one of {', '.join(REGISTRY)}")
    solve = REGISTRY[name].solve
    known = [parameter for parameter in inspect.signature(solve).parameters if parameter not in _COMMON]
    for option, value in options.items():
        if option not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise ParameterError(f"{option}={value} is no option of the sampler {name}, which {has}")
    return partial(solve, **options) if options else solve


def check_solver(solve: Solver, sigmas: Sigmas, *, guided: bool = False) -> None:
    """Check levels and options of a solver of the registry, without evaluating a denoiser.

    Args:
        solve: the solver, as `solver` returns it; others are not checked.
        sigmas: the levels of the grid.
        guided: whether the denoiser will be guided: a plain function, which neither jumps nor learns a variance.

    Raises:
        ParameterError: if the solver cannot take them.
    """
    options = solve.keywords if isinstance(solve, partial) else {}
    info = _info(solve)
    if info is not None:
        info.check(sigmas, guided=guided, **options)


def evaluations_in_a_row(solve: Solver, n_steps: int) -> int | None:
    """Return the number of successive evaluations that one sample depends on at most, in n_steps.

    Returns: None if it depends on the whole signal, or the solver is not in the registry.
    """
    info = _info(solve)
    return None if info is None or info.n_evaluations is None or not info.local else info.n_evaluations(n_steps)


def _info(solve: Solver) -> SolverInfo | None:
    own = solve.func if isinstance(solve, partial) else solve
    return next((info for info in REGISTRY.values() if info.solve is own), None)
