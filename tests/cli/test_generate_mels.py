"""`audiodiff generate` from mel spectrograms: dialects, logarithms, and arrays that are none."""

import math
from collections.abc import Callable
from pathlib import Path

import commands
import librosa
import numpy as np
import pytest
import sounds
import torch

from audiodiff.cli.generate import generate_command
from audiodiff.data import speech_folder
from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.io.mel import save_mel

pytestmark = pytest.mark.usefixtures("empty_working_directory")

QUICK = ("--iterations", "2")


_, made, refusal = commands.of(generate_command)


def test_a_mel_of_a_recording_sounds_as_the_recording():
    """The way by a file is the way without it, for each kind of file: float32 is kept."""
    audio = sounds.tones(256 * 12, sample_rate=22050)
    audio_io.write("in.wav", audio, sample_rate=22050, subtype="FLOAT")
    made("in.wav", "-o", "direct.wav", "--float", *QUICK)
    direct = audio_io.read("direct.wav")[0]
    own = dialect("hifigan")
    for suffix in (".npz", ".npy", ".pt"):
        save_mel(f"mel{suffix}", own.mel(audio[0]), own)
        said = made(f"mel{suffix}", "-o", f"{suffix[1:]}.wav", "--float", *QUICK)
        assert ("no dialect is stated" in said) == (suffix != ".npz")
        assert torch.allclose(audio_io.read(f"{suffix[1:]}.wav")[0], direct, atol=1e-5)


@pytest.mark.parametrize("name", DIALECT_NAMES)
def test_every_dialect_is_inverted(name: str):
    own = dialect(name)
    audio = sounds.tones(6000, sample_rate=own.sample_rate)
    audio_io.write("in.wav", audio, sample_rate=own.sample_rate)
    made("in.wav", "-o", "out.wav", "--dialect", name, "--iterations", 20)
    result, rate = audio_io.read("out.wav")
    assert (rate, result.shape) == (own.sample_rate, audio.shape)
    estimate, truth = own.amplitude(own.mel(result[0])), own.amplitude(own.mel(audio[0]))
    assert float((estimate - truth).norm() / truth.norm()) < 0.2  # noise as it is: about 1


def test_an_npz_brings_its_dialect():
    own = dialect("vocos", sample_rate=16000)
    save_mel("mel.npz", own.mel(sounds.tones(2560, sample_rate=16000)[0]), own)
    made("mel.npz", "-o", "out.wav", *QUICK)
    assert audio_io.info("out.wav") == audio_io.AudioInfo(16000, 2560, 1)


def test_an_npz_of_another_dialect_is_refused_before_anything_is_written(vocoder: Path):
    sounds.write(Path("a.wav"), 3000)
    own = dialect("diffwave")
    save_mel("b.npz", own.mel(sounds.tones(2560, sample_rate=22050)[0]), own)
    message = refusal("a.wav", "b.npz", "-o", "out", "--model", vocoder)
    assert "b.npz has" in message
    assert "diffwave" in message
    assert not Path("out").exists()


def test_a_bare_array_out_of_range_is_refused_with_what_it_could_be():
    np.save("mel.npy", np.full((80, 10), 0.4, np.float32))
    assert "it looks like diffwave: generate-wav mel.npy --dialect diffwave" in refusal("mel.npy", "-o", "out.wav")
    np.save("mel.npy", np.full((100, 10), -3.0, np.float32))
    message = refusal("mel.npy", "-o", "out.wav")
    assert "n_mels=100" in message
    assert "vocos" in message


@pytest.mark.parametrize("log", ["10", "db", "none"])
def test_a_mel_of_another_logarithm_sounds_as_that_of_the_models(log: str, vocoder: Path):
    mel = dialect("hifigan").mel(sounds.tones(256 * 12, sample_rate=22050)[0])
    values = {"10": mel / math.log(10), "db": 20 * mel / math.log(10), "none": mel.exp()}[log]
    np.save("own.npy", mel.numpy())
    np.savez("others.npz", other=values.numpy(), unused=np.zeros(3))
    for model in ("mel-inversion", vocoder):
        options = ("--float", "--force", "--model", model, *QUICK)
        made("own.npy", "-o", "own.wav", *options)
        made("others.npz", "-o", "out.wav", "--key", "other", "--dialect", f"hifigan:log={log}", *options)
        assert torch.allclose(audio_io.read("out.wav")[0], audio_io.read("own.wav")[0], atol=1e-3)


def speech_mel() -> np.ndarray:
    """Return amplitudes of a mel of speech, by librosa."""
    audio, rate = audio_io.read(speech_folder() / "test/us_m_01.flac")
    sound = resample(audio[0, : 2 * rate], from_rate=rate, to_rate=22050).numpy()
    settings = {"sr": 22050, "n_fft": 1024, "hop_length": 256, "n_mels": 80, "fmin": 0.0, "fmax": 8000.0}
    return np.maximum(librosa.feature.melspectrogram(y=sound, power=1.0, **settings), 1e-5)


@pytest.mark.parametrize(("log", "of"), [("10", np.log10), ("none", np.array)], ids=["log10", "linear"])
def test_an_array_on_another_scale_is_refused_with_the_line(log: str, of: Callable, vocoder: Path):
    np.save("a.npy", of(speech_mel()))
    for model, option, given in (
        ("mel-inversion", "", ()),
        ("mel-inversion", "", ("--dialect", "hifigan")),
        (str(vocoder), f" --model {vocoder}", ()),
    ):
        said = refusal("a.npy", "-o", "out.wav", "--model", model, *given, *QUICK)
        assert "a.npy is no mel of dialect hifigan: its values surely have another scale" in said
        assert f"generate-wav a.npy{option} --dialect hifigan:log={log}" in said
        assert not Path("out.wav").exists()
    assert "warning" not in made("a.npy", "-o", "out.wav", "--dialect", f"hifigan:log={log}", *QUICK)


def test_an_array_that_states_its_dialect_is_taken_at_its_word():
    save_mel(Path("a.npz"), torch.from_numpy(np.log10(speech_mel())).float(), dialect("hifigan"))
    assert "wrote a.wav" in made("a.npz", "-o", "a.wav", *QUICK)


def test_a_doubtful_array_is_written_with_a_warning_and_the_line():
    """Of 19.3 dB a unit, near the 20 dB of log10, and with a floor that is not log10's."""
    np.save("a.npy", 0.45 * np.log(speech_mel()))
    said = made("a.npy", "-o", "out.wav", *QUICK)
    assert said.index("warning: a.npy can hardly be of dialect hifigan") < said.index("wrote out.wav")
    assert "generate-wav a.npy --dialect" in said


def test_a_plausible_array_is_taken_without_a_warning():
    np.save("a.npy", np.log(speech_mel()))
    assert "warning" not in made("a.npy", "-o", "out.wav", *QUICK)
    np.save("silence.npy", np.full((80, 20), np.log(1e-5)))
    assert "warning" not in made("silence.npy", "-o", "silence.wav", *QUICK)


@pytest.mark.parametrize("of", ["decibels", "nan", "transposed"])
def test_an_impossible_array_is_refused_with_what_it_looks_like(of: str):
    mel = np.log(speech_mel())
    nan = np.where(mel == mel.max(), np.nan, mel)
    np.save("a.npy", {"decibels": 20 * mel / np.log(10), "nan": nan, "transposed": mel.T}[of])
    message = refusal("a.npy", "-o", "out.wav", *QUICK)
    line = "generate-wav a.npy --dialect hifigan:"
    words = {"decibels": f"{line}log=db", "nan": "NaN", "transposed": f"{line}frames_first=true"}
    assert "a.npy is no mel of dialect hifigan" in message
    assert words[of] in message
    assert not Path("out.wav").exists()


def test_a_trained_model_refuses_another_dialect_by_its_field(vocoder: Path, unconditional: Path):
    source = sounds.write(Path("in.wav"), 3000)
    assert "sample_rate=22050" in refusal(source, "--model", vocoder, "--dialect", "vocos")
    assert "hop_length" in refusal(source, "--model", vocoder, "--dialect", "hifigan:hop_length=200")
    assert "knows no mel" in refusal("--model", unconditional, "--dialect", "hifigan")
    made(source, "--model", vocoder, "--dialect", "hifigan", "-o", "out.wav")
