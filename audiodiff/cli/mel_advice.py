"""Advice on mel files: what their values look like, and the line to type."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from audiodiff.dsp.dialect_text import format_dialect
from audiodiff.dsp.mel_recognition import EXCLUDED, Recognition, described, doubt, recognize
from audiodiff.errors import MelError
from audiodiff.io.console import say
from audiodiff.io.mel import MEL_KEY
from audiodiff.io.readers import Input, MelInput
from audiodiff.models.mel_inverter import DEFAULT_MODEL
from audiodiff.models.vocoder import Vocoder


def advice(found: Recognition, path: Path, *, name: str, model: str = DEFAULT_MODEL, key: str = MEL_KEY) -> list[str]:
    """Return lines that say how to read an array: one, or those of all readings that cannot be told apart.

    Args:
        found: what the array can be.
        path: of its file.
        name: of the dialect to prefer where several are not distinguished.
        model: folder or name of the one that reads it.
        key: name of the array in the file.
    """
    if not found.readings:
        return ["impossible: no dialect has such values"]
    command = f"generate-wav {shlex.quote(str(path))}"
    for option, value, usual in (("--model", model, DEFAULT_MODEL), ("--key", key, MEL_KEY)):
        if value != usual:
            command += f" {option} {shlex.quote(value)}"
    lines = []
    for reading, _ in found.alike:
        own = reading.dialect(name)
        if own is None:
            what = f"{reading.description}: {reading.remedy}"
            if "mean and std" in reading.remedy and found.guess is not None:
                guess = replace(found.guess, frames_first=found.is_transposed)
                what += f", or stats=FILE. With a guess: {command} --dialect {format_dialect(guess)}"
            lines.append(what)
        else:
            own = replace(own, frames_first=found.is_transposed)
            lines.append(f"{described(own)}: {command} --dialect {format_dialect(own)}")
    if len(lines) == 1:
        return [f"it looks like {lines[0]}"]
    return ["its values do not tell these apart:", *(f"  {line}" for line in lines)]


def report_mels(sources: Sequence[Input], model: Vocoder, *, where: str, is_given: bool) -> None:
    """Print what bare arrays look like that are doubtful in the dialect that they are read as, and which that is.

    Args:
        sources: the inputs.
        model: that takes them.
        where: its folder or name.
        is_given: the dialect was asked for.

    Raises:
        MelError: if an array is impossible in its dialect, or so improbable that it is surely of another, with what it
            looks like.
    """
    bare = [source for source in sources if isinstance(source, MelInput) and source.is_bare]
    if model.dialect is None or not model.needs_mel or not bare:
        return
    own = bare[0].dialect or model.dialect
    doubted: list[Path] = []
    lines: list[str] = []
    for source in bare:
        mel = source.mel()
        reason = own.objection(mel)
        found = doubt(mel, own) if reason is None else recognize(mel, own=own)
        if found is None:
            continue
        if reason is None and found.probability(own) < EXCLUDED:
            reason = "its values surely have another scale (a file .npz that states the dialect is not asked)"
        text = advice(found, source.path, name=own.name, model=where, key=source.key)
        if reason is not None:
            raise MelError("\n".join([f"{source.path} is no mel of dialect {format_dialect(own)}: {reason}", *text]))
        doubted.append(source.path)
        lines = lines or text
    if doubted:
        say("\n".join([f"warning: {_named(doubted)} can hardly be of dialect {format_dialect(own)}", *lines]))
    if not is_given:
        which = _named([source.path for source in bare])
        say(f"no dialect is stated by {which}: taken as {own.name} (see --dialect and audiodiff mel --check)")


def _named(paths: Sequence[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
