"""A person is told what resampling means for what is learnt."""

from pathlib import Path

from audiodiff.data import Entry, resampling


def _entries(*rates: int) -> list[Entry]:
    return [Entry(Path(f"{index}.wav"), sample_rate=rate) for index, rate in enumerate(rates)]


def test_recordings_of_the_rate_need_no_word():
    assert resampling(_entries(44100, 44100), sample_rate=44100) is None


def test_recordings_of_higher_rates_lose_nothing_that_the_model_could_have():
    assert resampling(_entries(48000, 44100), sample_rate=44100) == "1 of 2 recordings are resampled to 44100 Hz"


def test_recordings_of_lower_rates_are_said_to_have_nothing_above_half_of_theirs():
    told = resampling(_entries(48000, 44100, 22050, 16000), sample_rate=44100)
    assert told is not None
    assert "3 of 4 recordings are resampled" in told
    assert "2 of them from less, down to 16000 Hz" in told
    assert "above 8 kHz" in told
    assert "audio.sample_rate=16000" in told
