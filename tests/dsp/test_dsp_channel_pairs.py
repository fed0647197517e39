"""Pairs of channels: sums and differences, and the channels that fit them best."""

import pytest
import torch

from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.inversion import constrain, griffin_lim, invert
from audiodiff.dsp.mel import dialect
from audiodiff.errors import ParameterError

OWN = dialect("hifigan")


@pytest.mark.parametrize("n_channels", [1, 2, 6, 8, 12])
def test_channels_come_back_from_their_sums_and_differences(n_channels: int):
    audio = torch.randn(n_channels, 50, generator=torch.Generator().manual_seed(0))
    pairs = ChannelPairs(n_channels)
    signals = pairs.mixed(audio)
    assert len(signals) == pairs.n_signals
    assert torch.allclose(pairs.unmixed(signals), audio, atol=1e-6)


@pytest.mark.parametrize("n_channels", [2, 5])
def test_signals_that_disagree_give_the_nearest_channels(n_channels: int):
    """Least squares, by its normal equations; sums and differences weigh 2, the inverse of their squared halves."""
    pairs = ChannelPairs(n_channels)
    signals = torch.randn(pairs.n_signals, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix = pairs.mixed(torch.eye(n_channels, dtype=torch.float64))
    weights = torch.ones(pairs.n_signals, dtype=torch.float64)
    weights[n_channels:] = 2.0
    nearest = torch.linalg.solve(matrix.T @ (weights[:, None] * matrix), matrix.T @ (weights[:, None] * signals))
    assert torch.allclose(pairs.unmixed(signals), nearest)


@pytest.mark.parametrize("invert", [invert, griffin_lim], ids=["constraint", "griffin-lim"])
def test_the_mels_of_a_recording_need_all_its_signals(invert):
    audio = torch.zeros(2, 2560)
    options = {"dialect": OWN, "n_iterations": 1, "pairs": ChannelPairs(2)}
    for mels in (2, 3, 5):
        given = (audio, OWN.mel(audio[:1]).expand(mels, -1, -1))
        with pytest.raises(ParameterError, match="audio has 2 items"):
            invert(*(given if invert is not griffin_lim else given[::-1]), **options)


def test_audio_of_the_wanted_mels_stays_as_it_is():
    audio = 0.1 * torch.randn(2, 256 * 30, generator=torch.Generator().manual_seed(2))
    pairs = ChannelPairs(2)
    still = constrain(audio, OWN.mel(pairs.mixed(audio)), dialect=OWN, n_iterations=4, pairs=pairs)
    below = [torch.fft.rfft(each)[:, : round(7600 / 22050 * 256 * 30)] for each in (still, audio)]
    # Bins beside the lowest and highest bands are set; the rest is a fixed point.
    assert float((below[0] - below[1])[:, 50:].norm() / below[1].norm()) < 0.02
