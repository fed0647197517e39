"""Commands, called in this process as a user calls them."""

from collections.abc import Callable
from pathlib import Path

import typer
from click.testing import Result
from typer.testing import CliRunner

from audiodiff.errors import AudiodiffError


def of(command: Callable[..., None]) -> tuple[Callable[..., Result], Callable[..., str], Callable[..., str]]:
    """Return what runs a command, what expects it to succeed and returns its output, and what returns its refusal."""

    def run(*arguments: str | Path | float) -> Result:
        application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
        application.command()(command)
        return CliRunner().invoke(application, [str(argument) for argument in arguments])

    def made(*arguments: str | Path | float) -> str:
        result = run(*arguments)
        assert result.exit_code == 0, result.exception or result.output
        return result.output

    def refusal(*arguments: str | Path | float) -> str:
        result = run(*arguments)
        assert isinstance(result.exception, AudiodiffError), result.exception
        return str(result.exception)

    return run, made, refusal
