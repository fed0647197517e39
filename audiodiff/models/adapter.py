"""Low-rank adapters of a network: W + scale * up @ down, with W frozen, saved apart from W.

For a weight of a convolution or a linear layer, W stands for its matrix of the first axis by all others. With `down`
random and `up` zero, a new adapter changes nothing.

Source: Hu et al. 2021 (LoRA: low-rank adaptation of large language models), section 4.1.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from audiodiff.errors import CheckpointError, ParameterError, check_whole
from audiodiff.models import registry
from audiodiff.models.synthesizer import Synthesizer

Layer = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.Linear
LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.Linear)
"""Layers that are adapted."""
_INSIDE = ".parametrizations.weight.0."


@dataclass(frozen=True)
class AdapterSettings:
    """Settings of adapters.

    Args:
        rank: of the change of each weight, limited to the weight's own greatest rank.
        alpha: the change is multiplied by alpha / rank, so that a learning rate fits several ranks.

    Raises:
        ParameterError: if they cannot be.
    """

    rank: int
    alpha: int | float

    def __post_init__(self) -> None:
        check_whole(self.rank, name="train.lora.rank", least=1)
        if not (isinstance(self.alpha, int | float) and 0.0 < self.alpha < math.inf):
            raise ParameterError(f"train.lora.alpha={self.alpha} must be a positive number, or null for the rank")

    @property
    def scale(self) -> float:
        """Factor of up @ down."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Base:
    """The model that an adapter belongs to.

    Args:
        where: its checkpoint: an absolute path, the name of a model that ships, or an address on the Hub.
        sha256: of its weights.
    """

    where: str
    sha256: str


class LowRank(nn.Module):
    """Add a change of low rank to a weight.

    Args:
        weight: that is adapted.
        settings: of the adapters.
        generator: of the first values.

    Example:
        >>> weight = torch.randn(6, 4, 3)
        >>> change = LowRank(weight, AdapterSettings(2, 2.0), generator=torch.Generator())
        >>> torch.equal(change(weight), weight), sum(each.numel() for each in change.parameters())
        (True, 36)
    """

    def __init__(self, weight: Tensor, settings: AdapterSettings, *, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(settings.rank, rows, columns)
        self.scale = settings.scale
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.down = nn.Parameter(torch.randn(rank, columns, generator=generator) / math.sqrt(columns))

    def forward(self, weight: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows ..."]:
        return weight + self.scale * (self.up @ self.down).view_as(weight)


def add_adapters(model: Synthesizer, settings: AdapterSettings, *, seed: int) -> None:
    """Freeze a model, and give every convolution and linear layer of its network an adapter, which is trained.

    Raises:
        ParameterError: if there is no such layer.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = list(_layers(model))
    if not layers:
        raise ParameterError("train.lora.rank: the network has no convolution and no linear layer to adapt; use rank=0")
    model.requires_grad_(False)
    for _, layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, settings, generator=generator))


def adapter_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the adapters' part of the state dict of a model, as "LAYER.up" and "LAYER.down"."""
    return {name.replace(_INSIDE, "."): value for name, value in state.items() if _INSIDE in name}


@torch.no_grad()
def apply_adapters(
    model: Synthesizer, weights: Mapping[str, Tensor], settings: AdapterSettings, *, where: Path
) -> None:
    """Add the changes of saved adapters to the weights of a model: what `LowRank` computes, once.

    Raises:
        CheckpointError: if an adapter is missing, unknown, or of another shape.
    """
    layers = dict(_layers(model))
    expected = {f"{name}.{part}" for name in layers for part in ("up", "down")}
    for name in sorted(expected ^ weights.keys()):
        what = "missing" if name in expected else "not one of the model's"
        raise CheckpointError(f"{where}: the adapter weight {name} is {what}")
    for name, layer in layers.items():
        up, down = weights[f"{name}.up"], weights[f"{name}.down"]
        shape = (layer.weight.shape[0], layer.weight[0].numel())
        if (up.shape[0], down.shape[-1]) != shape or up.shape[1:] != down.shape[:1]:
            raise CheckpointError(
                f"{where}: {name} has adapters of {tuple(up.shape)} and {tuple(down.shape)}, its weight {shape}"
            )
        layer.weight.add_(settings.scale * (up @ down).view_as(layer.weight))


def base_of(where: str) -> Base:
    """Return what identifies the model that an adapter is trained on.

    Args:
        where: as `train.init_from`.

    Raises:
        CheckpointError: if there is none.
    """
    folder = registry.find(where)
    if registry.hub.is_address(where):
        name = f"hf://{registry.hub.address(where).repository}@{folder.name}"
    else:
        name = where if folder.parent == registry.SHIPPED else str(folder.resolve())
    return Base(name, weights_sha256(folder))


def weights_sha256(folder: Path) -> str:
    """Return the SHA256 of a checkpoint's weights, or of its adapters."""
    found = hashlib.sha256()
    path = folder / registry.ADAPTER
    with (path if path.is_file() else folder / registry.WEIGHTS).open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def adapter_node(base: Base, settings: AdapterSettings) -> dict[str, Any]:
    """Return what a configuration says of an adapter."""
    return {"base": base.where, "sha256": base.sha256, **asdict(settings)}


def read_adapter_node(node: Any, *, where: Path) -> tuple[Base, AdapterSettings]:
    """Return what `adapter_node` wrote.

    Raises:
        CheckpointError: if it is damaged.
    """
    try:
        base = Base(str(node["base"]), str(node["sha256"]))
        return base, AdapterSettings(node["rank"], node["alpha"])
    except (KeyError, TypeError, ParameterError) as error:
        raise CheckpointError(f"{where}: adapter must have base, sha256, rank and alpha ({error})") from error


def base_folder(base: Base, *, where: Path) -> Path:
    """Return the checkpoint of the model that an adapter belongs to.

    Raises:
        CheckpointError: if it is missing, or its weights are others than those that the adapter was trained on.
    """
    try:
        folder = registry.find(base.where)
    except CheckpointError as error:
        raise CheckpointError(
            f"{where}: the model that this adapter belongs to is missing: {error}. Put it there, or write its place "
            "into adapter.base"
        ) from error
    if weights_sha256(folder) != base.sha256:
        raise CheckpointError(
            f"{where}: adapter.base={base.where} has other weights than those that the adapter was trained on: give "
            "the same checkpoint"
        )
    return folder


def _layers(model: Synthesizer) -> Iterator[tuple[str, Layer]]:
    network = model.denoiser.network
    assert isinstance(network, nn.Module)
    for name, module in network.named_modules():
        if isinstance(module, LAYERS):
            yield f"denoiser.network.{name}", module
