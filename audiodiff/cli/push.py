"""`audiodiff push`: upload a model to the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer

from audiodiff.errors import ParameterError
from audiodiff.io.console import say
from audiodiff.models import checkpoint, hub, registry


def push_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder or a checkpoint.")],
    address: Annotated[str, typer.Argument(metavar="HF", help="hf://owner/name, or hf://owner/name@branch.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str, typer.Option(metavar="TEXT", help="Of the commit.")] = "Upload a model of audiodiff",
) -> None:
    """Upload a model to the Hugging Face Hub, for load("hf://owner/name") and --model hf://owner/name.

    The configuration, the weights, the metrics and the model card are uploaded, not the state of training. Log in
    first, with hf auth login. Needs pip install 'audiodiff[hub]'.

    \b
    Examples:
      audiodiff push runs/mine hf://someone/voice
      generate-wav speech.wav --model hf://someone/voice -o again.wav
    """
    hub.address(address)
    folder = registry.find(model)
    if hub.is_address(model):
        raise ParameterError(f"MODEL {model} is on the Hub already: give a run folder or a checkpoint")
    checkpoint.load(folder, device="cpu")  # refuses what nobody could load
    base = checkpoint.read_config(folder).get("adapter", {}).get("base", "")
    if Path(base).is_absolute():
        raise ParameterError(
            f"MODEL {model} holds adapters of {base}, which nobody else has: merge them first, audiodiff merge {model} "
            "-o FOLDER"
        )
    names = [name for name in sorted(registry.FILES) if (folder / name).is_file()]
    url = hub.upload(folder, address, names=names, card=registry.CARD, private=private, message=message)
    say(f"uploaded {', '.join(names)}: {url}")
