"""Mel filters, from librosa, in float64."""

import warnings
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.constants import cached_tensors
from audiodiff.errors import ParameterError
from audiodiff.requirements import require

MelScale = Literal["htk", "slaney"]


@cached_tensors(maxsize=32)
def mel_filters(
    *,
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float,
    f_max: float,
    scale: MelScale,
    area_normalised: bool,
    gain: float,
) -> Float[Tensor, "n_mels bins"]:
    """Return triangular filters times gain. The tensor is shared: do not change it.

    Raises:
        ParameterError: if a filter is so narrow that it covers no bin.
    """

    def librosa_filters(n: int) -> np.ndarray:
        require("librosa")
        import librosa.filters  # lazy: `import audiodiff` loads nothing heavier than torch

        norm = "slaney" if area_normalised else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Empty filters detected")
            return librosa.filters.mel(
                sr=sample_rate,
                n_fft=n_fft,
                n_mels=n,
                fmin=f_min,
                fmax=f_max,
                htk=scale == "htk",
                norm=norm,
                dtype=np.float64,
            )

    filters = librosa_filters(n_mels)
    empty = np.flatnonzero(filters.sum(axis=1) == 0)
    if len(empty):
        fits = next((n for n in range(n_mels - 1, 0, -1) if librosa_filters(n).sum(axis=1).all()), 1)
        raise ParameterError(
            f"n_mels={n_mels} leaves band {empty[0]} without a bin at n_fft={n_fft} and sample_rate={sample_rate}; "
            f"give n_mels={fits} or less, or a longer n_fft"
        )
    with torch.inference_mode(False):  # the cached filters may be used in training later
        return torch.from_numpy(filters * gain)
