"""One thread, and tiny checkpoints that several files of tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Signals of a second gain nothing from threads, and lose much where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def vocoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a vocoder of dialect hifigan."""
    return tiny.save(tmp_path_factory.mktemp("models") / "vocoder", tiny.VOCODER)


@pytest.fixture(scope="session")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an unconditional model of waveforms, which knows no mel."""
    return tiny.save(tmp_path_factory.mktemp("models") / "unconditional", tiny.UNCONDITIONAL)


@pytest.fixture(scope="session")
def log_mel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an unconditional model of mel spectrograms."""
    return tiny.save(tmp_path_factory.mktemp("models") / "log_mel", tiny.LOG_MEL)
