"""The command line: `audiodiff` with its commands, and `generate-wav`, which is `audiodiff generate`."""

# Nothing heavy is imported here: `audiodiff --help` is quick, and a command loads only its own modules.
import functools
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from audiodiff._version import __version__
from audiodiff.compat import current_arguments, current_command
from audiodiff.errors import AudiodiffError, AudioFileError, ParameterError
from audiodiff.io.console import fail, say
from audiodiff.io.paths import display_name, user_path
from audiodiff.requirements import require

COMMANDS = {
    "train": "Train a model from a recipe.",
    "generate": "Generate audio: from recordings, from mel spectrograms, from labels, or from noise alone.",
    "stream": "Generate audio live: from standard input to standard output.",
    "evaluate": "Compare audio with its reference: SNR, PESQ, STOI and more.",
    "likelihood": "Compute how likely recordings are under a model: nats and bits per dimension.",
    "mel": "Compute mel spectrograms, or check which dialect a file can be.",
    "noise-schedule": "Optimize a model's noise schedule for few steps.",
    "enhance": "Remove noise from speech.",
    "inpaint": "Fill gaps: lost packets, dropouts, deleted words.",
    "extend": "Add the missing high frequencies to narrow-band recordings.",
    "declip": "Restore clipped peaks.",
    "edit": "Change the speaker, the class, or vary a recording.",
    "augment": "Make varied copies of recordings, as training data for other models.",
    "anomaly": "Detect anomalies: fit a detector on normal recordings, then score others.",
    "features": "Extract feature vectors from recordings.",
    "cluster": "Cluster recordings by how they sound.",
    "map": "Map recordings by how they sound, on a page that plays them.",
    "import": "Import a checkpoint of another project: DiffWave, WaveGrad, Vocos, HiFi-GAN, BigVGAN.",
    "merge": "Merge adapters into the model that they belong to.",
    "join": "Join a model of mel spectrograms and a vocoder in one checkpoint.",
    "export": "Export a model to ONNX or torch.export, for other runtimes.",
    "push": "Upload a model to the Hugging Face Hub.",
    "doctor": "Check whether everything works on this machine.",
    "demo": "Try all of it on embedded speech, in minutes.",
}
MODULES = {
    "generate": "audiodiff.cli.generate",
    "stream": "audiodiff.cli.stream",
    "evaluate": "audiodiff.cli.evaluate",
    "likelihood": "audiodiff.cli.likelihood",
    "mel": "audiodiff.cli.mel",
    "noise-schedule": "audiodiff.cli.noise_schedule",
    "enhance": "audiodiff.cli.restore",
    "inpaint": "audiodiff.cli.restore",
    "extend": "audiodiff.cli.restore",
    "declip": "audiodiff.cli.restore",
    "edit": "audiodiff.cli.edit",
    "augment": "audiodiff.cli.augment",
    "anomaly": "audiodiff.cli.anomaly",
    "features": "audiodiff.cli.features",
    "cluster": "audiodiff.cli.cluster",
    "map": "audiodiff.cli.map",
    "import": "audiodiff.cli.import_checkpoint",
    "merge": "audiodiff.cli.merge",
    "join": "audiodiff.cli.join",
    "export": "audiodiff.cli.export",
    "push": "audiodiff.cli.push",
    "doctor": "audiodiff.cli.doctor",
    "demo": "audiodiff.cli.demo",
}
IMPORTED = ("torch", "numpy", "jaxtyping", "typer", "rich", "hydra", "soundfile", "safetensors")
"""Packages that every command imports."""
USED = {
    "enhance": ("scipy",),
    "inpaint": ("scipy",),
    "extend": ("scipy",),
    "declip": ("scipy",),
    "noise-schedule": ("matplotlib",),
    "anomaly": ("sklearn", "matplotlib"),
    "features": ("sklearn",),
    "cluster": ("sklearn",),
    "map": ("sklearn", "matplotlib"),
    "demo": ("lightning_fabric",),
}
"""Packages that commands import late, beyond those that they check when their options are known."""
STANDARD = "-"
"""Standard input as an INPUT of `generate`, standard output as its --out."""
STREAM_ONLY = ("--stdin", "--stdin-rate", "--chunk-frames", "--look-ahead")
"""Options that `generate` takes only with the input -."""
INTERRUPTED = 130


def main() -> None:
    """Run `audiodiff`."""
    _run(lambda: _audiodiff(sys.argv[1:]))


def generate_wav() -> None:
    """Run `generate-wav`, which is `audiodiff generate`."""
    _run(lambda: _call("generate", sys.argv[1:], program="generate-wav"))


def _audiodiff(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--version"]:
        print(f"audiodiff {__version__}")
    elif arguments and not arguments[0].startswith("-"):
        name = current_command(arguments[0])
        if name != arguments[0]:
            _warn(f"audiodiff {arguments[0]}", f"audiodiff {name}")
        _call(name, arguments[1:], program=f"audiodiff {name}")
    else:
        _list(arguments)


def _call(name: str, arguments: Sequence[str], *, program: str) -> None:
    """Call a command with its arguments, in which old names are replaced."""
    if name == "train":
        require(*IMPORTED)
        from audiodiff.cli import train

        # Its arguments are Hydra's, and so is its --help.
        train.command(list(arguments))
        return
    if name not in MODULES:
        _list([name])
    require(*IMPORTED)
    _refuse_empty(arguments)
    if name == "generate" and (streamed := stream_arguments(arguments)) is not None:
        name, arguments = "stream", streamed
    current = current_arguments(name, arguments)
    for old, new in zip(arguments, current, strict=True):
        if old != new:
            _warn(old.partition("=")[0], new.partition("=")[0])
    from audiodiff.cli.application import single

    module = importlib.import_module(MODULES[name])
    command = getattr(module, f"{name.replace('-', '_')}_command")
    single(_prepared(command, needs=USED.get(name, ())))(current, prog_name=program)


def _list(arguments: Sequence[str]) -> None:
    """Answer a call of `audiodiff` without a command."""
    require("typer", "rich")
    from audiodiff.cli.application import overview

    overview(COMMANDS)(list(arguments), prog_name="audiodiff")


def stream_arguments(arguments: Sequence[str]) -> list[str] | None:
    """Return the arguments of `stream` for those of `generate - --out -`; None where `-` is no input.

    Raises:
        ParameterError: if `-` is the input or the output alone.

    Example:
        >>> stream_arguments(["-", "-o", "-", "--model", "runs/mine"])
        ['--model', 'runs/mine']
    """
    rest, is_input, out = [], False, None
    remaining = iter(arguments)
    for argument in remaining:
        if argument in ("-o", "--out"):
            out = next(remaining, "")
            rest += [argument, out]
        elif argument == STANDARD:
            is_input = True
        else:
            rest.append(argument)
    if is_input and out != STANDARD:
        raise ParameterError("the input -, standard input, needs the output -, standard output: give --out -")
    if not is_input:
        if out == STANDARD:
            raise ParameterError("--out - needs the input -, standard input; with other inputs give a file or a folder")
        given = [argument for argument in rest if argument.partition("=")[0] in STREAM_ONLY]
        if given:
            raise ParameterError(f"{given[0]} has no meaning without the input -, standard input: see audiodiff stream")
        return None
    place = next(k for k, argument in enumerate(rest) if argument in ("-o", "--out"))
    return rest[:place] + rest[place + 2 :]


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty argument, which would mean the working folder where a path is asked for.

    Raises:
        ParameterError: naming its option or its place.
    """
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if argument and not (option.startswith("--") and equals and not value):
            continue
        before = arguments[place - 1] if place else ""
        name = option or (before if before.startswith("-") else f"argument {place + 1}")
        raise ParameterError(f"{name} is empty, as a shell variable that is not set: give a value or leave it out")


def _warn(old: str, new: str) -> None:
    say(f"{old} is now {new}; the old name works until audiodiff 0.3")


def _prepared(command: Callable[..., None], *, needs: Sequence[str]) -> Callable[..., None]:
    """Prepare a command: check its packages, replace ~ in its paths, and report Ctrl-C without a traceback."""

    @functools.wraps(command)
    def prepared(*arguments: object, **options: object) -> None:
        require(*needs)
        try:
            # A shell replaces the ~ of `-o ~/a.wav`, but not that of `--out=~/a.wav`.
            paths = {name: user_path(value) for name, value in options.items() if isinstance(value, Path)}
            command(*arguments, **options | paths)
        except KeyboardInterrupt:
            _interrupted()

    return prepared


def _run(command: Callable[[], None]) -> NoReturn:
    """Call a command and report its errors without a traceback."""
    # Before torch is imported: threads that spin for long while they wait gain little on an idle machine and take the
    # cores from each other on a busy one (docs/mel-inversion.md, Threads).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Pictures are files here; a notebook's shell names a backend that another environment may not have.
    os.environ["MPLBACKEND"] = "agg"
    warnings.showwarning = _show_warning
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # lines name files, whose names may not be UTF-8
    try:
        command()
        sys.stdout.flush()
    except AudiodiffError as error:
        fail(error)
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:
        # The reader has read enough, as `head` does; what is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        if error.filename is None:
            raise
        fail(AudioFileError(f"{display_name(error.filename)}: {error.strerror}; check the path and its permissions"))
    raise SystemExit(0)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as a line, without the place in the code."""
    say(f"warning: {message}")


def _open_standard_streams() -> None:
    """Open nothing in place of closed standard streams: their numbers would go to the next files that are opened."""
    for number in range(3):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _interrupted() -> NoReturn:
    say("stopped by Ctrl-C; every finished file is whole, and no other was begun")
    raise SystemExit(INTERRUPTED) from None
