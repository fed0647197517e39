"""Audio files that end before the length that their headers state, or whose headers state none."""

import re
from pathlib import Path

import pytest
import torch

from audiodiff.data import load_entries
from audiodiff.errors import AudioFileError
from audiodiff.io import audio
from tests import sounds

RATE = 16000
N_SAMPLES = 60000
DATA_SIZE = slice(40, 44)
"""Bytes of a plain WAV header that state the bytes of its samples."""


def written(path: Path) -> bytearray:
    audio.write(path, sounds.white(0, seconds=N_SAMPLES / RATE, rate=RATE), sample_rate=RATE)
    return bytearray(path.read_bytes())


def without_length(content: bytes) -> bytes:
    """Return an MP3 file from the frame after the one that states its length."""
    return content[content.find(content[:2], 100) :]


def refusals(path: Path) -> set[str]:
    found: set[str] = set()
    for read in (audio.read, audio.count_samples):
        with pytest.raises(AudioFileError) as refused:
            read(path)
        found.add(str(refused.value))
    return found


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".mp3"])
def test_a_file_that_is_cut_off_is_refused_with_both_counts(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    content = written(path)
    path.write_bytes(content[: len(content) // 2])
    (refusal,) = refusals(path)
    assert f"its header states {N_SAMPLES} samples, and it ends after" in refusal
    assert "ffmpeg" in refusal


@pytest.mark.parametrize("suffix", [".ogg", ".flac"])
def test_a_stream_that_is_cut_off_is_refused(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    content = written(path)
    path.write_bytes(content[: len(content) // 2])
    for refusal in refusals(path):
        assert "damaged" in refusal


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
@pytest.mark.parametrize("damage", ["cut", "hole", "length"])
def test_an_ogg_file_whose_last_page_is_damaged_is_refused(tmp_path: Path, suffix: str, damage: str):
    path = tmp_path / f"a{suffix}"
    content = written(path)
    last = content.rfind(b"OggS")
    if damage == "cut":
        del content[-50:]
    elif damage == "hole":
        content[last + 100 : last + 130] = bytes(30)
    else:
        content[last + 6 : last + 14] = bytes(8)  # the samples up to the end of the page
    path.write_bytes(content)
    (refusal,) = refusals(path)
    assert f"its last page, up to {N_SAMPLES if damage != 'length' else 0}" in refusal or suffix == ".opus"
    assert "can be decoded" in refusal


def test_an_mp3_of_variable_bit_rate_without_a_length_is_not_shortened(tmp_path: Path):
    path = tmp_path / "a.mp3"
    loud = sounds.white(0, seconds=N_SAMPLES / RATE, rate=RATE)
    audio.write(path, torch.cat([loud, torch.zeros_like(loud)], dim=-1), sample_rate=RATE)
    assert audio.count_samples(path) == 2 * N_SAMPLES
    path.write_bytes(without_length(path.read_bytes()))
    (refusal,) = refusals(path)
    assert "its header states no length" in refusal
    assert "ffmpeg -i FILE -c copy NEW.mp3" in refusal
    estimated, held = (int(number) for number in re.findall(r"\d+", refusal.removeprefix(str(path)))[:2])
    # The encoder adds silence at both ends, to whole frames of 576 samples.
    assert estimated < 2 * N_SAMPLES <= held < 2 * N_SAMPLES + 4 * 576


@pytest.mark.parametrize("suffix", [".mp3", ".ogg"])
def test_a_file_with_a_hole_is_refused_with_both_counts(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    content = written(path)
    middle = len(content) // 2
    content[middle : middle + 700] = bytes(700)
    path.write_bytes(content)
    for refusal in refusals(path):
        assert f"its header states {N_SAMPLES} samples, and it ends after" in refusal


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".mp3", ".ogg", ".flac", ".opus"])
def test_a_whole_file_has_its_samples(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    written(path)
    assert audio.count_samples(path) == audio.info(path).n_samples == audio.read(path)[0].shape[-1] == N_SAMPLES
    assert audio.read(path, start=N_SAMPLES - 100, n_samples=5000)[0].shape[-1] == 100


def test_an_mp3_whose_length_is_only_estimated_is_read_to_its_end(tmp_path: Path):
    path = tmp_path / "a.mp3"
    audio.write(path, torch.zeros(1, N_SAMPLES), sample_rate=RATE)  # all frames have one size
    tag = b"ID3\x03\x00\x00\x00\x00\x10\x00" + bytes(2048)
    path.write_bytes(tag + without_length(path.read_bytes()))
    n_samples = audio.count_samples(path)
    assert N_SAMPLES <= n_samples < N_SAMPLES + 4 * 576
    assert audio.read(path, start=n_samples - 10, n_samples=10)[0].shape[-1] == 10


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF - 36, 0x80000000])
def test_a_wav_that_was_written_into_a_pipe_is_read_to_its_end(tmp_path: Path, size: int):
    path = tmp_path / "a.wav"
    content = written(path)
    whole = audio.read(path)[0]
    content[DATA_SIZE] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert torch.equal(audio.read(path)[0], whole)


def test_an_unfinished_wav_is_refused_with_its_bytes_and_the_repair(tmp_path: Path):
    path = tmp_path / "a.wav"
    content = written(path)
    content[DATA_SIZE] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match=f"says 0 bytes of samples, and {2 * N_SAMPLES} bytes follow.*ffmpeg"):
        audio.info(path)
    path.write_bytes(content[:44])
    with pytest.raises(AudioFileError, match="no samples; replace or remove it"):
        audio.info(path)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".ogg", ".flac"])
@pytest.mark.parametrize("damage", ["cut", "hole"])
def test_a_scan_skips_damaged_files_so_that_training_goes_on(tmp_path: Path, suffix: str, damage: str):
    written(tmp_path / "good.wav")
    path = tmp_path / f"bad{suffix}"
    content = written(path)
    middle = len(content) // 2
    if damage == "cut":
        content = content[:middle]
    else:
        content[middle : middle + 700] = bytes(700)
    path.write_bytes(content)
    scan = load_entries(tmp_path, on_bad="skip")
    bad = [file.path.name for file in scan.skipped]
    # A hole in PCM is silence: nothing in the file tells it from the recording's own.
    assert bad == ([] if (suffix, damage) == (".wav", "hole") else [path.name])
