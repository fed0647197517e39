import json
import math
from pathlib import Path

import pytest
import torch

from audiodiff.cli.demo import METRICS, demo_command, draw_spectrograms
from audiodiff.data import load_entries, speech_folder
from audiodiff.errors import AudioFileError
from audiodiff.io import audio as audio_io


def test_spectrograms_are_drawn_under_each_other(tmp_path: Path) -> None:
    import matplotlib.image

    noise = torch.randn(22050, generator=torch.Generator().manual_seed(0))
    for n_signals in (1, 3):
        path = tmp_path / f"{n_signals}.png"
        draw_spectrograms({str(n): noise for n in range(n_signals)}, sample_rate=22050, path=path, title="noise")
    heights = [matplotlib.image.imread(tmp_path / f"{n}.png").shape[0] for n in (1, 3)]
    assert heights[1] == pytest.approx(3 * heights[0], abs=2)


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AudioFileError, match="--force"):
        demo_command(out=tmp_path)


@pytest.mark.slow
def test_the_demo_leaves_what_it_says(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    demo_command(out=out, steps=2)
    systems = json.loads((out / "metrics.json").read_text())["systems"]
    entries = load_entries(speech_folder(), split="test").entries
    assert len(systems) == 6
    for values in systems.values():
        assert set(METRICS) < set(values)
    assert systems["ground truth"]["pesq_wb"] == pytest.approx(4.644, abs=1e-3)
    assert math.isinf(systems["ground truth"]["snr_db"])
    for folder in ("network", "network_constraint", "constraint_few", "constraint", "griffin_lim", "truth"):
        for entry in entries:
            assert audio_io.info(out / "wavs" / folder / f"{entry.path.stem}.wav").sample_rate == 22050
    assert len(list((out / "spectrograms").glob("*.png"))) == len(entries)
    assert (out / "run" / "checkpoints" / "latest").is_file()
