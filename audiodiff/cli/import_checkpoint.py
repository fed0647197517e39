"""`audiodiff import`: make a checkpoint of ours from another project's."""

from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import Force
from audiodiff.errors import ParameterError
from audiodiff.io.console import say
from audiodiff.models import registry
from audiodiff.models.importers.registry import FAMILIES, import_checkpoint


def import_command(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A file of torch.save, or of safetensors.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the checkpoint to write.")],
    family: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FAMILY",
            help=f"{', '.join(FAMILIES)}.",
            show_default="recognised by the names of the weights",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The model's settings, as .json or .yaml.",
            show_default="config.json or config.yaml beside the checkpoint",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="What the file does not say; may be repeated."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Licence of the weights, for the model card.")
    ] = None,
    force: Force = False,
) -> None:
    """Make a checkpoint of another project's, for every command that takes a model.

    The file is read without running code from it. Sampler and schedule are those of the original. What the file does
    not say is assumed, and said. docs/import.md has a table of the families and of their options.

    \b
    Examples:
      audiodiff import weights.pt -o models/diffwave
      audiodiff import g_02500000 --from hifigan -o models/hifigan     with config.json beside it
      audiodiff import 1000000.pkl -o models/sc09 --config config.json --licence MIT
      generate-wav speech.wav --model models/hifigan -o speech-again.wav
    """
    given = {}
    for text in option or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ParameterError(f"--set {text} must be NAME=VALUE")
        given[name] = value
    registry.check_new_checkpoint(out, force=force)
    kind, imported = import_checkpoint(source, out, family=family, config=config, options=given, licence=licence)
    if imported.assumed:
        say(f"assumed, since the file does not say it: {', '.join(imported.assumed)}; --set changes it")
    size = (out / registry.WEIGHTS).stat().st_size
    say(f"wrote {out}: {kind.name}, {size / 1e6:.1f} MB of weights")
