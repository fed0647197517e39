"""Recordings of several channels for tests, and what has to stay of their image."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

CORRELATION = 0.05
LEVEL_DB = 1.0


def sources(sample_rate: int, *, seconds: float = 0.6) -> Tensor:
    """Make three sounds, two that glide and one of noise, (3, time)."""
    n_samples = round(seconds * sample_rate) // 256 * 256
    t = torch.arange(n_samples) / sample_rate
    generator = torch.Generator().manual_seed(0)
    glides = [
        sum(torch.sin(2 * torch.pi * k * (pitch * t + glide * t.square())) / k for k in range(1, 9))
        for pitch, glide in ((220.0, 40.0), (331.0, -30.0))
    ]
    noise = torch.randn(n_samples, generator=generator) * (1.0 + torch.sin(2 * torch.pi * 3.0 * t))
    return torch.stack([0.1 * sound / sound.square().mean().sqrt() for sound in (*glides, noise)])


MIXES: dict[str, Callable[[Tensor], Tensor]] = {
    "panned": lambda s: torch.stack([0.9 * s[0], 0.3 * s[0]]),
    "delayed": lambda s: torch.stack([s[2], 0.8 * s[2].roll(5)]),
    "mixed": lambda s: torch.stack([s[0] + 0.3 * s[1], s[0] - 0.3 * s[1] + 0.1 * s[2]]),
    "apart": lambda s: torch.stack([s[0], s[2]]),
    "out of phase": lambda s: torch.stack([s[0] + 0.2 * s[2], 0.2 * s[2] - s[0]]),
    "5.1": lambda s: torch.stack(
        [s[0] + 0.4 * s[1], s[0] - 0.2 * s[2], s[1], 0.1 * s[0], 0.5 * s[2], 0.4 * s[2].roll(9) + 0.1 * s[0]]
    ),
}
"""How channels are made of three sources."""


def check_image(result: Tensor, truth: Tensor, *, below_hz: float, sample_rate: int) -> None:
    """Assert that correlations and the levels of channels, sums and differences are those of the truth."""
    assert result.shape == truth.shape
    spectra = [
        torch.fft.rfft(audio.double())[:, : round(below_hz * audio.shape[-1] / sample_rate)]
        for audio in (result, truth)
    ]
    for left, right in itertools.combinations(range(len(truth)), 2):
        correlations, levels = zip(*(_image(own[left], own[right]) for own in spectra), strict=True)
        assert abs(correlations[0] - correlations[1]) < CORRELATION
        own, wanted = levels
        heard = wanted > wanted.max() - 50.0
        assert float((own - wanted)[heard].abs().max()) < LEVEL_DB


def _image(left: Tensor, right: Tensor) -> tuple[float, Tensor]:
    """Return the correlation of two spectra, and the levels of both, of their sum and of their difference in dB."""
    norms = torch.stack([each.norm() for each in (left, right, (left + right) / 2, (left - right) / 2)])
    correlation = (left * right.conj()).real.sum() / (norms[0] * norms[1])
    return float(correlation), 20 * norms.clamp(min=1e-9).log10()
