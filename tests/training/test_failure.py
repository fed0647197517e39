"""A stage that fails around training loses no weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import runs
import torch

import audiodiff
from audiodiff.data.dataset import CropDataset
from audiodiff.errors import TrainingError
from audiodiff.metrics import Pair, evaluate, registry, summarise
from audiodiff.models import checkpoint
from audiodiff.training import run as train
from audiodiff.training import tensorboard, validation
from audiodiff.training.log import Logs

ERRORS = [OSError(28, "No space left on device"), RuntimeError("out of memory"), MemoryError()]


def failing(error: Exception, *, from_call: int = 1, then: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a function that works until its call number `from_call`."""
    calls = iter(range(1, 10_000))

    def function(*arguments: Any, **options: Any) -> Any:
        if next(calls) >= from_call:
            raise error
        assert then is not None
        return then(*arguments, **options)

    return function


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failing_validation_leaves_a_checkpoint_and_says_how_to_go_on(
    error: Exception, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    monkeypatch.setattr(validation, "score", failing(error))
    with pytest.raises(TrainingError, match=rf"validation failed after step 3 \({type(error).__name__}: ") as raised:
        runs.trained(recordings, run, "train.steps=6", "train.validate_every=3")
    assert str(run / "checkpoints" / "step_00000003") in str(raised.value)
    assert f"train.resume={run}" in str(raised.value)
    assert "Traceback" in (run / "failure.txt").read_text()
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("way", [(), ("train.accumulate=2", "density=loss_second_moment", "density.n_bins=2")])
def test_a_resume_after_a_failed_validation_is_the_run_that_never_failed(
    way: tuple[str, ...], recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    way = (*way, "train.steps=6", "train.validate_every=3")
    runs.trained(recordings, tmp_path / "whole", *way)
    with monkeypatch.context() as patched:
        patched.setattr(validation, "score", failing(RuntimeError("out of memory")))
        with pytest.raises(TrainingError, match="step_00000003"):
            runs.trained(recordings, tmp_path / "parts", *way)
    runs.resumed(recordings, tmp_path / "parts", *way)
    runs.assert_same(runs.state(tmp_path / "parts"), runs.state(tmp_path / "whole"))


def test_a_validation_that_fails_at_the_end_leaves_the_trained_model(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(validation, "score", failing(OSError("broken")))
    with pytest.raises(TrainingError, match=r"all 2 steps are in it; use it with --model "):
        runs.trained(recordings, tmp_path / "run", "train.steps=2")
    assert audiodiff.load(tmp_path / "run", device="cpu").dialect is not None


def test_a_log_that_cannot_start_is_an_error_in_words(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Logs, "start", failing(OSError(13, "Permission denied")))
    with pytest.raises(TrainingError, match=r"starting the log failed after step 0 .*Permission denied"):
        runs.trained(recordings, tmp_path / "run", "train.steps=1")


@pytest.mark.parametrize("method", ["scalars", "audio"])
def test_a_failing_log_leaves_a_checkpoint(
    method: str, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Logs, method, failing(OSError(28, "No space left on device")))
    with pytest.raises(TrainingError, match=r"after step 1 .*No space left.* go on with"):
        runs.trained(recordings, tmp_path / "run", "train.steps=3", "train.validate_every=1")
    assert runs.newest(tmp_path / "run") == "step_00000001"


def test_a_picture_that_cannot_be_drawn_leaves_a_checkpoint(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tensorboard, "spectrogram_figure", failing(RuntimeError("no font")))
    with pytest.raises(TrainingError, match=r"validation failed after step 2 .*no font"):
        runs.trained(recordings, tmp_path / "run", "train.steps=2", "logger=tensorboard")
    assert runs.newest(tmp_path / "run") == "step_00000002"


def test_a_log_that_cannot_be_closed_ends_no_run(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(Logs, "close", failing(OSError(28, "No space left on device")))
    assert runs.trained(recordings, tmp_path / "run", "train.steps=1").step == 1
    assert "the log cannot be closed (OSError: [Errno 28] No space left on device)" in capsys.readouterr().err


def test_recordings_that_vanish_leave_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = runs.recordings(tmp_path / "recordings")
    monkeypatch.setattr(train, "N_FIT_EXAMPLES", 1)
    # One example for the statistics and batches of 2: the third step fails.
    read = failing(OSError("disk gone"), from_call=6, then=CropDataset.__getitem__)
    monkeypatch.setattr(CropDataset, "__getitem__", lambda self, index: read(self, index))
    with pytest.raises(TrainingError, match=r"reading data failed after step 2 .*disk gone"):
        runs.trained(root, tmp_path / "run", "train.steps=100")
    assert runs.newest(tmp_path / "run") == "step_00000002"


def test_a_checkpoint_that_cannot_be_written_names_the_one_before(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        checkpoint, "save", failing(OSError(28, "No space left on device"), from_call=3, then=checkpoint.save)
    )
    with pytest.raises(TrainingError, match=r"checkpoint of step 3 cannot be written \(OSError.*step_00000002: go on"):
        runs.trained(recordings, tmp_path / "run", "train.steps=5", "train.save_every=1")
    assert runs.newest(tmp_path / "run") == "step_00000002"


def test_weights_that_are_not_finite_are_not_saved_by_a_failing_validation(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("audiodiff.training.learner._check_finite", lambda *_, **__: None)
    monkeypatch.setattr(validation, "score", failing(RuntimeError("not finite")))
    broken = ("optimizer=sgd", "optimizer.lr=1e38", "train.clip_norm=null")
    with pytest.raises(TrainingError, match=r"the weight .* is not finite"):
        runs.trained(recordings, tmp_path / "run", "train.steps=4", *broken)
    assert runs.newest(tmp_path / "run") == ""


def test_a_metric_that_fails_on_one_pair_is_a_row_without_a_value(monkeypatch: pytest.MonkeyPatch):
    def fails(estimate: torch.Tensor, reference: torch.Tensor, sample_rate: int) -> NoReturn:
        raise MemoryError("1 GB wanted")

    broken = registry.Metric(name="lsd", compute=fails, unit="", better="lower", definition="fails")
    monkeypatch.setattr(registry, "METRICS", {**registry.METRICS, "lsd": broken})
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    rows = evaluate([Pair("a", 0.5 * noise, noise, 16000)], names=["snr_db", "lsd"])
    assert rows[0].reasons == {"lsd": "MemoryError: 1 GB wanted"}
    assert summarise(rows)["snr_db"].mean == pytest.approx(6.02, abs=0.01)
