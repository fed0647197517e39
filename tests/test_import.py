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


def test_load_and_metrics_are_reached_from_the_package():
    code = "import audiodiff; print('load' in dir(audiodiff), 'metrics' in dir(audiodiff), callable(audiodiff.load), "
    assert python(code + "audiodiff.metrics.snr_db.__name__)") == "True True True snr_db"


def test_everything_that_is_offered_can_be_reached():
    code = "import audiodiff; print(*[name for name in audiodiff.__all__ if getattr(audiodiff, name) is None], "
    assert python(
        code + "audiodiff.tasks.restoration.enhance.__name__, audiodiff.tasks.features.extract.features.__name__)"
    ) == ("enhance features")


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert python("import audiodiff; print(hasattr(audiodiff, 'nothing'))") == "False"


def test_the_help_of_all_commands_needs_no_torch():
    code = "import sys; sys.argv = ['audiodiff', '--help']; from audiodiff.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: print('torch' in sys.modules)"
    assert python(code).splitlines()[-1] == "False"
