"""Anomaly detection: fit a detector on normal recordings, then score others."""

from audiodiff.tasks.anomaly.detector import Detector, Verdict

__all__ = ["Detector", "Verdict"]
