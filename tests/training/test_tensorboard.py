"""Contents of a run's TensorBoard events."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
import runs
import soundfile
import torch
import yaml
from PIL import Image

from audiodiff.data import load_entries, load_whole
from audiodiff.training.log import Logs
from audiodiff.training.tensorboard import TensorBoardLog

SCALARS = {
    *("train/loss", "train/gradient_norm", "train/lr", "validation/loss", "validation/lsd"),
    *("speed/steps_per_second", "speed/audio_seconds_per_second"),
}
N_SAMPLES = int(0.3 * 22050) // 256 * 256
"""validation.max_seconds=0.3 in whole frames."""


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write recordings of which several are for validation."""
    root = runs.recordings(tmp_path_factory.mktemp("sounds"), n=5)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.wav"))
    rows = [f"{name},{'val' if n < 2 else 'train'}" for n, name in enumerate(names)]
    (root / "manifest.csv").write_text("path,split\n" + "\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, sounds: Path) -> Path:
    folder = tmp_path_factory.mktemp("tensorboard") / "run"
    torch.set_num_threads(1)
    four = ("train.steps=4", "train.validate_every=2", "train.log_every=2")
    runs.trained(sounds, folder, "logger=tensorboard", "validation.n_examples=2", *four)
    return folder


def events(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    keep_all = {"scalars": 0, "images": 0, "audio": 0, "tensors": 0}
    return EventAccumulator(str(run / "tensorboard"), size_guidance=keep_all).Reload()


def test_curves_have_a_point_at_each_logged_step_and_validation(run: Path):
    found = events(run)
    scalars = set(found.Tags()["scalars"])
    assert scalars >= SCALARS
    assert all(name in SCALARS or name.startswith("loss_by_sigma/1e") for name in scalars)
    for name in SCALARS:
        assert [point.step for point in found.Scalars(name)] == [2, 4]


def test_audio_seconds_are_steps_times_the_crops_of_a_step(run: Path):
    found = events(run)
    steps, seconds = (
        [point.value for point in found.Scalars(f"speed/{name}")]
        for name in ("steps_per_second", "audio_seconds_per_second")
    )
    # Two crops of 8 hops of 256 samples at 22050 Hz.
    assert seconds == pytest.approx([each * 2 * 8 * 256 / 22050 for each in steps], rel=1e-5)
    assert min(steps) > 0


def test_every_clip_stands_beside_its_reference(run: Path, sounds: Path):
    found = events(run)
    held_out = {f"clip_{n}_{entry.path.stem}": entry for n, entry in enumerate(load_entries(sounds).split("val"))}
    assert set(found.Tags()["audio"]) == {f"{name}/{kind}" for name in held_out for kind in ("generated", "reference")}
    for name, entry in held_out.items():
        assert [point.step for point in found.Audio(f"{name}/generated")] == [2, 4]
        (reference,) = found.Audio(f"{name}/reference")
        assert (reference.sample_rate, reference.length_frames) == (22050, N_SAMPLES)
        decoded, _ = soundfile.read(io.BytesIO(reference.encoded_audio_string))
        truth = load_whole(entry, sample_rate=22050, n_channels=1)[0, :N_SAMPLES]
        # 16 bits, below full scale.
        np.testing.assert_allclose(decoded, truth.numpy() / max(1.0, float(truth.abs().max())), atol=2**-14)


def test_the_spectrograms_of_clip_and_reference_are_one_picture(run: Path):
    found = events(run)
    first, second = sorted(found.Tags()["images"])
    assert (first[:7], second[:7]) == ("clip_0_", "clip_1_")
    pictures = found.Images(first)
    assert [picture.step for picture in pictures] == [2, 4]
    picture = pictures[0]
    decoded = Image.open(io.BytesIO(picture.encoded_image_string))
    assert decoded.size == (picture.width, picture.height) == (900, 420)
    assert decoded.getpixel((1, 1)) == (255, 255, 255)


def test_the_configuration_is_there_as_text(run: Path, sounds: Path):
    (text,) = events(run).Tensors("configuration/text_summary")
    written = text.tensor_proto.string_val[0].decode()
    shown = yaml.safe_load(written.removeprefix("```yaml\n").removesuffix("```"))
    expected = runs.config(sounds, "logger=tensorboard", "validation.n_examples=2", "train.steps=4")
    for name in ("model", "optimizer", "data", "lr_schedule"):
        assert shown[name] == expected[name]


def test_a_resume_hides_points_beyond_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = time.time()
    for first in (0, 2):
        # TensorBoard orders files by the second in which they began.
        monkeypatch.setattr(time, "time", lambda first=first: now + first)
        log = TensorBoardLog()
        log.start(tmp_path, first_step=first, config={})
        for step in range(first + 1, 5):
            log.scalars({"train/loss": float(first)}, step=step)
        log.close()
    points = events(tmp_path).Scalars("train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 0.0), (2, 0.0), (3, 2.0), (4, 2.0)]


def test_every_log_is_closed_even_if_one_fails():
    closed = []

    class Failing(TensorBoardLog):
        def close(self) -> None:
            closed.append(self)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        Logs([Failing(), Failing(), Failing()]).close()
    assert len(closed) == 3
