"""Diffusion processes: the mixture of signal and noise at each time t.

| process | alpha_t | sigma = sigma_t / alpha_t | last |
|---|---|---|---|
| `VPLinear` | exp(-B / 2), B the integral of beta | sqrt(exp(B) - 1) | 1 |
| `VPCosine` | cos(pi t / 2), where shift is 1 | shift tan(pi t / 2) | 1 |
| `VPSigmoid` | root of a rescaled sigmoid | sqrt(1 / alpha_t^2 - 1) | 1 |
| `DiscreteVP` | root of the product of 1 - beta | sqrt(1 / alpha_t^2 - 1) | steps - 1 |
| `Variational` | 1 / sqrt(1 + sigma^2) | learnt | 1 |
| `SubVP` | exp(-B / 2) | 2 sinh(B / 2) | 1 |
| `VE` | 1 | sigma_min (sigma_max / sigma_min)^t | 1 |
| `VELinear` (EDM) | 1 | sigma_max t | 1 |
| `Flow` | 1 - t | noise_scale t / (1 - t) | 1 |
"""

from audiodiff.diffusion.process.base import Clock, Process, VariancePreserving
from audiodiff.diffusion.process.continuous_vp import SubVP, VPCosine, VPLinear, VPSigmoid
from audiodiff.diffusion.process.conversion import convert, sigma_range
from audiodiff.diffusion.process.discrete import (
    DiscreteVP,
    betas_of_alpha_bar,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
)
from audiodiff.diffusion.process.exploding import VE, VELinear
from audiodiff.diffusion.process.flow import Flow
from audiodiff.diffusion.process.variational import Variational

__all__ = [
    "VE",
    "Clock",
    "DiscreteVP",
    "Flow",
    "Process",
    "SubVP",
    "VELinear",
    "VPCosine",
    "VPLinear",
    "VPSigmoid",
    "VariancePreserving",
    "Variational",
    "betas_of_alpha_bar",
    "convert",
    "cosine_betas",
    "linear_betas",
    "scaled_linear_betas",
    "sigma_range",
]
