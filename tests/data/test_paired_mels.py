"""Mels of another system beside recordings: found by name, aligned in frames, refused where they do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from audiodiff.data.dataset import CropDataset, n_samples_at
from audiodiff.data.paired_mels import PairedMels, best_lag, pair_mels
from audiodiff.data.scanning import load_entries
from audiodiff.dsp.mel import MelDialect, dialect
from audiodiff.errors import DataError, MelError
from audiodiff.io.audio import read, write

HOP = 256


def folders(root: Path, *, own: MelDialect, lengths: tuple[int, ...] = (HOP * 30, HOP * 12 + 100)) -> tuple[Path, Path]:
    """Write recordings of noise whose level rises, and their mels."""
    generator = torch.Generator().manual_seed(0)
    for index, length in enumerate(lengths):
        audio = 0.1 * torch.linspace(0.01, 1, length) * torch.randn(1, length, generator=generator).clamp(-3, 3)
        path = root / "wavs" / f"speaker{index}" / "a.wav"
        write(path, audio, sample_rate=22050)
        mel = own.mel(read(path)[0][0])
        target = root / "mels" / f"speaker{index}" / "a.npy"
        target.parent.mkdir(parents=True)
        np.save(target, (mel.T if own.frames_first else mel).numpy())
    return root / "wavs", root / "mels"


def paired(wavs: Path, mels: Path, model: MelDialect, own: MelDialect | None = None, tolerance: int = 2) -> tuple:
    entries = load_entries(wavs, on_bad="refuse").entries
    lengths = [n_samples_at(entry, 22050) for entry in entries]
    return entries, pair_mels(entries, mels, lengths=lengths, dialect=model, own=own, tolerance=tolerance)


def crops(entries, mels: PairedMels, *, n_frames: int) -> CropDataset:
    return CropDataset(entries, sample_rate=22050, n_channels=1, crop_samples=n_frames * HOP, seed=0, mels=mels)


@pytest.mark.parametrize("model", ["hifigan", "tacotron2"])
@pytest.mark.parametrize("own", ["", ":mean=-5.5,std=2.1,frames_first=true", ":log=10"])
def test_a_crop_has_the_frames_of_its_samples(tmp_path: Path, model: str, own: str):
    entries, mels = paired(*folders(tmp_path, own=dialect(model + own)), dialect(model), dialect(model + own))
    drawn = crops(entries, mels, n_frames=8)
    for k in range(8):
        example = drawn[k]
        truth = dialect(model).mel(example["audio"][0])
        assert example["mel"].shape == truth.shape
        # A window that reaches over the ends of a crop sees other samples there.
        inside = slice(3, 5)
        torch.testing.assert_close(example["mel"][:, inside], truth[:, inside], atol=2e-3, rtol=0)


def test_after_the_end_of_a_short_recording_its_last_frame_is_repeated(tmp_path: Path):
    entries, mels = paired(*folders(tmp_path, own=dialect("hifigan"), lengths=(HOP * 30, HOP * 12)), dialect("hifigan"))
    mel = mels.window(1, first=0, n_frames=16)
    assert torch.equal(mel[:, 12:], mel[:, 11:12].expand(-1, 4))
    torch.testing.assert_close(mel[:, :12], dialect("hifigan").mel(read(entries[1].path)[0][0]))
    example = next(each for k in range(20) if (each := crops(entries, mels, n_frames=16)[k])["n_valid"] < 16 * HOP)
    assert torch.equal(example["mel"], mel)


def test_lengths_beyond_the_tolerance_are_refused_with_the_numbers(tmp_path: Path):
    wavs, folder = folders(tmp_path, own=dialect("hifigan"))
    path = folder / "speaker0" / "a.npy"
    np.save(path, np.load(path)[:, :-3])
    with pytest.raises(DataError, match=r"1 of 2 mels .* data.mels_tolerance=2 frames:\n.*a.npy has 27 frames.* 30"):
        paired(wavs, folder, dialect("hifigan"))
    _, mels = paired(wavs, folder, dialect("hifigan"), tolerance=3)
    shorter = np.load(path)
    assert torch.equal(mels.window(0, first=25, n_frames=5)[:, 2:], torch.from_numpy(shorter[:, -1:]).expand(-1, 3))


def test_mels_are_refused_where_they_are_missing_shared_or_of_another_dialect(tmp_path: Path):
    wavs, folder = folders(tmp_path, own=dialect("hifigan"))
    np.save(folder / "speaker0" / "a.npy", np.zeros((40, 30), np.float32))
    with pytest.raises(MelError, match="n_mels=40, but the dialect has n_mels=80"):
        paired(wavs, folder, dialect("hifigan"))
    with pytest.raises(MelError, match="f_min"):
        paired(wavs, folder, dialect("hifigan"), dialect("hifigan:f_min=80"))
    (folder / "speaker0" / "a.npy").unlink()
    with pytest.raises(DataError, match=r"1 of 2 recordings have no mel there: .*a\.wav; .* as a\.npy"):
        paired(wavs, folder, dialect("hifigan"))
    (folder / "speaker1" / "a.npy").rename(folder / "a.npy")
    with pytest.raises(DataError, match="is the mel of two recordings"):
        paired(wavs, folder, dialect("hifigan"))


@pytest.mark.parametrize("lag", [-4, 0, 7])
def test_the_lag_of_a_late_mel_is_found(lag: int):
    truth = torch.rand(80, 100, generator=torch.Generator().manual_seed(0)).cumsum(dim=1).sin()
    found, correlation = best_lag(truth.roll(lag, dims=1), truth)
    assert found == lag
    assert correlation > 0.99
