"""What a person sees of a run in progress: the bar of a terminal, and train.log."""

import io
import re
from datetime import datetime
from pathlib import Path

import pytest
import runs
import torch
from rich.console import Console

from audiodiff.training import progress
from audiodiff.training.log import Speed


def test_the_bar_shows_no_loss_before_there_is_one(monkeypatch: pytest.MonkeyPatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    with progress.Progress(total=3, first=0, shown=True) as bar:
        bar.say("validating")
    assert "0/3" in screen.getvalue()
    assert not re.search(r"nan|loss", screen.getvalue())
    with progress.Progress(total=3, first=0, shown=True) as bar:
        bar.advance(loss=0.25, rate=1e-3)
        bar.report({"lsd": 0.5})
    assert "loss 0.25  lr 0.001" in screen.getvalue()
    assert "step 1: validation lsd 0.5" in screen.getvalue()


def test_train_log_has_what_was_said_and_a_line_for_each_logged_step(say, recordings: Path, tmp_path: Path):
    run = tmp_path / "run"
    same = (*runs.TINY, f"data.root={recordings}", f"hydra.run.dir={run}", "train.log_every=2")
    code, said = say(*same, "train.steps=4", "train.validate_every=2")
    assert code == 0, said
    lines = (run / "train.log").read_text().splitlines()
    times, texts = zip(*((line[:19], line[20:]) for line in lines), strict=True)
    assert list(times) == sorted(times)
    assert all(datetime.strptime(time, "%Y-%m-%d %H:%M:%S") for time in times)
    assert [text.split()[1] for text in texts if re.match(r"step \d+/4  loss [\d.e-]+ .* lr ", text)] == ["2/4", "4/4"]
    assert [text.partition(" lsd")[0].split()[1] for text in texts if ": validation" in text] == ["2:", "4:"]
    for line in said.splitlines():
        assert line in texts or re.match(r"step 4/4  loss", line)
    refused, error = say(*same)
    assert refused == 2
    assert (run / "train.log").read_text().splitlines()[len(lines) :][0][20:] == error.strip()


def test_audio_per_second_is_steps_per_second_times_the_audio_of_a_step():
    speed = Speed(sample_rate=8000, world_size=2)
    for _ in range(3):
        speed.add([{"n_valid": torch.tensor([4000, 8000])}, {"n_valid": torch.tensor([2000])}], seconds=0.5)
    # (4000 + 8000 + 2000) / 8000 s in each of two processes, in half a second.
    assert speed.take() == {"speed/steps_per_second": 2.0, "speed/audio_seconds_per_second": 7.0}
    assert speed.take() == {"speed/steps_per_second": 0.0, "speed/audio_seconds_per_second": 0.0}
