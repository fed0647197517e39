"""What a foreign checkpoint holds: tensors by name, and the settings beside them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiodiff.errors import CheckpointError
from audiodiff.models.weights import PERMISSIONS

_HOLDERS = ("model", "model_state_dict", "state_dict", "generator", "velocity")
"""Keys under which training programs save a model's weights, beside optimisers and counters."""
_SETTINGS = ("params", "config", "hparams", "h")
"""Keys under which they save its settings."""
_CONFIGS = ("config.json", "config.yaml", "config.yml")
"""Files beside a checkpoint that describe it."""


@dataclass(frozen=True)
class Source:
    """A foreign checkpoint.

    Args:
        path: the file.
        sha256: of the file, in hexadecimal.
        tensors: the weights, float32, by the names that the file gives them.
        settings: what the file, or the configuration beside it, says of the model.
        config: the configuration file that was read; None without one.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a weight.

        Raises:
            CheckpointError: if the file does not hold it.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.path}: the weight {name} is missing")
        return tuple(self.tensors[name].shape)

    def count(self, pattern: Callable[[int], str]) -> int:
        """Return how many of pattern(0), pattern(1), ... the file holds in a row."""
        n = 0
        while pattern(n) in self.tensors:
            n += 1
        return n


def read_source(path: Path, *, config: Path | None = None) -> Source:
    """Read a foreign checkpoint without running code from it.

    Args:
        path: a file of torch.save, or of safetensors.
        config: a JSON or YAML file with the model's settings; None is a `config.json` or `config.yaml` beside it.

    Raises:
        CheckpointError: if it cannot be read, needs code to be read, or holds no weights.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        remedy = PERMISSIONS if isinstance(error, PermissionError) else "give the file of a checkpoint"
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    weights, settings = _parts(content)
    if not weights:
        raise CheckpointError(f"{path} holds no weights: give the file that torch.save or safetensors wrote")
    beside = config
    if beside is None:
        beside = next((found for name in _CONFIGS if (found := path.with_name(name)).is_file()), None)
    if beside is not None:
        settings = {**settings, **read_settings(beside)}
    tensors = {name.removeprefix("module."): tensor.float() for name, tensor in weights.items()}
    return Source(path, hashlib.sha256(data).hexdigest(), folded(tensors, path), settings, beside)


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML file of settings.

    Raises:
        CheckpointError: if it is not one.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} is no JSON or YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold names and values, as a model's configuration does")
    return content


def folded(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Replace each pair of direction and norm by the weight that it stands for: w = g v / |v|.

    The norm is over all axes but the first. Both of torch's forms are known, `weight_g` and `weight_v`, and
    `parametrizations.weight.original0` and `original1`.

    Source: Salimans and Kingma 2016 (Weight Normalization), eq. 2.
    """
    found = dict(tensors)
    for norm, direction in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        for name in [name for name in tensors if name.endswith(norm)]:
            stem = name.removesuffix(norm)
            if stem + direction not in tensors:
                raise CheckpointError(f"{path}: the weight {stem}{direction} is missing beside {name}")
            g, v = found.pop(name), found.pop(stem + direction)
            found[stem + "weight"] = g * v / torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
    return found


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _pickled(path: Path) -> Any:
    import pickle

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("WeightsUnpickler error: ")[2].strip().splitlines()
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, and reading it could run code"
            f'{": " + reason[0] if reason else ""}. Where you trust it, convert it once: python -c "import torch; '
            f"torch.save(torch.load('{path}', map_location='cpu', weights_only=False)['KEY'], 'weights.pt')\" with the "
            f"KEY of its weights, one of {', '.join(_HOLDERS)}"
        ) from error
    except Exception as error:  # torch.load refuses damaged files with errors of several kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is damaged, or no file of torch.save: {reason}") from error


def _parts(content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights and the settings of what a file holds."""
    if not isinstance(content, Mapping):
        return {}, {}
    settings: dict[str, Any] = {}
    if content.get("distilled") is not None:  # WaveFM marks models of one step so, with any value
        settings["distilled"] = True
    for key in _SETTINGS:
        if isinstance(content.get(key), Mapping):
            settings |= {str(name): value for name, value in content[key].items()}
    for key in _HOLDERS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and inner:
            weights, more = _parts(inner)
            if weights:
                return weights, settings | more
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return {name: value for name, value in weights.items() if value.is_floating_point()}, settings
