"""Registry of metrics by name, for reports, gates and validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.metrics.cepstral import mel_cepstral_distortion_db, mel_cepstrum
from audiodiff.metrics.distortion import segmental_snr_db, si_sdr_db, snr_db
from audiodiff.metrics.image import mel_psnr_db, mel_ssim, shortest_image, shortest_ssim
from audiodiff.metrics.perceptual import PESQ_SHORTEST_SECONDS, STOI_SHORTEST_SECONDS, pesq, stoi
from audiodiff.metrics.spectral import log_spectral_distance, multi_resolution_stft
from audiodiff.metrics.voicing import periodicity_rmse, shortest_voicing, vuv_error


@dataclass(frozen=True)
class Metric:
    """Describe one metric.

    Args:
        name: its key in reports and gates.
        compute: (estimate, reference, sample_rate) -> one value per example.
        unit: "dB", "MOS" or "" for a bare number.
        better: direction of better values.
        definition: one line that identifies the published variant.
        shortest: from the sample rate to the least number of samples that have a value.
        otherwise: reason for a missing value of signals that are long enough and not silent.
        packages: imported by the computation.
    """

    name: str
    compute: Callable[[Tensor, Tensor, int], Tensor]
    unit: str
    better: Literal["higher", "lower"]
    definition: str
    shortest: Callable[[int], int] = lambda sample_rate: 1
    otherwise: str = "no variation"
    packages: tuple[str, ...] = ()


def _seconds(seconds: float) -> Callable[[int], int]:
    return lambda sample_rate: round(seconds * sample_rate)


def _without_rate(
    function: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, int], Tensor]:
    return lambda estimate, reference, sample_rate: function(estimate, reference)


def _with_rate(function: Callable[..., Tensor]) -> Callable[[Tensor, Tensor, int], Tensor]:
    return lambda estimate, reference, sample_rate: function(estimate, reference, sample_rate=sample_rate)


_MCD = "(10 sqrt 2 / ln 10) mean_t |c_E - c_R|"
_MFCC = f"{_MCD}, c_1..c_13 of the orthonormal DCT-II of 80 natural-log mel magnitudes (librosa)"
_MEL_CEPSTRUM = f"{_MCD}, c_1..c_24 of the mel cepstrum (as SPTK's freqt) of the short-time spectrum"
_UNALIGNED, _ALIGNED = "frame by frame", "frames aligned by dynamic time warping"


def _mcd(name: str, definition: str, **options: Any) -> Metric:
    return Metric(
        name=name,
        compute=_with_rate(partial(mel_cepstral_distortion_db, **options)),
        unit="dB",
        better="lower",
        definition=definition,
        shortest=_seconds(0.05),
        packages=("librosa",),
    )


_ALL = (
    Metric(
        name="snr_db",
        compute=_without_rate(snr_db),
        unit="dB",
        better="higher",
        definition="10 log10(sum r^2 / sum (r - e)^2); depends on sign and phase, says little about vocoders",
    ),
    Metric(
        name="segmental_snr_db",
        compute=_with_rate(segmental_snr_db),
        unit="dB",
        better="higher",
        definition="mean SNR of 25 ms frames, each clipped to [-10, 35] dB, frames 40 dB below the loudest skipped",
        shortest=_seconds(0.025),
    ),
    Metric(
        name="si_sdr_db",
        compute=_without_rate(si_sdr_db),
        unit="dB",
        better="higher",
        definition="scale-invariant SDR (Le Roux et al. 2019), means removed; depends on phase, as snr_db does",
        shortest=lambda sample_rate: 2,
    ),
    Metric(
        name="pesq_wb",
        compute=_with_rate(partial(pesq, band="wb")),
        unit="MOS",
        better="higher",
        definition="ITU-T P.862.2 wide band at 16 kHz (Kaiser-windowed sinc resampling), ceiling 4.644; "
        "above 18 s the mean of equal parts",
        shortest=_seconds(PESQ_SHORTEST_SECONDS),
        otherwise="no utterance found",
        packages=("pesq",),
    ),
    Metric(
        name="pesq_nb",
        compute=_with_rate(partial(pesq, band="nb")),
        unit="MOS",
        better="higher",
        definition="ITU-T P.862.1 narrow band at 16 kHz (8 kHz if that is the rate), ceiling 4.549; "
        "above 18 s the mean of equal parts",
        shortest=_seconds(PESQ_SHORTEST_SECONDS),
        otherwise="no utterance found",
        packages=("pesq",),
    ),
    Metric(
        name="stoi",
        compute=_with_rate(stoi),
        unit="",
        better="higher",
        definition="short-time objective intelligibility (Taal et al. 2011), pystoi, at 10 kHz",
        shortest=_seconds(STOI_SHORTEST_SECONDS),
        otherwise="too little speech",
        packages=("pystoi",),
    ),
    Metric(
        name="estoi",
        compute=_with_rate(partial(stoi, extended=True)),
        unit="",
        better="higher",
        definition="extended STOI (Jensen and Taal 2016), pystoi, at 10 kHz",
        shortest=_seconds(STOI_SHORTEST_SECONDS),
        otherwise="too little speech",
        packages=("pystoi",),
    ),
    Metric(
        name="lsd",
        compute=_without_rate(log_spectral_distance),
        unit="",
        better="lower",
        definition="mean_t sqrt(mean_f (log10 |E|^2 - log10 |R|^2)^2), n_fft 2048, hop 512, Hann, power at least 1e-8",
        shortest=lambda sample_rate: 1025,
    ),
    _mcd("mcd_db", f"{_MFCC}, {_UNALIGNED}"),
    _mcd("mcd_dtw_db", f"{_MFCC}, {_ALIGNED}", warp=True),
    _mcd("mcd24_db", f"{_MEL_CEPSTRUM}, {_UNALIGNED}", cepstra=mel_cepstrum),
    _mcd("mcd24_dtw_db", f"{_MEL_CEPSTRUM}, {_ALIGNED}", cepstra=mel_cepstrum, warp=True),
    Metric(
        name="mr_stft",
        compute=_without_rate(multi_resolution_stft),
        unit="",
        better="lower",
        definition="auraloss 0.4.0 MultiResolutionSTFTLoss, defaults: spectral convergence + L1 of ln magnitude, "
        "FFT 1024, 2048, 512",
        shortest=lambda sample_rate: 1025,
    ),
    Metric(
        name="mel_psnr_db",
        compute=_with_rate(mel_psnr_db),
        unit="dB",
        better="higher",
        definition="PSNR of log-mel images (80 bands, 25 ms, 10 ms), in dB down to 80 dB below the reference's maximum",
        shortest=shortest_image,
        packages=("librosa",),
    ),
    Metric(
        name="mel_ssim",
        compute=_with_rate(mel_ssim),
        unit="",
        better="higher",
        definition="SSIM (Wang et al. 2004; Gaussian window 11, deviation 1.5) of the log-mel images of mel_psnr_db, "
        "L = 80 dB",
        shortest=shortest_ssim,
        packages=("librosa",),
    ),
    Metric(
        name="periodicity_rmse",
        compute=_with_rate(periodicity_rmse),
        unit="",
        better="lower",
        definition="RMS difference of the peak normalised cross-correlation (Talkin 1995; 40 ms, 65 to 500 Hz), frames "
        "40 dB below the loudest skipped",
        shortest=shortest_voicing,
    ),
    Metric(
        name="vuv_error",
        compute=_with_rate(vuv_error),
        unit="",
        better="lower",
        definition="share of the frames of periodicity_rmse that are voiced, at 0.5 or more, in only one signal",
        shortest=shortest_voicing,
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
"""Every metric by its name, in the order of a report."""


def select(names: Sequence[str | Metric] | None) -> list[Metric]:
    """Look up metrics by name; None selects all. The suffix _db may be left out, as in "snr".

    A `Metric` among the names, which need not be in METRICS, stands for itself.

    Raises:
        ParameterError: if a name is unknown or there is none.
    """
    if names is None:
        return list(METRICS.values())
    chosen: dict[str, Metric] = {}
    for name in names:
        if isinstance(name, Metric):
            chosen[name.name] = name
            continue
        full = name if name in METRICS else f"{name}_db"
        if full not in METRICS:
            raise ParameterError(f"metric {name!r} is unknown, there are {', '.join(METRICS)}")
        chosen[full] = METRICS[full]
    if not chosen:
        raise ParameterError(f"names is empty: give some of {', '.join(METRICS)}")
    return list(chosen.values())


def packages(names: Sequence[str | Metric] | None) -> list[str]:
    """Return the packages that metrics import, for `audiodiff.requirements.require`.

    Args:
        names: which metrics; None is all of METRICS.

    Raises:
        ParameterError: if a name is unknown.

    Example:
        >>> packages(["snr", "pesq_wb", "stoi"])
        ['pesq', 'pystoi']
    """
    return sorted({package for metric in select(names) for package in metric.packages})


def score(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    sample_rate: int,
    names: Sequence[str | Metric] | None = None,
) -> dict[str, Float[Tensor, "*batch"]]:
    """Compute several metrics, one value per example.

    Args:
        sample_rate: in Hz.
        names: which; None is all of METRICS.

    Returns:
        The values by metric name; NaN where there is none.

    Raises:
        ParameterError: if the shapes differ or a name is unknown.

    Example:
        >>> import torch
        >>> score(torch.tensor([1.5, -0.5]), torch.tensor([1.0, -1.0]), sample_rate=16000, names=["snr"])
        {'snr_db': tensor(6.0206)}
    """
    return {metric.name: metric.compute(estimate, reference, sample_rate) for metric in select(names)}
