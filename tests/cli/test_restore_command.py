"""`audiodiff enhance`, `inpaint`, `extend` and `declip`: inputs, outputs and refusals."""

from collections.abc import Callable, Iterator
from pathlib import Path

import commands
import numpy as np
import pytest
import soundfile
import sounds
import tiny
import torch

from audiodiff.cli.restore import declip_command, enhance_command, extend_command, inpaint_command
from audiodiff.compat import current_arguments
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint
from audiodiff.tasks.restoration import Sampling
from audiodiff.tasks.restoration.enhancement import enhance

pytestmark = pytest.mark.usefixtures("empty_working_directory")

RESTORING = [*tiny.DEGRADED, "audio.sample_rate=16000"]
COMMANDS = {
    "enhance": commands.of(enhance_command),
    "inpaint": commands.of(inpaint_command),
    "extend": commands.of(extend_command),
    "declip": commands.of(declip_command),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "hears", RESTORING)


def made(command: str, *arguments: object) -> str:
    return COMMANDS[command][1](*map(str, arguments))


def refusal(command: str, *arguments: object) -> str:
    return COMMANDS[command][2](*map(str, arguments))


@pytest.mark.parametrize(
    ("name", "sample_rate", "n_channels", "n_samples", "subtype"),
    [
        ("a.wav", 44100, 2, 5001, "PCM_24"),
        ("a.wav", 8000, 1, 800, "ULAW"),
        ("a.flac", 16000, 1, 1600, "PCM_16"),
        ("a.wav", 48000, 2, 4800, "FLOAT"),
        ("a.wav", 96000, 3, 1, "PCM_16"),
        ("a.ogg", 22050, 1, 9000, "VORBIS"),
    ],
)
def test_a_result_has_the_form_of_its_input(model: Path, name, sample_rate, n_channels, n_samples, subtype):
    sound = sounds.tones(n_samples, sample_rate=sample_rate, n_channels=n_channels)
    audio_io.write(name, sound, sample_rate=sample_rate, subtype=subtype)
    made("enhance", name, "--model", model, "--steps", 1)
    assert (
        audio_io.info(f"restored/{name}")
        == audio_io.info(name)
        == audio_io.AudioInfo(sample_rate, n_samples, n_channels)
    )
    assert soundfile.info(f"restored/{name}").subtype == subtype


def test_the_command_gives_what_the_function_gives(model: Path):
    source = sounds.write(Path("in.wav"), 30000, n_channels=2, peak=1.7)
    made("enhance", source, "-o", "out.wav", "--model", model, "--steps", 2, "--seed", 5)
    loaded, audio = checkpoint.load(model), audio_io.read(source)[0]
    expected = enhance(loaded, audio, sample_rate=22050, sampling=Sampling(steps=2), seed=5)
    assert torch.equal(audio_io.read("out.wav")[0], expected)


def test_a_folder_keeps_its_tree_and_every_file_is_named(model: Path):
    for name in ("a.wav", "deep/b.flac"):
        sounds.write(Path("in") / name, 2000, sample_rate=16000)
    said = made("enhance", "in", "--model", model, "--steps", 1, "-o", "out")
    assert sorted(str(path) for path in Path("out").rglob("*.*")) == ["out/a.wav", "out/deep/b.flac"]
    assert "a.wav: restored as out/a.wav" in said
    assert "b.flac: restored as out/deep/b.flac" in said


def test_a_file_does_not_depend_on_those_beside_it(model: Path):
    for name in ("a.wav", "b.wav"):
        sounds.write(Path("in") / name, 3000, n_channels=ord(name[0]) - 96)
    made("enhance", "in", "--model", model, "--steps", 1, "-o", "all")
    made("enhance", "in/b.wav", "--model", model, "--steps", 1, "-o", "alone")
    assert Path("all/b.wav").read_bytes() == Path("alone/b.wav").read_bytes()


def test_silence_is_copied(model: Path):
    audio_io.write("in.wav", torch.zeros(2, 4000), sample_rate=16000)
    assert "nothing to restore; copied to" in made("enhance", "in.wav", "--model", model)
    assert Path("restored/in.wav").read_bytes() == Path("in.wav").read_bytes()


def test_another_suffix_takes_the_nearest_format(model: Path):
    source = sounds.write(Path("in.wav"), 2000, sample_rate=16000, peak=1.2)
    assert soundfile.info(str(source)).subtype == "FLOAT"
    made("enhance", source, "-o", "out.flac", "--model", model, "--steps", 1)
    assert soundfile.info("out.flac").subtype == "PCM_24"
    made("enhance", sounds.write(Path("b.wav"), 2000), "-o", "b.out.wav", "--model", model, "--steps", 1, "--float")
    assert soundfile.info("b.out.wav").subtype == "FLOAT"


def test_what_exists_is_replaced_only_by_force(model: Path):
    source = sounds.write(Path("in.wav"), 1000)
    made("enhance", source, "--model", model, "--steps", 1)
    assert "--force" in refusal("enhance", source, "--model", model, "--steps", 1)
    made("enhance", source, "--model", model, "--steps", 1, "--force")
    assert "one of the inputs" in refusal("enhance", source, "-o", "in.wav", "--model", model, "--force")


def test_a_damaged_file_is_named_before_anything_is_made(model: Path):
    sounds.write(Path("in/a.wav"), 1000)
    Path("in/b.wav").write_bytes(b"no sound")
    assert "b.wav" in refusal("enhance", "in", "--model", model)
    assert not list(Path("restored").rglob("*.wav"))


def test_models_that_cannot_are_refused_with_a_remedy(tmp_path: Path):
    source = sounds.write(Path("in.wav"), 1000)
    deaf = tiny.save(tmp_path / "deaf", tiny.UNCONDITIONAL)
    assert "takes degraded recordings" in refusal("enhance", source, "--model", deaf)
    assert "waveforms" in refusal("enhance", source, "--model", "none")
    assert "one of conditional, denoising" in refusal("enhance", source, "--model", deaf, "--posterior", "projection")
    made("enhance", source, "--model", deaf, "--posterior", "denoising", "--steps", 1)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--steps", 0, "steps=0 must be"),
        ("--start", -1, "start=-1.0 must be"),
        ("--start", 1e6, "start=1000000.0 must"),
    ],
)
def test_settings_out_of_range_are_named(model: Path, option: str, value: float, reason: str):
    source = sounds.write(Path("in.wav"), 1000)
    assert reason in refusal("enhance", source, "--model", model, option, value)
    assert not list(Path().rglob("restored/*.wav"))


def test_gaps_are_filled_and_nothing_else_changes(model: Path):
    source = sounds.write(Path("in.wav"), 8000, sample_rate=16000, n_channels=2)
    said = made("inpaint", source, "--gap", "0.1:0.2", "--gap", "0.4:0.41", "--model", model, "--steps", 1)
    assert "2 gaps, 0.11 s" in said
    before, after = soundfile.read(source, dtype="int16")[0], soundfile.read("restored/in.wav", dtype="int16")[0]
    changed = (before != after).any(axis=1).nonzero()[0]
    assert set(changed) <= {*range(1600, 3200), *range(6400, 6560)}
    assert len(changed) > 1700


@pytest.mark.parametrize("suffix", [".npy", ".wav"])
def test_a_mask_marks_known_samples(model: Path, suffix: str):
    source = sounds.write(Path("in.wav"), 4000, sample_rate=16000)
    known = torch.ones(1, 4000)
    known[:, 1000:1500] = 0.0
    if suffix == ".npy":
        np.save("mask.npy", known[0].numpy().astype(np.uint8))
    else:
        audio_io.write("mask.wav", known / 32768, sample_rate=16000)
    made("inpaint", source, "--mask", f"mask{suffix}", "--model", model, "--steps", 1)
    changed = audio_io.read("restored/in.wav")[0] != audio_io.read(source)[0]
    assert changed[:, 1000:1500].float().mean() > 0.9
    assert not changed[known == 1].any()


def test_silenced_stretches_are_found_and_a_file_without_gaps_is_copied(model: Path):
    whole = sounds.tones(8000, sample_rate=16000)
    audio_io.write("in/whole.flac", whole, sample_rate=16000)
    whole[:, 4000:4800] = 0.0
    audio_io.write("in/gap.flac", whole, sample_rate=16000)
    said = made("inpaint", "in", "--model", model, "--steps", 1)
    assert "whole.flac: 0 gaps, 0 s, nothing to restore; copied to" in said
    assert Path("restored/whole.flac").read_bytes() == Path("in/whole.flac").read_bytes()
    assert "gap.flac: 1 gap, 0.05 s; restored as" in said
    assert audio_io.read("restored/gap.flac")[0][:, 4000:4800].abs().min() > 0.0


def louder(*arguments, on_window: Callable[[bool], None], **options) -> Iterator[torch.Tensor]:
    """Stand for a restoration that makes all twice as loud, in one window."""
    on_window(True)
    yield from (2.0 * block for block in arguments[1])


def test_filled_gaps_are_clipped_so_that_the_rest_keeps_its_level(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("audiodiff.tasks.restoration.files.restore_blocks", louder)
    source = sounds.write(Path("in.wav"), 4000, sample_rate=16000, peak=0.8)
    assert "scaled" not in made("inpaint", source, "--gap", "0.1:0.2", "--model", model)
    doubled = 2.0 * audio_io.read(source)[0]
    torch.testing.assert_close(audio_io.read("restored/in.wav")[0], doubled.clamp(-1, 1), atol=2**-15, rtol=0.0)


@pytest.mark.parametrize("command", ["enhance", "extend", "declip"])
def test_results_above_full_scale_are_scaled_down_with_a_message(
    model: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setattr("audiodiff.tasks.restoration.files.restore_blocks", louder)
    source = sounds.write(Path("in.wav"), 4000, sample_rate=16000, peak=0.8)
    assert "scaled down to fit full scale (--float keeps the level)" in made(command, source, "--model", model)
    before, after = audio_io.read(source)[0], audio_io.read("restored/in.wav")[0]
    # Both are rounded to 16 bits.
    torch.testing.assert_close(after, before / before.abs().max(), atol=3 * 2**-15, rtol=0.0)
    assert "scaled" not in made(command, source, "--model", model, "--float", "--force")
    assert torch.equal(audio_io.read("restored/in.wav")[0], 2.0 * before)


def test_a_narrow_band_recording_becomes_one_at_the_rate_of_the_model(model: Path):
    source = sounds.write(Path("in.wav"), 4001, sample_rate=8000, n_channels=2)
    said = made("extend", source, "--model", model, "--steps", 1)
    assert audio_io.info("restored/in.wav") == audio_io.AudioInfo(16000, 8002, 2)
    assert "intact up to" in said


def test_clipping_is_found_and_what_was_not_clipped_stays(model: Path):
    clipped = sounds.tones(8000, sample_rate=16000, peak=1.9).clamp(-1.0, 32767 / 32768)
    audio_io.write("in.wav", clipped, sample_rate=16000)
    assert "clipped at 1" in made("declip", "in.wav", "--model", model, "--steps", 1, "--float")
    known = clipped.abs() < 0.999
    assert torch.equal(audio_io.read("restored/in.wav")[0][known], audio_io.read("in.wav")[0][known])


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        ("inpaint", ["--gap", "1.2-1.3"], "START:STOP"),
        ("inpaint", ["--gap", "0.3:0.2"], "a later end"),
        ("inpaint", ["--gap", "5:6"], "in.wav: gap=5:6 begins behind the end"),
        ("inpaint", ["--gap", "0:0.1", "--mask", "in.wav"], "gaps and mask"),
        ("inpaint", ["--mask", "no.npy"], "no.npy: cannot be read"),
        ("inpaint", ["--mask", "empty.npy"], "empty.npy: cannot be read"),
        ("inpaint", ["--mask", "torn.npy"], "torn.npy: cannot be read"),
        ("inpaint", ["--gap", "0:inf"], "gap=0:inf must be"),
        (
            "inpaint",
            ["--gap", "0:1", "--posterior", "denoising", "--steps", "1"],
            "denoising must be one of conditional",
        ),
        ("extend", ["--posterior", "denoising"], "denoising must be one of conditional"),
        ("declip", ["--posterior", "denoising"], "denoising must be one of conditional"),
        ("inpaint", ["--mask", "in/short.wav"], "in.wav: mask has the shape"),
        ("inpaint", ["--posterior", "magic"], "--posterior magic must be one of"),
        ("extend", ["--cutoff", "4"], "is it in kHz"),
        ("extend", ["--cutoff", "20000"], "cutoff=20000 Hz must be"),
        ("declip", ["--threshold", "0"], "threshold=0.0 must be"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_computed(model: Path, command: str, arguments, reason: str):
    source = sounds.write(Path("in.wav"), 4000, sample_rate=16000)
    sounds.write(Path("in/short.wav"), 100, sample_rate=16000)
    Path("empty.npy").touch()
    Path("torn.npy").write_bytes(b"PK\x03\x04torn")
    assert reason in refusal(command, source, *arguments, "--model", model)
    assert not list(Path().rglob("restored/*.wav"))


def test_unsuitable_posteriors_are_refused_before_the_model_is_loaded():
    for command in ("inpaint", "extend", "declip"):
        source = sounds.write(Path("in.wav"), 1000)
        assert "--posterior denoising" in refusal(command, source, "--posterior", "denoising", "--model", "none/there")


@pytest.mark.parametrize(
    ("name", "sample_rate", "n_channels", "out", "reason"),
    [
        ("a.wav", 44100, 1, "b.opus", "b.opus: cannot hold 1 channels at 44100 Hz"),
        ("a.wav", 16000, 3, "b.mp3", "b.mp3: cannot hold 3 channels"),
        ("a.wav", 16000, 9, "b.flac", "b.flac: cannot hold 9 channels"),
        ("a.wav", 300000, 1, "b.ogg", "at most 192000 Hz"),
    ],
)
def test_unsuitable_formats_are_refused_before_anything_is_read(
    model: Path, monkeypatch: pytest.MonkeyPatch, name, sample_rate, n_channels, out, reason
):
    monkeypatch.setattr("audiodiff.tasks.restoration.files.analyze", None)
    sounds.write(Path(name), 2000, sample_rate=sample_rate, n_channels=n_channels)
    assert reason in refusal("enhance", name, "-o", out, "--model", model)


def test_float_samples_of_other_formats_are_refused_before_reading(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("audiodiff.tasks.restoration.files.analyze", None)
    sounds.write(Path("in/a.wav"), 2000)
    sounds.write(Path("in/b.flac"), 2000)
    reason = refusal("enhance", "in", "--float", "--model", model)
    assert reason.startswith("--float: restored/b.flac")


def test_silence_at_a_low_rate_is_extended_to_the_rate_of_the_model(model: Path):
    audio_io.write("in.wav", torch.zeros(1, 800), sample_rate=8000)
    assert "nothing to restore; written as" in made("extend", "in.wav", "--model", model)
    assert audio_io.info("restored/in.wav") == audio_io.AudioInfo(16000, 1600, 1)
    assert not audio_io.read("restored/in.wav")[0].any()


def test_results_inside_the_input_folder_are_no_inputs_the_next_time(model: Path):
    sounds.write(Path("a.wav"), 1000)
    sounds.write(Path("deep/b.wav"), 1000)
    for more in ([], ["--force"]):
        made("enhance", ".", "--model", model, "--steps", 1, *more)
        assert sorted(str(path) for path in Path("restored").rglob("*.wav")) == [
            "restored/a.wav",
            "restored/deep/b.wav",
        ]
    assert "--force" in refusal("enhance", ".", "--model", model, "--steps", 1)
    # What is named is taken, and so is what lies in the folder that is named.
    assert "one of the inputs" in refusal("enhance", "restored/a.wav", "--model", model, "--force")
    assert "one of the inputs" in refusal("enhance", "restored", "--model", model, "--force")
    made("enhance", "restored", "--model", model, "--steps", 1, "-o", "again")
    Path("only/results").mkdir(parents=True)
    sounds.write(Path("only/results/a.wav"), 1000)
    assert "all of its files lie in --out only/results" in refusal(
        "enhance", "only", "-o", "only/results", "--model", model
    )


def test_old_names_of_posteriors_work_and_name_the_new_ones(model: Path):
    source = sounds.write(Path("in.wav"), 1000)
    assert "denoise is now denoising" in made("enhance", source, "--model", model, "--posterior", "denoise")
    assert current_arguments("enhance", ["a.wav", "--method", "denoise"]) == ["a.wav", "--posterior", "denoise"]


def test_the_help_has_examples():
    for name in COMMANDS:
        assert f"audiodiff {name} " in made(name, "--help")
