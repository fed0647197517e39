"""`audiodiff mel`: make mel spectrograms, and tell which dialect an array can be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.dsp.dialect_checks import ensure_same, explain
from audiodiff.dsp.dialect_text import parse_dialect
from audiodiff.dsp.mel import DIALECT_NAMES, MelDialect
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress, say
from audiodiff.io.jobs import make_folder, plan_from_files
from audiodiff.io.mel import MEL_SUFFIXES, load_mel, save_mel
from audiodiff.models.checkpoint import DEFAULT_DIALECT


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
            help="A file for one result: .npz carries the dialect, .npy and .pt are bare arrays. Otherwise a folder, "
            "for .npz files.",
        ),
    ] = None,
    dialect: Annotated[
        str,
        typer.Option(
            metavar="DIALECT", help=f"NAME or NAME:field=value,... with a NAME of {', '.join(DIALECT_NAMES)}."
        ),
    ] = DEFAULT_DIALECT,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Say which dialects the array in this file can be.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Make mel spectrograms of recordings, arrays of (n_mels, frames), or check one.

    Recordings of other rates are converted to the dialect's, several channels are mixed down to one.

    \b
    Examples:
      audiodiff mel speech.wav -o speech.npz --dialect tacotron2
      audiodiff mel recordings/ -o mels --dialect hifigan:sample_rate=16000,hop_length=200
      audiodiff mel --check from_my_tts.npy
    """
    if check is not None:
        if inputs or out is not None:
            raise ParameterError("--check FILE takes no INPUT and no --out")
        print(describe(check))
        return
    if not inputs or out is None:
        raise ParameterError("give an INPUT and --out, as in: audiodiff mel speech.wav -o speech.npz; or --check FILE")
    made = make_mels(inputs, out=out, dialect=parse_dialect(dialect), force=force)
    say(f"wrote {made[0]}" if len(made) == 1 else f"wrote {len(made)} files to {out}")


def make_mels(inputs: Sequence[str], *, out: Path, dialect: MelDialect, force: bool) -> list[Path]:
    """Analyse recordings, mixed down to mono at the dialect's rate, and write their mels.

    Args:
        inputs: recordings, folders or globs of them.
        out: a file for one result, or a folder.
        dialect: of the mels.
        force: replace files that exist.

    Returns: the files, in the order of the inputs.

    Raises:
        AudioFileError: if an input cannot be read or an output exists.
        ParameterError: if the outputs cannot be what is asked for.
    """
    jobs = plan_from_files(
        inputs,
        suffixes=audio_io.AUDIO_SUFFIXES,
        out=out,
        out_suffixes=MEL_SUFFIXES,
        new_suffix=".npz",
        force=force,
    )
    make_folder(jobs[0].target)
    with progress("analysing", total=len(jobs)) as bar:
        for job in jobs:
            assert job.source is not None
            audio, sample_rate = audio_io.read(job.source)
            mono = resample(audio.mean(dim=0), from_rate=sample_rate, to_rate=dialect.sample_rate)
            save_mel(job.target, dialect.mel(mono), dialect)
            bar.advance()
    return [job.target for job in jobs]


def describe(path: Path) -> str:
    """Say what a mel file states of itself, and which dialects its array can and cannot be.

    Raises:
        MelError: if the array is not a mel of the dialect that the file states.
    """
    mel, stated = load_mel(path)
    lines = [f"{path}: {mel.shape[0]} bands, {mel.shape[1]} frames, values {mel.min():.3f} to {mel.max():.3f}"]
    if stated is not None:
        stated.check(mel[None], name=str(path))
        lines.append(
            f"states dialect {stated.name}: {stated.sample_rate} Hz, hop {stated.hop_length}; its values agree"
        )
        named = parse_dialect(stated.name)
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
