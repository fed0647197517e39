"""Fields of the named mel dialects, taken from their projects' code, and derived at other rates, hops and sizes.

`audiodiff.dsp.mel.MelDialect` documents the fields.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from audiodiff.dsp.mel_normalization import read_statistics
from audiodiff.errors import ParameterError

# f_max None is half the rate, at any rate.
_NATURAL_LOG: dict[str, Any] = {"amplitude_max": math.inf, "log_gain": 1.0, "log_offset": 0.0}
_LMNT: dict[str, Any] = {
    # clip((20 log10(max(S, 1e-5)) - 20 + 100) / 100, 0, 1), written as one clip of S
    "amplitude_min": 1e-4,
    "amplitude_max": 10.0,
    "log_gain": 0.2 / math.log(10),
    "log_offset": 0.8,
    "window_normalised": True,
    "scale": "htk",
    "area_normalised": False,
    "f_min": 20.0,
    "f_max": None,
}
_COMMON: dict[str, Any] = {
    "sample_rate": 22050,
    "n_fft": 1024,
    "hop_length": 256,
    "win_length": 1024,
    "n_mels": 80,
    "f_min": 0.0,
    "f_max": 8000.0,
    "scale": "slaney",
    "area_normalised": True,
    "window_normalised": False,
    "centred": True,
    "pad_mode": "reflect",
    "power_offset": 0.0,
    "power": 1,
    "amplitude_min": 1e-5,
    **_NATURAL_LOG,
}
_VOCOS: dict[str, Any] = {
    "sample_rate": 24000,
    "n_mels": 100,
    "f_max": None,
    "scale": "htk",
    "area_normalised": False,
    "amplitude_min": 1e-7,
}
DIALECTS: dict[str, dict[str, Any]] = {
    "diffwave": {**_COMMON, **_LMNT},
    "tacotron2": _COMMON,
    "hifigan": {**_COMMON, "centred": False, "power_offset": 1e-9},
    "fastdiff": {
        **_COMMON,
        "f_min": 80.0,
        "f_max": 7600.0,
        "pad_mode": "constant",
        "amplitude_min": 1e-6,
        "log_gain": 1 / math.log(10),
    },
    "vocos": {**_COMMON, **_VOCOS},
    "rfwave": {**_COMMON, **_VOCOS, "log_gain": 1 / math.log(10)},
    "wavegrad": {
        **_COMMON,
        **_LMNT,
        "sample_rate": 24000,
        "n_fft": 2048,
        "hop_length": 300,
        "win_length": 1200,
        "n_mels": 128,
    },
    "speechbrain": _COMMON,
    # ln(max(W |X|^2, 1e-5))
    "wavefm": {**_COMMON, **_VOCOS, "power": 2, "amplitude_min": math.sqrt(1e-5), "log_gain": 2.0},
    "wavenext": {**_COMMON, "centred": False},
    "flow2gan-44k": {
        **_COMMON,
        **_VOCOS,
        "sample_rate": 44100,
        "n_fft": 2048,
        "hop_length": 512,
        "win_length": 2048,
        "n_mels": 128,
    },
}

DIALECT_NAMES: tuple[str, ...] = tuple(DIALECTS)
NUMBERS = {
    "sample_rate": int,
    "n_fft": int,
    "hop_length": int,
    "win_length": int,
    "n_mels": int,
    "f_min": float,
    "f_max": float,
}
"""Fields that a dialect can be derived with, and their types."""
_SCALE: dict[str, Callable[[str], Any]] = {
    "log": str.lower,
    "power": int,
    "mean": float,
    "std": float,
    "frames_first": lambda text: {"true": True, "false": False}[text.lower()],
}
LOGARITHMS = ("e", "10", "db", "none")
"""Values of `log`: natural, to base 10, in decibels, none."""


def log_gain(log: str, *, power: int = 1) -> float:
    """Return the log_gain of a logarithm of the power-th power of amplitudes; decibels are those of the amplitude.

    Example:
        >>> log_gain("e"), log_gain("e", power=2), log_gain("db", power=2) == log_gain("db")
        (1.0, 2.0, True)
    """
    return {"e": power, "10": power / math.log(10), "db": 20 / math.log(10), "none": 0.0}[log] * 1.0


def read_dialect(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME` or `NAME:field=value,field=value` into the name and the changed fields.

    `stats=FILE` stands for the mean and std in a file, see `read_statistics`.

    Raises:
        ParameterError: if a field is unknown, a value is no number, or the file cannot be read.

    Example:
        >>> read_dialect("hifigan:hop_length=200,log=10")
        ('hifigan', {'hop_length': 200, 'log': '10'})
    """
    name, _, rest = text.partition(":")
    changes: dict[str, Any] = {}
    kinds = {**NUMBERS, **_SCALE}
    for part in filter(None, rest.split(",")):
        field, _, value = part.partition("=")
        if field == "stats":
            changes |= read_statistics(Path(value))
            continue
        if field not in kinds:
            raise ParameterError(
                f"{text!r}: {field!r} is not a field of a dialect; the fields are {', '.join(kinds)}, stats"
            )
        try:
            changes[field] = kinds[field](value)
        except KeyError:
            raise ParameterError(f"{text!r}: {field}={value!r} must be true or false") from None
        except ValueError:
            raise ParameterError(f"{text!r}: {field}={value!r} must be a number") from None
    return name, changes


def dialect_fields(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a dialect with changes, from which dependent fields follow as `mel.dialect` describes.

    Raises:
        ParameterError: if the name or the logarithm is unknown.
    """
    if name not in DIALECTS:
        raise ParameterError(f"dialect {name!r} is unknown; there are {', '.join(DIALECT_NAMES)}")
    base = DIALECTS[name]
    values = {**base, **changes}
    hop, n_fft, win_length = values["hop_length"], changes.get("n_fft"), changes.get("win_length")
    window_fills_frame = base["n_fft"] == base["win_length"]
    if n_fft is None and win_length is None:
        if 2 * hop > base["win_length"]:
            values["n_fft"] = _power_of_two(4 * hop)
            values["win_length"] = values["n_fft"] if window_fills_frame else 4 * hop
    elif n_fft is not None and win_length is None:
        values["win_length"] = n_fft if window_fills_frame else round(base["win_length"] * n_fft / base["n_fft"])
    elif win_length is not None and n_fft is None:
        values["n_fft"] = base["n_fft"] if win_length <= base["n_fft"] else _power_of_two(int(win_length))
    if values["f_max"] is None:
        values["f_max"] = values["sample_rate"] / 2
    log, power = values.pop("log", None), values["power"]
    values["log_gain"] *= power / base["power"]
    if log is not None:
        if str(log) not in LOGARITHMS:
            raise ParameterError(f"log={log} of dialect {name} must be one of {', '.join(LOGARITHMS)}")
        values |= {"log_gain": log_gain(str(log), power=power), "log_offset": 0.0}
    return values | {"f_min": float(values["f_min"]), "f_max": float(values["f_max"])}


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
