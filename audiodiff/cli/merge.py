"""`audiodiff merge`: write a model with adapters as one checkpoint."""

import json
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import Force
from audiodiff.errors import ParameterError
from audiodiff.io.console import say
from audiodiff.models import checkpoint, registry


def merge_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run folder or a checkpoint of adapters (train.lora.rank).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the checkpoint to write.")],
    force: Force = False,
) -> None:
    """Merge adapters into the weights of the model that they belong to, in a checkpoint that needs no other.

    \b
    Examples:
      audiodiff train recipes=folder/vocoder data.root=/my/voice train.init_from=runs/base train.lora.rank=8
      audiodiff merge runs/DATE/TIME -o merged
    """
    registry.check_new_checkpoint(out, force=force)
    folder = registry.find(model)
    config = checkpoint.read_config(folder)
    if "adapter" not in config:
        raise ParameterError(f"MODEL {model} has no adapters: it is one checkpoint already")
    if folder.resolve().is_relative_to(out.resolve()):
        raise ParameterError(f"--out {out} is the folder of MODEL, or holds it: give another --out")
    merged = checkpoint.load(str(folder), device="cpu")
    metrics, card = folder / registry.METRICS, folder / registry.CARD
    checkpoint.save(
        out,
        model=config["model"],
        sample_rate=merged.sample_rate,
        mel_dialect=merged.dialect,
        weights=merged.state_dict(),
        metrics=json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {},
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
    )
    say(f"wrote {out}: {(out / registry.WEIGHTS).stat().st_size / 1e6:.1f} MB of weights")
