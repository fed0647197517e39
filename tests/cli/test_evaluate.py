"""`audiodiff evaluate`: output, gates and refusals."""

from pathlib import Path

import commands
import pytest
import torch
from sounds import noise, noise_pairs, save_float

from audiodiff.cli.evaluate import evaluate_command

run, made, refusal = commands.of(evaluate_command)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return noise_pairs(tmp_path)


def test_the_command_prints_files_means_and_notes(folders: tuple[Path, Path]):
    reference, estimate = folders
    save_float(estimate / "a.wav", torch.zeros(1, 8000))
    result = run(reference, estimate, "--metrics", "si_sdr,pesq_wb,lsd")
    assert result.exit_code == 0, result.output
    for text in ("sub/c", "si_sdr_db", "95 % interval", "no value of si_sdr_db, pesq_wb: silent estimate (1)"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (("--min", "snr_db=15"), 0),
        (("--min", "snr=25"), 1),
        (("--max", "lsd=0.01"), 1),
        (("--max", "lsd=5", "--min", "snr=25"), 1),
    ],
)
def test_gates_set_the_exit_code_and_are_named(folders: tuple[Path, Path], gate: tuple[str, ...], code: int):
    result = run(*folders, "--metrics", "lsd", *gate)
    assert result.exit_code == code, result.output
    assert ("gate failed" in result.stderr) == (code == 1)


@pytest.mark.parametrize("bad", ["pesq_wb", "pesq_wb=", "pesq_wb=high", "snr=nan"])
def test_malformed_gates_are_refused(folders: tuple[Path, Path], bad: str):
    assert f"--min {bad} must be NAME=VALUE" in refusal(*folders, "--min", bad)


def test_gates_on_unknown_metrics_are_refused(folders: tuple[Path, Path]):
    assert "metric 'pesq' is unknown" in refusal(*folders, "--min", "pesq=2")


def test_unknown_metrics_are_refused_with_the_list(folders: tuple[Path, Path]):
    assert "'psnr' is unknown, there are snr_db," in refusal(*folders, "--metrics", "snr,psnr")


def test_file_names_are_not_taken_for_markup(tmp_path: Path):
    for folder in ("r", "e"):
        save_float(tmp_path / folder / "take [red]1[/].wav", noise(0))
    assert "take [red]1[/]" in run(tmp_path / "r", tmp_path / "e", "--metrics", "lsd").stdout


def test_help_has_examples_and_explains_the_snr_of_a_vocoder():
    result = run("--help")
    assert result.exit_code == 0
    assert "--min pesq_wb=2.5" in result.stdout
    assert "a vocoder is free to choose" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--generated", "a"), "--against, --classifier must be given"),
        (("--against", "a", "--classifier", "b"), "--generated must be given"),
        (("a", "b", "--generated", "c", "--against", "d", "--classifier", "e"), "REFERENCE"),
        (("--min", "lsd=1", "--generated", "c", "--against", "d", "--classifier", "e"), "--min"),
        (("a",), "REFERENCE and ESTIMATE"),
        ((), "REFERENCE and ESTIMATE"),
    ],
)
def test_options_of_the_two_modes_are_not_mixed(arguments: tuple[str, ...], message: str):
    assert message in refusal(*arguments)
