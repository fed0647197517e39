"""What `import audiodiff` costs and offers."""

import subprocess
import sys

import pytest

HEAVY = ("librosa", "torchaudio", "hydra", "matplotlib", "scipy", "lightning_fabric", "typer", "rich", "tensorboard")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def loaded(code: str) -> set[str]:
    """Return the heavy packages that are loaded after some code."""
    report = f"import sys; {code}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return set(python(report).split())


@pytest.mark.parametrize("code", ["import audiodiff", "from audiodiff import load"])
def test_importing_loads_nothing_heavier_than_torch(code: str):
    assert loaded(code) == set()


OFFERED = (
    "AudiodiffError MelDialect MelInverter Synthesizer __version__ anomaly augment clustering declip dialect edit "
)
OFFERED += "enhance errors extend features inpaint load metrics normalize read set_num_workers write"


def test_dir_shows_what_people_need_and_nothing_else():
    assert python("import audiodiff, audiodiff.models.checkpoint; print(*dir(audiodiff))") == OFFERED


def test_everything_that_is_offered_is_what_type_checkers_see():
    code = (
        "import audiodiff; print(*[getattr(audiodiff, name).__name__ for name in audiodiff.__all__ if name[0] != '_'])"
    )
    assert python(code) == (
        "AudiodiffError MelDialect MelInverter Synthesizer audiodiff.tasks.anomaly augment "
        "audiodiff.tasks.features.cluster declip dialect edit enhance audiodiff.errors extend audiodiff.tasks.features "
        "inpaint load audiodiff.metrics normalize read set_num_workers write"
    )


@pytest.mark.parametrize("name", ["restoration", "editing", "augmentation"])
def test_a_module_of_the_front_door_of_0_1_warns_and_works(name: str):
    code = "import warnings; warnings.simplefilter('error'); import audiodiff\ntry: audiodiff."
    assert f"audiodiff.{name} is now audiodiff.tasks" in python(f"{code}{name}\nexcept FutureWarning as e: print(e)")


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert python("import audiodiff; print(hasattr(audiodiff, 'nothing'))") == "False"


def test_the_help_of_all_commands_needs_no_torch():
    code = "import sys; sys.argv = ['audiodiff', '--help']; from audiodiff.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: print('torch' in sys.modules)"
    assert python(code).splitlines()[-1] == "False"
