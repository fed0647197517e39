"""torchaudio as a reference, also where its compiled part does not load beside this torch.

What the tests compare with is Python on torch. `import torchaudio` loads its compiled part first and fails where that
was built for another torch, for example one with CUDA beside one without. Here it is imported without that part.
What the package itself finds when it imports torchaudio does not change.
"""

import sys
import types
import warnings


def _import_without_compiled_part() -> types.ModuleType:
    extension = types.ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    extension.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
    sys.modules["torchaudio._extension"] = extension
    import torchaudio

    return torchaudio


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
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

__all__ = ["inference", "model", "params", "torchaudio"]
