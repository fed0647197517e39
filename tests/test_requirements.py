"""A missing or broken package is one line, before work begins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import runs

from audiodiff.errors import PackageError
from audiodiff.requirements import require

GENERATE_WAV = str(Path(runs.COMMAND).with_name("generate-wav"))


def broken(folder: Path, package: str, error: str = 'OSError("cannot open shared object file")') -> dict[str, str]:
    """Write a package that fails when it is imported; return the environment in which it is found first."""
    folder.mkdir(exist_ok=True)
    (folder / f"{package}.py").write_text(f"raise {error}\n")
    return {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "TERM": "dumb"}


def call(environment: dict[str, str], *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_missing_package_is_named_with_its_command_of_installation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(PackageError, match=r"^pesq cannot be loaded \(.*pesq.*\): pip install 'pesq>=[0-9.]+'$"):
        require("torch", "pesq")


def test_a_broken_package_is_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken(tmp_path, "no_such_package", 'RuntimeError("built for another torch\\nsecond line")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PackageError) as raised:
        require("no_such_package")
    assert str(raised.value) == (
        "no_such_package cannot be loaded (built for another torch): "
        "pip install --force-reinstall --no-deps no_such_package"
    )


SLOW = pytest.mark.slow
"""Cases beyond the first of a kind: each starts a program of its own."""


@pytest.mark.parametrize(
    "package",
    [
        "pesq",
        "lightning_fabric",
        *(pytest.param(name, marks=SLOW) for name in ("pystoi", "tensorboard", "matplotlib", "librosa")),
    ],
)
def test_training_refuses_a_broken_package_before_its_first_step(package: str, recordings_22k: Path, tmp_path: Path):
    result = call(
        broken(tmp_path / "broken", package),
        *(runs.COMMAND, "train", *runs.TINY, f"data.root={recordings_22k}", f"hydra.run.dir={tmp_path / 'run'}"),
        *("train.steps=1", "logger=tensorboard", "validation.metrics=[pesq_wb,stoi]"),
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: {package} cannot be loaded (cannot open shared object")
    assert "Traceback" not in result.stderr
    assert "pip install --force-reinstall --no-deps" in result.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture(scope="module")
def recordings_22k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.recordings(tmp_path_factory.mktemp("recordings"))


@pytest.mark.parametrize("package", ["pesq", pytest.param("matplotlib", marks=SLOW)])
def test_the_demo_refuses_a_broken_package_and_leaves_no_folder(package: str, tmp_path: Path):
    result = call(broken(tmp_path / "broken", package), runs.COMMAND, "demo", "-o", tmp_path / "demo", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {package} cannot be loaded")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "package", ["torch", "typer", *(pytest.param(name, marks=SLOW) for name in ("soundfile", "rich"))]
)
@pytest.mark.parametrize("command", [(runs.COMMAND, "train"), (runs.COMMAND, "mel", "x.wav"), (GENERATE_WAV, "x.wav")])
def test_a_package_of_every_command_is_refused_in_one_line(command: tuple[str, ...], package: str, tmp_path: Path):
    result = call(broken(tmp_path / "broken", package), *command, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {package} cannot be loaded (cannot open shared object file): pip install")
    assert len(result.stderr.splitlines()) == 1


def test_an_evaluation_needs_the_packages_of_its_metrics_alone(tmp_path: Path, recordings_22k: Path):
    environment = broken(tmp_path / "broken", "pesq")
    file = recordings_22k / "even" / "0.wav"
    ask = (runs.COMMAND, "evaluate", file, file, "--metrics")
    assert call(environment, *ask, "snr,lsd", cwd=tmp_path).returncode == 0
    assert call(environment, *ask, "pesq_wb", cwd=tmp_path).stderr.startswith("error: pesq cannot be loaded")


def test_a_broken_torchaudio_ends_nothing(tmp_path: Path, recordings_22k: Path):
    environment = broken(tmp_path / "broken", "torchaudio")
    out = tmp_path / "x.npy"
    result = call(
        environment,
        runs.COMMAND,
        "mel",
        recordings_22k / "even" / "0.wav",
        "--dialect",
        "speechbrain",
        "-o",
        out,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
