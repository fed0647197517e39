"""Stereo images of edits: what is panned stays in place, and channels keep their levels and correlation."""

import pytest
import sounds
import tiny
import torch
from torch import Tensor

from audiodiff.tasks.editing.augment import augment
from audiodiff.tasks.editing.components import components_of
from audiodiff.tasks.editing.edit import edit

RATE = 8000


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def image(channels: Tensor) -> Tensor:
    """Return the covariance of channels, relative to their mean power."""
    covariance = (channels.double() @ channels.double().T) / channels.shape[-1]
    return covariance / covariance.trace()


def test_components_are_uncorrelated_and_give_the_channels_back():
    channels = torch.tensor([[0.9, 0.4], [0.3, 0.9]]) @ noise(2, 20000)
    found = components_of(channels)
    covariance = image(found.signals)
    assert abs(float(covariance[0, 1])) < 1e-6
    assert float(covariance[0, 0]) > float(covariance[1, 1])
    torch.testing.assert_close(found.joined(found.signals), channels, rtol=0, atol=1e-6)


def test_components_of_any_new_sound_have_the_image_of_the_old():
    """New sounds of one component each that are uncorrelated: five standard errors of 40000 samples."""
    channels = torch.tensor([[0.9, 0.4], [0.3, 0.9]]) @ noise(2, 40000)
    new = torch.tensor([[3.0], [0.2]]) * noise(2, 40000, seed=1)
    made = components_of(channels).joined(new)
    assert float((image(made) - image(channels)).abs().max()) < 5.0 / 200


@pytest.mark.parametrize("pan", [0.5, -0.5, 0.01])
def test_a_panned_source_stays_panned_when_it_is_edited(pan: float):
    model = tiny.synthesizer(tiny.UNCONDITIONAL)
    audio = sounds.tones(4000, sample_rate=RATE)
    made = edit(model, torch.cat([audio, pan * audio]), sample_rate=RATE, strength=0.5)
    torch.testing.assert_close(made[1], pan * made[0], rtol=0, atol=1e-5)
    copies = augment(model, torch.cat([audio, pan * audio]), sample_rate=RATE, n=2)
    torch.testing.assert_close(copies[:, 1], pan * copies[:, 0], rtol=0, atol=1e-5)


def test_equal_channels_are_edited_as_one_channel_is():
    model = tiny.synthesizer(tiny.UNCONDITIONAL)
    audio = sounds.tones(4000, sample_rate=RATE)
    one = edit(model, audio, sample_rate=RATE, strength=0.5)
    both = edit(model, audio.expand(2, -1), sample_rate=RATE, strength=0.5)
    assert torch.equal(both[0], both[1])
    assert abs(float(both[0].norm() / one[0].norm()) - 1.0) < 0.2


def test_silence_in_all_channels_is_no_failure():
    model = tiny.synthesizer(tiny.UNCONDITIONAL)
    assert bool(torch.isfinite(edit(model, torch.zeros(2, 1000), sample_rate=RATE, strength=0.5)).all())
