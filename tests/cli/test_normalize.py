"""`--normalize` of every command that writes audio: the level of each file, and what is said of it."""

from pathlib import Path

import commands
import pytest
import sounds
import tiny
import torch

from audiodiff.cli.augment import augment_command
from audiodiff.cli.edit import edit_command
from audiodiff.cli.generate import generate_command
from audiodiff.cli.restore import declip_command, enhance_command, extend_command, inpaint_command
from audiodiff.dsp.loudness import loudness
from audiodiff.io import audio as audio_io

RATE = 16000
RESTORING = [*tiny.DEGRADED, "audio.sample_rate=16000"]
COMMANDS = {
    "generate": generate_command,
    "enhance": enhance_command,
    "inpaint": inpaint_command,
    "extend": extend_command,
    "declip": declip_command,
    "edit": edit_command,
    "augment": augment_command,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "hears", RESTORING)


@pytest.fixture(autouse=True)
def folder_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, peak in (("a", 0.02), ("b", 0.3)):
        sounds.write(Path(f"in/{name}.wav"), RATE, sample_rate=RATE, n_channels=2, peak=peak)


def made(command: str, model: Path, *arguments: str) -> str:
    own = ["--model", str(model), "--steps", "1"] if command != "generate" else ["--iterations", "1", "--rate", "16000"]
    if command == "augment":
        own += ["-n", "1"]
    return commands.of(COMMANDS[command])[1]("in", "-o", "out", *own, *arguments)


def written() -> list[torch.Tensor]:
    return [audio_io.read(path)[0] for path in sorted(Path("out").rglob("*.wav"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_gets_the_loudness_and_channels_share_a_gain(command: str, model: Path):
    """The gain is shared: the ratio of the channels' levels is that without the option."""
    made(command, model, "--normalize", "-30LUFS", "--float")
    normalized = written()
    assert [loudness(audio, sample_rate=RATE) for audio in normalized] == pytest.approx([-30.0, -30.0], abs=0.01)
    made(command, model, "--float", "--force")
    for audio, plain in zip(normalized, written(), strict=True):
        gain = (audio * plain).sum() / plain.square().sum()
        torch.testing.assert_close(audio, gain * plain, rtol=0, atol=1e-5 * float(audio.abs().max()))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_gets_the_peak(command: str, model: Path):
    made(command, model, "--normalize", "-6.0206 dBFS")
    assert [float(audio.abs().max()) for audio in written()] == pytest.approx([0.5, 0.5], abs=1e-4)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_loudness_that_would_clip_is_lowered_and_said(command: str, model: Path):
    said = made(command, model, "--normalize", "-1LUFS")
    assert "would clip" in said
    assert all(float(audio.abs().max()) == pytest.approx(1.0, abs=1e-3) for audio in written())


@pytest.mark.parametrize("command", ["generate", "enhance", "edit"])
def test_a_level_that_is_none_is_refused_before_any_work(command: str):
    refusal = commands.of(COMMANDS[command])[2]("in", "-o", "out", "--normalize", "loud")
    assert "normalize=loud must be a loudness, as in -16LUFS, or a peak, as in -1dB" in refusal
    assert not Path("out").exists()


def test_silence_is_said_to_be_too_quiet(model: Path):
    audio_io.write("in/a.wav", torch.zeros(2, RATE), sample_rate=RATE)
    assert "too quiet to measure, level unchanged" in made("enhance", model, "--normalize", "-16LUFS")
