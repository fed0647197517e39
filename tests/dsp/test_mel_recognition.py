"""Recognition of dialects and scales, on mels that librosa computed of speech, tones and noise."""

import math
from functools import cache

import librosa
import numpy as np
import pytest
import torch

from audiodiff.data import speech_folder
from audiodiff.dsp.dialect_text import format_dialect
from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.dsp.mel_recognition import IMPROBABLE, Recognition, doubt, recognize
from audiodiff.dsp.resample import resample
from audiodiff.io.audio import read

HIFIGAN = dialect("hifigan")


@cache
def speech(rate: int = 22050) -> np.ndarray:
    audio, own = read(speech_folder() / "test/us_m_01.flac")
    return resample(audio[0], from_rate=own, to_rate=rate).numpy()


def melody(seconds: float = 3.0) -> np.ndarray:
    """Return decaying notes of several partials over a faint noise."""
    time = np.arange(round(seconds * 22050)) / 22050
    noise = np.random.default_rng(0).standard_normal(len(time))
    sound = 1e-3 * noise
    for n, f0 in enumerate((220.0, 277.2, 329.6, 440.0, 554.4, 659.3)):
        since = np.clip(time - 0.5 * n, 0.0, None)
        partials = sum(np.sin(2 * np.pi * k * f0 * since) / k for k in range(1, 12))
        sound += 0.1 * (since > 0) * np.exp(-3 * since) * partials
    return sound


def amplitudes(sound: np.ndarray, *, power: float = 1.0, **options: float) -> np.ndarray:
    settings = {"sr": 22050, "n_fft": 1024, "hop_length": 256, "n_mels": 80, "fmin": 0.0, "fmax": 8000.0} | options
    return librosa.feature.melspectrogram(y=sound, power=power, **settings)


def log10(sound: np.ndarray, least: float = 1e-5, **options: float) -> np.ndarray:
    return np.log10(np.maximum(amplitudes(sound, **options), least))


def recognized(mel: np.ndarray) -> Recognition:
    return recognize(torch.from_numpy(mel).float())


def texts(found: Recognition) -> list[set[str]]:
    """Return the dialects of each reading that is printed as not told apart, or its description."""
    return [{format_dialect(each) for each in reading.dialects} or {reading.description} for reading, _ in found.alike]


@pytest.mark.parametrize("sound", ["speech", "quiet speech", "telephone speech", "melody", "noise"])
@pytest.mark.parametrize("log", ["e", "10", "db", "none"])
def test_the_logarithm_of_the_values_is_recognised(sound: str, log: str):
    audio = {
        "speech": speech,
        "quiet speech": lambda: np.round(32768 * 0.01 * speech()) / 32768,
        "telephone speech": lambda: librosa.resample(speech(8000), orig_sr=8000, target_sr=22050),
        "melody": melody,
        "noise": lambda: 0.1 * np.random.default_rng(0).standard_normal(40000),
    }[sound]()
    values = log10(audio)
    mel = {"e": values * math.log(10), "10": values, "db": 20 * values, "none": 10**values}[log]
    found = recognized(mel)
    assert "hifigan" + ("" if log == "e" else f":log={log}") in set().union(*texts(found))
    if sound != "noise" and log != "e":  # steady noise fits several, and log10 of power is close to the natural one
        assert len({each.log_gain for reading, _ in found.alike for each in reading.dialects}) == 1
        assert all(reading.dialects for reading, _ in found.alike)
    assert (found.probability(HIFIGAN) < IMPROBABLE) == (log != "e")


@pytest.mark.parametrize("name", [name for name in DIALECT_NAMES if name not in ("tacotron2", "speechbrain")])
def test_speech_is_recognised_as_its_own_dialect(name: str):
    own = dialect(name)
    mel = own.mel(torch.from_numpy(speech(own.sample_rate)))
    assert name in set().union(*texts(recognize(mel)))
    assert doubt(mel, own) is None


def test_smooth_mels_of_acoustic_models_keep_their_logarithm():
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = row.outer(row)[None, None]
    natural = torch.from_numpy(log10(speech()) * math.log(10)).float()
    padded = torch.nn.functional.pad(natural[None, None], (2, 2, 2, 2), mode="replicate")
    smooth = torch.nn.functional.conv2d(padded, kernel)[0, 0]
    for factor, text in ((1.0, "hifigan"), (1 / math.log(10), "hifigan:log=10")):
        assert text in set().union(*texts(recognize(factor * smooth)))


def test_normalised_values_are_recognised_with_a_remedy():
    mel = log10(speech())
    unit = (mel - mel.min()) / (mel.max() - mel.min())
    for array, words in (
        (unit, "values normalised to 0 to 1"),
        (8 * unit - 4, "values normalised to -4 to 4"),
        ((mel - mel.mean()) / mel.std(), "values normalised by mean and standard deviation"),
    ):
        found = recognized(array)
        assert found.readings[0][0].description == words
        assert "state the mean and std" in found.readings[0][0].remedy
        assert found.probability(HIFIGAN) < IMPROBABLE


def test_a_stated_normalisation_is_recognised_and_a_wrong_one_is_not():
    mel = math.log(10) * log10(speech())
    for axis in (None, 1):
        mean, std = mel.mean(axis=axis, keepdims=True), mel.std(axis=axis, keepdims=True)
        array = torch.from_numpy((mel - mean) / std).float()
        fields = {"mean": mean.ravel().tolist(), "std": std.ravel().tolist()}
        own = dialect("hifigan", **(fields if axis else {name: value[0] for name, value in fields.items()}))
        assert doubt(array, own) is None
        assert recognize(array, own=own).readings[0][0].dialects == (own,)
        doubled = dialect("hifigan", mean=-8.0, std=5.0)
        assert doubt(array, doubled) is not None


@pytest.mark.parametrize(("mean", "std"), [(-5.5, 2.1), (-6.6, 2.5)])
def test_a_lost_normalisation_is_guessed_near_the_truth(mean: float, std: float):
    guess = recognized((math.log(10) * log10(speech()) - mean) / std).guess
    assert guess is not None
    assert guess.std == pytest.approx(std, rel=0.2)
    assert guess.mean == pytest.approx(mean, abs=2.5)


def test_squared_amplitudes_are_recognised_or_listed():
    power = amplitudes(speech(), power=2.0)
    first = recognized(power).readings[0][0]
    own = first.dialects[0]
    assert format_dialect(own) == "hifigan:power=2,log=none"
    assert first.description == "hifigan with squared amplitudes (power), no logarithm"
    assert own.objection(torch.from_numpy(power)) is None
    # Their log10 is 0.87 times the natural logarithm of amplitudes: both are listed.
    listed = set().union(*texts(recognized(np.log10(np.maximum(power, 1e-10)))))
    assert {"hifigan:power=2,log=10", "hifigan"} <= listed
    decibels = librosa.power_to_db(power, ref=np.max)  # clipped at -80 dB, which is the floor of diffwave:log=db
    assert "hifigan:log=db" in set().union(*texts(recognized(decibels)))


@pytest.mark.parametrize("unit", [3.0, 12.5, 40.0])
def test_the_decibels_of_one_unit_of_an_unknown_scale_are_estimated(unit: float):
    found = recognized(20 * log10(speech()) / unit + 70 / unit)
    assert found.unit_db == pytest.approx(unit, rel=0.25)


def test_a_transposed_array_is_recognised():
    mel = log10(speech())
    found = recognized(np.ascontiguousarray(mel.T))
    assert found.is_transposed
    assert not recognized(mel).is_transposed
    assert texts(found) == texts(recognized(mel))


def test_a_lower_floor_than_the_dialects_is_named_with_its_remedy():
    padded = np.concatenate([np.zeros(11025), speech()])
    found = recognized(log10(padded, least=1e-10))
    assert "np.maximum(mel, -5)" in found.readings[0][0].remedy
    assert "log=10" in found.readings[0][0].remedy


def test_dialects_that_differ_at_the_ends_alone_are_one_reading():
    assert {"tacotron2", "hifigan", "speechbrain", "wavenext"} in texts(recognized(log10(speech()) * math.log(10)))


def test_other_numbers_of_bands_are_compared_with_derived_dialects():
    assert "hifigan:n_mels=64" in set().union(*texts(recognized(log10(speech(), n_mels=64) * math.log(10))))


def test_silence_is_not_doubted():
    assert doubt(HIFIGAN.mel(torch.zeros(8000)), HIFIGAN) is None


def test_values_that_are_not_finite_are_no_dialect():
    mel = log10(speech())
    mel[3, 4] = np.nan
    found = recognized(mel)
    assert not found.is_usable
    assert set(found.objections.values()) == {"it holds NaN or infinite values"}


def test_a_long_mel_is_recognised_by_parts():
    mel = np.tile(log10(speech()), 40)
    assert mel.shape[1] > 2 * 8 * 512
    assert "hifigan:log=10" in set().union(*texts(recognized(mel)))
