"""Step-size embedding: the length of a jump as features that are zero before training."""

import pytest
import torch

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import VE, Flow, Process, VPCosine, VPLinear
from audiodiff.errors import ParameterError
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.step_size import StepSizeEmbedding
from audiodiff.networks.wavenet import WaveNet

PROCESSES = {"flow": Flow(0.1), "vp_linear": VPLinear(), "vp_cosine": VPCosine(), "ve": VE()}


def trained(process: Process) -> StepSizeEmbedding:
    """Return an encoder whose last layer is no longer zero."""
    torch.manual_seed(0)
    encode = StepSizeEmbedding(process, n_features=8)
    torch.nn.init.normal_(encode.projection2.weight)
    return encode


def levels(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_features_start_at_zero_and_are_trained():
    encode = StepSizeEmbedding(Flow(), n_features=8)
    features = encode(levels(3.0, 1.0), levels(1.0, 0.0))
    assert torch.equal(features, torch.zeros(2, 8))
    features.sum().backward()
    assert encode.projection2.weight.grad is not None
    assert float(encode.projection2.weight.grad.abs().sum()) > 0.0


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_features_depend_on_the_length_of_a_jump_on_the_clock_alone(process):
    encode = trained(process)
    times = process.last * levels(0.9, 0.6, 0.5)
    ends = process.last * levels(0.7, 0.4, 0.4)
    features = encode(process.sigma(times), process.sigma(ends))
    assert torch.allclose(features[0], features[1], atol=1e-4)
    assert not torch.allclose(features[1], features[2], atol=1e-2)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_a_jump_to_zero_ends_at_the_start_of_the_clock(process):
    encode = trained(process)
    sigma = process.sigma(process.last * levels(0.5))
    begin = process.sigma(process.last * levels(1e-9))
    assert bool(torch.isfinite(encode(sigma, levels(0.0))).all())
    assert torch.allclose(encode(sigma, levels(0.0)), encode(sigma, begin), atol=1e-4)


def test_without_sigma_next_a_denoiser_makes_a_jump_of_length_zero():
    process = Flow()
    network = WaveNet(Sinusoidal(8), channels=4, n_layers=2, dilation_cycle=2, step_features=8, vector_features=8)
    torch.nn.init.normal_(network.output_projection.weight)
    denoise = Denoiser(network, Sample(process), step_size=trained(process)).bind(Condition())
    x, sigma = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(0)), levels(1.0, 2.0)
    assert torch.equal(denoise(x, sigma), denoise.predict_jump(x, sigma, sigma))
    assert not torch.allclose(denoise(x, sigma), denoise.predict_jump(x, sigma, levels(0.0, 0.5)))


def test_a_denoiser_without_a_step_size_embedding_does_not_jump():
    network = WaveNet(Sinusoidal(8), channels=4, n_layers=2, dilation_cycle=2, step_features=8)
    denoise = Denoiser(network, Sample(Flow())).bind(Condition())
    with pytest.raises(ParameterError, match="has no step_size embedding"):
        denoise.predict_jump(torch.zeros(1, 1, 16), levels(1.0), levels(0.5))
