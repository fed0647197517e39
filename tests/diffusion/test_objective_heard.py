"""The spectral loss of a denoiser that is told a recording: weighed by what is quieter, still for a posterior mean."""

import torch

from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.objective import SpectrallyWeighted
from audiodiff.diffusion.preconditioning import Scalings

LOSS = SpectrallyWeighted(n_fft=64, hop_length=16, n_bands=16, by_noisy=True)
N = 640


def sound(*, seed: int, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(3, 1, N, generator=torch.Generator().manual_seed(seed))


def losses(x0: torch.Tensor, x: torch.Tensor, heard: torch.Tensor | None) -> torch.Tensor:
    one = torch.ones(3, dtype=torch.float64)
    prediction = Prediction(x0, x0 + 0.01, Scalings(one, one, one, one))
    return LOSS(prediction, x0, x, one, heard=heard)


def told(audio: torch.Tensor, known: float = 1.0) -> torch.Tensor:
    return torch.cat([audio, torch.full_like(audio, known)], dim=1)


def test_a_quiet_recording_that_is_told_weighs_as_if_x_were_quiet():
    x0, quiet = sound(seed=0, level=1e-3), sound(seed=1, level=1e-3)
    noisy = x0 + 10.0 * sound(seed=2, level=1.0)
    assert torch.allclose(losses(x0, noisy, told(quiet)), losses(x0, quiet, None), rtol=1e-5)


def test_a_loud_recording_changes_nothing():
    x0 = sound(seed=0)
    assert torch.equal(losses(x0, x0, told(100.0 * x0)), losses(x0, x0, None))


def test_where_it_is_not_known_x_weighs():
    x0, x = sound(seed=0), sound(seed=2, level=3.0)
    assert torch.equal(losses(x0, x, told(torch.zeros_like(x0), known=0.0)), losses(x0, x, None))
    # One sample that is not known takes with it the frames that hold it, and no others.
    heard = told(1e-3 * x0)
    heard[:, 1, N // 2] = 0.0
    between = losses(x0, x, heard)
    assert bool((between < losses(x0, x, told(1e-3 * x0))).all())
    assert bool((between > losses(x0, x, None)).all())


def test_the_weight_looks_at_nothing_that_the_denoiser_does_not_know():
    """With a weight that x0 has no part in, the loss has its minimum at the posterior mean."""
    x, heard = sound(seed=2), told(sound(seed=3))
    one = torch.ones(3, dtype=torch.float64)
    truths = [sound(seed=seed) for seed in range(10, 16)]
    mean = torch.stack(truths).mean(dim=0)
    at = mean.clone().requires_grad_()
    total = sum(
        LOSS(Prediction(at, at, Scalings(one, one, one, one)), truth, x, one, heard=heard).sum() for truth in truths
    )
    assert isinstance(total, torch.Tensor)
    (gradient,) = torch.autograd.grad(total, at)
    (apart,) = torch.autograd.grad(
        LOSS(Prediction(at, at, Scalings(one, one, one, one)), truths[0], x, one, heard=heard).sum(), at
    )
    assert float(gradient.abs().max()) < 1e-4 * float(apart.abs().max())
