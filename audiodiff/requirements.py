"""Dependency checks: import the packages that a job needs before it begins."""

import importlib
import shlex
from importlib import metadata
from types import MappingProxyType

from audiodiff.errors import PackageError

# Submodules to import of packages whose own import is lazy or loads too little.
_PARTS = MappingProxyType(
    {
        "librosa": ("librosa.filters",),
        "matplotlib": ("matplotlib.figure", "matplotlib.backends.backend_agg"),
        "safetensors": ("safetensors.torch",),
        "scipy": ("scipy.linalg", "scipy.signal"),
        "tensorboard": ("torch.utils.tensorboard",),
    }
)
_DISTRIBUTIONS = MappingProxyType(
    {
        "hydra": "hydra-core",
        "huggingface_hub": "huggingface-hub",
        "lightning_fabric": "lightning-fabric",
        "sklearn": "scikit-learn",
        "umap": "umap-learn",
    }
)


def require(*packages: str) -> None:
    """Import packages, so that a missing or broken one is found before a job begins.

    Args:
        packages: names as in an import statement.

    Raises:
        PackageError: for the first that cannot be imported, with the command that installs it.

    Example:
        >>> require("torch", "soundfile")
        >>> require("no_such_package")
        Traceback (most recent call last):
        ...
        audiodiff.errors.PackageError: no_such_package cannot be loaded (No module named 'no_such_package'): \
pip install no_such_package
    """
    for package in packages:
        _try(package)


def _try(package: str) -> None:
    try:
        for part in _PARTS.get(package, (package,)):
            importlib.import_module(part)
    except Exception as error:  # a broken package may raise anything: OSError, RuntimeError, AttributeError
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PackageError(f"{package} cannot be loaded ({text}): {_remedy(package, error)}") from error


def _remedy(package: str, error: Exception) -> str:
    """Return the command that installs a missing package, or reinstalls a broken one."""
    requirement = shlex.quote(_requirement(_DISTRIBUTIONS.get(package, package)))
    if isinstance(error, ModuleNotFoundError):
        return f"pip install {requirement}"  # also installs a missing dependency of the package
    return f"pip install --force-reinstall --no-deps {requirement}"


def _requirement(distribution: str) -> str:
    """Return a distribution with the versions that audiodiff requires."""
    try:
        known = metadata.requires("audiodiff") or []
    except metadata.PackageNotFoundError:
        known = []
    for line in known:
        requirement = line.partition(";")[0].strip()
        name = requirement[: next((k for k, c in enumerate(requirement) if c in "<>=!~ [("), len(requirement))]
        if name.lower() == distribution:
            return requirement
    return distribution
