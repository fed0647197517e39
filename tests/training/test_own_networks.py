"""A network of the user's own, as docs/own-networks.md shows it: trained, loaded with trust, and refused without."""

import re
import sys
from pathlib import Path

import pytest
import runs
import torch
from typer.testing import CliRunner

from audiodiff.cli import train
from audiodiff.cli.application import single
from audiodiff.cli.generate import generate_command
from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.models import safety
from audiodiff.models.checkpoint import load

PAGE = Path(__file__).parents[2] / "docs" / "own-networks.md"


def block(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Write the files of the page, nothing trusted yet."""
    (tmp_path / "conf" / "network").mkdir(parents=True)
    (tmp_path / "conf" / "network" / "unet.yaml").write_text(block("yaml"))
    (tmp_path / "mine.py").write_text(block("python"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(safety, "_TRUSTED", [])
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    settings = [setting for setting in runs.TINY if "network." not in setting]
    return [
        "recipes=folder/unconditional",
        *settings,
        f"data.root={runs.recordings(folder / 'recordings')}",
        "data.crop_frames=null",
        "data.crop_seconds=0.2",
        "train.steps=2",
        f"hydra.run.dir={folder / 'run'}",
        "network=unet",
        *more,
        "--config-dir",
        str(folder / "conf"),
    ]


def test_a_network_of_ones_own_trains_loads_and_samples(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["audiodiff", "train"])
    train.command(arguments(folder, "--trust", "mine"))
    monkeypatch.setattr(safety, "_TRUSTED", [])
    with pytest.raises(
        CheckpointError, match=r"'mine.UNet' is no part .* --trust mine, or load\(..., trust=\['mine'\]"
    ):
        load(folder / "run")
    model = load(folder / "run", trust=["mine"])
    audio = model.generate(n_samples=4000, steps=2)
    assert audio.shape == (1, 1, 4000)
    assert bool(torch.isfinite(audio).all())

    monkeypatch.setattr(safety, "_TRUSTED", [])
    call = ["--model", str(folder / "run"), "--seconds", "0.2", "--steps", "2", "-o", str(folder / "a.wav")]
    application = single(generate_command)
    refused = CliRunner().invoke(application, call)
    assert isinstance(refused.exception, CheckpointError)
    assert not (folder / "a.wav").exists()
    made = CliRunner().invoke(application, [*call, "--trust", "mine"])
    assert made.exit_code == 0, made.output
    assert (folder / "a.wav").exists()


def test_without_trust_training_refuses_before_its_first_step(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["audiodiff", "train"])
    with pytest.raises(SystemExit):
        train.command(arguments(folder))
    assert "give --trust mine" in capsys.readouterr().err
    assert not (folder / "run" / "checkpoints").exists()


def test_a_result_depends_on_no_more_than_the_page_states(folder):
    import mine

    network = mine.UNet(4).double()
    x = torch.randn(1, 1, 800, dtype=torch.float64)
    changed = x.clone()
    changed[..., 400] += 1.0
    with torch.no_grad():
        clock = torch.zeros(1, dtype=torch.float64)
        moved = (network(changed, clock, None) - network(x, clock, None))[0, 0].abs() > 0.0
    places = moved.nonzero()[:, 0] - 400
    assert places.min() >= -network.receptive_field.after
    assert places.max() <= network.receptive_field.before


def test_trust_that_names_nothing_is_refused(folder):
    with pytest.raises(ParameterError, match=r"trust=no_such_package: it cannot be imported .* set PYTHONPATH"):
        load("mel-inversion", trust=["no_such_package"])


def test_a_function_that_a_trusted_module_imports_stays_refused(folder):
    (folder / "mine.py").write_text("from os import system\n")
    safety.trust(["mine"])
    with pytest.raises(CheckpointError, match="refused as unsafe"):
        safety.check_targets({"_target_": "mine.system"}, where=folder, field="model")
