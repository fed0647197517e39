"""`audiodiff mel`: compute mel spectrograms, and check which dialect a file can be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import Force, Key
from audiodiff.cli.report import report_written
from audiodiff.dsp.dialect_checks import ensure_same, explain
from audiodiff.dsp.mel import DIALECT_NAMES, MelDialect
from audiodiff.dsp.mel import dialect as dialect_named
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.io.console import progress
from audiodiff.io.jobs import make_folder, plan_jobs
from audiodiff.io.mel import MEL_KEY, MEL_SUFFIXES, load_mel, save_mel
from audiodiff.io.readers import open_recording
from audiodiff.models.registry import DEFAULT_DIALECT


def mel_command(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Recordings, folders or globs of them.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="A file for one result, .npz with its dialect, .npy or .pt without; or a folder, for .npz files.",
        ),
    ] = None,
    dialect: Annotated[
        str,
        typer.Option(
            metavar="DIALECT",
            help=f"Mel dialect, NAME or NAME:field=value,... NAME is one of {', '.join(DIALECT_NAMES)}. "
            "log=e, 10, db or none is the logarithm of the values, as in hifigan:log=10.",
        ),
    ] = DEFAULT_DIALECT,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Print which dialects the mel in this file can be.")
    ] = None,
    key: Key = MEL_KEY,
    force: Force = False,
) -> None:
    """Compute mel spectrograms of recordings, arrays of (n_mels, frames), or check a file of one.

    Recordings are converted to the dialect's sample rate and mixed down to mono.

    \b
    Examples:
      audiodiff mel speech.wav -o speech.npz --dialect tacotron2
      audiodiff mel recordings/ -o mels --dialect hifigan:sample_rate=16000,hop_length=200
      audiodiff mel --check from_my_tts.npy
    """
    if check is not None:
        if inputs or out is not None:
            raise ParameterError("--check FILE takes no INPUT and no --out")
        print(describe(check, key=key))
        return
    if not inputs or out is None:
        raise ParameterError("give an INPUT and --out, as in: audiodiff mel speech.wav -o speech.npz; or --check FILE")
    report_written(make_mels(inputs, out=out, dialect=dialect_named(dialect), force=force), out=out)


def make_mels(inputs: Sequence[str], *, out: Path, dialect: MelDialect, force: bool) -> list[Path]:
    """Compute and write the mels of recordings, mixed down to mono at the dialect's rate.

    Args:
        inputs: recordings, folders or globs of them.
        out: a file for one result, or a folder.
        dialect: of the mels.
        force: replace files that exist.

    Returns: the files, in the order of the inputs.

    Raises:
        AudioFileError: if an input cannot be read or an output exists.
        ParameterError: if two results would have one name.
    """
    jobs = plan_jobs(inputs, out=out, force=force, new_suffix=".npz", out_suffixes=MEL_SUFFIXES)
    recordings = [open_recording(job.source) for job in jobs]
    for recording in recordings:
        recording.check(dialect)
    make_folder(jobs[0].target)
    with progress("analysing", total=len(jobs)) as bar:
        for job, recording in zip(jobs, recordings, strict=True):
            mono = recording.read().mean(dim=0)
            mono = resample(mono, from_rate=recording.info.sample_rate, to_rate=dialect.sample_rate)
            save_mel(job.target, dialect.mel(mono), dialect)
            bar.advance()
    return [job.target for job in jobs]


def describe(path: Path, *, key: str = MEL_KEY) -> str:
    """Describe a mel file: its shape, its stated dialect, or the dialects that it can and cannot be.

    Raises:
        MelError: if the array is not a mel of the dialect that the file states.
    """
    mel, stated = load_mel(path, key=key)
    lines = [f"{path}: {mel.shape[0]} bands, {mel.shape[1]} frames, values {mel.min():.3f} to {mel.max():.3f}"]
    if stated is not None:
        stated.check(mel[None], name=str(path))
        lines.append(
            f"states dialect {stated.name}: {stated.sample_rate} Hz, hop {stated.hop_length}; its values agree"
        )
        named = dialect_named(stated.name)
        try:
            ensure_same(stated, named, name=str(path))
        except ValueError:
            lines.append(
                f"(a variant of {stated.name}, whose own rate is {named.sample_rate} Hz, hop {named.hop_length})"
            )
        return "\n".join(lines)
    verdicts = explain(mel)
    width = max(map(len, verdicts))
    lines += [f"  {name:{width}}  {'possible' if why is None else f'no: {why}'}" for name, why in verdicts.items()]
    return "\n".join(lines)
