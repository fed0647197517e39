"""Classes of a user's own: the examples of docs/extending.md, run as the page shows them."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import runs
import torch

import audiodiff
from audiodiff.models import checkpoint, registry

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
COMMANDS = [shlex.split(text)[2:] for kind, text in BLOCKS if kind == "sh"]
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the files of the page, and work beside them."""
    for kind, text in BLOCKS:
        if kind == "sh":
            continue
        name, _, rest = text.removeprefix("# ").partition("\n")
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{rest}\n\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("mine", None)


def tiny(root: Path, *, keep_metrics: bool) -> list[str]:
    """Return the overrides of a tiny run, without those that the page sets."""
    ours = ("logger", "validation.metrics") if keep_metrics else ("logger",)
    return [*(override for override in runs.TINY if not override.startswith(ours)), f"data.root={root}"]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments)[:40])
def test_every_command_of_the_page_trains(arguments: list[str], folder: Path, recordings: Path, say: Say):
    small = tiny(recordings, keep_metrics=True)
    code, said = say(*small, "train.steps=2", "sampler.n_steps=2", "hydra.run.dir=run", *arguments)
    assert code == 0, said
    model = audiodiff.load(folder / "run", device="cpu")
    assert model.sample_rate == 22050


def test_a_run_with_all_of_them_resumes_exactly_and_loads_without_them(
    folder: Path, say: Say, monkeypatch: pytest.MonkeyPatch
):
    page = ("--config-dir", "conf", "recipes=mine")
    small = [override for override in tiny(folder, keep_metrics=True) if not override.startswith("data.root")]
    same = (*small, *page, "train.validate_every=2", "data.n_workers=1")
    code, said = say(*same, "train.steps=4", "hydra.run.dir=whole")
    assert code == 0, said
    assert say(*same, "train.steps=2", "hydra.run.dir=parts")[0] == 0
    code, said = say("train.resume=parts", "train.steps=4")
    assert code == 0, said
    runs.assert_same(runs.state(folder / "parts"), runs.state(folder / "whole"))

    measured = json.loads((registry.find(folder / "parts") / checkpoint.METRICS).read_text())["validation"]
    assert set(measured) == {"loss", "lsd", "level_error_db", "distance_1_4"}
    lines = (folder / "parts" / "lines.txt").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines if "train/loss=" in line] == [1, 2, 3, 4]
    assert "distance_1_4" in (registry.find(folder / "parts") / checkpoint.CARD).read_text()
    assert "mine.Chirps, 9 recordings" in (registry.find(folder / "parts") / checkpoint.CARD).read_text()

    (folder / "mine.py").unlink()
    monkeypatch.delitem(sys.modules, "mine")
    model = audiodiff.load(folder / "parts", device="cpu")
    assert model.generate(model.mel(torch.zeros(1, 1, 2048)), iterations=0, seed=0).shape == (1, 1, 2048)
    code, said = say("train.resume=parts", "train.steps=6")
    assert code == 2
    assert "_target_='mine." in said
    assert "working folder" in said


def test_a_changed_argument_of_a_source_is_refused_in_a_resume(folder: Path, say: Say):
    small = [override for override in tiny(folder, keep_metrics=False) if not override.startswith("data.root")]
    source = ("data=source", "data.source._target_=mine.Chirps")
    begun = say(*small, *source, "+data.source.n=12", "train.steps=1", "logger=none", "hydra.run.dir=run")
    assert begun[0] == 0, begun[1]
    code, said = say("train.resume=run", "train.steps=2", "+data.source.n=16")
    assert code == 2
    assert "data.source.n was 12, is 16" in said


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["+logger.mine._target_=mine.Chirps", "+logger.mine.n=1"], "must give a audiodiff.training.log.Log"),
        (["+logger.mine=3"], "logger.mine must name a class by its key _target_"),
        (["+logger.mine._target_=mine.Nothing"], "_target_='mine.Nothing' does not exist"),
        (["validation.metrics=[{_target_:mine.bad}]"], "validation.metrics: bad gives tensor("),
        (["validation.metrics=[{_target_:mine.broken}]"], "validation.metrics: broken fails: ValueError: no"),
        (["+validation.validators.a._target_=mine.Lines"], "audiodiff.training.validation.Validator"),
        (["data=source", "data.source._target_=mine.Empty"], "Empty.entries lists no recordings"),
        (["data=source", "data.source._target_=mine.Unscanned"], "sample_rate=0 must lie between"),
        (["data=source", "data.source._target_=mine.OneSplit"], "mine.OneSplit: no recording is in the split 'val'"),
        (["data=source"], "data.source must name a class by its key _target_, as in data.source._target_=my_module"),
        (["network._target_=mine.Network"], "network._target_=mine.Network lies outside of audiodiff"),
    ],
)
def test_a_class_that_does_not_fit_is_refused_in_one_line(
    overrides: list[str], named: str, folder: Path, recordings: Path, say: Say
):
    with (folder / "mine.py").open("a") as file:
        file.write(
            "def _metric(name, compute):\n"
            "    return Metric(name=name, compute=compute, unit='', better='lower', definition='')\n"
            "def bad():\n"
            "    return _metric('bad', lambda e, r, rate: (e - r).abs())\n"
            "def broken():\n"
            "    def compute(e, r, rate):\n"
            "        raise ValueError('no')\n"
            "    return _metric('broken', compute)\n"
            "class Empty(Chirps):\n"
            "    def __init__(self): self.n = 0\n"
            "class Unscanned(Chirps):\n"
            "    def __init__(self): pass\n"
            "    def entries(self): return [Entry(Path('a'), split='train'), Entry(Path('b'), split='val')]\n"
            "class OneSplit(Chirps):\n"
            "    def __init__(self): self.n = 8\n"
            "    def entries(self): return [e for e in super().entries() if e.split == 'train']\n"
            "from audiodiff.networks.spectral import SpectralWaveNet\n"
            "class Network(SpectralWaveNet): pass\n"
        )
    code, said = say(*tiny(recordings, keep_metrics=True), "train.steps=1", "hydra.run.dir=run", *overrides)
    assert code == 2
    assert said.startswith("error: ")
    assert named in said
    assert said.count("\n") == 1
    assert not runs.newest(folder / "run")


def test_labels_of_a_source_condition_a_model(folder: Path, say: Say):
    labels = ("recipes=folder/class", "data=source", "data.source._target_=mine.Chirps", "+data.source.n=12")
    code, said = say(
        *labels,
        *(
            *("+data.labels.pitch=label", "~data.labels.class", "data.balance=pitch"),
            "audio.sample_rate=8000",
            "debug=two_steps",
            "logger=none",
            "hydra.run.dir=run",
        ),
    )
    assert code == 0, said
    assert audiodiff.load(folder / "run", device="cpu").labels.vocabularies == {"pitch": ("high", "low")}


OTHERS = """
from dataclasses import dataclass
from audiodiff.diffusion.density import UniformTime
from audiodiff.diffusion.objective import Objective
from audiodiff.training.lr_schedule import LrSchedule


@dataclass(frozen=True)
class Halving(LrSchedule):
    every: int

    def __call__(self, step):
        return 0.5 ** (step // self.every)


class AbsoluteError(Objective):
    def __call__(self, prediction, x0, x, sigma, *, observed=None):
        return (prediction.denoised - x0).abs().flatten(1).mean(1)


class EarlyTime(UniformTime):
    pass


class Descent(torch.optim.SGD):
    pass
"""


def test_other_parts_of_training_may_be_ones_own(folder: Path, recordings: Path, say: Say):
    with (folder / "mine.py").open("a") as file:
        file.write(OTHERS)
    chosen = (
        *("~lr_schedule", "+lr_schedule={_target_:mine.Halving,every:2}"),
        *("~objective", "+objective={_target_:mine.AbsoluteError}", "density._target_=mine.EarlyTime"),
        "optimizer._target_=mine.Descent",
        *("~optimizer.betas", "~optimizer.weight_decay"),
    )
    rest = [override for override in tiny(recordings, keep_metrics=False) if not override.startswith("lr_schedule")]
    code, said = say(*rest, "logger=none", "train.steps=4", "train.log_every=1", "hydra.run.dir=run", *chosen)
    assert code == 0, said
    rates = re.findall(r"step \d/4 .* lr (\S+)", (folder / "run" / "train.log").read_text())
    assert [float(rate) for rate in rates] == pytest.approx([0.001, 0.001, 0.0005, 0.0005])
    del sys.modules["mine"]
    (folder / "mine.py").unlink()
    assert audiodiff.load(folder / "run", device="cpu").sample_rate == 22050
