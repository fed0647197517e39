"""Settings of a run that trains low-rank adapters instead of all weights."""

from collections.abc import Mapping
from typing import Any

from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.adapter import AdapterSettings


def adapter_settings(config: Mapping[str, Any]) -> AdapterSettings | None:
    """Return the settings of adapters, or None where all weights are trained.

    Raises:
        ParameterError: if they cannot be, or there is no model to adapt.
    """
    node = config["train"].get("lora") or {"rank": 0}
    check_whole(node["rank"], name="train.lora.rank", least=0)
    if node["rank"] == 0:
        return None
    settings = AdapterSettings(node["rank"], node["rank"] if node["alpha"] is None else node["alpha"])
    if config["train"]["init_from"] is None:
        raise ParameterError(
            f"train.lora.rank={settings.rank} adapts a trained model: name it, train.init_from=RUN, or set "
            "train.lora.rank=0"
        )
    if config["model"]["denoiser"]["step_size"] is not None:
        raise ParameterError(
            f"train.lora.rank={settings.rank} trains no step-size embedding: set train.lora.rank=0 for method=shortcut"
        )
    return settings
