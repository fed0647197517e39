"""The number of threads, the seed, signals, and tiny checkpoints that several files of tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, default=1, help="threads that torch computes each test with (default 1)")


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set the number of threads: signals of a second gain nothing from two, and lose much where cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--threads"))
    yield
    torch.set_num_threads(before)


def pytest_configure() -> None:
    """Let commands that tests start hear signals, which programs in the background ignore, and their children too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed what gives networks their first weights, so that a test computes the same alone and after others."""
    torch.manual_seed(0)


@pytest.fixture
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, where outputs go by default."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


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
