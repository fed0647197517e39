"""Check of a machine: packages, processor, device, formats of audio, folders, and a sound that is made and measured."""

import io
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from audiodiff._version import __version__
from audiodiff.data import speech_folder
from audiodiff.errors import AudiodiffError, PackageError
from audiodiff.io.audio import read
from audiodiff.models import registry
from audiodiff.models.checkpoint import load
from audiodiff.models.mel_inverter import INVERSIONS
from audiodiff.requirements import require
from audiodiff.threads import num_workers, usable_cores
from audiodiff.training.fabric import resolve_precision

PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "soundfile": "soundfile",
    "librosa": "librosa",
    "hydra": "hydra-core",
    "lightning_fabric": "lightning-fabric",
    "safetensors": "safetensors",
    "pesq": "pesq",
    "pystoi": "pystoi",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
    "typer": "typer",
    "rich": "rich",
}
"""Required packages: name as imported -> name as installed."""
FORMATS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "mp3": ("MP3", None), "ogg": ("OGG", "VORBIS")}
"""Formats that are written and read again: name -> format and subtype of soundfile."""
LEAST_FREE = 1e9
"""Bytes below which a folder is said to have little space."""
LEAST_CORRELATION = 0.9
"""Between the mels of a recording and of its inversion."""


@dataclass(frozen=True)
class Finding:
    """A fact about the machine.

    Args:
        name: what was looked at.
        value: what was found.
        problem: what does not work, and what mends it; None where all is well.
    """

    name: str
    value: str
    problem: str | None = None


def examine(runs: Path) -> Iterator[Finding]:
    """Look at everything that commands need, and yield each finding when it is known.

    Args:
        runs: the folder that training writes into.
    """
    yield Finding("audiodiff", f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    yield from (_package(name, distribution) for name, distribution in PACKAGES.items())
    yield _torchaudio()
    yield _processor()
    yield _device()
    yield from (_format(name) for name in FORMATS)
    yield _folder("run folder", runs)
    yield _folder("temporary folder", Path(tempfile.gettempdir()))
    yield from (_attempt(f"model {name}", lambda name=name: repr(load(name, device="cpu"))) for name in _shipped())
    yield _attempt("mel inversion", _inversion)


def _package(name: str, distribution: str) -> Finding:
    try:
        require(name)
        return Finding(distribution, metadata.version(distribution))
    except (PackageError, metadata.PackageNotFoundError) as error:
        return Finding(distribution, "not usable", str(error))


def _torchaudio() -> Finding:
    """Say which torchaudio is installed; it is not used at run time, so that one that does not load is no problem."""
    try:
        version = metadata.version("torchaudio")
    except metadata.PackageNotFoundError:
        return Finding("torchaudio", "not installed; not needed to run audiodiff")
    same = version.partition("+")[0].split(".")[:2] == torch.__version__.partition("+")[0].split(".")[:2]
    note = "" if same else ", of another version than torch; audiodiff does not use it, other programs may fail"
    return Finding("torchaudio", f"{version}{note}")


def _processor() -> Finding:
    precision = resolve_precision("auto", accelerator="cpu")
    facts = (
        f"{torch.backends.cpu.get_cpu_capability()}, {usable_cores()} of {os.cpu_count()} cores usable, "
        f"{num_workers()} workers; training in {precision}"
    )
    return Finding("processor", facts)


def _device() -> Finding:
    if torch.cuda.is_available():
        return Finding("GPU", f"{torch.cuda.get_device_name()}, chosen by --device auto")
    if torch.version.cuda is not None and shutil.which("nvidia-smi"):
        return Finding("GPU", "not usable", "there is an NVIDIA driver, and torch finds no GPU: see nvidia-smi")
    return Finding("GPU", "none; the processor computes")


def _format(name: str) -> Finding:
    import soundfile

    kind, subtype = FORMATS[name]
    tone = 0.5 * np.sin(2.0 * np.pi * 440.0 * np.arange(22050) / 22050)

    def tried() -> str:
        file = io.BytesIO()
        soundfile.write(file, tone, 22050, format=kind, subtype=subtype)
        file.seek(0)
        back, _ = soundfile.read(file)
        level = float(np.sqrt(np.mean(np.square(back)))) * np.sqrt(2.0)
        if not 0.4 < level < 0.6:
            raise OSError(f"a tone of peak 0.5 comes back at {level:.2f}")
        return f"written and read, {len(file.getvalue()) / 1e3:.0f} kB a second"

    return _attempt(f"audio .{name}", tried, remedy="pip install --force-reinstall soundfile")


def _folder(name: str, path: Path) -> Finding:
    folder = path.absolute()
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            name, str(path), f"{folder} cannot be written to: choose another folder, or ask for the permission"
        )
    free = shutil.disk_usage(folder).free
    problem = None if free >= LEAST_FREE else f"{free / 1e9:.2f} GB are free on it: a run may need more, make room"
    return Finding(name, f"{path}, {free / 1e9:.0f} GB free", problem)


def _shipped() -> list[str]:
    return [name for name in registry.names() if name not in INVERSIONS]


def _inversion() -> str:
    """Invert the mel of a recording, and compare."""
    audio, _ = read(sorted((speech_folder() / "test").glob("*.flac"))[0])
    model = load("mel-inversion", device="cpu")
    mel = model.mel(audio[:1])
    began = time.perf_counter()
    back = model.mel(model.generate(mel))
    speed = audio.shape[-1] / model.sample_rate / (time.perf_counter() - began)
    correlation = float(torch.corrcoef(torch.stack([mel.flatten(), back[..., : mel.shape[-1]].flatten()]))[0, 1])
    if not correlation > LEAST_CORRELATION:
        raise RuntimeError(f"the inverted mel has a correlation of {correlation:.3f} with what was given")
    return f"{speed:.1f} times real time on a first call"


def _attempt(name: str, job: Callable[[], str], *, remedy: str = "install audiodiff anew, by its lock") -> Finding:
    try:
        return Finding(name, job())
    except AudiodiffError as error:
        return Finding(name, "does not work", str(error))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding(name, "does not work", f"{reason}: {remedy}")
