"""Learn what is normal from normal recordings, with a diffusion model's errors, and tell what is not."""

from audiodiff.tasks.anomaly.detector import Detector, Verdict

__all__ = ["Detector", "Verdict"]
