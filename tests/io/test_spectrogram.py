"""Spectrograms as pictures: levels, axes and scale against what a tone must give."""

import math

import pytest
import torch

from audiodiff.io.spectrogram import RANGE_DB, level_db, spectrogram_figure

RATE = 8000


def tone(frequency: float, *, amplitude: float = 1.0, seconds: float = 1.0) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(round(RATE * seconds)) / RATE)


@pytest.mark.parametrize(("amplitude", "db"), [(1.0, 0.0), (0.1, -20.0), (0.001, -60.0)])
def test_the_level_of_a_tone_is_that_of_its_amplitude(amplitude: float, db: float):
    # 1000 Hz is the centre of bin 128.
    level = level_db(tone(1000.0, amplitude=amplitude))
    assert level.shape == (513, 1 + RATE // 256)
    assert level[128, 4:-4].tolist() == pytest.approx([db] * (level.shape[1] - 8), abs=0.01)


def test_silence_has_a_level():
    assert level_db(torch.zeros(RATE)).unique().tolist() == [-140.0]


def test_a_picture_has_axes_of_seconds_and_kilohertz_and_one_scale():
    figure = spectrogram_figure(
        {"generated": tone(3000.0, amplitude=0.1), "reference": tone(1000.0, seconds=0.5)}, sample_rate=RATE
    )
    *panels, scale = figure.axes
    assert [panel.get_title(loc="left") for panel in panels] == ["generated", "reference"]
    assert [panel.get_ylabel() for panel in panels] == ["frequency (kHz)"] * 2
    assert panels[-1].get_xlabel() == "time (s)"
    assert scale.get_ylabel() == "level (dBFS)"
    images = [panel.images[0] for panel in panels]
    assert [image.get_extent() for image in images] == [[0.0, 1.0, 0.0, 4.0], [0.0, 0.5, 0.0, 4.0]]
    for image in images:
        assert image.get_clim() == pytest.approx((-RANGE_DB, 0.0), abs=0.01)
    for image, kilohertz in zip(images, (3.0, 1.0), strict=True):
        loudest = int(image.get_array().mean(axis=1).argmax())
        assert loudest / 512 * 4.0 == pytest.approx(kilohertz)
        assert image.origin == "lower"
