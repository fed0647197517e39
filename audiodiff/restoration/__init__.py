"""Restoration: inpainting, bandwidth extension, declipping, enhancement, as draws from a posterior."""

from audiodiff.restoration.problem import Problem
from audiodiff.restoration.sampling import METHODS, Sampling, check_model, draw

__all__ = ["METHODS", "Problem", "Sampling", "check_model", "draw"]
