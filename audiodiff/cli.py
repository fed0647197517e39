"""The command line: `audiodiff train | generate | evaluate | mel | demo`, and `generate-wav`."""

import sys
from typing import NoReturn

import typer

from audiodiff.errors import AudiodiffError
from audiodiff.messages import fail, say

EPILOG = "Every command has its own --help, with examples."


def _application() -> typer.Typer:
    from audiodiff.demo import demo_command
    from audiodiff.evaluate import evaluate_command
    from audiodiff.generate import generate_command
    from audiodiff.mel_command import mel_command

    application = typer.Typer(
        name="audiodiff",
        help="Diffusion models for sound: train them, make sound with them, and know how good they are.",
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # Its arguments are Hydra's, and so is its --help: `main` hands them over before this application sees them.
    application.command("train", help="Train a model from a recipe: `audiodiff train recipes=quickstart/vocoder`.")(
        lambda: None
    )
    application.command("generate")(generate_command)
    application.command("evaluate")(evaluate_command)
    application.command("mel")(mel_command)
    application.command("demo")(demo_command)
    return application


def main() -> None:
    """Run `audiodiff`."""
    if sys.argv[1:2] == ["train"]:
        from audiodiff import train

        _run(lambda: train.command(sys.argv[2:]))
    if sys.argv[1:2] == ["--version"]:
        import audiodiff

        print(f"audiodiff {audiodiff.__version__}")
        raise SystemExit(0)
    _run(_application())


def generate_wav() -> None:
    """Run `generate-wav`, which is `audiodiff generate`."""
    from audiodiff.generate import generate_command

    application = typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.command()(generate_command)
    _run(application)


def _run(command: object) -> NoReturn:
    """Call a command; what went wrong is said in words."""
    assert callable(command)
    try:
        command()
    except AudiodiffError as error:
        fail(error)
    except KeyboardInterrupt:
        say("stopped by Ctrl-C; files that were finished are whole, no other was begun under its name")
        raise SystemExit(130) from None
    raise SystemExit(0)
