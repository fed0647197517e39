"""Restoration: inpainting, bandwidth extension, declipping, enhancement, as draws from a posterior."""

from audiodiff.restoration.problem import Problem
from audiodiff.restoration.repair import Repair
from audiodiff.restoration.sampling import METHODS, Sampling, check_model, draw

__all__ = ["METHODS", "Problem", "Repair", "Sampling", "check_model", "draw"]
