"""Weights of a model: reading them from a file, and a compact form to give away."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from audiodiff import compat
from audiodiff.errors import CheckpointError

PERMISSIONS = "ask its owner for the permission, chmod a+r"
"""Remedy for a file that may not be read."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Give a model its weights from a file, whatever the precision that they are stored in.

    Raises:
        CheckpointError: if the file is missing or damaged, or a weight is missing, unknown or of another shape.
    """
    assign_weights(model, compat.current_weights(read_weights(path)), where=path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of safetensors by name.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: the checkpoint has no weights")
    try:
        path.open("rb").close()  # safetensors calls a file that may not be read missing
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}): {PERMISSIONS}") from error


def assign_weights(model: nn.Module, weights: Mapping[str, Tensor], *, where: Path) -> None:
    """Give a model weights, of exactly its names and shapes.

    Raises:
        CheckpointError: if a weight is missing, unknown or of another shape.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        if name not in weights:
            raise CheckpointError(f"{where}: the weight {name} of the model is missing")
        if name not in own:
            raise CheckpointError(f"{where}: the weight {name} is not one of the model's")
        if own[name].shape != weights[name].shape:
            raise CheckpointError(
                f"{where}: {name} has shape {tuple(weights[name].shape)}, the model {tuple(own[name].shape)}"
            )
    model.load_state_dict(weights)


def compact(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state with its matrices in bfloat16, half the bytes, for a model that is to be given away.

    Vectors stay as they are, and so does what is no weight. Loading brings everything back to float32.
    """
    matrices = {name for name, weight in model.named_parameters() if weight.ndim > 1}
    return {
        name: tensor.to(torch.bfloat16) if name in matrices else tensor for name, tensor in model.state_dict().items()
    }
