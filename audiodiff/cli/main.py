"""The command line: `audiodiff train`, `generate` and the others of `COMMANDS`, and `generate-wav`."""

# Nothing heavy is imported up here: `audiodiff --help` answers at once, and a command loads only its own parts.
import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from audiodiff.errors import AudiodiffError
from audiodiff.io.console import fail, say
from audiodiff.requirements import require

if TYPE_CHECKING:
    import typer

COMMANDS = {
    "train": "Train a model from a recipe.",
    "generate": "Make sound: from recordings, from mel spectrograms, or from nothing.",
    "evaluate": "Compare sound with its reference: SNR, PESQ, STOI and more.",
    "likelihood": "Compute how likely recordings are under a model: nats and bits per dimension.",
    "mel": "Make mel spectrograms, or tell which dialect one can be.",
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
    "join": "Put a model of mel spectrograms and a vocoder into one checkpoint.",
    "demo": "Do all of it on embedded speech, in minutes.",
}
MODULES = {
    "generate": "audiodiff.cli.generate",
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
    "join": "audiodiff.cli.join",
    "demo": "audiodiff.cli.demo",
}
IMPORTED = ("torch", "numpy", "jaxtyping", "typer", "rich", "hydra", "soundfile", "safetensors", "scipy")
"""Packages that every command imports."""
USED = {
    "train": ("lightning_fabric",),
    "schedule": ("matplotlib",),
    "anomaly": ("sklearn", "matplotlib"),
    "features": ("sklearn",),
    "map": ("sklearn", "matplotlib"),
    "demo": ("lightning_fabric",),
}
"""Packages that commands import late, beyond what they check themselves once their options are known."""
INTERRUPTED = 130


def main() -> None:
    """Run `audiodiff`."""
    _run(_audiodiff)


def generate_wav() -> None:
    """Run `generate-wav`, which is `audiodiff generate`."""
    _run(_generate_wav)


def _audiodiff() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["train"]:
        require(*IMPORTED, *USED["train"])
        from audiodiff.cli import train

        # Its arguments are Hydra's, and so is its --help.
        train.command(arguments[1:])
        return
    if arguments[:1] == ["--version"]:
        import audiodiff

        print(f"audiodiff {audiodiff.__version__}")
        return
    application = _application(
        help="Diffusion models for sound: train them, make sound with them, and know how good they are.",
        epilog="Every command has its own --help, with examples. `audiodiff --version` says which one this is.",
        no_args_is_help=True,
    )
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = _command(name) if name == called and name in MODULES else _nothing
        application.command(name, short_help=summary)(command)
    application()


def _generate_wav() -> None:
    application = _application()
    application.command()(_command("generate"))
    application()


def _application(**settings: str | bool) -> "typer.Typer":
    require("typer", "rich")
    import typer

    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,  # pyright: ignore[reportArgumentType]
    )


def _command(name: str) -> Callable[..., None]:
    """Import a command; what it needs later is imported before it begins, and Ctrl-C in it is answered in words."""
    require(*IMPORTED)
    command = getattr(importlib.import_module(MODULES[name]), f"{name.replace('-', '_')}_command")

    @functools.wraps(command)
    def interruptible(*arguments: object, **options: object) -> None:
        require(*USED.get(name, ()))
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            _interrupted()

    return interruptible


def _nothing() -> None:
    """Stand for a command that is listed and not called."""


def _run(command: Callable[[], None]) -> NoReturn:
    """Call a command; what went wrong is said in words."""
    # Before torch is imported: threads that spin for long while they wait gain little on an idle machine and take the
    # cores from each other on a busy one (docs/mel-inversion.md, Threads).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        command()
        sys.stdout.flush()
    except AudiodiffError as error:
        fail(error)
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:
        # Whoever reads the output has read enough, as `head` does; what is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    raise SystemExit(0)


def _interrupted() -> NoReturn:
    say("stopped by Ctrl-C; every file that was finished is whole, and no other was begun")
    raise SystemExit(INTERRUPTED) from None
