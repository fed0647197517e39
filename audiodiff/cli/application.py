"""Typer applications: one command with its options in groups, or the list of all commands."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

LOADED = ("model", "vocoder", "detector")
"""Parameters of commands that name a model."""
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        help="Build classes of this package if a checkpoint names them: networks of your own. May be repeated.",
        rich_help_panel="Model",
    ),
]
SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class GroupedCommand(TyperCommand):
    """A command whose --help lists options in groups, by their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and each group of options."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                # Typer adds the type in Python, as in "INPUT <list[str]>".
                groups["Arguments"].append((record[0].partition(" <")[0], record[1]))
            else:
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def single(command: Callable[..., None]) -> typer.Typer:
    """Return the application of one command; one that loads a model also takes --trust."""
    application = typer.Typer(**SETTINGS)
    loads = any(name in LOADED for name in inspect.signature(command).parameters)
    application.command(cls=GroupedCommand)(_trusting(command) if loads else command)
    return application


def _trusting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --trust to a command, which is acted upon before it."""

    @functools.wraps(command)
    def trusting(*arguments: object, trust: list[str] | None = None, **options: object) -> None:
        from audiodiff.models.safety import trust as trust_packages

        trust_packages(trust or ())
        command(*arguments, **options)

    added = inspect.Parameter("trust", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Trust)
    signature = inspect.signature(command)
    vars(trusting)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), added])
    trusting.__annotations__ = {**command.__annotations__, "trust": Trust}
    return trusting


def overview(commands: Mapping[str, str]) -> typer.Typer:
    """Return the application that lists commands with their summaries."""
    application = typer.Typer(
        help="Diffusion models for sound: train them, generate with them, and measure how good they are.",
        epilog="Every command has its own --help, with examples. `audiodiff --version` prints the version.",
        no_args_is_help=True,
        **SETTINGS,
    )
    for name, summary in commands.items():
        application.command(name, short_help=summary)(_nothing)
    return application


def _nothing() -> None:
    """Stand for a command in the list."""
