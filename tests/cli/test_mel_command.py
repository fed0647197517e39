"""`audiodiff mel`: mels of recordings, and the dialects that a file can be."""

from functools import cache
from pathlib import Path

import commands
import librosa
import numpy as np
import pytest
import sounds
import torch

from audiodiff.cli.mel import mel_command
from audiodiff.data import speech_folder
from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.io.mel import load_mel, save_mel
from audiodiff.io.readers import open_inputs

pytestmark = pytest.mark.usefixtures("empty_working_directory")

run, made, refusal = commands.of(mel_command)


@pytest.mark.parametrize("name", [*DIALECT_NAMES, "hifigan:sample_rate=16000,hop_length=200"])
def test_an_npz_carries_the_mel_and_its_dialect(name: str):
    name, _, fields = name.partition(":")
    own = dialect(name, sample_rate=16000, hop_length=200) if fields else dialect(name)
    source = sounds.write(Path("a.wav"), 6000, sample_rate=own.sample_rate)
    made(source, "-o", "a.npz", "--dialect", f"{name}:{fields}")
    mel, stated = load_mel("a.npz")
    assert stated == own
    assert torch.equal(mel, own.mel(audio_io.read(source)[0][0]))
    assert f"states dialect {name}" in made("--check", "a.npz")
    assert ("a variant of" in made("--check", "a.npz")) == bool(fields)


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_a_bare_file_holds_the_array_alone(suffix: str):
    made(sounds.write(Path("a.wav"), 6000), "-o", f"a{suffix}")
    mel, stated = load_mel(f"a{suffix}")
    assert stated is None
    assert mel.shape == (80, dialect("hifigan").n_frames(6000))


def test_other_rates_are_converted_and_channels_are_averaged():
    source = sounds.write(Path("a.flac"), 8000, sample_rate=44100, n_channels=2)
    made(source, "-o", "a.npz")
    audio, _ = audio_io.read(source)
    expected = dialect("hifigan").mel(resample(audio.mean(0), from_rate=44100, to_rate=22050))
    assert torch.equal(load_mel("a.npz")[0], expected)


def test_a_folder_becomes_a_folder_of_npz():
    for name in ("in/a.wav", "in/sub/b.mp3", "c.wav"):
        sounds.write(Path(name), 3000)
    assert "3 files" in made("in", "c.wav", "-o", "out")
    files = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert files == {"a.npz", "sub/b.npz", "c.npz"}


def test_impossible_outputs_are_refused_before_anything_is_written():
    for name in ("in/a.wav", "in/b.wav", "in/b.flac"):
        sounds.write(Path(name), 3000)
    assert "3 results" in refusal("in", "-o", "a.npz")
    assert "would both become out/b.npz" in refusal("in", "-o", "out")
    Path("in/b.flac").unlink()
    made("in/b.wav", "-o", "out")
    assert "out/b.npz exists" in refusal("in", "-o", "out")
    assert not Path("out/a.npz").exists()
    made("in", "-o", "out", "--force")
    assert "cannot be written to" in refusal("in", "-o", "in/a.wav/out")


def test_missing_inputs_and_meaningless_options_are_refused():
    assert "give an INPUT and --out" in refusal()
    assert "give an INPUT and --out" in refusal("a.wav")
    assert "no such file" in refusal("a.wav", "-o", "a.npz")
    assert "takes no INPUT" in refusal("a.wav", "--check", "b.npy")
    Path("notes.txt").write_text("no sound")
    assert "'.txt' must be one of" in refusal("notes.txt", "-o", "a.npz")
    assert "hifigan" in refusal(sounds.write(Path("a.wav"), 3000), "-o", "a.npz", "--dialect", "klingon")
    assert "must end in" in refusal("--check", "notes.txt")
    assert "no such file" in refusal("--check", "none.npy")


@cache
def speech_mel() -> np.ndarray:
    """Return the natural logarithm of a mel of speech, by librosa."""
    audio, rate = audio_io.read(speech_folder() / "test/us_m_01.flac")
    sound = resample(audio[0], from_rate=rate, to_rate=22050).numpy()
    settings = {"sr": 22050, "n_fft": 1024, "hop_length": 256, "n_mels": 80, "fmin": 0.0, "fmax": 8000.0}
    amplitude = librosa.feature.melspectrogram(y=sound, power=1.0, **settings)
    return np.log(np.maximum(amplitude, 1e-5))


@pytest.mark.parametrize(
    ("log", "factor"), [("10", 1 / np.log(10)), ("db", 20 / np.log(10)), ("none", None)], ids=["log10", "dB", "linear"]
)
def test_check_ranks_the_dialects_and_prints_the_line_to_type(log: str, factor: float | None):
    np.save("my mel.npy", np.exp(speech_mel()) if factor is None else factor * speech_mel())
    said = made("--check", "my mel.npy")
    ranked = said.splitlines()[1]
    assert f"%  hifigan:log={log}, tacotron2:log={log}, speechbrain:log={log}" in ranked
    assert int(ranked.split()[0]) > 80
    assert "no  vocos, rfwave, wavefm: n_mels=80" in said
    assert "less, relative to the first: " in said
    assert f"generate-wav 'my mel.npy' --dialect hifigan:log={log}" in said
    assert "it lasts 2." in said


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("nan", "it holds NaN"),
        ("loud", "a scale that no dialect has"),
        ("mean and deviation", "values normalised by mean and standard deviation: state the mean and std"),
    ],
)
def test_check_exits_1_for_what_no_dialect_can_read(wrong: str, words: str):
    mel = speech_mel()
    np.save(
        "a.npy",
        {
            "nan": np.where(mel == mel.max(), np.nan, mel),
            "loud": mel + 1e4,
            "mean and deviation": (mel - mel.mean()) / mel.std(),
        }[wrong],
    )
    result = run("--check", "a.npy")
    assert result.exit_code == 1
    assert words in result.output


def test_check_lists_all_readings_that_the_values_do_not_tell_apart():
    np.save("a.npy", 0.87 * speech_mel())  # log10 of power is 0.87 times the natural logarithm of amplitudes
    said = made("--check", "a.npy")
    assert "its values do not tell these apart:" in said
    assert "  hifigan: generate-wav a.npy --dialect hifigan" in said
    assert (
        "  hifigan with squared amplitudes (power), log10: generate-wav a.npy --dialect hifigan:power=2,log=10" in said
    )


@pytest.mark.parametrize(
    ("array", "given_as"),
    [
        ("power", "hifigan:power=2,log=none"),
        ("transposed", "hifigan:frames_first=true"),
        ("normalised", "hifigan:mean=-5.5,std=2.1"),
        ("normalised, per band", "hifigan:stats=s.npz"),
    ],
)
def test_the_line_that_check_prints_is_read(array: str, given_as: str):
    mel = speech_mel()
    mean, std = mel.mean(axis=1, keepdims=True), mel.std(axis=1, keepdims=True)
    np.savez("s.npz", mean=mean, std=std)
    np.save("plain.npy", mel)
    np.save(
        "a.npy",
        {
            "power": np.exp(2 * mel),
            "transposed": mel.T,
            "normalised": (mel + 5.5) / 2.1,
            "normalised, per band": (mel - mean) / std,
        }[array],
    )
    given = ["--dialect", given_as] if "norm" in array else []
    said = made("--check", "a.npy", *given)
    line = given_as.replace("s.npz", "FILE")
    assert f"generate-wav a.npy --dialect {line}" in said
    if array != "power":  # which is no mel of amplitudes
        read = []
        for name, text in (("a.npy", given_as), ("plain.npy", "hifigan")):
            source = open_inputs([Path(name)], dialect=dialect(text))[0]
            read.append(next(source.mels(dialect("hifigan"), device=torch.device("cpu")).chunks()))
        torch.testing.assert_close(read[0], read[1], atol=1e-4, rtol=1e-4)


def test_an_npz_whose_values_belie_its_logarithm_exits_1():
    save_mel("a.npz", torch.from_numpy(speech_mel() / np.log(10)), dialect("hifigan"))
    result = run("--check", "a.npz")
    assert result.exit_code == 1
    assert "its values can hardly be of that dialect" in result.output
    assert "it looks like hifigan with log10" in result.output
    assert "make it again" in result.output


def test_the_key_names_the_array_among_several():
    np.savez("two.npz", a=speech_mel(), b=np.zeros(3))
    assert "no array under the name 'mel', but a, b: name the mel, as in --key a" in refusal("--check", "two.npz")
    assert "generate-wav two.npz --key a --dialect hifigan" in made("--check", "two.npz", "--key", "a")


def test_check_refuses_an_array_that_is_not_what_its_file_states():
    own = dialect("hifigan")
    save_mel("a.npz", own.mel(sounds.tones(5000, sample_rate=22050)[0]), own)
    with np.load("a.npz") as content:
        np.savez("b.npz", mel=content["mel"] + 30, dialect=content["dialect"])
    assert "b.npz is no mel of dialect hifigan" in refusal("--check", "b.npz")
