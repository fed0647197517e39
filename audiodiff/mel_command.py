"""`audiodiff mel`: make mel spectrograms, and tell which dialect an array can be."""

from pathlib import Path
from typing import Annotated

import typer

from audiodiff import audio_io
from audiodiff.checkpoint import DEFAULT_DIALECT
from audiodiff.dsp.dialect_text import parse_dialect
from audiodiff.dsp.mel import MelDialect, ensure_same, explain
from audiodiff.dsp.mel_file import MEL_SUFFIXES, load_mel, save_mel
from audiodiff.dsp.resample import resample
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.messages import progress, say


def mel_command(
    source: Annotated[str | None, typer.Argument(metavar="INPUT", help="A recording, a folder or a glob.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="A file for one result, otherwise a folder; .npz carries the dialect, .npy not."
        ),
    ] = None,
    dialect: Annotated[str, typer.Option(help="NAME or NAME:field=value,...")] = DEFAULT_DIALECT,
    check: Annotated[Path | None, typer.Option(help="Say which dialects the array in this file can be.")] = None,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
) -> None:
    """Make mel spectrograms of recordings, arrays of (n_mels, frames), or check one.

    \b
    Examples:
      audiodiff mel speech.wav -o speech.npz --dialect tacotron2
      audiodiff mel recordings/ -o mels --dialect hifigan:sample_rate=16000,hop_length=200
      audiodiff mel --check from_my_tts.npy
    """
    if check is not None:
        if source is not None or out is not None:
            raise ParameterError("--check FILE takes no INPUT and no --out")
        print(describe(check))
        return
    if source is None or out is None:
        raise ParameterError("give an INPUT and --out, or --check FILE")
    made = make_mels(source, out=out, dialect=parse_dialect(dialect), force=force)
    say(f"wrote {made[0]}" if len(made) == 1 else f"wrote {len(made)} files to {out}")


def make_mels(source: str, *, out: Path, dialect: MelDialect, force: bool) -> list[Path]:
    """Analyse recordings, mixed down to mono at the dialect's rate, and write their mels.

    Raises:
        AudioFileError: if an input cannot be read or an output exists.
    """
    paths = audio_io.find(source)
    root = Path(source).expanduser()
    is_file = out.suffix.lower() in MEL_SUFFIXES
    if is_file and len(paths) > 1:
        raise ParameterError(f"--out {out} is one file, and {len(paths)} results are to be written: give a folder")
    targets = [
        out if is_file else out / (path.relative_to(root) if root.is_dir() else Path(path.name)).with_suffix(".npz")
        for path in paths
    ]
    for target in targets:
        if targets.count(target) > 1:
            raise ParameterError(f"two inputs would both become {target}: rename one")
        if target.exists() and not force:
            raise AudioFileError(f"{target} exists: give --force to replace it, or another --out")
    with progress("analysing", total=len(paths)) as bar:
        for path, target in zip(paths, targets, strict=True):
            audio, sample_rate = audio_io.read(path)
            mono = resample(audio.mean(dim=0), from_rate=sample_rate, to_rate=dialect.sample_rate)
            save_mel(target, dialect.mel(mono), dialect)
            bar.advance()
    return targets


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
