"""`audiodiff join`: join a model of mel spectrograms and a vocoder in one checkpoint, or halve the size of a model."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from audiodiff.cli.options import Force
from audiodiff.errors import ParameterError
from audiodiff.io.console import say
from audiodiff.models import checkpoint, registry
from audiodiff.models.mel_inverter import CONSTRAINT, INVERSIONS
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.weights import compact

PRECISIONS = ("float32", "bfloat16")


def join_command(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The first stage: a run folder, a checkpoint, or the name of a model."),
    ],
    vocoder: Annotated[
        str,
        typer.Argument(
            metavar="VOCODER", help="The second stage, likewise; none for a single stage, or mel inversion."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the checkpoint to write.")],
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME", help=f"Precision of the stored weights: {PRECISIONS[0]}, or {PRECISIONS[1]}, half the size."
        ),
    ] = "float32",
    force: Force = False,
) -> None:
    """Join a model of mel spectrograms and a vocoder in one checkpoint, which generates audio in one call.

    Both must have the same mel dialect, in every field. A vocoder that MODEL already has is replaced. The state of
    training is left out.

    \b
    Examples:
      audiodiff join runs/mel runs/vocoder -o digits          two stages in one checkpoint
      audiodiff join runs/mel runs/vocoder -o digits --dtype bfloat16
      audiodiff join runs/waveform none -o small --dtype bfloat16
      generate-wav --model digits --label digit=7 -o seven.wav
    """
    if dtype not in PRECISIONS:
        raise ParameterError(f"--dtype {dtype} must be one of {', '.join(PRECISIONS)}")
    first, sources = _first_stage(model), [registry.find(model)]
    node = {key: value for key, value in _node(sources[0]).items() if key != "vocoder"}
    metrics: dict[str, Any] = _metrics(sources[0])
    command = shlex.join(["audiodiff", "join", model, vocoder, *([] if dtype == "float32" else ["--dtype", dtype])])
    first.vocoder = None
    if INVERSIONS.get(vocoder) is not CONSTRAINT:
        if vocoder in INVERSIONS:
            raise ParameterError(
                f"VOCODER {vocoder} has no weights to join: choose it when audio is generated, --vocoder {vocoder}"
            )
        first.vocoder = checkpoint.second_stage(vocoder, first=first)
        sources.append(registry.find(vocoder))
        node["vocoder"] = _node(sources[1])
        metrics = {"first_stage": metrics, "vocoder": _metrics(sources[1])}
    _check_out(out, sources=sources, force=force)
    checkpoint.save(
        out,
        model=node,
        sample_rate=first.sample_rate,
        mel_dialect=first.dialect,
        weights=compact(first) if dtype == "bfloat16" else first.state_dict(),
        metrics=metrics,
        card=_card(sources, command=command),
    )
    n_bytes = (out / registry.WEIGHTS).stat().st_size
    say(f"wrote {out}: {len(sources)} stage{'s' * (len(sources) > 1)}, {n_bytes / 1e6:.1f} MB of weights")


def _first_stage(where: str) -> Synthesizer:
    loaded = checkpoint.load(where, device="cpu")
    if not isinstance(loaded, Synthesizer):
        raise ParameterError(f"MODEL {where} is not trained and has no weights: give a run folder or a checkpoint")
    return loaded


def _check_out(out: Path, *, sources: list[Path], force: bool) -> None:
    """Refuse a folder that would be overwritten."""
    for source in sources:
        if source.resolve().is_relative_to(out.resolve()):
            raise ParameterError(f"--out {out} is the folder of a stage, or holds it: give another --out")
    registry.check_new_checkpoint(out, force=force)


def _node(folder: Path) -> dict[str, Any]:
    return checkpoint.read_config(folder)["model"]


def _metrics(folder: Path) -> dict[str, Any]:
    path = folder / registry.METRICS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _card(sources: list[Path], *, command: str) -> str:
    """Return the model cards of both stages under one heading, or that of a single stage."""
    cards = [
        path.read_text(encoding="utf-8") if (path := folder / registry.CARD).is_file() else "" for folder in sources
    ]
    if len(cards) == 1:
        return cards[0]
    stages = "\n".join(
        f"## {name}\n\n{card.removeprefix('# Model card').strip()}\n"
        for name, card in zip(("First stage: mel spectrograms", "Second stage: vocoder"), cards, strict=True)
    )
    return f"""# Model card

Two stages in one checkpoint, written by

    {command}

- use: `generate-wav --model FOLDER --out FILE.wav`, or `audiodiff.load("FOLDER").generate(...)`

{stages}"""
