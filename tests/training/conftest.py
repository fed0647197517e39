"""A few recordings to train on."""

from pathlib import Path

import pytest
import runs


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.recordings(tmp_path_factory.mktemp("recordings"))
