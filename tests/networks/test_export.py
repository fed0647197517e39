"""torch.export of networks: the exported program computes what the network does."""

import torch

from audiodiff.condition import Condition
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.wavenet import WaveNet


def test_an_exported_wavenet_gives_the_same_output():
    network = WaveNet(Sinusoidal(), channels=8, n_layers=2, dilation_cycle=2, vector_features=3)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    network.eval()
    condition = network.encode(Condition(vector=torch.randn(1, 3, generator=generator)))
    inputs = (torch.randn(1, 1, 128, generator=generator), torch.tensor([0.3]), condition)
    with torch.no_grad():
        exported = torch.export.export(network, inputs).module()
        torch.testing.assert_close(exported(*inputs), network(*inputs))
