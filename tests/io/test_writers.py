"""Writers: level, length and rate of a file that is written in blocks, and what is left where it fails."""

from pathlib import Path

import pytest
import sounds
import torch

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io.audio import read
from audiodiff.io.formats import check_float, check_format
from audiodiff.io.writers import WrittenFile, copy_file, open_writer

RATE = 16000


@pytest.mark.parametrize(("subtype", "is_scaled"), [(None, True), ("FLOAT", False)])
def test_audio_above_full_scale_is_scaled_where_the_format_has_a_limit(tmp_path: Path, subtype, is_scaled: bool):
    audio = sounds.tones(5000, sample_rate=RATE, n_channels=2, peak=2.0)
    with open_writer(tmp_path / "a.wav", n_samples=5000, sample_rate=RATE, subtype=subtype) as writer:
        for block in audio.split(777, dim=-1):
            writer.add(block)
        written = writer.finish()
    assert written == WrittenFile(tmp_path / "a.wav", RATE, 2, 5000, 2.0, is_scaled)
    expected = audio / 2 * (1 - 2**-15) if is_scaled else audio
    assert (read(tmp_path / "a.wav")[0] - expected).abs().max() < 2**-15  # 16 bits


def test_the_file_has_the_asked_length_and_the_level(tmp_path: Path):
    audio = sounds.tones(100, sample_rate=RATE)
    for n_samples in (60, 100, 130):
        with open_writer(
            tmp_path / "a.wav", n_samples=n_samples, sample_rate=RATE, level=0.5, subtype="FLOAT"
        ) as writer:
            writer.add(audio)
            writer.finish()
        expected = 0.5 * torch.nn.functional.pad(audio, (0, n_samples - 100))
        assert torch.equal(read(tmp_path / "a.wav")[0], expected)


def test_without_finish_nothing_is_left(tmp_path: Path):
    with open_writer(tmp_path / "a.wav", n_samples=100, sample_rate=RATE) as writer:
        writer.add(torch.zeros(1, 100))
    assert list(tmp_path.iterdir()) == []


def test_audio_that_is_not_finite_is_refused_by_the_file(tmp_path: Path):
    with (
        open_writer(tmp_path / "a.wav", n_samples=2, sample_rate=RATE) as writer,
        pytest.raises(ParameterError, match=r"a\.wav: the model's output is not finite"),
    ):
        writer.add(torch.tensor([[0.0, float("nan")]]))


def test_a_copy_is_byte_by_byte_and_names_its_target_where_it_fails(tmp_path: Path):
    source = sounds.write(tmp_path / "a.wav", 100)
    copy_file(source, tmp_path / "sub/b.wav")
    assert (tmp_path / "sub/b.wav").read_bytes() == source.read_bytes()
    with pytest.raises(AudioFileError, match=r"c\.wav: cannot be written"):
        copy_file(source, source / "c.wav")


def test_formats_refuse_what_they_cannot_hold():
    check_float(Path("a.wav"))
    with pytest.raises(AudioFileError, match=r"ends in one of \.wav"):
        check_float(Path("a.flac"))
    check_format("a.flac", n_channels=8, sample_rate=48000)
    with pytest.raises(AudioFileError, match="cannot hold 9 channels"):
        check_format("a.flac", n_channels=9, sample_rate=48000)
    with pytest.raises(AudioFileError, match="at most 192000 Hz"):
        check_format("a.ogg", n_channels=1, sample_rate=384000)
