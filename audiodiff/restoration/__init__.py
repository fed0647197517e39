"""Restoration: inpainting, bandwidth extension, declipping, enhancement, as draws from a posterior.

model = audiodiff.load("speech-prior-16k")
clean = audiodiff.restoration.enhance(model, noisy, sample_rate=44100)
"""

from audiodiff.restoration.declipping import Declip, declip
from audiodiff.restoration.enhancement import Enhance, enhance
from audiodiff.restoration.extension import Extend, extend
from audiodiff.restoration.inpainting import Inpaint, inpaint
from audiodiff.restoration.problem import Problem
from audiodiff.restoration.repair import Repair
from audiodiff.restoration.sampling import METHODS, OF_NOISY, Sampling, check_model, draw
from audiodiff.restoration.windows import restore

__all__ = [
    "METHODS",
    "OF_NOISY",
    "Declip",
    "Enhance",
    "Extend",
    "Inpaint",
    "Problem",
    "Repair",
    "Sampling",
    "check_model",
    "declip",
    "draw",
    "enhance",
    "extend",
    "inpaint",
    "restore",
]
