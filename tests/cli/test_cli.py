"""The command line: help, errors, exit codes, and old words."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sounds

import audiodiff
from audiodiff.cli.main import main

MAIN = "from audiodiff.cli.main import main; main()"
GENERATE_WAV = "import sys; sys.argv[0] = 'generate-wav'; from audiodiff.cli.main import generate_wav; generate_wav()"
JOBS = ("enhance", "inpaint", "extend", "declip", "edit", "augment", "anomaly", "features", "cluster", "map")
COMMANDS = (
    "train",
    "generate",
    "stream",
    "evaluate",
    "likelihood",
    "mel",
    "noise-schedule",
    *JOBS,
    "join",
    "merge",
    "export",
    "push",
    "demo",
)


def run(program: str, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "TERM": "dumb"},
    )


@dataclass(frozen=True)
class Answer:
    """What a call of `audiodiff` in this process gave."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def audiodiff_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Answer]:
    """Return `audiodiff` without the time that a process takes to start."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["audiodiff", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        said = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return Answer(exited.value.code, said.out, said.err)

    return call


def test_a_reader_that_leaves_early_gets_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate()
    assert said == b""


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_help_names_every_command_in_a_line_of_its_own(arguments: tuple[str, ...]):
    done = run(MAIN, *arguments)
    text = done.stdout + done.stderr
    for command in COMMANDS:
        assert sum(line.startswith(f"  {command} ") for line in text.splitlines()) == 1
    assert "..." not in text.split("Commands:")[1]
    assert done.returncode == (0 if arguments else 2)


@pytest.mark.parametrize("command", ["generate", "evaluate", "mel", "noise-schedule", "demo", "export", *JOBS])
def test_examples_stand_line_by_line_and_out_is_short(command: str, audiodiff_here: Callable[..., Answer]):
    done = audiodiff_here(command, "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    begin = next(k for k, line in enumerate(lines) if line.strip() in ("Example:", "Examples:"))
    examples = lines[begin + 1 : lines.index("", begin)]
    assert examples
    assert all(line.split()[0] in ("audiodiff", "generate-wav") for line in examples)
    assert any(line.split()[:2] == ["-o,", "--out"] for line in lines)


def test_the_help_of_train_is_hydras_with_examples_and_groups():
    done = run(MAIN, "train", "--help")
    assert done.returncode == 0
    assert "audiodiff train recipes=" in done.stdout
    assert "network: " in done.stdout


def test_the_version_is_said():
    assert run(MAIN, "--version").stdout == f"audiodiff {audiodiff.__version__}\n"


def test_generate_wav_is_audiodiff_generate(tmp_path: Path, audiodiff_here: Callable[..., Answer]):
    sounds.write(tmp_path / "a.wav", 2000)
    one = run(GENERATE_WAV, "a.wav", "-o", "one.wav", cwd=tmp_path)
    two = audiodiff_here("generate", "a.wav", "-o", "two.wav")
    assert one.stderr == "wrote one.wav\n"
    assert two.stderr == "wrote two.wav\n"
    assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "two.wav").read_bytes()
    assert one.returncode == two.returncode == 0
    again = audiodiff_here("generate", "a.wav", "-o", "one.wav")
    assert again.returncode == 2
    assert again.stderr.strip() == "error: --out: one.wav exists: give --force to replace it, or another --out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "one.wav", "two.wav"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nothing",), "No such command 'nothing'"),
        (("generate", "--no-such-option"), "No such option"),
        (("generate", "--seed", "x"), "--seed"),
        (("generate",), "needs an input"),
        (("mel",), "give an INPUT and --out"),
        (("evaluate", "a.wav"), "ESTIMATE"),
    ],
)
def test_a_wrong_call_is_answered_in_words_with_exit_code_2(
    arguments: tuple[str, ...], word: str, audiodiff_here: Callable[..., Answer]
):
    done = audiodiff_here(*arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_python_m_audiodiff_is_audiodiff():
    done = subprocess.run([sys.executable, "-m", "audiodiff", "--version"], capture_output=True, text=True)
    assert done.stdout == f"audiodiff {audiodiff.__version__}\n"


def test_old_options_and_commands_work_and_name_the_new_ones(audiodiff_here: Callable[..., Answer]):
    done = audiodiff_here("generate", "--between=1", "--seed", "1:2", "--model", "missing")
    assert done.stderr.startswith("--between is now --interpolate; the old name works until audiodiff 0.3\n")
    done = audiodiff_here("schedule", "--help")
    assert done.stderr == "audiodiff schedule is now audiodiff noise-schedule; the old name works until audiodiff 0.3\n"
    assert "Usage: audiodiff noise-schedule" in done.stdout


def test_options_of_generate_stand_in_groups(audiodiff_here: Callable[..., Answer]):
    help_text = audiodiff_here("generate", "--help").stdout
    titles = [line for line in help_text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments:", "Output:", "Model:", "Without an input:", "Sampling:", "Guidance:", "Options:"]
    assert "--between" not in help_text


def test_pictures_are_drawn_whatever_backend_a_notebook_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MPLBACKEND", "module://nowhere.backend")
    monkeypatch.setattr(sys, "argv", ["audiodiff", "--version"])
    with pytest.raises(SystemExit):
        main()
    drawn = subprocess.run(
        [sys.executable, "-c", "import matplotlib.figure"], capture_output=True, text=True, check=False
    )
    assert drawn.returncode == 0, drawn.stderr
