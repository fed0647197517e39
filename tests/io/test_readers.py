"""Readers: what is known of an input when it is opened, and how often its file is read."""

from pathlib import Path

import numpy as np
import pytest
import sounds
import torch

from audiodiff.dsp.mel import dialect
from audiodiff.errors import MelError, ParameterError
from audiodiff.io import readers
from audiodiff.io.mel import save_mel
from audiodiff.io.readers import MelInput, open_inputs, open_recording

HIFIGAN = dialect("hifigan")


def mel_file(path: Path, n_frames: int = 20) -> Path:
    save_mel(path, HIFIGAN.mel(sounds.tones(256 * n_frames, sample_rate=22050)[0]), HIFIGAN)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt"])
def test_a_mel_file_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str):
    calls = []
    load = readers.load_mel
    monkeypatch.setattr(readers, "load_mel", lambda path, **key: calls.append(path) or load(path, **key))
    path = mel_file(tmp_path / f"a{suffix}")
    (opened,) = open_inputs([path])
    opened.check(HIFIGAN)
    reader = opened.mels(HIFIGAN, device=torch.device("cpu"))
    assert torch.cat(list(reader.chunks()), dim=-1).shape == (1, 80, 20)
    assert calls == [path]


def test_mels_beyond_the_memory_limit_are_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [mel_file(tmp_path / "a.npz"), mel_file(tmp_path / "b.npz")]
    monkeypatch.setattr(readers, "MAX_HELD_BYTES", paths[0].stat().st_size)
    first, second = open_inputs(paths)
    assert isinstance(first, MelInput)
    assert isinstance(second, MelInput)
    assert first.held is not None
    assert second.held is None
    assert torch.equal(first.mel(), second.mel())


def test_inputs_know_their_dialect_and_channels(tmp_path: Path):
    np.save(tmp_path / "bare.npy", HIFIGAN.mel(sounds.tones(5120, sample_rate=22050)[0]).numpy())
    recording = sounds.write(tmp_path / "a.wav", 3000, n_channels=2)
    opened = open_inputs([mel_file(tmp_path / "a.npz"), tmp_path / "bare.npy", recording])
    assert [each.dialect for each in opened] == [HIFIGAN, None, None]
    assert [each.needs_dialect for each in opened] == [False, True, False]
    assert [each.n_channels for each in opened] == [1, 1, 2]


def test_a_mel_of_another_dialect_is_refused_by_its_file(tmp_path: Path):
    (opened,) = open_inputs([mel_file(tmp_path / "a.npz")])
    with pytest.raises(MelError, match=r"a\.npz"):
        opened.check(dialect("vocos"))


def test_a_rate_that_cannot_be_converted_is_refused_by_its_file(tmp_path: Path):
    recording = open_recording(sounds.write(tmp_path / "a.wav", 300, sample_rate=44100))
    with pytest.raises(ParameterError, match=r"a\.wav: "):
        recording.check_rate(1)


def test_a_recording_is_padded_to_whole_hops_and_normalised_by_its_peak(tmp_path: Path):
    recording = open_recording(sounds.write(tmp_path / "a.wav", 3000, peak=4.0))
    reader = recording.mels(HIFIGAN, device=torch.device("cpu"))
    assert (reader.copied, reader.n_read, reader.n_samples) == ([0], 3000, 12 * 256)
    assert reader.level == pytest.approx(4.0)
    padded = torch.nn.functional.pad(recording.read() / reader.level, (0, 72))
    assert torch.allclose(torch.cat(list(reader.chunks()), dim=-1), HIFIGAN.mel(padded), atol=1e-4)


@pytest.mark.parametrize("offset", [0.05, -0.2])
def test_a_constant_offset_leaves_no_trace_in_the_mel(tmp_path: Path, offset: float):
    hifigan = dialect("hifigan")
    audio = 0.5 * sounds.white(0, seconds=0.5, rate=22050)
    audio = audio - audio.mean()

    def mel(name: str, samples: torch.Tensor) -> torch.Tensor:
        sounds.save_float(tmp_path / name, samples, rate=22050)
        reader = open_recording(tmp_path / name).mels(hifigan, device=torch.device("cpu"))
        return torch.cat(list(reader.chunks()), dim=-1)

    plain = mel("plain.wav", audio)
    torch.testing.assert_close(mel("offset.wav", audio + offset), plain, rtol=0, atol=1e-4)
