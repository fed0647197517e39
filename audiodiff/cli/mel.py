"""`audiodiff mel`: compute mel spectrograms, and check which dialect a file can be."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from audiodiff.cli.mel_advice import advice
from audiodiff.cli.options import Force, Key
from audiodiff.cli.report import report_written
from audiodiff.dsp.dialect_checks import ensure_same
from audiodiff.dsp.dialect_text import format_dialect, with_named_values
from audiodiff.dsp.level import constant_offset
from audiodiff.dsp.mel import DIALECT_NAMES, MelDialect
from audiodiff.dsp.mel import dialect as dialect_named
from audiodiff.dsp.mel_recognition import Recognition, described, doubt, recognize
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.io.console import progress
from audiodiff.io.jobs import make_folder, plan_jobs
from audiodiff.io.mel import MEL_KEY, MEL_SUFFIXES, load_mel, save_mel
from audiodiff.io.readers import open_recording
from audiodiff.models.registry import DEFAULT_DIALECT

MIN_SHOWN = 0.001
"""Readings of lower probabilities are listed together."""
_N_RARE = 8


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
            "log=e, 10, db or none is the logarithm of the values, as in hifigan:log=10; power=2 squared amplitudes; "
            "mean=-5.5,std=2.1 or stats=FILE (.npz, .npy, .json) what they are normalised by; frames_first=true the "
            "order (frames, bands). With --check, a dialect to consider besides the named ones.",
        ),
    ] = DEFAULT_DIALECT,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Print which dialects the mel in this file can be, the likeliest first, and the line to type. The "
            "exit status is 1 where no dialect can read it as it is: NaN, impossible values, or normalised ones.",
        ),
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
        text, is_usable = describe(check, key=key, own=dialect_named(dialect))
        print(text)
        if not is_usable:
            raise typer.Exit(1)
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
            mono = mono - constant_offset(mono)
            mono = resample(mono, from_rate=recording.info.sample_rate, to_rate=dialect.sample_rate)
            save_mel(job.target, dialect.mel(mono), dialect)
            bar.advance()
    return [job.target for job in jobs]


def describe(path: Path, *, key: str = MEL_KEY, own: MelDialect | None = None) -> tuple[str, bool]:
    """Describe a mel file: its shape, and the dialect that it states, or those that it can be, ranked.

    Args:
        path: the file.
        key: name of the array in it.
        own: a dialect to consider besides the named ones.

    Returns: lines of text, and whether a dialect can read the array as it is.

    Raises:
        MelError: if the array is not a mel of the dialect that the file states.
    """
    own = own or dialect_named(DEFAULT_DIALECT)
    mel, stated = load_mel(path, key=key, frames_first=own.frames_first)
    lines = [f"{path}: {mel.shape[0]} bands, {mel.shape[1]} frames, values {mel.min():.3f} to {mel.max():.3f}"]
    if stated is None:
        found = recognize(mel, own=own)
        found = replace(found, is_transposed=found.is_transposed != own.frames_first)
        lines += [*_ranking(found), *advice(found, path, name=own.name, key=key), *_length(found, mel)]
        return "\n".join(lines), found.is_usable
    doubts = doubt(mel, stated)
    verdict = "its values agree" if doubts is None else "its values can hardly be of that dialect"
    lines.append(f"states dialect {described(stated)}: {stated.sample_rate} Hz, hop {stated.hop_length}; {verdict}")
    if doubts is not None:
        likely = [reading.dialect(stated.name) or reading for reading, _ in doubts.alike]
        words = " or ".join(described(each) if isinstance(each, MelDialect) else each.description for each in likely)
        lines.append(f"it looks like {words}: make it again, or save the bare array (.npy) and check that")
    named = dialect_named(stated.name)
    try:
        ensure_same(with_named_values(stated), named, name=str(path))
    except ValueError:
        lines.append(f"(a variant of {stated.name}, whose own rate is {named.sample_rate} Hz, hop {named.hop_length})")
    return "\n".join(lines), doubts is None


def _ranking(found: Recognition) -> list[str]:
    """Return the readings with their probabilities, the dialects that are impossible, and the unit of the values."""
    lines = []
    for reading, probability in found.readings:
        if probability >= MIN_SHOWN:
            names = ", ".join(map(format_dialect, reading.dialects)) or reading.description
            percent = f"{100 * probability:3.0f}" if probability >= 0.01 else " <1"
            lines.append(f"  {percent} %  {names}{' (equal but at the ends)' if len(reading.dialects) > 1 else ''}")
    rare = [(reading, probability) for reading, probability in found.readings if probability < MIN_SHOWN]
    if rare:
        # The likeliest first; logarithms, since many are too small to be printed.
        top = found.readings[0][0].log_density
        texts = [
            f"{reading.description} 10^{(reading.log_density - top) / math.log(10):.0f}"
            for reading, _ in rare[:_N_RARE]
        ]
        lines.append(f"    less, relative to the first: {', '.join(texts)}")
    reasons: dict[str, list[str]] = {}
    for name, reason in found.objections.items():
        reasons.setdefault(reason, []).append(name)
    lines += [f"     no  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if found.unit_db is not None:
        known = "ln 8.7, log10 20, dB 1, diffwave and wavegrad 100"
        lines.append(f"one unit of the values is about {found.unit_db:.2g} dB ({known})")
    return lines


def _length(found: Recognition, mel: Tensor) -> list[str]:
    """Return how long the sound is at the rate and hop of the likeliest dialect, which values do not show."""
    own = found.readings[0][0].dialect(DEFAULT_DIALECT) if found.is_usable else None
    if own is None:
        return []
    seconds = own.n_samples(mel.shape[1]) / own.sample_rate
    return [
        f"Values do not show rate and hop. At {own.sample_rate} Hz and hop {own.hop_length} it lasts {seconds:.2f} s; "
        f"if that is wrong, state yours: --dialect {format_dialect(own)}{',' if ':' in format_dialect(own) else ':'}"
        "sample_rate=16000,hop_length=200"
    ]
