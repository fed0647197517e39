"""Mel inversion as pure functions: equal to the one that works in place."""

import pytest
import torch

from audiodiff.dsp.inversion import constrain, constrain_low_band, invert
from audiodiff.dsp.mel import dialect
from audiodiff.dsp.traced_inversion import constrain_low_band_traced, constrain_traced, invert_traced

NAMES = ("hifigan", "vocos", "tacotron2")


def voice(name: str):
    """Return a dialect, audio of harmonics and noise with its mel, and noise, in float64."""
    own = dialect(name)
    generator = torch.Generator().manual_seed(0)
    n_samples = own.n_samples(40)
    time = torch.arange(n_samples, dtype=torch.float64) / own.sample_rate
    harmonics = torch.stack([torch.cos(2 * torch.pi * 140 * k * time) / k for k in range(1, 12)]).sum(dim=0)
    audio = 0.05 * harmonics + 0.003 * torch.randn(n_samples, dtype=torch.float64, generator=generator)
    noise = torch.randn(n_samples, dtype=torch.float64, generator=generator)
    return own, audio, own.mel(audio[None])[0].double(), noise


@pytest.mark.parametrize("name", NAMES)
def test_the_traced_inversion_equals_that_in_place(name: str):
    own, _, mel, noise = voice(name)
    expected = invert(noise[None], mel[None], dialect=own, n_iterations=3)[0]
    torch.testing.assert_close(
        invert_traced(noise, mel, dialect=own, n_iterations=3),
        expected,
        rtol=0,
        atol=1e-8 * float(expected.abs().max()),
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_traced_constraints_equal_those_in_place(name: str):
    own, audio, mel, _ = voice(name)
    for traced, in_place in ((constrain_traced, constrain), (constrain_low_band_traced, constrain_low_band)):
        expected = in_place(0.5 * audio[None], mel[None], dialect=own, n_iterations=2)[0]
        made = traced(0.5 * audio, mel, dialect=own, n_iterations=2)
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-8 * float(expected.abs().max()))
