"""Restoration: inpainting, bandwidth extension, declipping, enhancement, as draws from a posterior.

model = audiodiff.load("speech-prior-16k")
clean = audiodiff.tasks.restoration.enhance(model, noisy, sample_rate=44100)
"""

from audiodiff.tasks.restoration.declipping import Declip, declip
from audiodiff.tasks.restoration.enhancement import Enhance, enhance
from audiodiff.tasks.restoration.extension import Extend, extend
from audiodiff.tasks.restoration.inpainting import Inpaint, inpaint
from audiodiff.tasks.restoration.posterior import (
    DPS,
    FOR_LOSS,
    FOR_NOISE,
    Conditional,
    Denoising,
    PiGDM,
    PosteriorSampler,
    Projection,
    RePaint,
    posterior_named,
)
from audiodiff.tasks.restoration.repair import Problem, Repair
from audiodiff.tasks.restoration.sampling import Sampling, check_model, draw
from audiodiff.tasks.restoration.windows import restore

__all__ = [
    "DPS",
    "FOR_LOSS",
    "FOR_NOISE",
    "Conditional",
    "Declip",
    "Denoising",
    "Enhance",
    "Extend",
    "Inpaint",
    "PiGDM",
    "PosteriorSampler",
    "Problem",
    "Projection",
    "RePaint",
    "Repair",
    "Sampling",
    "check_model",
    "declip",
    "draw",
    "enhance",
    "extend",
    "inpaint",
    "posterior_named",
    "restore",
]
