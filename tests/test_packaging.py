"""The wheel: what is in it, and that it works from an empty directory as the checkout does."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAIN = "from audiodiff.cli.main import main; main()"
RECIPES = sorted(str(path.relative_to(ROOT / "recipes").with_suffix("")) for path in ROOT.glob("recipes/*/*.yaml"))


def run(*arguments: str | Path, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what is in the repository."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, without what it depends on, into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target", target, wheel, cwd=target)
    return target


@pytest.fixture(params=[pytest.param("wheel", marks=pytest.mark.slow), "checkout"])
def place(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the environment in which the installed copy, or the checkout, is imported."""
    where = request.getfixturevalue("installed") if request.param == "wheel" else ROOT
    return {"PYTHONPATH": str(where)}


def test_the_wheel_holds_the_configurations_the_recipes_and_the_speech(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"audiodiff/py.typed", "audiodiff/conf/config.yaml", "audiodiff/data/speech/manifest.csv"} <= set(names)
    for source, target in ((ROOT / "conf", "audiodiff/conf"), (ROOT / "recipes", "audiodiff/recipes")):
        for path in source.rglob("*.yaml"):
            assert f"{target}/{path.relative_to(source)}" in names
    assert any(name.startswith("audiodiff/data/speech/") and name.endswith((".flac", ".ogg", ".wav")) for name in names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "runs/"))]
    entry_points = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("entry_points.txt")))
    assert b"generate-wav = audiodiff.cli.main:generate_wav" in entry_points
    assert b"audiodiff = audiodiff.cli.main:main" in entry_points


def test_every_recipe_is_composed_in_an_empty_directory(place: dict[str, str], tmp_path: Path):
    code = (
        "import sys, audiodiff\n"
        "from audiodiff.training.config import compose, plain\n"
        "from audiodiff.data import speech_folder\n"
        "print(audiodiff.__file__)\n"
        "assert (speech_folder() / 'manifest.csv').is_file()\n"
        "for recipe in sys.argv[1:]:\n"
        "    print(recipe, plain(compose([f'recipes={recipe}']))['audio']['sample_rate'])\n"
    )
    lines = run(sys.executable, "-c", code, *RECIPES, cwd=tmp_path, environment=place).splitlines()
    assert Path(lines[0]).parent.parent == Path(place["PYTHONPATH"])
    assert [line.split()[0] for line in lines[1:]] == RECIPES
    assert list(tmp_path.iterdir()) == []


def test_train_prints_the_configuration_of_a_recipe_in_an_empty_directory(place: dict[str, str], tmp_path: Path):
    arguments = ("train", "recipes=quickstart/mel", "--cfg", "job")
    said = run(sys.executable, "-c", MAIN, *arguments, cwd=tmp_path, environment=place)
    assert "LogMelRepresentation" in said


def test_generate_wav_answers_from_an_empty_directory(place: dict[str, str], tmp_path: Path):
    code = "from audiodiff.cli.main import generate_wav; generate_wav()"
    assert "Examples:" in run(sys.executable, "-c", code, "--help", cwd=tmp_path, environment=place)


def test_the_console_scripts_of_this_environment_answer(tmp_path: Path):
    scripts = Path(sys.executable).parent
    if not (scripts / "generate-wav").exists():
        pytest.skip("the package is not installed here")
    assert run(scripts / "audiodiff", "--help", cwd=tmp_path)
    assert run(scripts / "generate-wav", "--help", cwd=tmp_path)


@pytest.mark.slow
def test_the_installed_wheel_trains_generates_and_evaluates(installed: Path, tmp_path: Path):
    place = {"PYTHONPATH": str(installed)}
    speech = installed / "audiodiff" / "data" / "speech"
    source = next(path for path in sorted(speech.rglob("*")) if path.suffix in (".flac", ".ogg", ".wav"))
    for arguments in (
        ("train", "recipes=quickstart/vocoder", "debug=two_steps", "hydra.run.dir=run"),
        ("generate", source, "--model", "run", "-o", "out.wav", "--rate", "22050"),
        ("evaluate", source, "out.wav", "--metrics", "lsd"),
    ):
        run(sys.executable, "-c", MAIN, *arguments, cwd=tmp_path, environment=place)
    assert (tmp_path / "out.wav").exists()
