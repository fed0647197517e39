"""Diffusion models for sound: train them, and generate, restore, edit and compare sounds with them.

A vocoder is two lines,

    model = audiodiff.load("mel-inversion", dialect="hifigan")
    audio = model.generate(mel)

and so is every other task:

    model = audiodiff.load("speech-prior-16k")
    clean = audiodiff.enhance(model, noisy, sample_rate=44100)
"""

import importlib
from typing import TYPE_CHECKING, Any

from audiodiff import compat as _compat
from audiodiff._version import __version__

if TYPE_CHECKING:
    from audiodiff import errors, metrics
    from audiodiff.dsp.loudness import normalize
    from audiodiff.dsp.mel import MelDialect, dialect
    from audiodiff.errors import AudiodiffError
    from audiodiff.io.audio import read, write
    from audiodiff.models.checkpoint import load
    from audiodiff.models.mel_inverter import MelInverter
    from audiodiff.models.synthesizer import Synthesizer
    from audiodiff.tasks import anomaly, features
    from audiodiff.tasks.editing.augment import augment
    from audiodiff.tasks.editing.edit import edit
    from audiodiff.tasks.features import cluster as clustering
    from audiodiff.tasks.restoration import declip, enhance, extend, inpaint
    from audiodiff.threads import set_num_workers

_compat.install()

__all__ = [
    "AudiodiffError",
    "MelDialect",
    "MelInverter",
    "Synthesizer",
    "__version__",
    "anomaly",
    "augment",
    "clustering",
    "declip",
    "dialect",
    "edit",
    "enhance",
    "errors",
    "extend",
    "features",
    "inpaint",
    "load",
    "metrics",
    "normalize",
    "read",
    "set_num_workers",
    "write",
]

_MODULES = {
    "anomaly": "audiodiff.tasks.anomaly",
    "clustering": "audiodiff.tasks.features.cluster",
    "errors": "audiodiff.errors",
    "features": "audiodiff.tasks.features",
    "metrics": "audiodiff.metrics",
}
_HOMES = {
    "AudiodiffError": "audiodiff.errors",
    "MelDialect": "audiodiff.dsp.mel",
    "MelInverter": "audiodiff.models.mel_inverter",
    "Synthesizer": "audiodiff.models.synthesizer",
    "augment": "audiodiff.tasks.editing.augment",
    "declip": "audiodiff.tasks.restoration",
    "dialect": "audiodiff.dsp.mel",
    "edit": "audiodiff.tasks.editing.edit",
    "enhance": "audiodiff.tasks.restoration",
    "extend": "audiodiff.tasks.restoration",
    "inpaint": "audiodiff.tasks.restoration",
    "load": "audiodiff.models.checkpoint",
    "normalize": "audiodiff.dsp.loudness",
    "read": "audiodiff.io.audio",
    "set_num_workers": "audiodiff.threads",
    "write": "audiodiff.io.audio",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use, so that `import audiodiff` is quick."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if f"audiodiff.{name}" in _compat.MODULES:
        return importlib.import_module(f"audiodiff.{name}")
    raise AttributeError(f"module 'audiodiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, whether they are imported yet or not."""
    return list(__all__)
