"""Old names of audiodiff 0.1: modules, classes, configuration keys, commands and options that have moved.

They work until version 0.3, with a warning that gives the new name.
"""

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES: Mapping[str, str] = {
    "audiodiff.anomaly": "audiodiff.tasks.anomaly",
    "audiodiff.anomaly.errors": "audiodiff.tasks.anomaly.error_profile",
    "audiodiff.anomaly.normality": "audiodiff.tasks.anomaly.scorer",
    "audiodiff.anomaly_command": "audiodiff.cli.anomaly",
    "audiodiff.audio_io": "audiodiff.io.audio",
    "audiodiff.augment_command": "audiodiff.cli.augment",
    "audiodiff.augmentation": "audiodiff.tasks.editing.augment",
    "audiodiff.checked_audio": "audiodiff.models.validation",
    "audiodiff.checkpoint": "audiodiff.models.checkpoint",
    "audiodiff.classifier": "audiodiff.models.classifier",
    "audiodiff.classifier_training": "audiodiff.training.classifier",
    "audiodiff.cluster_command": "audiodiff.cli.cluster",
    "audiodiff.clustering": "audiodiff.tasks.features.cluster",
    "audiodiff.command_options": "audiodiff.cli.options",
    "audiodiff.compose": "audiodiff.training.config",
    "audiodiff.conditioners": "audiodiff.models.conditioners",
    "audiodiff.contact_sheet": "audiodiff.tasks.generation.contact_sheet",
    "audiodiff.demo": "audiodiff.cli.demo",
    "audiodiff.devices": "audiodiff.models.devices",
    "audiodiff.diffusion.coloured": "audiodiff.diffusion.colored_noise",
    "audiodiff.diffusion.importance": "audiodiff.diffusion.adaptive_density",
    "audiodiff.diffusion.jumps": "audiodiff.diffusion.few_step",
    "audiodiff.diffusion.variational": "audiodiff.diffusion.bound",
    "audiodiff.diffusion.translation": "audiodiff.diffusion.editing",
    "audiodiff.data.rates": "audiodiff.data.scanning",
    "audiodiff.dsp.mel_file": "audiodiff.io.mel",
    "audiodiff.edit_command": "audiodiff.cli.edit",
    "audiodiff.editing": "audiodiff.tasks.editing.edit",
    "audiodiff.evaluate": "audiodiff.cli.evaluate",
    "audiodiff.evaluate_generated": "audiodiff.evaluation.generated",
    "audiodiff.feature_choice": "audiodiff.tasks.features.probe",
    "audiodiff.feature_files": "audiodiff.tasks.features.files",
    "audiodiff.features": "audiodiff.tasks.features",
    "audiodiff.features_command": "audiodiff.cli.features",
    "audiodiff.file_generation": "audiodiff.tasks.generation.files",
    "audiodiff.file_plan": "audiodiff.io.jobs",
    "audiodiff.file_result": "audiodiff.io.writers",
    "audiodiff.file_sources": "audiodiff.io.readers",
    "audiodiff.generate": "audiodiff.cli.generate",
    "audiodiff.generate_live": "audiodiff.cli.stream",
    "audiodiff.generate_request": "audiodiff.tasks.generation.request",
    "audiodiff.generation_arguments": "audiodiff.models.validation",
    "audiodiff.guides": "audiodiff.models.sampling",
    "audiodiff.inverter": "audiodiff.models.mel_inverter",
    "audiodiff.join_command": "audiodiff.cli.join",
    "audiodiff.label_arguments": "audiodiff.tasks.generation.labels",
    "audiodiff.live": "audiodiff.tasks.generation.live",
    "audiodiff.map_command": "audiodiff.cli.map",
    "audiodiff.mel_command": "audiodiff.cli.mel",
    "audiodiff.messages": "audiodiff.io.console",
    "audiodiff.metrics.export": "audiodiff.evaluation.export",
    "audiodiff.metrics.files": "audiodiff.evaluation.files",
    "audiodiff.metrics.generative_report": "audiodiff.evaluation.generative_report",
    "audiodiff.metrics.table": "audiodiff.evaluation.table",
    "audiodiff.misfits": "audiodiff.training.compatibility",
    "audiodiff.networks.horizon": "audiodiff.networks.step_size",
    "audiodiff.overview": "audiodiff.tasks.generation.overview",
    "audiodiff.pieces": "audiodiff.models.chunking",
    "audiodiff.rendering": "audiodiff.models.window_sampler",
    "audiodiff.representations": "audiodiff.models.representations",
    "audiodiff.restoration": "audiodiff.tasks.restoration",
    "audiodiff.restoration.problem": "audiodiff.tasks.restoration.repair",
    "audiodiff.restoration_files": "audiodiff.tasks.restoration.files",
    "audiodiff.restore_command": "audiodiff.cli.restore",
    "audiodiff.schedule_command": "audiodiff.cli.noise_schedule",
    "audiodiff.schedule_search": "audiodiff.tasks.noise_schedule",
    "audiodiff.schedule_search.choice": "audiodiff.tasks.noise_schedule.optimize",
    "audiodiff.second_stage": "audiodiff.models.vocoder",
    "audiodiff.sound_map": "audiodiff.tasks.features.map",
    "audiodiff.sweep_table": "audiodiff.training.sweep",
    "audiodiff.synthesizer": "audiodiff.models.synthesizer",
    "audiodiff.train": "audiodiff.training.run",
    "audiodiff.training.precision": "audiodiff.training.fabric",
    "audiodiff.training.schedule": "audiodiff.training.lr_schedule",
    "audiodiff.train_arguments": "audiodiff.training.overrides",
}
"""Old modules and packages, and where they are now."""

NAMES: Mapping[str, str] = {
    "audiodiff.networks.step_size.HorizonEncoder": "audiodiff.networks.step_size.StepSizeEmbedding",
}
"""Renamed classes and functions that configurations name, by their module of today."""

KEYS: Mapping[str, str] = {
    "horizon": "step_size",
    "starts_from_mel": "warm_start",
}
"""Renamed keys of the model node of a configuration."""

WEIGHTS: Mapping[str, str] = {
    "denoiser.horizon.": "denoiser.step_size.",
}
"""Renamed beginnings of the names of weights."""

COMMANDS: Mapping[str, str] = {
    "schedule": "noise-schedule",
}
"""Renamed commands of `audiodiff`."""

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "cluster": {"--method": "--algorithm"},
    "generate": {"--between": "--interpolate"},
    "declip": {"--method": "--posterior"},
    "edit": {"--method": "--algorithm"},
    "enhance": {"--method": "--posterior"},
    "extend": {"--method": "--posterior"},
    "inpaint": {"--method": "--posterior"},
    "map": {"--method": "--layout"},
    "noise-schedule": {"--method": "--strategy"},
    "stream": {"--stdin": "--input", "--stdin-rate": "--input-rate"},
}
"""Renamed options of commands, by the command of today."""

OVERRIDES: Mapping[str, str] = {
    "schedule": "lr_schedule",
    "model.starts_from_mel": "model.warm_start",
    "model.denoiser.horizon": "model.denoiser.step_size",
}
"""Renamed groups and keys of the training configuration; what lies below them is renamed with them."""


def current_command(name: str) -> str:
    """Return a command's name of today."""
    return COMMANDS.get(name, name)


def current_arguments(command: str, arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments with the options' names of today.

    Example:
        >>> current_arguments("generate", ["--label", "digit=3:7", "--between=5"])
        ['--label', 'digit=3:7', '--interpolate=5']
    """
    renamed = OPTIONS.get(command, {})
    end = arguments.index("--") if "--" in arguments else len(arguments)
    split = [argument.partition("=") for argument in arguments[:end]]
    return [*(renamed.get(name, name) + equals + value for name, equals, value in split), *arguments[end:]]


def current_module(name: str) -> str | None:
    """Return the module that an old name stands for today, None where the name is not an old one.

    Example:
        >>> current_module("audiodiff.restoration.windows"), current_module("audiodiff.models")
        ('audiodiff.tasks.restoration.windows', None)
    """
    parts = name.split(".")
    for n in range(len(parts), 1, -1):
        moved = MODULES.get(".".join(parts[:n]))
        if moved is not None:
            return ".".join([moved, *parts[n:]])
    return None


def current_target(target: str) -> str:
    """Return the `_target_` of today that an old one stands for.

    Example:
        >>> current_target("audiodiff.synthesizer.Synthesizer")
        'audiodiff.models.synthesizer.Synthesizer'
    """
    module, dot, name = target.rpartition(".")
    if not dot:
        return target
    moved = f"{current_module(module) or module}.{name}"
    return NAMES.get(moved, moved)


def current_node(node: Any) -> Any:
    """Return a configuration node with the keys and `_target_`s of today, at any depth."""
    if isinstance(node, Mapping):
        renamed = {KEYS.get(str(key), key): current_node(value) for key, value in node.items()}
        if isinstance(renamed.get("_target_"), str):
            renamed["_target_"] = current_target(renamed["_target_"])
        return renamed
    if isinstance(node, list | tuple):
        return [current_node(item) for item in node]
    return node


def renamed_words(node: Any) -> dict[str, str]:
    """Return the old keys and `_target_`s of a configuration node with the new ones, from any depth.

    Example:
        >>> renamed_words({"_target_": "torch.nn.Identity", "horizon": [{"starts_from_mel": True}]})
        {'horizon': 'step_size', 'starts_from_mel': 'warm_start'}
    """
    words: dict[str, str] = {}
    if isinstance(node, Mapping):
        target = str(node.get("_target_", ""))
        words |= {target: current_target(target)} if current_target(target) != target else {}
        words |= {key: KEYS[key] for key in node if key in KEYS}
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            words |= renamed_words(item)
    return words


def current_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights by their names of today.

    Example:
        >>> current_weights({"denoiser.horizon.projection1.bias": 0.0})
        {'denoiser.step_size.projection1.bias': 0.0}
    """
    return {
        next((new + name.removeprefix(old) for old, new in WEIGHTS.items() if name.startswith(old)), name): value
        for name, value in weights.items()
    }


def current_key(key: str) -> str:
    """Return the key of today that a dotted key of a training configuration stands for.

    Example:
        >>> current_key("schedule.warmup_steps"), current_key("train.steps")
        ('lr_schedule.warmup_steps', 'train.steps')
    """
    parts = key.split(".")
    for n in range(len(parts), 0, -1):
        new = OVERRIDES.get(".".join(parts[:n]))
        if new is not None:
            return ".".join([new, *parts[n:]])
    return key


def current_override(override: str) -> str:
    """Return an override of `audiodiff train` with the key and the `_target_` of today.

    Example:
        >>> current_override("++schedule.warmup_steps=20"), current_override("~schedule")
        ('++lr_schedule.warmup_steps=20', '~lr_schedule')
    """
    argument, equals, value = override.partition("=")
    key = argument.lstrip("+~")
    if key.endswith("_target_"):
        value = current_target(value)
    return argument[: len(argument) - len(key)] + current_key(key) + equals + value


def current_values(flat: Mapping[str, str]) -> dict[str, str]:
    """Return a flat configuration, of dotted keys and the repr of values, with the keys and `_target_`s of today."""
    return {
        current_key(key): repr(current_target(value.strip("'"))) if key.endswith("_target_") else value
        for key, value in flat.items()
    }


def renaming(old: str, new: str) -> str:
    """Say that a name has changed."""
    return f"{old} is now {new}; the old name works until audiodiff 0.3"


def warn(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that a name has changed."""
    warnings.warn(renaming(old, new), FutureWarning, stacklevel=stacklevel)


class _MovedModules(MetaPathFinder, Loader):
    """Import a module of today under its old name: both names give one and the same module object."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not fullname.startswith("audiodiff.") or current_module(fullname) is None:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = current_module(spec.name)
        assert new is not None
        module = importlib.import_module(new)
        # Python sets the spec of what is returned here to that of the old name.
        self._spec = module.__spec__
        warn(spec.name, new)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def install() -> None:
    """Make the old module names importable."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MovedModules())
