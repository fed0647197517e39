"""Arguments of `audiodiff train`, completed for Hydra."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audiodiff.compat import current_override, renaming
from audiodiff.errors import ParameterError, TrainingError
from audiodiff.io.console import say
from audiodiff.models import registry
from audiodiff.training.config import absolute, recipe_root
from audiodiff.training.paths import quoted, with_quoted_path
from audiodiff.training.suggestions import unknown_option

OPTIONS_WITH_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    "--experimental-rerun",
)
"""Hydra's options that are followed by a value."""
OPTIONS = (
    *OPTIONS_WITH_VALUE,
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc", "--info", "-i"),
)
"""Hydra's options."""
TRUST = "--trust"
"""An option of ours: a package whose classes a model may have."""


def without_trust(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without those of --trust, and the packages that they name.

    Example:
        >>> without_trust(["train.steps=3", "--trust", "mine", "--trust=other"])
        (['train.steps=3'], ['mine', 'other'])
    """
    rest, packages = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == TRUST:
            name = next(remaining, None)
            if name is None:
                raise ParameterError(f"{TRUST} must be followed by the name of a package")
            packages.append(name)
        elif argument.startswith(f"{TRUST}="):
            packages.append(argument.partition("=")[2])
        else:
            rest.append(argument)
    return rest, packages


def hydra_arguments(arguments: list[str]) -> list[str]:
    """Complete the arguments of `audiodiff train` for Hydra.

    The recipe folder is added. A resumed run continues in its own folder, with the overrides and recipe folder of its
    start under the given ones. Paths are quoted. Options come last, since Hydra's parser needs all overrides in a row.

    Old names of overrides are replaced, with a notice for each.

    Raises:
        ParameterError: for an option that does not exist.
        TrainingError: if there is nothing where a run should be resumed from.
    """
    options, given = _split(arguments)
    overrides = [current_override(override) for override in given]
    for old, new in zip(given, overrides, strict=True):
        if old != new:
            say(renaming(_key(old), _key(new)))
    sweep = any(option in ("--multirun", "-m") for option in options)
    overrides = [with_quoted_path(override, sweep=sweep) for override in overrides]
    added = []
    if _value(overrides, "hydra.searchpath") is None:
        added.append(f"hydra.searchpath=[{quoted(f'file://{recipe_root()}')}]")
    resume, chosen = _value(overrides, "train.resume"), _value(overrides, "hydra.run.dir")
    run = None if chosen is None else absolute(chosen)
    if resume:
        # Checked here, because Hydra creates the folder of a run before anything else.
        if not absolute(resume).exists():
            raise TrainingError(f"train.resume={resume} does not exist: give a run folder, or one of its checkpoints")
        origin = _run_of(resume)
        if run is None:
            run = origin
            added.append(f"hydra.run.dir={quoted(str(run))}")
        known = {_key(override) for override in overrides} | {"train.resume", "resume.exact"}
        saved = map(current_override, _saved_overrides(origin))
        overrides = [*(override for override in saved if _key(override) not in known), *overrides]
        if not any(option.partition("=")[0] in ("--config-dir", "-cd") for option in options):
            options += [f"--config-dir={folder}" for folder in _saved_config_folders(origin)]
    return [*overrides, *added, *options]


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's own options with their values, and the overrides."""
    options: list[str] = []
    overrides: list[str] = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        name = argument.partition("=")[0]
        if name.startswith("-") and not any(option.startswith(name) for option in OPTIONS):
            raise ParameterError(unknown_option(argument))
        with_value = previous in OPTIONS_WITH_VALUE or (previous in ("--info", "-i") and "=" not in argument)
        (options if with_value or argument.startswith("-") else overrides).append(argument)
    return options, overrides


def _saved_overrides(run: Path) -> list[str]:
    """Return the overrides that a run was started with."""
    import yaml

    path = run / ".hydra" / "overrides.yaml"
    return (
        [str(override) for override in yaml.safe_load(path.read_text(encoding="utf-8")) or []] if path.is_file() else []
    )


def _saved_config_folders(run: Path) -> list[str]:
    """Return the recipe folder that a run was started with, if any and if it still exists."""
    import yaml

    path = run / ".hydra" / "hydra.yaml"
    sources = (
        yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["runtime"]["config_sources"] if path.is_file() else []
    )
    folders = [source["path"] for source in sources if source["provider"] == "command-line"]
    return [folder for folder in folders if Path(folder).is_dir()]


@contextmanager
def kept_for_resume(run: Path, overrides: Iterable[str]) -> Iterator[None]:
    """Write the overrides of a resumed run over those of its start, so that the next resume goes on with them.

    They are put back if the block raises an error before it has saved a checkpoint: the resume was refused.

    Args:
        run: the folder; one without checkpoints stays as Hydra left it.
        overrides: as composed.
    """
    path, newest = run / ".hydra" / "overrides.yaml", _newest(run)
    if newest is None or not path.is_file():
        yield
        return
    import yaml

    before = path.read_bytes()
    kept = [override for override in overrides if _key(override) not in ("train.resume", "resume.exact")]
    path.write_text(yaml.safe_dump(kept, allow_unicode=True), encoding="utf-8")
    try:
        yield
    except BaseException:
        if _newest(run) == newest:
            path.write_bytes(before)
        raise


def _newest(run: Path) -> str | None:
    """Return the name of a run's newest checkpoint, None if it has none."""
    return (run / "checkpoints" / registry.LATEST).read_text(encoding="utf-8") if is_used(run) else None


def _key(argument: str) -> str:
    return argument.lstrip("+~").partition("=")[0]


def _value(overrides: list[str], key: str) -> str | None:
    """Return the last value that the overrides give to a key."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    given = [override for override in overrides if _key(override) == key]
    try:
        value = OverridesParser.create().parse_override(given[-1]).value() if given else None
    except HydraException:
        return None  # Hydra reports the error.
    return None if value is None else str(value)


def _run_of(resume: str) -> Path:
    """Return the run folder of a run folder, its checkpoints or one of them."""
    path = absolute(resume)
    for part in (path, *path.parents):
        if (part / "checkpoints").is_dir():
            return part
    return path


def is_used(run: Path) -> bool:
    """Return whether a run has left checkpoints in its folder."""
    return (run / "checkpoints" / registry.LATEST).exists()
