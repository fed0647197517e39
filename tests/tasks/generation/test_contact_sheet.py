"""The contact sheet: where a tone, a click and a silence lie in it, and which of many sounds it shows."""

import io
import math
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from PIL import Image

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.tasks.generation import contact_sheet
from audiodiff.tasks.generation.contact_sheet import MAX_SOUNDS, Panel, band_of, choose_panels, level_db

GREY = 217  # 0.85 of 255


def write(path: Path, audio: torch.Tensor, *, sample_rate: int = 16000) -> Path:
    audio_io.write(path, audio if audio.ndim == 2 else audio[None], sample_rate=sample_rate, subtype="FLOAT")
    return path


def tone(hz: float, *, seconds: float = 0.5, sample_rate: int = 16000, amplitude: float = 0.5) -> torch.Tensor:
    n = torch.arange(round(seconds * sample_rate), dtype=torch.float64)
    return (amplitude * torch.sin(2 * math.pi * hz / sample_rate * n)).float()


def drawn(panels: list[Panel], *, n_columns: int = 1, note: str = "") -> np.ndarray:
    png = contact_sheet.contact_sheet(panels, n_columns=n_columns, note=note)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("sample_rate", [1000, 8000, 22050, 96000])
def test_the_axis_of_frequency_is_that_of_the_filters(sample_rate: int):
    """Librosa's own centres of its filters are the middles of the bands."""
    centres = librosa.mel_frequencies(n_mels=82, fmin=0.0, fmax=sample_rate / 2)[1:-1]
    places = [band_of(float(hz), sample_rate=sample_rate) for hz in centres]
    assert places == pytest.approx(np.arange(80) + 0.5, abs=1e-9)


@pytest.mark.parametrize(
    ("sample_rate", "hz"), [(1000, 300.0), (8000, 150.0), (16000, 1000.0), (22050, 440.0), (44100, 9000.0)]
)
def test_a_tone_is_loudest_in_the_band_of_its_frequency(sample_rate: int, hz: float, tmp_path: Path):
    path = write(tmp_path / "tone.wav", tone(hz, sample_rate=sample_rate), sample_rate=sample_rate)
    level = level_db(path, n_columns=50)[:, 1:-1]  # a tone that is mirrored at its ends is another sound there
    # Half a band for where the tone lies in it, and half for the filter beside, which may cover the nearer bin.
    assert (level.argmax(dim=0) + 0.5 - band_of(hz, sample_rate=sample_rate)).abs().max() <= 1.0


def test_half_the_amplitude_is_six_decibels_less(tmp_path: Path):
    loud = level_db(write(tmp_path / "loud.wav", tone(500.0, amplitude=0.8)), n_columns=20)
    soft = level_db(write(tmp_path / "soft.wav", tone(500.0, amplitude=0.4)), n_columns=20)
    heard = loud > -100.0
    assert torch.allclose((loud - soft)[heard], torch.tensor(20 * math.log10(2.0)), atol=1e-3)


def test_a_channel_of_two_that_is_silent_halves_the_power(tmp_path: Path):
    mono = level_db(write(tmp_path / "mono.wav", tone(500.0)), n_columns=20)
    stereo = torch.stack([tone(500.0), torch.zeros(8000)])
    both = level_db(write(tmp_path / "stereo.wav", stereo), n_columns=20)
    heard = both > -100.0
    assert torch.allclose((mono - both)[heard], torch.tensor(10 * math.log10(2.0)), atol=1e-3)


@pytest.mark.parametrize("seconds", [0.5, 3.0, 60.0])
def test_a_click_lies_in_the_column_of_its_time(seconds: float, tmp_path: Path):
    audio = torch.zeros(round(seconds * 16000))
    at = 0.7
    audio[round(at * len(audio))] = 1.0
    level = level_db(write(tmp_path / "click.wav", audio), n_columns=100)
    column = int(level.sum(0).argmax())
    # A window is 32 ms long, and a click is anywhere within it.
    assert abs((column + 0.5) / level.shape[1] - at) <= 0.5 / level.shape[1] + 0.016 / seconds


def test_a_long_sound_is_analysed_in_blocks_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "noise.wav", 0.1 * torch.randn(48000, generator=torch.Generator().manual_seed(0)))
    whole = level_db(path, n_columns=40)
    monkeypatch.setattr(contact_sheet, "_FRAMES_AT_ONCE", 64)
    parts = level_db(path, n_columns=40)
    assert whole.shape == parts.shape
    # Two frames at each of 5 seams are mirrored; the rest is the same to rounding.
    same = torch.isclose(whole, parts, atol=1e-3).all(dim=0)
    assert int((~same).sum()) <= 2 * 6
    assert (whole - parts).mean(dim=0).abs().max() < 1.0


def test_one_scale_of_time_holds_for_all(tmp_path: Path):
    """Half the width of the shorter one's picture is empty: grey."""
    panels = [
        Panel(write(tmp_path / "long.wav", tone(500.0, seconds=1.0)), "long"),
        Panel(write(tmp_path / "short.wav", tone(500.0, seconds=0.5)), "short"),
    ]
    image = drawn(panels, n_columns=2)
    is_grey = (image == GREY).all(axis=-1)
    picture_width = 220 / (1 + 0.06 / 2)  # two of them and a gap of 0.06 between in 440 dots
    assert is_grey.any(axis=1).sum() > 100
    row = np.flatnonzero(is_grey.sum(axis=1) > 50)[40]
    assert is_grey[row].sum() == pytest.approx(picture_width / 2, abs=2)
    assert np.flatnonzero(is_grey[row]).min() > image.shape[1] / 2


def test_levels_are_relative_to_the_loudest_of_all(tmp_path: Path):
    """A sound 100 dB below another one is black in its company, and not by itself."""
    faint = Panel(write(tmp_path / "faint.wav", tone(1000.0, amplitude=5e-6)), "")
    loud = Panel(write(tmp_path / "loud.wav", tone(1000.0)), "")

    def picture(image: np.ndarray) -> np.ndarray:
        return image[60:180, 80:140].sum(axis=-1)

    assert picture(drawn([faint])).max() > 500
    assert picture(drawn([faint, loud])).max() < 10


def test_silence_and_a_single_sample_are_drawn(tmp_path: Path):
    drawn(
        [
            Panel(write(tmp_path / "a.wav", torch.zeros(4000)), "silence"),
            Panel(write(tmp_path / "b.wav", torch.zeros(1)), ""),
        ]
    )


def test_titles_in_any_script_and_of_any_length_are_drawn(tmp_path: Path):
    path = write(tmp_path / "a.wav", tone(500.0))
    drawn([Panel(path, "日本語 $x^2"), Panel(path, "x" * 500)], note="$")


def test_panels_that_do_not_fit_on_one_page_are_refused(tmp_path: Path):
    a = Panel(write(tmp_path / "a.wav", tone(500.0)), "")
    b = Panel(write(tmp_path / "b.wav", tone(500.0), sample_rate=8000), "")
    with pytest.raises(ParameterError, match="0 sounds do not fit on a contact sheet: give 1 to 64"):
        drawn([])
    with pytest.raises(ParameterError, match="65 sounds do not fit"):
        drawn([a] * (MAX_SOUNDS + 1))
    with pytest.raises(ParameterError, match=r"\[8000, 16000\] must be one"):
        drawn([a, b])
    with pytest.raises(AudioFileError, match=r"missing\.wav"):
        drawn([Panel(tmp_path / "missing.wav", "")])


@pytest.mark.parametrize(
    ("shape", "n_shown", "n_columns"),
    [
        ((3,), 3, 3),
        ((16,), 16, 4),
        ((1000,), 64, 8),
        ((10, 1), 10, 10),
        ((10, 6, 1), 60, 6),
        ((10, 100), 60, 6),
        ((2, 5, 4), 40, 4),
        ((100, 1), 64, 8),
        ((1, 5, 1), 5, 5),
    ],
)
def test_the_same_number_of_each_cell_is_shown(shape: tuple[int, ...], n_shown: int, n_columns: int):
    places, columns = choose_panels(shape)
    assert (len(places), columns) == (n_shown, n_columns)
    assert places == sorted(set(places))
    assert places[-1] < math.prod(shape)
    shown_of_cells = np.bincount(np.array(places) // shape[-1])
    assert set(shown_of_cells[shown_of_cells > 0]) == {n_shown // np.count_nonzero(shown_of_cells)}
    if n_shown == math.prod(shape):
        assert places == list(range(n_shown))
