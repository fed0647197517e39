"""`audiodiff mel`: mels of recordings, and the dialects that a file can be."""

from pathlib import Path

import commands
import numpy as np
import pytest
import sounds
import torch

from audiodiff.cli.mel import mel_command
from audiodiff.dsp.mel import DIALECT_NAMES, dialect
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.io.mel import load_mel, save_mel

_, made, refusal = commands.of(mel_command)


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


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
    assert "does not exist" in refusal("--check", "none.npy")


def test_check_lists_the_dialects_that_an_array_can_be():
    np.save("a.npy", np.full((80, 10), 0.4, np.float32))  # only diffwave's scale lies in [0, 1]
    lines = {line.split()[0]: line for line in made("--check", "a.npy").splitlines()[1:]}
    assert set(lines) == set(DIALECT_NAMES)
    assert [name for name, line in lines.items() if "possible" in line] == ["diffwave"]
    assert "n_mels=80" in lines["vocos"]


def test_check_refuses_an_array_that_is_not_what_its_file_states():
    own = dialect("hifigan")
    save_mel("a.npz", own.mel(sounds.tones(5000, sample_rate=22050)[0]), own)
    with np.load("a.npz") as content:
        np.savez("b.npz", mel=content["mel"] + 30, dialect=content["dialect"])
    assert "b.npz is no mel of dialect hifigan" in refusal("--check", "b.npz")
