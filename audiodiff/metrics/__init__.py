"""Metrics of audio: estimate first, reference second, one value per example, NaN where there is none."""

from audiodiff.metrics.bootstrap import bootstrap_interval
from audiodiff.metrics.cepstral import mel_cepstral_distortion_db
from audiodiff.metrics.distortion import segmental_snr_db, si_sdr_db, snr_db
from audiodiff.metrics.image import mel_psnr_db, mel_ssim
from audiodiff.metrics.perceptual import pesq, stoi
from audiodiff.metrics.registry import METRICS, Metric, packages, score, select
from audiodiff.metrics.report import Pair, Row, Summary, evaluate, evaluate_pair, summarise
from audiodiff.metrics.spectral import log_spectral_distance, multi_resolution_stft
from audiodiff.metrics.voicing import periodicity_rmse, vuv_error

__all__ = [
    "METRICS",
    "Metric",
    "Pair",
    "Row",
    "Summary",
    "bootstrap_interval",
    "evaluate",
    "evaluate_pair",
    "log_spectral_distance",
    "mel_cepstral_distortion_db",
    "mel_psnr_db",
    "mel_ssim",
    "multi_resolution_stft",
    "packages",
    "periodicity_rmse",
    "pesq",
    "score",
    "segmental_snr_db",
    "select",
    "si_sdr_db",
    "snr_db",
    "stoi",
    "summarise",
    "vuv_error",
]
