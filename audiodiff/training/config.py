"""From a composed configuration to objects, with every misfit caught before anything is loaded."""

import copy
import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from audiodiff import compat
from audiodiff.data import speech_folder
from audiodiff.data.scanning import Scan, load_entries
from audiodiff.diffusion.process import Process
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import AudiodiffError, DataError, ParameterError, check_whole
from audiodiff.labels import LabelSet
from audiodiff.models.building import Builder
from audiodiff.models.checkpoint import innermost
from audiodiff.training import compatibility as misfits
from audiodiff.training.step import Float32Batch, TrainingStep

T = TypeVar("T")


def config_folder() -> Path:
    """Return `conf`: inside the package where it is installed, beside it in a checkout."""
    return _tree() / "conf"


def recipe_root() -> Path:
    """Return the folder that holds `recipes`."""
    return _tree()


def _tree() -> Path:
    package = Path(__file__).parents[1]
    return package if (package / "conf").is_dir() else package.parent


def compose(overrides: list[str], *, config_folders: tuple[Path, ...] = ()) -> Any:
    """Compose a training configuration as `audiodiff train` does, without running anything.

    Args:
        overrides: as on the command line.
        config_folders: more places to look for groups and recipes.

    Returns: an OmegaConf DictConfig.
    """
    import hydra

    current = [compat.current_override(override) for override in overrides]
    for old, new in zip(overrides, current, strict=True):
        if old != new:
            compat.warn(old, new)

    places = ",".join(f"file://{folder}" for folder in (recipe_root(), *config_folders))
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra.compose("config", overrides=[f"hydra.searchpath=[{places}]", *current], return_hydra_config=True)


def plain(config: Any) -> dict[str, Any]:
    """Resolve a configuration into dicts and lists, without Hydra's own node."""
    from omegaconf import OmegaConf, open_dict

    config = config.copy()
    with open_dict(config):
        hydra_node = config.pop("hydra", None)
    with readable("the configuration does not resolve"):
        resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    # An empty mapping in a file would be one that the command line can add nothing to.
    resolved["data"]["labels"] = resolved["data"]["labels"] or {}
    overridden = [] if hydra_node is None else [str(override) for override in hydra_node.overrides.task]
    return _with_current_names(resolved, keys={override.lstrip("+~").partition("=")[0] for override in overridden})


def _with_current_names(config: dict[Any, Any], *, keys: set[str]) -> dict[str, Any]:
    """Move what a recipe sets by keys of audiodiff 0.1 to the keys of today, except those that an override sets."""
    for old, new in compat.OVERRIDES.items():
        *parents, name = old.split(".")
        *new_parents, new_name = new.split(".")
        node, new_node = (functools.reduce(dict.__getitem__, path, config) for path in (parents, new_parents))
        if name not in node:
            continue
        compat.warn(old, new)
        value = node.pop(name)
        if isinstance(value, dict):
            new_node[new_name].update({key: leaf for key, leaf in value.items() if f"{new}.{key}" not in keys})
        elif new not in keys:
            new_node[new_name] = value
    return compat.current_node(config)


def instantiate(node: Mapping[str, Any], *, name: str, build: Builder | None = None) -> Any:
    """Build what a node describes.

    Args:
        node: with a `_target_`.
        name: of the node, for errors.
        build: gives the process that it has built already; None begins anew.

    Raises:
        ParameterError: with the constructor's message and the node's name.
    """
    try:
        return (build or Builder())(node)
    except Exception as error:
        raise _in_one_line(error, name=name) from error


def settings(kind: type[T], values: Mapping[str, Any], *, name: str) -> T:
    """Build a dataclass of settings from a node that has no `_target_`.

    Raises:
        ParameterError: for a field that it does not have, or lacks, or that has no meaning.
    """
    known = {field.name for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    for key in values:
        if key not in known:
            raise ParameterError(f"{name}.{key} does not exist, there are {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ParameterError(f"{name}: {error}") from error


def crop_samples(config: Mapping[str, Any]) -> int:
    """Return the length of a training crop in samples.

    Raises:
        ParameterError: unless exactly one of crop_frames and crop_seconds is given, and fits the hop.
    """
    data, audio = config["data"], config["audio"]
    frames, seconds = data["crop_frames"], data["crop_seconds"]
    if (frames is None) == (seconds is None):
        raise ParameterError(
            f"data.crop_frames={frames} and data.crop_seconds={seconds}: set exactly one of them, the other to null"
        )
    if frames is not None:
        if not isinstance(frames, int) or frames < 1:
            raise ParameterError(f"data.crop_frames={frames} must be a whole number, at least 1")
        return int(frames) * int(audio["hop_length"])
    if not isinstance(seconds, int | float):
        raise ParameterError(f"data.crop_seconds={seconds} must be a number")
    samples = round(seconds * audio["sample_rate"])
    hop = audio["hop_length"] if uses_mel(config) else 1
    if samples < 1 or samples % hop:
        nearest = max(1, round(samples / hop)) * hop
        raise ParameterError(
            f"data.crop_seconds={seconds} is {samples} samples, which must be a multiple of audio.hop_length={hop}: "
            f"set data.crop_seconds=null data.crop_frames={nearest // hop}"
        )
    return samples


def uses_mel(config: Mapping[str, Any]) -> bool:
    """Return whether the model sees or makes mel spectrograms."""
    return config["audio"].get("dialect") is not None


def recordings(config: Mapping[str, Any]) -> Scan:
    """Scan the recordings of a training configuration.

    Raises:
        ParameterError: if it names none.
        DataError: if they are missing, or cannot be used.
    """
    data = config["data"]
    if data["root"] is None:
        raise ParameterError("data.root=null: give a folder of recordings or a manifest, data.root=/my/recordings")
    root = speech_folder() if data["root"] == "embedded" else absolute(data["root"])
    if not root.exists():
        raise DataError(f"data.root={data['root']} does not exist (as {root})")
    columns = list(data["labels"].values())
    return load_entries(root, on_bad=data["on_bad"], min_seconds=data["min_seconds"], columns=columns)


def with_labels(config: Mapping[str, Any], labels: LabelSet) -> dict[str, Any]:
    """Tell the conditioner and the method the values that labels have, and the network how many features that are.

    Args:
        config: resolved.
        labels: those of the training data.
    """
    filled = copy.deepcopy(dict(config))
    found = {name: list(known) for name, known in labels.vocabularies.items()}
    if "vocabularies" in config["method"]:
        filled["method"]["vocabularies"] = config["method"]["vocabularies"] or found
    if "vocabularies" not in config["conditioner"]:
        return filled
    vocabularies = config["conditioner"]["vocabularies"] or found
    n_features = LabelSet(vocabularies).n_features
    step_size = config["model"]["denoiser"]["step_size"]
    if step_size is not None:
        n_features += step_size["n_features"]
    for node in (filled, filled["model"]):
        node["conditioner"]["vocabularies"] = vocabularies
    for node in (filled, filled["model"]["denoiser"]):
        node["network"]["vector_features"] = n_features
    return filled


def build_training_step(config: Mapping[str, Any]) -> TrainingStep:
    """Build the model of a training configuration with its loss, having checked that its parts fit together.

    Raises:
        ParameterError: with one line for each misfit.
    """
    problems: list[str] = []
    build = Builder()

    def attempt(name: str, node: Mapping[str, Any] | None) -> Any:
        if node is None:
            return None
        try:
            return instantiate(node, name=name, build=build)
        except ParameterError as error:
            problems.append(str(error))
        return None

    def raise_problems() -> None:
        if problems:
            raise ParameterError("\n".join(problems))

    check_whole(config["sampler"].get("n_steps", 1), name="sampler.n_steps", least=1)
    dialect = attempt("audio", config["audio"].get("dialect"))
    process = attempt("process", config["process"])
    problems += misfits.of_dialect(config, dialect=dialect)
    raise_problems()
    problems += misfits.of_choices(config, process=process)
    raise_problems()
    names = ("representation", "conditioner", "network", "preconditioning", "density", "objective", "sampler")
    parts = {name: attempt(name, config[name]) for name in names}
    problems += _crop_misfits(config, dialect=dialect)
    raise_problems()
    problems += misfits.of_channels(config, **{name: parts[name] for name in ("representation", "conditioner")})
    problems += misfits.of_clock(
        process, embedding=parts["network"].step_encoder.embedding, preconditioning=parts["preconditioning"]
    )
    raise_problems()
    synthesizer = instantiate(config["model"], name="model", build=build)
    make = instantiate(config["method"], name="method", build=build)
    with readable("method"):
        module = make(synthesizer=synthesizer, objective=parts["objective"], density=parts["density"])
    _try_grid(module, process=process)
    _try(module, n_channels=config["data"]["n_channels"], n_samples=_shortest(config, dialect=dialect))
    return module


def _crop_misfits(config: Mapping[str, Any], *, dialect: MelDialect | None) -> Iterator[str]:
    try:
        crop = crop_samples(config)
    except ParameterError as error:
        yield str(error)
        return
    if dialect is not None and crop < dialect.n_fft:
        yield (
            f"the training crop of {crop} samples must hold at least one window of n_fft={dialect.n_fft}: "
            f"set data.crop_seconds=null data.crop_frames={-(-dialect.n_fft // dialect.hop_length)} or more"
        )


def _shortest(config: Mapping[str, Any], *, dialect: MelDialect | None) -> int:
    """Return the length of the shortest crop that could be trained on, which is quick to compute."""
    if dialect is None:
        return min(crop_samples(config), 256)
    return -(-dialect.n_fft // dialect.hop_length) * dialect.hop_length


def _try_grid(module: TrainingStep, *, process: Process) -> None:
    """Make the grid of sampling, try it on the solver, and compare its start with the ends of training and clock."""
    model = module.synthesizer
    try:
        first = float(model.sampler.grid(model.sampler.n_steps)[0])
        model.check_sampling()
    except ParameterError as error:
        raise ParameterError(f"sampler: {error}") from error
    for problem in misfits.of_range(
        process=process, preconditioning=model.denoiser.preconditioning, density=module.density, first=first
    ):
        raise ParameterError(problem)


def _try(module: TrainingStep, *, n_channels: int, n_samples: int) -> None:
    """Make one step on silence, to see what no single part can know."""
    model = module.synthesizer
    audio = torch.zeros(1, n_channels, n_samples)
    condition = model.conditioner(audio)
    try:
        with torch.no_grad():
            encoded = model.denoiser.bind(condition).encoded
            module(Float32Batch(audio), torch.Generator())
    except (AudiodiffError, RuntimeError, IndexError) as error:
        if condition.frames is None and model.dialect is not None and not model.representation.makes_mel:
            raise ParameterError(
                f"conditioner=none, and the network needs a mel spectrogram ({str(error).splitlines()[0]}): choose "
                "conditioner=mel, or network=spectral_unconditional or network=wavenet"
            ) from error
        raise ParameterError(f"the parts do not fit together: {str(error).splitlines()[0]}") from error
    if condition.frames is not None and encoded.frames is None and encoded.signal is None:
        raise ParameterError(
            "conditioner=mel tells the network a mel spectrogram, and this network does not listen: choose "
            "network=spectral or network=diffwave, or conditioner=none"
        )


def in_a_line(error: Exception) -> str:
    """Return what Hydra says of a configuration that it cannot compose, without its search path.

    An error of our own, which Hydra met when it built a callback, is what is said.

    Example:
        >>> said = "Could not find 'a/x'\\n\\nAvailable options in 'a':\\n\\ty\\n\\tz\\nConfig search path:"
        >>> in_a_line(ValueError(said))
        "Could not find 'a/x'; available options in 'a': y, z"
    """
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    cause = innermost(error)
    if isinstance(cause, AudiodiffError):
        return str(cause)
    said = str(error).partition("Config search path:")[0].removeprefix("In 'config': ")
    said, _, options = said.partition("Available options in ")
    text = " ".join(said.split())
    if options:
        group, *names = options.split()
        text += f"; available options in {group} {', '.join(names)}"
    elif isinstance(error, MissingConfigException):
        text += "; audiodiff train --help lists what there is"
    if isinstance(error, OverrideParseException):
        text = f"{error.override}: {text}"
    if isinstance(error.__cause__, OmegaConfBaseException):
        text += f" ({str(error.__cause__).splitlines()[0]})"
    return text


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Say in one line what a configuration library would say in a screenful."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, TypeError, ValueError) as error:
        raise _in_one_line(error, name=name) from error


def _in_one_line(error: Exception, *, name: str) -> ParameterError:
    cause = innermost(error)
    return ParameterError(f"{name}: {cause if isinstance(cause, AudiodiffError) else str(cause).partition(chr(10))[0]}")


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a path as it is from here, whatever the working directory becomes."""
    return Path(path).expanduser().absolute()
