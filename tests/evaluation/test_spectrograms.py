"""Pictures of spectrograms."""

from pathlib import Path

import pytest
import torch

from audiodiff.evaluation.spectrograms import draw_spectrograms


def test_spectrograms_are_drawn_under_each_other(tmp_path: Path) -> None:
    import matplotlib.image

    noise = torch.randn(22050, generator=torch.Generator().manual_seed(0))
    for n_signals in (1, 3):
        path = tmp_path / f"{n_signals}.png"
        draw_spectrograms({str(n): noise for n in range(n_signals)}, sample_rate=22050, path=path, title="noise")
    heights = [matplotlib.image.imread(tmp_path / f"{n}.png").shape[0] for n in (1, 3)]
    assert heights[1] == pytest.approx(3 * heights[0], abs=2)
