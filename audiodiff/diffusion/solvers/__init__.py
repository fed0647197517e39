"""Solvers: plain functions from noise to signal, written on (x, sigma) -> x0 alone.

All solve dx / dsigma = (x - D(x, sigma)) / sigma (Karras et al. 2022, eq. 1 with s(t) = 1 and sigma(t) = t), or its
stochastic form, along a decreasing sequence of sigma. Coefficients are Python floats, so that x keeps its dtype.

| here | elsewhere |
|---|---|
| euler | DDIM with eta = 0; DPM-Solver-1; rectified flow's Euler; with s_churn, k-diffusion's sample_euler |
| heun | Karras et al. 2022, algorithm 1; algorithm 2 with s_churn; diffusers' Heun without it |
| midpoint | DPM-Solver-2; k-diffusion's sample_dpm_2; with process=Flow(), torchdiffeq's midpoint of the velocity |
| dpmpp_2m | DPM-Solver++(2M) |
| dpmpp_3m | DPM-Solver++(3M); with curvature=0.5 as the authors' code and diffusers have it |
| unipc | UniPC-p, B1(h) and B2(h), data prediction |
| deis | rho-AB-DEIS with polynomials in log(rho); diffusers' DEIS |
| pndm | F-PNDM; diffusers' PNDM with skip_prk_steps=False |
| adaptive | score_sde's probability flow sampler |
| euler_ancestral | DDPM's posterior; DDIM with that eta |
| ddpm | DDPM with the posterior's variance (fixedsmall), beta (fixedlarge), or a learned one |
| euler_maruyama | the reverse diffusion sampler of the VE SDE |
| predictor_corrector | the PC sampler of score_sde |
| dpmpp_2m_sde | SDE-DPM-Solver++(2M); k-diffusion's sample_dpmpp_2m_sde |
| dpmpp_3m_sde | k-diffusion's sample_dpmpp_3m_sde, but for the weight of the second difference |
| consistency | multistep consistency sampling, Song et al. 2023, algorithm 1 |
| shortcut | the jumps of shortcut models and MeanFlow |
"""

import inspect
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from audiodiff.diffusion.solvers.adams_bashforth import deis, pndm
from audiodiff.diffusion.solvers.adaptive import adaptive
from audiodiff.diffusion.solvers.few_step import consistency, shortcut
from audiodiff.diffusion.solvers.langevin import predictor_corrector
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, Solver, SolverInfo
from audiodiff.diffusion.solvers.multistep import dpmpp_2m, dpmpp_3m
from audiodiff.diffusion.solvers.one_step import euler, heun, midpoint
from audiodiff.diffusion.solvers.sde import dpmpp_2m_sde, dpmpp_3m_sde
from audiodiff.diffusion.solvers.stochastic import ddpm, euler_ancestral, euler_maruyama
from audiodiff.diffusion.solvers.unipc import unipc
from audiodiff.errors import ParameterError

__all__ = [
    "REGISTRY",
    "AfterStep",
    "OnStep",
    "Solver",
    "SolverInfo",
    "adaptive",
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
        "euler": SolverInfo(euler, order=1, n_evaluations=lambda n: n),
        "euler_ancestral": SolverInfo(euler_ancestral, order=1, n_evaluations=lambda n: n, stochastic=True),
        "heun": SolverInfo(heun, order=2, n_evaluations=lambda n: 2 * n - 1),
        "dpmpp_2m": SolverInfo(dpmpp_2m, order=2, n_evaluations=lambda n: n),
        "midpoint": SolverInfo(midpoint, order=2, n_evaluations=lambda n: 2 * n - 1),
        "dpmpp_3m": SolverInfo(dpmpp_3m, order=3, n_evaluations=lambda n: n),
        "unipc": SolverInfo(unipc, order=3, n_evaluations=lambda n: n),
        "deis": SolverInfo(deis, order=3, n_evaluations=lambda n: n),
        "pndm": SolverInfo(pndm, order=2, n_evaluations=lambda n: n + 3 * min(3, n - 1)),
        "adaptive": SolverInfo(adaptive, order=5, n_evaluations=None, local=False),
        "ddpm": SolverInfo(ddpm, order=1, n_evaluations=lambda n: n, stochastic=True),
        "euler_maruyama": SolverInfo(euler_maruyama, order=1, n_evaluations=lambda n: n, stochastic=True),
        "predictor_corrector": SolverInfo(
            predictor_corrector, order=0, n_evaluations=lambda n: 2 * n - 1, stochastic=True, local=False
        ),
        "dpmpp_2m_sde": SolverInfo(dpmpp_2m_sde, order=2, n_evaluations=lambda n: n, stochastic=True),
        "dpmpp_3m_sde": SolverInfo(dpmpp_3m_sde, order=2, n_evaluations=lambda n: n, stochastic=True),
        "consistency": SolverInfo(consistency, order=0, n_evaluations=lambda n: n, stochastic=True),
        "shortcut": SolverInfo(shortcut, order=1, n_evaluations=lambda n: n, jumps=True),
    }
)
"""Every solver by its name: for the command line, the configuration and the tests."""

_COMMON = ("denoise", "x", "sigmas", "noise", "on_step", "after_step")


def solver(name: str, **options: Any) -> Solver:
    """Return the solver of that name, with its own options set.

    Args:
        name: a key of REGISTRY.
        options: keyword arguments of that solver beyond those that all have, `eta` of euler_ancestral for one.

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


def evaluations_in_a_row(solve: Solver, n_steps: int) -> int | None:
    """Return how many evaluations one sample may depend on, one after another, in n_steps.

    Returns: None where it depends on the whole signal, or the solver is not one of the registry.
    """
    own = solve.func if isinstance(solve, partial) else solve
    for method in REGISTRY.values():
        if method.solve is own:
            return None if method.n_evaluations is None or not method.local else method.n_evaluations(n_steps)
    return None
