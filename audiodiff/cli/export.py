"""`audiodiff export`: write a model as programs for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import Force
from audiodiff.io.console import say
from audiodiff.models import checkpoint
from audiodiff.tasks.export.programs import MOST_STEPS
from audiodiff.tasks.export.write import FORMATS, export_model


def export_command(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A run folder, a checkpoint, or the name of a model, also mel-inversion."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to write.")],
    kind: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)} (torch.export).")
    ] = "onnx",
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Steps of the sampler in the whole model, which is written for up to {MOST_STEPS}.",
            show_default="the model's own, 1 for enhancement",
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(metavar="N", help="Iterations of the mel constraint.", show_default="the model's own")
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="Mel dialect of mel-inversion.", show_default="hifigan")
    ] = None,
    force: Force = False,
) -> None:
    """Write a model as programs for ONNX Runtime or torch.export, for sounds of any length.

    Every trained model gives its denoiser. A vocoder of few steps, mel-inversion and a model that enhances speech also
    give the whole. Each program is run on three lengths and compared with the model. docs/export.md says what the
    programs take, and examples/run_onnx.py runs them with numpy and onnxruntime alone.

    \b
    Examples:
      audiodiff export speech-22k -o exported                     ONNX; needs pip install 'audiodiff[onnx]'
      audiodiff export mel-inversion --dialect tacotron2 --iterations 8 -o exported
      audiodiff export runs/mine --format torch -o exported
    """
    loaded = checkpoint.load(model, device="cpu", dialect=dialect)
    written = export_model(loaded, out, name=model, kind=kind, steps=steps, iterations=iterations, force=force)
    for name, program in written.items():
        say(
            f"wrote {out / program['file']}: {name}, {(out / program['file']).stat().st_size / 1e6:.1f} MB; differs "
            f"from the model by at most {program['difference']:.1e} where its samples reach {program['peak']:.2f}"
        )
    if "vocoder" not in written and "enhance" not in written:
        say(f"only the denoiser: the whole is written of vocoders and enhancers of at most {MOST_STEPS} steps")
