"""The spectral loss of a denoiser with an observed recording: weighed by the quieter of the two signals."""

import torch

from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.objective import SpectrallyWeighted
from audiodiff.diffusion.preconditioning import Scalings

LOSS = SpectrallyWeighted(n_fft=64, hop_length=16, n_bands=16, by_noisy=True)
N = 640


def sound(*, seed: int, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(3, 1, N, generator=torch.Generator().manual_seed(seed))


def losses(x0: torch.Tensor, x: torch.Tensor, observed: torch.Tensor | None) -> torch.Tensor:
    one = torch.ones(3, dtype=torch.float64)
    prediction = Prediction(x0, x0 + 0.01, Scalings(one, one, one, one))
    return LOSS(prediction, x0, x, one, observed=observed)


def recording(audio: torch.Tensor, known: float = 1.0) -> torch.Tensor:
    return torch.cat([audio, torch.full_like(audio, known)], dim=1)


def test_a_quiet_recording_weighs_as_a_quiet_x_does():
    x0, quiet = sound(seed=0, level=1e-3), sound(seed=1, level=1e-3)
    noisy = x0 + 10.0 * sound(seed=2, level=1.0)
    assert torch.allclose(losses(x0, noisy, recording(quiet)), losses(x0, quiet, None), rtol=1e-5)


def test_a_loud_recording_changes_no_weight():
    x0 = sound(seed=0)
    assert torch.equal(losses(x0, x0, recording(100.0 * x0)), losses(x0, x0, None))


def test_x_weighs_where_the_recording_is_unknown():
    x0, x = sound(seed=0), sound(seed=2, level=3.0)
    assert torch.equal(losses(x0, x, recording(torch.zeros_like(x0), known=0.0)), losses(x0, x, None))
    # One unknown sample makes the frames that hold it unknown, and no others.
    observed = recording(1e-3 * x0)
    observed[:, 1, N // 2] = 0.0
    between = losses(x0, x, observed)
    assert bool((between < losses(x0, x, recording(1e-3 * x0))).all())
    assert bool((between > losses(x0, x, None)).all())


def test_the_loss_is_least_at_the_posterior_mean():
    """The weight does not depend on x0."""
    x, observed = sound(seed=2), recording(sound(seed=3))
    one = torch.ones(3, dtype=torch.float64)
    truths = [sound(seed=seed) for seed in range(10, 16)]
    mean = torch.stack(truths).mean(dim=0)
    at = mean.clone().requires_grad_()
    total = sum(
        LOSS(Prediction(at, at, Scalings(one, one, one, one)), truth, x, one, observed=observed).sum()
        for truth in truths
    )
    assert isinstance(total, torch.Tensor)
    (gradient,) = torch.autograd.grad(total, at)
    (apart,) = torch.autograd.grad(
        LOSS(Prediction(at, at, Scalings(one, one, one, one)), truths[0], x, one, observed=observed).sum(), at
    )
    assert float(gradient.abs().max()) < 1e-4 * float(apart.abs().max())
