"""debug=two_steps runs every recipe, from the recordings to a checkpoint that loads."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import audiodiff
from audiodiff.errors import AudiodiffError
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint, registry
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.config import compose, plain, recipe_root
from audiodiff.training.run import train

FOLDER = recipe_root() / "recipes"
RECIPES = sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.yaml"))
# It samples through 200 steps of 36 layers.
SLOW = {"sc09/unconditional", "sc09/class", "fsdd/diffwave"}
STUDENTS = {f"techniques/{name}" for name in ("progressive", "consistency", "reflow", "shortcut", "adversarial")}
"""They start from a trained quickstart/vocoder."""
FINE_TUNED = {"fsdd/vocoder_finetune"}
"""It starts from fsdd/vocoder, and a model of mels makes what it is told."""
SECOND_STAGES = {f"{folder}/vocoder_adversarial": f"{folder}/vocoder" for folder in ("folder", "speech")}
"""They start from another recipe of the same network."""
CLASSIFIERS = {"fsdd/classifier"}
"""They make no sound."""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data set with every label that a recipe asks for, of clips shorter and longer than a crop."""
    root = tmp_path_factory.mktemp("labelled")
    generator = torch.Generator().manual_seed(0)
    rows = ["path,label,speaker,split"]
    for label in ("0", "1"):
        for take, split in enumerate(("train", "train", "val")):
            path = root / label / f"{take}.wav"
            path.parent.mkdir(exist_ok=True)
            audio = 0.1 * torch.randn(1, 4000 * (1 + take), generator=generator)
            audio_io.write(path, audio.clamp(-1, 1), sample_rate=8000)
            rows.append(f"{label}/{take}.wav,{label},ann,{split}")
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


def composed(recipe: str, *more: str) -> dict[str, Any]:
    return plain(compose([f"recipes={recipe}", "debug=two_steps", "data.root=embedded", *more]))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("teacher") / "run"
    torch.set_num_threads(1)
    train(composed("quickstart/vocoder"), run=run)
    return run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> tuple[Path, Path]:
    """Train a model of mels and a vocoder for two steps."""
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("digits")
    for recipe in ("mel", "vocoder"):
        config = composed(f"fsdd/{recipe}")
        config["data"]["root"] = str(labelled)
        train(config, run=runs / recipe)
    return runs / "mel", runs / "vocoder"


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(name, marks=pytest.mark.recipe) if name in SLOW else name
        for name in RECIPES
        if name not in CLASSIFIERS
    ],
)
def test_two_steps_of_a_recipe_end_in_a_model_that_makes_sound(
    recipe: str, tmp_path: Path, labelled: Path, request: pytest.FixtureRequest
):
    torch.set_num_threads(1)
    more = [f"train.init_from={request.getfixturevalue('teacher')}"] if recipe in STUDENTS else []
    if recipe in FINE_TUNED:
        first, second = request.getfixturevalue("digits")
        more = [f"train.init_from={second}", f"method.first_stage.where={first}"]
    if recipe in SECOND_STAGES:
        train(composed(SECOND_STAGES[recipe]), run=tmp_path / "first")
        more = [f"train.init_from={tmp_path / 'first'}", "method.discriminators.channels=2"]
    config = composed(recipe, *more)
    if config["data"]["labels"]:
        config["data"]["root"] = str(labelled)
    outcome = train(config, run=tmp_path / "run")
    assert outcome.step == 2
    assert outcome.metrics["loss"] > 0
    model = audiodiff.load(tmp_path / "run", device="cpu")
    what: dict[str, Any] = {"seconds": 0.05}
    if model.needs_mel:
        what = {"mel": model.mel(0.1 * torch.randn(1, 1, 4096))}
    elif config["data"]["labels"]:
        assert isinstance(model, Synthesizer)
        assert model.labels is not None
        assert set(model.labels.names) == set(config["data"]["labels"])
        what["labels"] = {name: known[-1] for name, known in model.labels.vocabularies.items()}
    audio = model.generate(**what)
    assert bool(torch.isfinite(audio).all())
    assert list((tmp_path / "run/tensorboard").iterdir())
    told = yaml.safe_load((registry.find(tmp_path / "run") / checkpoint.CONFIG).read_text())
    assert told["sample_rate"] == config["audio"]["sample_rate"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_a_page_and_says_how_it_is_run(recipe: str):
    page = (FOLDER / recipe).parent / "README.md"
    assert f"recipes={recipe}" in page.read_text()


def test_the_list_of_recipes_names_every_one():
    page = (FOLDER / "README.md").read_text()
    listed = set(re.findall(r"`(\w+/\w+)`", page))
    assert listed == set(RECIPES)


@pytest.mark.parametrize("recipe", sorted(STUDENTS | set(SECOND_STAGES)))
def test_a_student_does_not_start_without_what_it_starts_from(recipe: str, tmp_path: Path):
    with pytest.raises(AudiodiffError, match=r"train\.init_from"):
        train(composed(recipe), run=tmp_path)
    assert not (tmp_path / "checkpoints").exists()
