"""Ctrl-C and SIGTERM save and exit cleanly; a second one does what it would have done."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import Popen

import pytest
import runs

from audiodiff.training.interrupt import catch_interrupt
from audiodiff.training.log import Log


def to_the_group(process: Popen[str], number: int) -> None:
    """Send as a terminal does, to the data worker as well."""
    os.killpg(process.pid, number)


def to_the_process(process: Popen[str], number: int) -> None:
    """Send as a scheduler does."""
    process.send_signal(number)


@pytest.mark.parametrize(
    ("number", "send", "n_workers"),
    [
        (signal.SIGINT, to_the_group, 1),
        (signal.SIGTERM, to_the_group, 1),
        (signal.SIGHUP, to_the_group, 1),
        (signal.SIGTERM, to_the_process, 0),
    ],
    ids=["Ctrl-C with a worker", "SIGTERM to the group with a worker", "a closed terminal with a worker", "SIGTERM"],
)
def test_a_signal_saves_and_exits_with_zero(
    number: signal.Signals, send: Callable[[Popen[str], int], None], n_workers: int, recordings: Path, tmp_path: Path
):
    run = tmp_path / "run"
    same = (f"data.n_workers={n_workers}",)
    process = runs.start(recordings, run, *same, "train.steps=100000", "train.save_every=5")
    until = time.monotonic() + 120
    while not runs.newest(run):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)
    send(process, number)
    said = runs.finished(process)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    step = runs.state(run)["step"]
    assert f"stopped by {number.name} after step {step} of 100000" in said
    assert f"train.resume={run}" in said
    assert runs.resumed(recordings, run, *same, f"train.steps={step + 2}").step == step + 2


def test_a_signal_in_the_first_step_ends_it_with_a_checkpoint_of_step_one(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from audiodiff.training.step import Denoising

    forward = Denoising.forward

    def interrupted(self: Denoising, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *arguments)

    monkeypatch.setattr(Denoising, "forward", interrupted)
    # The parts are tried before training begins, and there a signal acts as it always does.
    monkeypatch.setattr("audiodiff.training.building._try", lambda *_, **__: None)
    outcome = runs.trained(recordings, tmp_path / "run", "train.steps=100")
    assert (outcome.step, outcome.signal) == (1, "SIGTERM")
    assert runs.state(tmp_path / "run")["step"] == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_during_validation_ends_the_run_after_it(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from audiodiff.training.validation import Validation

    validate = Validation.__call__

    def interrupted(self: Validation, step: int, log: Log) -> Mapping[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return validate(self, step, log)

    monkeypatch.setattr(Validation, "__call__", interrupted)
    outcome = runs.trained(recordings, tmp_path / "run", "train.steps=100", "train.validate_every=2")
    assert (outcome.step, outcome.signal) == (2, "SIGINT")
    assert runs.state(tmp_path / "run")["metrics"] == outcome.metrics


def test_a_second_signal_acts_as_it_would_have_done():
    with catch_interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.signal == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_hangup_that_is_ignored_as_under_nohup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)
