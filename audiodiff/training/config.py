"""Configurations: composed, resolved, and turned into objects."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from audiodiff import compat
from audiodiff.errors import AudiodiffError, ParameterError, innermost
from audiodiff.io.paths import user_path
from audiodiff.models.building import Builder
from audiodiff.training import suggestions
from audiodiff.training.paths import quoted, with_quoted_path

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

    current = [with_quoted_path(override) for override in current]
    places = ",".join(quoted(f"file://{folder}") for folder in (recipe_root(), *config_folders))
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra.compose("config", overrides=[f"hydra.searchpath=[{places}]", *current], return_hydra_config=True)


def plain(config: Any) -> dict[str, Any]:
    """Resolve a configuration into dicts and lists, without Hydra's own node."""
    from omegaconf import OmegaConf, open_dict

    if OmegaConf.select(config, "train.init_model"):
        from audiodiff.training.initial import with_model_of

        config = with_model_of(config)
    config = config.copy()
    with open_dict(config):
        hydra_node = config.pop("hydra", None)
    with readable("the configuration does not resolve"):
        resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    # null in the file, since the command line can add nothing to an empty mapping.
    labels = resolved["data"]["labels"] or {}
    if not isinstance(labels, dict):
        raise ParameterError(
            f"data.labels={labels} must name each label and its column, as in data.labels={{class: {labels}}}"
        )
    resolved["data"]["labels"] = labels
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
        if new in keys:
            continue
        if isinstance(value, dict):
            kept = {key: leaf for key, leaf in value.items() if f"{new}.{key}" not in keys}
            value = (new_node.get(new_name) or {}) | kept
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
        raise _in_one_line(error, name=name, node=node) from error


def build_part(node: Any, *, kind: type[T], name: str) -> T:
    """Build what a node describes, which may be a class of the user's own.

    Args:
        node: with a `_target_`.
        kind: its base class.
        name: of the node, for errors.

    Raises:
        ParameterError: if it describes something else.
    """
    if not isinstance(node, Mapping) or node.get("_target_") is None:
        raise ParameterError(f"{name} must name a class by its key _target_, as in {name}._target_=my_module.MyClass")
    built = instantiate(node, name=name)
    if not isinstance(built, kind):
        raise ParameterError(
            f"{name}._target_={node['_target_']} gives a {type(built).__name__}, and must give a "
            f"{kind.__module__}.{kind.__name__}"
        )
    return built


def settings(kind: type[T], values: Mapping[str, Any], *, name: str) -> T:
    """Build a dataclass of settings from a node that has no `_target_`.

    Raises:
        ParameterError: for a field that is unknown, missing or out of range.
    """
    known = {field.name for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    for key in values:
        if key not in known:
            raise ParameterError(f"{name}.{key} does not exist, there are {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ParameterError(f"{name}: {error}") from error


def composition_message(error: Exception) -> str:
    """Return Hydra's message about a configuration that it cannot compose in one line, without its search path.

    If Hydra met an error of this package, as from a callback, the message is that error's.

    Example:
        >>> said = "Could not find 'a/x'\\n\\nAvailable options in 'a':\\n\\ty\\n\\tz\\nConfig search path:"
        >>> composition_message(ValueError(said))
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
        known = (path.relative_to(recipe_root() / "recipes") for path in (recipe_root() / "recipes").glob("*/*.yaml"))
        recipes = [path.with_suffix("").as_posix() for path in known]
        missing = suggestions.unknown_recipe(text, recipes=recipes)
        text = missing or f"{text}; audiodiff train --help lists what there is"
    if isinstance(error, OverrideParseException):
        reason = "unreadable" if "LexerNoViableAlt" in text else text.partition(" See https")[0]
        text = suggestions.unreadable(str(error.override), reason=reason)
    if isinstance(error.__cause__, OmegaConfBaseException):
        text += f" ({str(error.__cause__).splitlines()[0]})"
    text = suggestions.unknown_key(text, folder=config_folder()) or text
    renamed = [f"{old} is now {new}" for old, new in compat.OVERRIDES.items() if f"'{old}'" in text]
    return "; ".join([text, *renamed])


@contextmanager
def readable(name: str, *, node: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """Raise errors of a configuration library as one line, for the node of that name."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, TypeError, ValueError) as error:
        raise _in_one_line(error, name=name, node=node) from error


def _in_one_line(error: Exception, *, name: str, node: Mapping[str, Any] = MappingProxyType({})) -> ParameterError:
    cause = innermost(error)
    if isinstance(cause, AudiodiffError):
        return ParameterError(f"{name}: {cause}")
    reason = str(cause).partition("\n")[0]
    texts = [f"{name}.{key}={value}" for key, value in node.items() if isinstance(value, str) and key != "_target_"]
    if isinstance(cause, TypeError) and texts and "'str'" in reason:
        return ParameterError(f"{', '.join(texts)} must be a number ({reason})")
    return ParameterError(f"{name}: {reason}")


def absolute(path: str | os.PathLike[str], *, name: str = "a path") -> Path:
    """Return an absolute path, which stays valid if the working directory changes."""
    return user_path(path, name=name).absolute()
