"""debug=two_steps runs every recipe, from the recordings to a checkpoint that loads."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import audiodiff
from audiodiff import checkpoint, compose
from audiodiff.errors import AudiodiffError
from audiodiff.train import train

FOLDER = compose.recipe_root() / "recipes"
RECIPES = sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.yaml"))
# It samples through 200 steps of 36 layers.
SLOW = {"sc09/unconditional"}
STUDENTS = {f"techniques/{name}" for name in ("progressive", "consistency", "reflow", "shortcut")}
"""They start from a trained quickstart/vocoder."""


def composed(recipe: str, *more: str) -> dict[str, Any]:
    return compose.plain(compose.compose([f"recipes={recipe}", "debug=two_steps", "data.root=embedded", *more]))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("teacher") / "run"
    torch.set_num_threads(1)
    train(composed("quickstart/vocoder"), run=run)
    return run


@pytest.mark.parametrize(
    "recipe", [pytest.param(name, marks=pytest.mark.recipe) if name in SLOW else name for name in RECIPES]
)
def test_two_steps_of_a_recipe_end_in_a_model_that_makes_sound(
    recipe: str, tmp_path: Path, request: pytest.FixtureRequest
):
    torch.set_num_threads(1)
    more = [f"train.init_from={request.getfixturevalue('teacher')}"] if recipe in STUDENTS else []
    config = composed(recipe, *more)
    outcome = train(config, run=tmp_path)
    assert outcome.step == 2
    assert outcome.metrics["loss"] > 0
    model = audiodiff.load(tmp_path, device="cpu")
    what = {"mel": model.mel(0.1 * torch.randn(1, 1, 4096))} if model.needs_mel else {"seconds": 0.05}
    audio = model.generate(**what)
    assert bool(torch.isfinite(audio).all())
    assert list((tmp_path / "tensorboard").iterdir())
    told = yaml.safe_load((checkpoint.find(tmp_path) / checkpoint.CONFIG).read_text())
    assert told["sample_rate"] == config["audio"]["sample_rate"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_a_page_and_says_how_it_is_run(recipe: str):
    page = (FOLDER / recipe).parent / "README.md"
    assert f"recipes={recipe}" in page.read_text()


@pytest.mark.parametrize("recipe", sorted(STUDENTS))
def test_a_student_does_not_start_without_what_it_starts_from(recipe: str, tmp_path: Path):
    with pytest.raises(AudiodiffError, match=r"train\.init_from"):
        train(composed(recipe), run=tmp_path)
    assert not (tmp_path / "checkpoints").exists()
