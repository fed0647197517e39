"""Audio files: what is written is read, whole or not at all, and what cannot be read says why."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.formats import AUDIO_SUFFIXES

RATE = 16000


def tone(n_samples: int = 4000, n_channels: int = 1) -> torch.Tensor:
    time = torch.arange(n_samples) / RATE
    return torch.stack([0.5 * torch.sin(2 * torch.pi * 220 * (c + 1) * time) for c in range(n_channels)])


@pytest.mark.parametrize(
    ("suffix", "subtype", "bits"), [(".wav", None, 16), (".wav", "PCM_24", 24), (".flac", None, 16)]
)
def test_every_integer_sample_survives_reading_and_writing(tmp_path: Path, suffix: str, subtype: str | None, bits: int):
    full_scale = 2 ** (bits - 1)
    integers = torch.linspace(-full_scale, full_scale - 1, 20001, dtype=torch.float64).round()
    audio = (integers / full_scale).float()[None]
    audio_io.write(tmp_path / f"a{suffix}", audio, sample_rate=RATE, subtype=subtype)
    read, rate = audio_io.read(tmp_path / f"a{suffix}")
    assert rate == RATE
    assert torch.equal(read, audio)


def test_float_wav_keeps_every_bit_beyond_full_scale(tmp_path: Path):
    audio = 3 * torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    audio_io.write(tmp_path / "a.wav", audio, sample_rate=44100, subtype="FLOAT")
    assert torch.equal(audio_io.read(tmp_path / "a.wav")[0], audio)


def test_full_scale_one_is_written_as_the_largest_integer(tmp_path: Path):
    audio_io.write(tmp_path / "a.wav", torch.tensor([[1.0, -1.0]]), sample_rate=RATE)
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [32767, -32768]


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_every_suffix_that_is_listed_writes_and_reads(tmp_path: Path, suffix: str):
    audio = tone(n_samples=16000, n_channels=2)
    path = tmp_path / f"a{suffix}"
    audio_io.write(path, audio, sample_rate=RATE)
    read, rate = audio_io.read(path)
    about = audio_io.info(path)
    assert (about.sample_rate, about.n_channels, about.n_samples) == (rate, 2, read.shape[-1])
    assert read.shape == audio.shape
    # Lossy codecs: 10 % of the amplitude of a stationary tone, away from the ends.
    assert (read - audio)[:, 2000:-2000].abs().max() < 0.05


def test_a_long_ogg_is_written_in_pieces(tmp_path: Path):
    audio_io.write(tmp_path / "a.ogg", tone(n_samples=2_000_000), sample_rate=RATE)
    assert audio_io.info(tmp_path / "a.ogg").n_samples == 2_000_000


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_reading_a_part_equals_slicing_the_whole(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    audio_io.write(path, tone(), sample_rate=RATE)
    whole, _ = audio_io.read(path)
    assert torch.equal(audio_io.read(path, start=1000, n_samples=500)[0], whole[:, 1000:1500])
    assert torch.equal(audio_io.read(path, start=3900, n_samples=500)[0], whole[:, 3900:])
    with pytest.raises(AudioFileError, match="past its end"):
        audio_io.read(path, start=4000)


@pytest.mark.parametrize("bad", [{"start": -1}, {"n_samples": 0}])
def test_impossible_ranges_are_refused(tmp_path: Path, bad: dict):
    audio_io.write(tmp_path / "a.wav", tone(), sample_rate=RATE)
    with pytest.raises(ParameterError):
        audio_io.read(tmp_path / "a.wav", **bad)


def test_files_that_are_not_audio_say_so(tmp_path: Path):
    (tmp_path / "text.wav").write_text("not audio at all")
    (tmp_path / "zero.wav").touch()
    (tmp_path / "noise.raw").write_bytes(bytes(100))
    soundfile.write(tmp_path / "header.wav", np.zeros(0), RATE)
    for name, reason in [
        ("text.wav", "cannot be read as audio"),
        ("zero.wav", "0 bytes"),
        ("noise.raw", "cannot be read as audio"),
        ("header.wav", "no samples"),
        ("absent.wav", "no such file"),
        ("", "is a folder"),
    ]:
        for function in (audio_io.info, audio_io.read):
            with pytest.raises(AudioFileError, match=reason) as caught:
                function(tmp_path / name)
            assert name in str(caught.value)


def test_samples_that_are_not_finite_are_not_read(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, np.nan, 0.0]), RATE, subtype="FLOAT")
    with pytest.raises(AudioFileError, match="NaN"):
        audio_io.read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "audio", "subtype", "error"),
    [
        ("a.wav", torch.full((1, 10), 1.01), None, ParameterError),
        ("a.ogg", torch.full((1, 10), 1.01), None, ParameterError),
        ("a.wav", torch.full((1, 10), float("nan")), "FLOAT", ParameterError),
        ("a.wav", torch.zeros(1, 0), None, ParameterError),
        ("a.xyz", torch.zeros(1, 10), None, AudioFileError),
        ("a.flac", torch.zeros(1, 10), "FLOAT", AudioFileError),
        ("a.flac", torch.zeros(200, 10), None, AudioFileError),
    ],
)
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, name, audio, subtype, error):
    with pytest.raises(error, match=name):
        audio_io.write(tmp_path / name, audio, sample_rate=RATE, subtype=subtype)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_breaks_off_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.wav"
    audio_io.write(path, tone(), sample_rate=RATE)
    before = path.read_bytes()

    def interrupted(_file, _data):
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile.SoundFile, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        audio_io.write(path, tone(n_samples=100), sample_rate=RATE)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.wav"]


def test_folders_are_made_and_a_file_in_their_place_is_an_error(tmp_path: Path):
    audio_io.write(tmp_path / "x" / "y" / "a.wav", tone(), sample_rate=RATE)
    assert (tmp_path / "x" / "y" / "a.wav").stat().st_mode & 0o044 == 0o044 & ~_umask()
    with pytest.raises(AudioFileError, match="cannot be written"):
        audio_io.write(tmp_path / "x" / "y" / "a.wav" / "b.wav", tone(), sample_rate=RATE)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_blocks_are_the_whole_read_and_written(tmp_path: Path, suffix: str):
    source, target = tmp_path / f"a{suffix}", tmp_path / "b.wav"
    audio_io.write(source, tone(n_samples=150_001, n_channels=2), sample_rate=RATE)
    whole, _ = audio_io.read(source)
    found = list(audio_io.blocks(source))
    assert len(found) > 2
    joined = torch.cat(found, dim=-1)
    assert joined.shape == whole.shape
    assert (joined - whole).abs().max() < 1e-6  # a decoder of mp3 rounds otherwise after a seek
    audio_io.write_blocks(target, found, n_channels=2, sample_rate=RATE, subtype="FLOAT")
    assert torch.equal(audio_io.read(target)[0], joined)


def test_blocks_that_fail_leave_no_file(tmp_path: Path):
    def failing():
        yield tone()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audio_io.write_blocks(tmp_path / "a.wav", failing(), n_channels=1, sample_rate=RATE)
    with pytest.raises(ParameterError, match="beyond"):
        audio_io.write_blocks(tmp_path / "a.wav", [tone(), 3.0 * tone()], n_channels=1, sample_rate=RATE)
    assert list(tmp_path.iterdir()) == []


def test_damage_within_a_file_is_refused_at_its_block(tmp_path: Path):
    samples = np.zeros(100_000, np.float32)
    samples[-1] = np.inf
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    coming = audio_io.blocks(tmp_path / "a.wav")
    assert next(coming).shape == (1, 65536)
    with pytest.raises(AudioFileError, match="holds NaN or infinite"):
        next(coming)
