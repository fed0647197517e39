"""HiFi-GAN's and Vocos's generators as networks: receptive fields, chunks, and what they refuse."""

import pytest
import torch

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.networks.frame_vocoder import FrameVocoder
from audiodiff.networks.hifigan import HifiGan
from audiodiff.networks.vocos import Vocos

BANDS, N_FRAMES, HOP = 4, 60, 8


def hifigan(**changes) -> HifiGan:
    settings = {
        "channels": 8,
        "upsample_rates": (4, 2),
        "upsample_kernel_sizes": (8, 4),
        "kernel_sizes": (3,),
        "dilations": ((1, 3),),
    }
    return HifiGan(frame_bands=BANDS, **settings | changes)


def vocos(**changes) -> Vocos:
    settings = {"channels": 6, "hidden_channels": 8, "n_layers": 2, "n_fft": 32}
    return Vocos(frame_bands=BANDS, hop_length=HOP, **settings | changes)


ALL = {
    "hifigan": hifigan,
    "snake": lambda: hifigan(activation="snake"),
    "alone": lambda: hifigan(paired=False, activation="snakebeta", final_tanh=False),
    "center": vocos,
    "same": lambda: vocos(padding="same"),
}


@pytest.mark.parametrize("name", ALL)
def test_a_sample_depends_on_its_receptive_field_alone(name):
    network: FrameVocoder = ALL[name]().double()
    field = network.receptive_field
    frames = torch.randn(1, BANDS, N_FRAMES, dtype=torch.float64)
    changed = frames.clone()
    changed[..., 30] += 1.0
    with torch.no_grad():
        moved = (network.vocode(changed) - network.vocode(frames)).abs()[0, 0]
    inside = slice(max(0, 30 * HOP - field.after), 31 * HOP + field.before)
    assert float(moved[inside].max()) > 1e-6
    moved[inside] = 0.0
    assert float(moved.max()) < 1e-12


@pytest.mark.parametrize("name", ALL)
def test_every_noise_level_gives_the_same_audio_whatever_x(name):
    network = ALL[name]()
    encoded = network.encode(Condition(frames=torch.randn(2, BANDS, 5)))
    with torch.no_grad():
        first = network(torch.randn(2, 1, 30), torch.zeros(2), encoded)
        second = network(torch.randn(2, 1, 30), torch.ones(2), encoded)
    assert first.shape == (2, 1, 30)
    assert torch.equal(first, second)


def test_frames_that_do_not_fit_are_refused():
    network = vocos()
    with pytest.raises(ParameterError, match="of 3 bands: this network needs frames of 4 bands"):
        network.encode(Condition(frames=torch.zeros(1, 3, 5)))
    with pytest.raises(ParameterError, match="the frames cover 40 samples and x has 41"):
        network(torch.zeros(1, 1, 41), torch.zeros(1), network.encode(Condition(frames=torch.zeros(1, BANDS, 5))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hifigan(upsample_kernel_sizes=(8,)), "give one kernel size for each rate"),
        (lambda: hifigan(upsample_kernel_sizes=(8, 3)), "3 must exceed the rate 2 by an even number"),
        (lambda: hifigan(dilations=()), "give one list for each"),
        (lambda: hifigan(channels=6), "channels=6 must be divisible"),
        (lambda: hifigan(activation="relu"), "activation='relu' must be"),
        (lambda: vocos(n_fft=12), "n_fft=12 must be even"),
        (lambda: vocos(padding="valid"), "padding='valid' must be center or same"),
    ],
)
def test_networks_that_cannot_be_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
