"""Family of foreign checkpoints: how its files are known, and what is made of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.models.importers.source import Source


@dataclass(frozen=True)
class Imported:
    """A model that a foreign checkpoint describes.

    Args:
        model: configuration node of a Synthesizer.
        weights: of its network, by our names.
        assumed: what the file does not say, and was taken for it, a sentence each.
    """

    model: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """A kind of foreign checkpoint.

    Args:
        name: as on the command line.
        title: what it is, in a line.
        recognises: tells from the names of the weights.
        convert: (file, chosen options) -> the model.
        options: what a file may leave open: names, with what they mean.
    """

    name: str
    title: str
    recognises: Callable[[Mapping[str, Tensor]], bool]
    convert: "Callable[[Source, Options], Imported]"
    options: Mapping[str, str] = field(default_factory=dict)


class Options:
    """Settings of a model besides its weights: given by the user, else stated by the file, else assumed.

    Args:
        given: options of the user.
        settings: of the file, or of the configuration beside it.

    Example:
        >>> options = Options({"sample_rate": 24000}, {"hop_size": 256})
        >>> options("sample_rate", 22050), options("n_mels", 80, key="num_mels"), options("hop", 300, key="hop_size")
        (24000, 80, 256)
        >>> options.assumed
        ['n_mels=80']
    """

    def __init__(self, given: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self._given, self._settings = given, settings
        self.assumed: list[str] = []

    def choice(self, name: str, default: str, *, among: Sequence[str]) -> str:
        """Return what the user chose, a matter of taste that no file states.

        Raises:
            ParameterError: if it is none of the choices.
        """
        chosen = str(self._given.get(name, default))
        if chosen not in among:
            raise ParameterError(f"--set {name}={chosen} must be {' or '.join(among)}")
        return chosen

    def optional(self, name: str, default: Any) -> Any:
        """Return what the user gave, of the type of the default; no file states it, and nobody need.

        Raises:
            ParameterError: if the user gave another type.
        """
        if name not in self._given:
            return default
        return _typed(self._given[name], default, ParameterError, f"--set {name}={self._given[name]}")

    def __call__(self, name: str, default: Any, *, key: str | None = None) -> Any:
        """Return a setting, of the type of the default.

        Args:
            name: of the option.
            default: what is assumed where nobody says it.
            key: of the file's settings, parts separated by dots; None is the name.

        Raises:
            ParameterError: if the user gave another type.
            CheckpointError: if the file holds another type.
        """
        if name in self._given:
            return _typed(self._given[name], default, ParameterError, f"--set {name}={self._given[name]}")
        found: Any = self._settings
        for part in (key or name).split("."):
            if not isinstance(found, Mapping) or part not in found:
                self.assumed.append(f"{name}={_text(default)}")
                return default
            found = found[part]
        if found is None:  # stated, as what follows from the rest
            return default
        return _typed(found, default, CheckpointError, f"the checkpoint's setting {key or name}={found!r}")


def _typed(value: Any, default: Any, kind: type[Exception], name: str) -> Any:
    """Return a value as the type of the default, which a text may stand for."""
    import yaml

    if isinstance(value, str) and not isinstance(default, str):
        value = yaml.safe_load(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, list | tuple) and isinstance(value, list | tuple):
        return list(value)
    if type(value) is not type(default):
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list"}
        raise kind(f"{name} must be {words.get(type(default), type(default).__name__)}")
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
