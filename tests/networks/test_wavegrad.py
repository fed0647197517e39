"""WaveGrad as a network: its noise level, receptive field, lengths and refusals."""

import pytest
import torch

from audiodiff.condition import Condition
from audiodiff.diffusion.process import DiscreteVP
from audiodiff.errors import ParameterError
from audiodiff.networks.wavegrad import WaveGrad

BETAS = [1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5]
BANDS, HOP = 4, 6


def network(**changes) -> WaveGrad:
    settings = {
        "factors": (3, 2),
        "channels": (6, 4),
        "first_channels": 8,
        "down_channels": (4, 6),
        "dilations": ((1, 2, 1, 2), (1, 2, 4, 8)),
    }
    return WaveGrad(betas=BETAS, frame_bands=BANDS, **settings | changes)


def test_the_noise_level_is_the_alpha_of_the_process_between_steps_too():
    steps = torch.tensor([0.0, 2.0, 3.25, 5.0])
    expected, _ = DiscreteVP(BETAS).coefficients(steps.double())
    torch.testing.assert_close(network()._alpha(steps).double(), expected, rtol=1e-6, atol=0.0)


def test_an_output_depends_on_its_receptive_field_alone():
    own = network().double()
    field, place = own.receptive_field, 300
    frames = torch.randn(1, BANDS, 100, dtype=torch.float64)
    x = torch.randn(1, 1, 600, dtype=torch.float64)
    step = torch.tensor([2.5], dtype=torch.float64)
    moved = torch.zeros(600, dtype=torch.float64)
    with torch.no_grad():
        before = own(x, step, own.encode(Condition(frames=frames)))
        for changed in range(place, place + HOP):
            other = x.clone()
            other[..., changed] += 1.0
            moved += (own(other, step, own.encode(Condition(frames=frames))) - before).abs()[0, 0]
        others = frames.clone()
        others[..., place // HOP] += 1.0
        moved += (own(x, step, own.encode(Condition(frames=others))) - before).abs()[0, 0]
    inside = slice(place - field.after, place + HOP + field.before)
    assert float(moved[inside].max()) > 1e-6
    moved[inside] = 0.0
    assert float(moved.max()) < 1e-12


def test_any_length_is_that_of_its_frames_cut_off():
    own = network()
    encoded = own.encode(Condition(frames=torch.randn(1, BANDS, 5)))
    x = torch.randn(1, 1, 27)
    with torch.no_grad():
        short = own(x, torch.tensor([1.0]), encoded)
        whole = own(torch.nn.functional.pad(x, (0, 3)), torch.tensor([1.0]), encoded)
    assert torch.equal(short, whole[..., :27])


def test_what_does_not_fit_is_refused():
    own = network()
    with pytest.raises(ParameterError, match="of 3 bands: this network needs frames of 4 bands"):
        own.encode(Condition(frames=torch.zeros(1, 3, 5)))
    with pytest.raises(ParameterError, match="the condition covers 30 samples and x has 31"):
        own(torch.zeros(1, 1, 31), torch.tensor([1.0]), own.encode(Condition(frames=torch.zeros(1, BANDS, 5))))
    with pytest.raises(ParameterError, match="must have an entry for each stage"):
        network(factors=(6,))
