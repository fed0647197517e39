"""Options that several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.diffusion.grid import GRIDS
from audiodiff.diffusion.solvers import REGISTRY as SOLVERS
from audiodiff.diffusion.solvers import Solver
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.dsp.loudness import Normalization, read_normalization
from audiodiff.dsp.mel import DIALECT_NAMES
from audiodiff.errors import ParameterError
from audiodiff.models.sampling import solver_options
from audiodiff.requirements import require

MODEL, SAMPLING, OUTPUT = "Model", "Sampling", "Output"
"""Groups of options in --help."""

Recordings = Annotated[
    list[str], typer.Argument(metavar="INPUT", help="Recordings (wav, flac, mp3, ...), folders or globs of them.")
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        help="A file (.wav, .flac, ...) for one result, or a folder.",
        rich_help_panel=OUTPUT,
    ),
]
Model = Annotated[
    str,
    typer.Option(metavar="MODEL", help="A run folder, a checkpoint, or the name of a model.", rich_help_panel=MODEL),
]
Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="Computing device: cpu, cuda, cuda:1, or auto.", rich_help_panel=MODEL)
]
Float = Annotated[
    bool,
    typer.Option("--float", help="Write 32-bit float samples and never lower the level.", rich_help_panel=OUTPUT),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        "--normalize",
        metavar="LEVEL",
        help="Bring each file to a loudness, -16LUFS (ITU-R BS.1770-4), or to a peak, -1dB below full scale; all its "
        "channels by one gain.",
        show_default="the level stays",
        rich_help_panel=OUTPUT,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.", rich_help_panel=OUTPUT)]

GeneratorModel = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="A run folder, a checkpoint, or the name of a model; mel-inversion needs no training.",
        rich_help_panel=MODEL,
    ),
]
SecondStage = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        metavar="MODEL",
        help="Vocoder for a MODEL that generates mel spectrograms: a model, mel-inversion, or griffin-lim.",
        show_default="the model's",
        rich_help_panel=MODEL,
    ),
]
Dialect = Annotated[
    str | None,
    typer.Option(
        metavar="DIALECT",
        help=f"Mel dialect, NAME or NAME:field=value,... NAME is one of {', '.join(DIALECT_NAMES)}. A trained model "
        "refuses a dialect other than its own. log=e, 10, db or none is the logarithm of the given mels, as in "
        "hifigan:log=10; power=2 squared amplitudes; mean=-5.5,std=2.1 or stats=FILE what they are normalised by; "
        "frames_first=true the order (frames, bands).",
        show_default="that of the first .npz, or hifigan",
        rich_help_panel=MODEL,
    ),
]
Key = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="NAME",
        help="Name of the mel in .npz and .pt files that hold several arrays.",
        rich_help_panel=MODEL,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(metavar="N", help="Sampling steps.", show_default="the model's", rich_help_panel=SAMPLING),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Sampler, one of {', '.join(SOLVERS)}.",
        show_default="the model's",
        rich_help_panel=SAMPLING,
    ),
]
SamplerOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Option of the sampler, for example eta=0.5; can be repeated.",
        rich_help_panel=SAMPLING,
    ),
]
NoiseLevels = Annotated[
    str | None,
    typer.Option(
        "--grid",
        metavar="NAME",
        help=f"Spacing of the noise levels, one of {', '.join(GRIDS)}, within the model's range.",
        show_default="the model's",
        rich_help_panel=SAMPLING,
    ),
]
Iterations = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Iterations of mel inversion; 0 turns it off in a trained model.",
        show_default="the model's",
        rich_help_panel=SAMPLING,
    ),
]
OutputRate = Annotated[
    int | None,
    typer.Option(
        "--rate", metavar="HZ", help="Sample rate of the output.", show_default="the model's", rich_help_panel=OUTPUT
    ),
]

StepsAtAnyStrength = Annotated[
    int | None, typer.Option(metavar="N", help="Steps of the sampler, at any strength.", show_default="the model's")
]
LabelGuidance = Annotated[
    float | None,
    typer.Option(metavar="SCALE", help="How far to exaggerate the labels; 1 is not at all. It doubles the time."),
]

FeatureInputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="A feature file (.npz), or recordings: files, folders, globs, manifests.",
        show_default=False,
    ),
]
Centre = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Subtract the mean of each value of this column: with speaker, recordings are compared by what is said, "
        "not by who says it.",
    ),
]
Split = Annotated[
    str | None, typer.Option(metavar="NAME", help="Use only this split of the manifest.", show_default="all")
]
FeatureModel = Annotated[
    str,
    typer.Option(metavar="MODEL", help="Model that extracts the features of recordings.", rich_help_panel=MODEL),
]


def read_normalize(text: str | None) -> Normalization | None:
    """Read the level of `--normalize`; None leaves the level.

    Raises:
        ParameterError: if it cannot be read.
    """
    if text is None:
        return None
    require("scipy")
    return read_normalization(text)


def check_least(name: str, value: int | None, least: int) -> None:
    """Refuse a number that is too small.

    Raises:
        ParameterError: naming the option.
    """
    if value is not None and value < least:
        raise ParameterError(f"{name} {value} must be at least {least}")


def check_sampling(*, steps: int | None, iterations: int | None, grid: str | None) -> None:
    """Refuse values of sampling options that no model takes.

    Raises:
        ParameterError: naming the option.
    """
    check_least("--steps", steps, 1)
    check_least("--iterations", iterations, 0)
    if grid is not None and grid not in GRIDS:
        raise ParameterError(f"--grid {grid} must be one of {', '.join(GRIDS)}")


def read_solver(name: str | None, options: Sequence[str] | None) -> str | Solver | None:
    """Return the solver that `--sampler` and `--sampler-option` name; None is the model's own.

    Raises:
        ParameterError: if there is no such solver or option.
    """
    if name is None and options:
        raise ParameterError(f"--sampler-option {options[0]} needs --sampler, one of {', '.join(SOLVERS)}")
    if name is None:
        return None
    solver = solver_named(name, **solver_options(name, options or []))
    # Messages show the name of a solver without options.
    return solver if options else name
