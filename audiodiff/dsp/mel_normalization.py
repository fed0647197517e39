"""Mean and standard deviation that mel spectrograms are normalised by: numbers, one for each band, or a file."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from audiodiff.errors import ParameterError

Statistic = float | Sequence[float]
"""A number, or one for each band."""
_NAMES = {"mean": ("mean", "mel_mean"), "std": ("std", "mel_std", "scale")}


def read_statistics(path: Path) -> dict[str, Any]:
    """Read mean and std, each a number or one for each band.

    Args:
        path: an .npz or .json with `mean` (or `mel_mean`) and `std` (or `mel_std`, `scale`), or an .npy of (2, n_mels).

    Returns: the fields mean and std of a dialect.

    Raises:
        ParameterError: if the file cannot be read or holds something else.

    Source: the files of Matcha-TTS (data_statistics) and of ParallelWaveGAN (stats.npy).
    """
    try:
        content = (
            json.loads(path.read_text(encoding="utf-8"))
            if path.suffix == ".json"
            else np.load(path, allow_pickle=False)
        )
        if isinstance(content, np.ndarray):
            if content.ndim != 2 or len(content) != 2:
                raise ParameterError(f"stats={path} holds {content.shape}, and must hold (2, n_mels): mean and std")
            content = {"mean": content[0], "std": content[1]}
        found = {field: next(name for name in names if name in content) for field, names in _NAMES.items()}
        values = {field: np.asarray(content[name], dtype=np.float64).reshape(-1) for field, name in found.items()}
    except StopIteration:
        raise ParameterError(
            f"stats={path} must hold mean and std, and holds {', '.join(content) or 'nothing'}"
        ) from None
    except ParameterError:
        raise
    except OSError as error:
        raise ParameterError(f"stats={path} cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, EOFError) as error:
        raise ParameterError(f"stats={path} is no .npz, .npy or .json of numbers") from error
    return {field: float(value[0]) if len(value) == 1 else tuple(map(float, value)) for field, value in values.items()}


def checked(name: str, value: Statistic, *, n_mels: int) -> float | tuple[float, ...]:
    """Return a statistic that can be compared and hashed.

    Args:
        name: mean or std.
        value: files give lists.
        n_mels: number of bands.

    Raises:
        ParameterError: if the number of values is another, or one is not finite, or no positive std.
    """
    values = (float(value),) if isinstance(value, int | float) else tuple(map(float, value))
    if not isinstance(value, int | float) and len(values) != n_mels:
        raise ParameterError(f"{name} has {len(values)} values and must have one, or n_mels={n_mels}")
    for each in values:
        if not math.isfinite(each) or (name == "std" and each <= 0):
            raise ParameterError(f"{name}={each:g} must be {'positive' if name == 'std' else 'finite'}")
    return values[0] if isinstance(value, int | float) else values


def column(like: Tensor, value: Statistic) -> Tensor | float:
    """Return a statistic that broadcasts against (n_mels, frames)."""
    return value if isinstance(value, int | float) else like.new_tensor(value)[:, None]


def extreme(
    value: float, mean: Statistic, std: Statistic, *, n_mels: int, which: Callable[[Iterable[float]], float]
) -> float:
    """Return the smallest or largest normalised value, over the bands, of one value before normalisation."""
    means, stds = (each if isinstance(each, Sequence) else (each,) * n_mels for each in (mean, std))
    return which((value - a) / b for a, b in zip(means, stds, strict=True))
