"""Other projects' packages as references; torchaudio also where its compiled part does not load beside this torch.

What the tests compare with is Python on torch. `import torchaudio` loads its compiled part first and fails where that
was built for another torch, for example one with CUDA beside one without. Here it is imported without that part.
What the package itself finds when it imports torchaudio does not change.
"""

import importlib
import sys
import types
import warnings

import pytest


def _import_without_compiled_part() -> types.ModuleType:
    extension = types.ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    extension.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    sys.modules["torchaudio._extension"] = extension
    import torchaudio

    return torchaudio


def installed(name: str) -> types.ModuleType:
    """Import a module of a package that the tests' environment need not have, or skip the test and name the package."""
    package = name.partition(".")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return importlib.import_module(name)
            except OSError:
                _forget(package)
                _import_without_compiled_part()
                found = importlib.import_module(name)
                _forget()
                return found
    except ImportError as error:
        pytest.skip(f"needs the package {package} ({error}): pip install {package}")


def _forget(package: str = "torchaudio") -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


with warnings.catch_warnings():
    # diffwave compiles a function with torch.jit.script, which newer versions of torch deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        import torchaudio
        from diffwave import inference, model, params
    except OSError:
        _forget()
        torchaudio = _import_without_compiled_part()
        from diffwave import inference, model, params

        _forget()

__all__ = ["inference", "installed", "model", "params", "torchaudio"]
