"""Tiny models lose much to threads where the cores are busy; and a few recordings to train on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import runs
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.recordings(tmp_path_factory.mktemp("recordings"))
