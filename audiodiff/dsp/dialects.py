"""The numbers of the eight mel dialects, as their projects' own code has them; dsp/mel.py says what the fields mean."""

import math
from typing import Any

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
}
