"""Files of mel spectrograms, (n_mels, frames): .npz states its dialect, .npy and .pt are bare arrays."""

import json
import os
import zipfile
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import AudioFileError, MelError, ParameterError
from audiodiff.io.atomic import atomic_file
from audiodiff.io.paths import check_file

MEL_SUFFIXES = (".npz", ".npy", ".pt")
MEL_KEY = "mel"
"""Name of the array in an .npz, or in a dictionary in a .pt."""


def save_mel(path: str | os.PathLike[str], mel: Float[Tensor, "n_mels frames"], dialect: MelDialect) -> None:
    """Write a mel in float32, whole or not at all; the folder is created.

    Args:
        path: ending in .npz (the mel and every field of its dialect), .npy (the bare array) or .pt (a bare tensor).

    Raises:
        ParameterError: if the suffix is another.
        MelError: if the mel is not of the dialect.
        AudioFileError: if the file cannot be written.
    """
    target = Path(path)
    suffix = _suffix(target)
    dialect.check(mel, name=target.name)
    array = (mel.mT if dialect.frames_first else mel).detach().to("cpu", torch.float32).contiguous()
    try:
        with atomic_file(target) as temporary, temporary.open("wb") as file:
            if suffix == ".npz":
                np.savez(file, mel=array.numpy(), dialect=np.array(json.dumps(asdict(dialect))))
            elif suffix == ".npy":
                np.save(file, array.numpy(), allow_pickle=False)
            else:
                torch.save(array, file)
    except OSError as error:
        raise AudioFileError(f"{target} cannot be written: {error.strerror or error}") from error


def load_mel(
    path: str | os.PathLike[str], *, key: str = MEL_KEY, frames_first: bool = False
) -> tuple[Float[Tensor, "n_mels frames"], MelDialect | None]:
    """Read a mel and the dialect that the file states, None for a bare array.

    Nothing is unpickled: .npy and .npz are read with allow_pickle=False, .pt with weights_only=True (a tensor, or a
    dictionary of them). One leading dimension of 1 is dropped.

    Args:
        path: the file.
        key: name of the array, in a file that holds several by name.
        frames_first: a bare array is (frames, n_mels); a file that states its dialect says so itself.

    Raises:
        ParameterError: if the suffix is none of .npz, .npy, .pt.
        AudioFileError: if the file is missing or cannot be read.
        MelError: if it holds no array of (n_mels, frames), or one that is not of its stated dialect.
    """
    source = Path(path)
    suffix = _suffix(source)
    stated: MelDialect | None = None
    check_file(source, kind="a file of a mel")
    try:
        if suffix == ".pt":
            content = torch.load(source, map_location="cpu", weights_only=True)
        else:
            # A bare array stays on disk. Copied on write, since torch warns of read-only arrays.
            content = np.load(source, allow_pickle=False, mmap_mode="c")
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                if "dialect" in content.files:
                    stated = _parse_dialect(str(content["dialect"]), source)
                # The others are not read.
                content = {name: content[name] if name == key else None for name in content.files}
    except MelError:
        raise
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        # For any other kind of file, numpy's message is advice to unpickle it.
        reason = "it holds no array of numbers" if "pickle" in str(error) else _first_line(error)
        raise AudioFileError(f"{source} cannot be read as a mel: {reason}") from error
    except Exception as error:  # torch.load refuses pickled objects with errors of several kinds
        raise AudioFileError(f"{source} cannot be read safely as a mel: {_first_line(error)}") from error
    mel = _as_mel(content, source, key=key)
    if frames_first if stated is None else stated.frames_first:
        mel = mel.mT.contiguous()
    if stated is not None:
        stated.check(mel, name=str(source))
    return mel, stated


def _as_mel(content: Any, source: Path, *, key: str) -> Tensor:
    if isinstance(content, dict):
        if key not in content:
            names = [str(name) for name in content if name != "dialect"]
            remedy = f"but {', '.join(names)}: name the mel, as in --key {names[0]}" if names else "and no other"
            raise MelError(f"{source} holds no array under the name {key!r}, {remedy}")
        content = content[key]
    if isinstance(content, np.ndarray):
        if content.dtype.kind not in "fiu":
            raise MelError(f"{source} holds values of type {content.dtype}; a mel is floating point")
        content = torch.from_numpy(content.astype(np.float32, copy=False))
    if not isinstance(content, Tensor) or content.is_complex() or content.dtype == torch.bool:
        raise MelError(f"{source} holds no tensor of real numbers")
    for is_kind, kind, remedy in (
        (content.is_nested, "nested", "each of its tensors in a file of its own"),
        (content.is_quantized, "quantised", "mel.dequantize()"),
        (content.is_meta, "meta", "one with values"),
        (content.layout != torch.strided, "sparse", "mel.to_dense()"),
    ):
        if is_kind:
            raise MelError(f"{source} holds a {kind} tensor; a mel is a plain tensor: save {remedy}")
    mel = content.detach().to(torch.float32)
    if mel.ndim == 3 and mel.shape[0] == 1:
        mel = mel[0]
    if mel.ndim != 2 or 0 in mel.shape:
        raise MelError(f"{source} holds an array of shape {tuple(mel.shape)}; give (n_mels, frames)")
    return mel.contiguous()


def _parse_dialect(text: str, source: Path) -> MelDialect:
    try:
        values = json.loads(text)
        names = {field.name for field in fields(MelDialect)}
        needed = {field.name for field in fields(MelDialect) if field.default is MISSING}
        if wrong := sorted(set(values) - names | needed - set(values)):
            raise MelError(f"{source} states a dialect with other fields: {', '.join(wrong)}")
        return MelDialect(**values)
    except (TypeError, ValueError) as error:
        if isinstance(error, MelError) and not isinstance(error, ParameterError):
            raise
        raise MelError(f"{source} states a dialect that cannot be: {_first_line(error)}") from error


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in MEL_SUFFIXES:
        raise ParameterError(f"{path} must end in {', '.join(MEL_SUFFIXES)} to be a mel")
    return suffix


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
