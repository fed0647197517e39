"""Diffusion models for sound: one 1-D WaveNet-style denoiser, trained, sampled and evaluated.

Two lines make sound from a mel spectrogram:

    model = audiodiff.load("none", dialect="hifigan")
    audio = model.generate(mel)

and two more do any of the jobs, from the packages of `audiodiff.tasks`:

    model = audiodiff.load("speech-prior-16k")
    clean = audiodiff.tasks.restoration.enhance(model, noisy, sample_rate=44100)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiodiff import metrics
    from audiodiff.models.checkpoint import load
    from audiodiff.tasks import anomaly, restoration
    from audiodiff.tasks.editing import augment as augmentation
    from audiodiff.tasks.editing import edit as editing
    from audiodiff.tasks.features import cluster as clustering
    from audiodiff.tasks.features import extract as features

from audiodiff import compat as _compat

_compat.install()

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "anomaly",
    "augmentation",
    "clustering",
    "editing",
    "features",
    "load",
    "metrics",
    "restoration",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `import audiodiff` costs no more than torch."""
    if name == "load":
        return importlib.import_module("audiodiff.models.checkpoint").load
    if name in __all__:
        return importlib.import_module(f"audiodiff.{name}")
    raise AttributeError(f"module 'audiodiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name also what was not asked for yet."""
    return sorted({*globals(), *__all__})
