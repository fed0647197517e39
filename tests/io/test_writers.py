"""Writers: level, length and rate of a file that is written in blocks, and what is left where it fails."""

import math
from pathlib import Path

import pytest
import sounds
import torch

from audiodiff.dsp.loudness import loudness, normalize, read_normalization
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
    level_db = 20 * math.log10((1 - 2**-15) / 2) if is_scaled else 0.0
    assert written == WrittenFile(tmp_path / "a.wav", RATE, 2, 5000, 2.0, is_scaled, level_db)
    expected = audio / 2 * (1 - 2**-15) if is_scaled else audio
    assert (read(tmp_path / "a.wav")[0] - expected).abs().max() < 2**-15  # 16 bits


@pytest.mark.parametrize("target", ["-30LUFS", "-16LUFS", "-1dB", "0dB"])
def test_a_file_has_the_level_that_was_asked_for(tmp_path: Path, target: str):
    """In float, where nothing is lowered; so quiet, and so loud, that the gain must be found from the whole."""
    audio = torch.cat(
        [0.01 * sounds.tones(RATE, sample_rate=RATE, n_channels=2), sounds.tones(RATE, sample_rate=RATE).expand(2, -1)],
        dim=-1,
    )
    with open_writer(
        tmp_path / "a.wav",
        n_samples=audio.shape[-1],
        sample_rate=RATE,
        subtype="FLOAT",
        normalization=read_normalization(target),
    ) as writer:
        for block in audio.split(777, dim=-1):
            writer.add(block)
        assert not writer.finish().is_scaled
    expected = normalize(audio, target, sample_rate=RATE)
    torch.testing.assert_close(read(tmp_path / "a.wav")[0], expected, rtol=1e-5, atol=1e-7)


def test_a_loudness_that_would_clip_is_lowered_and_reported(tmp_path: Path):
    audio = sounds.tones(2 * RATE, sample_rate=RATE, peak=0.5)
    with open_writer(
        tmp_path / "a.wav", n_samples=2 * RATE, sample_rate=RATE, normalization=read_normalization("-1LUFS")
    ) as writer:
        writer.add(audio)
        written = writer.finish()
    made = read(tmp_path / "a.wav")[0]
    assert written.is_scaled
    assert float(made.abs().max()) == pytest.approx(1.0, abs=1e-4)
    assert loudness(made, sample_rate=RATE) == pytest.approx(-1.0 + written.level_db, abs=0.01)


def test_silence_is_written_as_it_is_and_reported(tmp_path: Path):
    with open_writer(
        tmp_path / "a.wav", n_samples=RATE, sample_rate=RATE, normalization=read_normalization("-16LUFS")
    ) as writer:
        writer.add(torch.zeros(1, RATE))
        assert writer.finish().is_unmeasured
    assert not read(tmp_path / "a.wav")[0].any()


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
