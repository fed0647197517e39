"""Diffusion models for sound: one 1-D WaveNet-style denoiser, trained, sampled and evaluated."""

__version__ = "0.1.0"
