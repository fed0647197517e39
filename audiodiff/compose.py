"""From a composed configuration to objects, with every misfit caught before anything is loaded."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiodiff.checkpoint import innermost
from audiodiff.diffusion.process import DiscreteVP
from audiodiff.errors import AudiodiffError, ParameterError
from audiodiff.networks.embedding import StepTable
from audiodiff.synthesizer import Synthesizer


def config_folder() -> Path:
    """Return `conf`: inside the package where it is installed, beside it in a checkout."""
    return _tree() / "conf"


def recipe_root() -> Path:
    """Return the folder that holds `recipes`."""
    return _tree()


def _tree() -> Path:
    package = Path(__file__).parent
    return package if (package / "conf").is_dir() else package.parent


def compose(overrides: list[str], *, config_folders: tuple[Path, ...] = ()) -> Any:
    """Compose a training configuration as `audiodiff train` does, without running anything.

    Args:
        overrides: as on the command line.
        config_folders: more places to look for groups and recipes.

    Returns: an OmegaConf DictConfig.
    """
    import hydra

    places = ",".join(f"file://{folder}" for folder in (recipe_root(), *config_folders))
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra.compose("config", overrides=[f"hydra.searchpath=[{places}]", *overrides], return_hydra_config=True)


def plain(config: Any) -> dict[str, Any]:
    """Resolve a configuration into dicts and lists, without Hydra's own node."""
    from omegaconf import OmegaConf, open_dict

    config = config.copy()
    with open_dict(config):
        config.pop("hydra", None)
    with _readable("the configuration does not resolve"):
        resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def instantiate(node: Mapping[str, Any], *, name: str, **more: Any) -> Any:
    """Build what a node describes.

    Raises:
        ParameterError: with the constructor's own words, and the node that they are about.
    """
    from hydra.utils import instantiate as build

    with _readable(name):
        return build(dict(node), **more)
    raise AssertionError("unreachable: _readable raises or lets pass")


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
        if frames < 1:
            raise ParameterError(f"data.crop_frames={frames} must be at least 1")
        return int(frames) * int(audio["hop_length"])
    samples = round(seconds * audio["sample_rate"])
    hop = audio["hop_length"] if uses_mel(config) else 1
    if samples < 1 or samples % hop:
        nearest = max(1, round(samples / hop)) * hop
        raise ParameterError(
            f"data.crop_seconds={seconds} is {samples} samples, which must be a multiple of audio.hop_length={hop}: "
            f"set data.crop_frames={nearest // hop} instead"
        )
    return samples


def uses_mel(config: Mapping[str, Any]) -> bool:
    """Return whether the model sees or makes mel spectrograms."""
    return config["audio"].get("dialect") is not None


def build_model(config: Mapping[str, Any]) -> Synthesizer:
    """Build the model of a training configuration, having checked that its parts fit together.

    Raises:
        ParameterError: with one line for each misfit.
    """
    problems: list[str] = []

    def attempt(name: str, node: Mapping[str, Any] | None) -> Any:
        if node is None:
            return None
        try:
            return instantiate(node, name=name)
        except ParameterError as error:
            problems.append(str(error))
        return None

    dialect = attempt("audio", config["audio"].get("dialect"))
    process = attempt("process", config["process"])
    if problems:
        raise ParameterError("\n".join(problems))
    representation = attempt("representation", config["representation"])
    network = attempt("network", config["network"])
    for name in ("conditioner", "preconditioning", "sampler"):
        attempt(name, config[name])
    try:
        crop = crop_samples(config)
    except ParameterError as error:
        problems.append(str(error))
    else:
        if dialect is not None and crop < dialect.n_fft:
            problems.append(
                f"the training crop of {crop} samples must hold at least one window of n_fft={dialect.n_fft}: "
                f"set data.crop_frames={-(-dialect.n_fft // dialect.hop_length)} or more"
            )
    if representation is not None:
        problems += list(_network_misfits(config["network"], channels=representation.channels))
    if network is not None:
        problems += list(_clock_misfits(network, process))
    if problems:
        raise ParameterError("\n".join(problems))
    return instantiate(config["model"], name="model")


def _network_misfits(network: Mapping[str, Any], *, channels: int) -> Iterator[str]:
    if network.get("in_channels", channels) != channels:
        yield (
            f"network.in_channels={network['in_channels']} must be the {channels} channels of the representation: "
            f"set network.in_channels={channels}"
        )


def _clock_misfits(network: Any, process: Any) -> Iterator[str]:
    """Compare the noise level's embedding with the clock of the process."""
    embedding = network.step_encoder.embedding
    discrete = isinstance(process, DiscreteVP)
    if isinstance(embedding, StepTable) and not discrete:
        yield (
            f"network.embedding counts {embedding.table.shape[0]} steps and the process has a continuous clock: choose "
            "process=diffwave50 or diffwave200, or network.embedding._target_=audiodiff.networks.embedding.Sinusoidal"
        )
    elif isinstance(embedding, StepTable) and embedding.table.shape[0] != len(process.betas):
        yield (
            f"network.embedding.n_steps={embedding.table.shape[0]} must be the process's {len(process.betas)} steps: "
            f"set network.embedding.n_steps={len(process.betas)}"
        )
    elif discrete and not isinstance(embedding, StepTable):
        yield (
            f"the process counts {len(process.betas)} steps and network.embedding expects a clock in [0, 1]: choose "
            "another process, or network=diffwave"
        )


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say in one line what a configuration library would say in a screenful."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, TypeError) as error:
        cause = innermost(error)
        if isinstance(cause, AudiodiffError):
            raise ParameterError(f"{name}: {cause}") from error
        raise ParameterError(f"{name}: {str(cause).splitlines()[0]}") from error


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a path as it is from here, whatever the working directory becomes."""
    return Path(path).expanduser().absolute()
