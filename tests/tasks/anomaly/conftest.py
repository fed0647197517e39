"""Models with known denoising errors."""

import pytest
import tiny

from audiodiff.models.synthesizer import Synthesizer


@pytest.fixture(scope="module")
def exact() -> Synthesizer:
    """Build the exact denoiser of white noise of std 0.1: with F = 0, D = c_skip x, its posterior mean."""
    model = tiny.synthesizer(tiny.GAUSSIAN)
    for parameter in model.denoiser.network.parameters():
        parameter.data.zero_()
    return model


@pytest.fixture(scope="module")
def labelled() -> Synthesizer:
    """Build a model of mels with the labels digit and speaker."""
    return tiny.synthesizer(tiny.LABELLED)
