"""`audiodiff edit`, as a user calls it."""

from pathlib import Path

import commands
import pytest
import sounds
import tiny
import torch

from audiodiff.cli.edit import edit_command
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.editing.edit import edit

pytestmark = pytest.mark.usefixtures("empty_working_directory")

LABELS = ["conditioner=labels", "conditioner.vocabularies={digit: [a, b], speaker: [ann, bob]}"]


run, made, refusal = commands.of(edit_command)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = [*tiny.LOG_MEL, *LABELS, "network.vector_features=4"]
    return tiny.save(tmp_path_factory.mktemp("model") / "labelled", overrides)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("plain") / "waves", tiny.UNCONDITIONAL)


@pytest.mark.parametrize(("rate", "n_channels"), [(8000, 1), (44100, 2)])
def test_a_file_becomes_what_the_library_makes_of_it(model: Path, rate: int, n_channels: int):
    source = sounds.write(Path("in.wav"), rate // 10, sample_rate=rate, n_channels=n_channels)
    made(source, "-o", "out.wav", "--model", model, "--label", "speaker=bob", "--source", "digit=a", "--float")
    audio, _ = audio_io.read(source)
    loaded = checkpoint.load(model)
    assert isinstance(loaded, Synthesizer)
    expected = edit(
        loaded,
        audio[None],
        sample_rate=rate,
        labels={"speaker": "bob"},
        source_labels={"digit": "a"},
        algorithm="inversion",
        strength=0.95,
    )[0]
    result, result_rate = audio_io.read("out.wav")
    assert result_rate == rate
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


def test_a_folder_becomes_a_folder(plain: Path):
    for name in ("a.wav", "deep/b.flac"):
        sounds.write(Path("in") / name, 2000)
    said = made("in", "-o", "out", "--model", plain, "--strength", "0.2", "--steps", "1")
    assert "wrote 2 files to out" in said
    assert sorted(str(path) for path in Path("out").rglob("*.*")) == ["out/a.wav", "out/deep/b.wav"]
    first, other = (audio_io.read(f"out/{name}")[0] for name in ("a.wav", "deep/b.wav"))
    # The same recording, and other noise.
    assert not torch.equal(first, other)


def test_without_force_nothing_is_replaced(plain: Path):
    source = sounds.write(Path("in.wav"), 1000)
    Path("out.wav").write_bytes(b"mine")
    assert "--force" in refusal(source, "-o", "out.wav", "--model", plain)
    assert Path("out.wav").read_bytes() == b"mine"
    made(source, "-o", "out.wav", "--model", plain, "--force", "--steps", "1")
    assert audio_io.info("out.wav").n_samples == 1000


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--strength", "1.2"], "strength=1.2"),
        (["--algorithm", "magic"], "magic"),
        (["--steps", "0"], "--steps=0"),
        (["--label", "digit=z"], "digit=z"),
        (["--label", "digit=a,b"], "digit must have one value"),
        (["--source", "digit=a:b"], "digit must have one value"),
        (["--label", "digit=a", "--label", "digit=b"], "--label digit is given twice, and must have one value"),
        (["--source", "digit=a", "--source", "digit=a"], "--source digit is given twice"),
        (["--label", "colour=red"], "colour"),
        (["--algorithm", "inversion"], "--label"),
        (["--float", "-o", "out.flac"], "--float: out.flac cannot hold 32-bit float samples: give an --out that ends"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(model: Path, arguments: list[str], named: str):
    source = sounds.write(Path("in.wav"), 1000)
    assert named in refusal(source, "-o", "out", "--model", model, *arguments)
    assert list(Path().iterdir()) == [source]


def test_labels_of_a_model_without_them_and_a_bad_file_are_refused(plain: Path):
    source = sounds.write(Path("in/a.wav"), 1000)
    assert "without labels" in refusal(source, "--model", plain, "--label", "digit=1")
    assert "--source digit=1 has no meaning" in refusal(source, "--model", plain, "--source", "digit=1")
    Path("in/b.wav").write_bytes(b"no sound")
    assert "b.wav" in refusal("in", "--model", plain)
    assert not Path("edited").exists()
