"""`audiodiff generate`: inputs, results, refusals, and files after a failure."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import numpy as np
import pytest
import soundfile
import sounds
import tiny
import torch

from audiodiff.cli.generate import generate_command
from audiodiff.io import audio as audio_io

pytestmark = pytest.mark.usefixtures("empty_working_directory")

QUICK = ("--iterations", "2")


_, made, refusal = commands.of(generate_command)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_a_recording_becomes_one_of_the_same_length(suffix: str):
    source = sounds.write(Path(f"in{suffix}"), 5000)
    made(source, "-o", "out.wav", *QUICK)
    assert audio_io.info("out.wav") == audio_io.info(source)


def test_silence_becomes_silence():
    audio_io.write("silence.wav", torch.zeros(1, 4000), sample_rate=22050)
    made("silence.wav", "-o", "out.wav")
    assert float(audio_io.read("out.wav")[0].abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.wav", b"", "empty"),
        ("text.wav", b"no sound at all", "cannot be read as audio"),
        ("missing.wav", None, "no such file"),
    ],
)
def test_files_that_are_no_audio_are_named_and_nothing_is_written(name: str, content: bytes | None, reason: str):
    sounds.write(Path("good.wav"), 3000)
    if content is not None:
        Path(name).write_bytes(content)
    message = refusal("good.wav", name, "-o", "out", *QUICK)
    assert name in message
    assert reason in message
    assert not Path("out").exists()


def test_samples_that_are_not_finite_are_refused():
    samples = np.zeros(4000, np.float32)
    samples[17] = np.nan
    soundfile.write("nan.wav", samples, 22050, subtype="FLOAT")
    assert "nan.wav: holds NaN" in refusal("nan.wav", "-o", "out.wav")
    assert not Path("out.wav").exists()


def test_folders_globs_and_several_inputs_keep_their_names():
    for name in ("a.wav", "sub/b.flac", "c.wav"):
        sounds.write(Path("in", name), 2000)
    sounds.write(Path("d.wav"), 2000)
    made("in", "d.w?v", "-o", "out", "--iterations", 1)
    files = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert files == {"a.wav", "sub/b.wav", "c.wav", "d.wav"}


def test_only_an_unconditional_model_generates_without_an_input(unconditional: Path, log_mel: Path, vocoder: Path):
    for model in (unconditional, log_mel):
        out = Path(model.name)
        made("--model", model, "-n", 3, "--seconds", 0.21, "-o", out)
        audio = [audio_io.read(out / f"generated_{index}.wav")[0] for index in range(3)]
        assert [tuple(each.shape) for each in audio] == [(1, round(0.21 * 22050))] * 3
        assert not torch.allclose(audio[0], audio[1], atol=1e-3)
        assert "unconditional" in refusal("--model", model, sounds.write(Path("in.wav"), 900), "-o", "x.wav")
    for model in ("none", vocoder):
        message = refusal("--model", model)
        assert "needs an input" in message
        assert "folder/unconditional" in message


def test_unconditional_sounds_have_the_rate_of_the_option(unconditional: Path):
    made("--model", unconditional, "--seconds", 0.1, "--rate", 16000, "-o", "out.flac")
    assert audio_io.info("out.flac") == audio_io.AudioInfo(16000, 1600, 1)


@pytest.mark.parametrize("model", ["none", "vocoder", "unconditional", "log_mel"])
def test_the_batch_size_does_not_change_the_samples_and_the_seed_does(model: str, request: pytest.FixtureRequest):
    where = model if model == "none" else request.getfixturevalue(model)
    what: list[str | float | Path] = ["-n", 3, "--seconds", 0.15]
    if model in ("none", "vocoder"):
        what = [sounds.write(Path("in", f"{index}.wav"), n, n_channels=2) for index, n in enumerate((3000, 2000, 3000))]
    for name, options in {"one": (), "again": (), "batch": ("--batch-size", 4), "seed": ("--seed", 1)}.items():
        made(*what, "--model", where, "-o", name, "--float", *options)
    files = [path.name for path in sorted(Path("one").glob("*.wav"))]
    one, again, batch, seed = (
        [audio_io.read(Path(name, file))[0] for file in files] for name in ("one", "again", "batch", "seed")
    )
    for k in range(3):
        assert torch.equal(one[k], again[k])
        assert torch.equal(one[k], batch[k])
        assert float((one[k] - seed[k]).abs().max()) > 1e-3


def test_the_first_file_of_a_list_is_the_same_as_alone():
    a, b = sounds.write(Path("a.wav"), 3000), sounds.write(Path("b.wav"), 3000)
    made(a, "-o", "alone.wav", *QUICK)
    made(a, b, "-o", "both", *QUICK)
    assert Path("alone.wav").read_bytes() == Path("both/a.wav").read_bytes()


def test_without_out_the_folder_generated_is_made_and_not_written_over():
    source = sounds.write(Path("speech.wav"), 3000)
    assert "generated/speech.wav" in made(source, *QUICK)
    before = Path("generated/speech.wav").read_bytes()
    message = refusal(source, "--seed", 1, *QUICK)
    assert "generated/speech.wav exists" in message
    assert "--force" in message
    assert Path("generated/speech.wav").read_bytes() == before
    made(source, "--seed", 1, "--force", *QUICK)
    assert Path("generated/speech.wav").read_bytes() != before


def test_one_existing_result_of_many_keeps_all_from_being_computed():
    for name in ("a.wav", "b.wav"):
        sounds.write(Path("in", name), 3000)
    sounds.write(Path("out/b.wav"), 10)
    assert "out/b.wav exists" in refusal("in", "-o", "out")
    assert not Path("out/a.wav").exists()


def test_impossible_outputs_are_refused():
    for name in ("in/a.wav", "in/b.wav", "other/a.flac"):
        sounds.write(Path(name), 3000)
    assert "2 results" in refusal("in", "-o", "out.wav")
    assert "would both become out/a.wav" in refusal("in", "other", "-o", "out")
    assert "one of the inputs" in refusal("in/a.wav", "-o", "in/a.wav", "--force")
    assert "one of the inputs" in refusal("in/a.wav", "-o", "in", "--force")
    assert "one of the inputs" in refusal("other/a.flac", "in/b.wav", "in/a.wav", "-o", "in", "--force")
    assert "cannot be written to" in refusal("in/a.wav", "-o", "in/b.wav/c")
    assert "cannot hold 1 channels at 22050 Hz" in refusal("in/a.wav", "-o", "a.opus")  # which has no such rate
    assert "FLOAT" in refusal("in/a.wav", "-o", "a.mp3", "--float")
    Path("full/a.wav").mkdir(parents=True)
    assert "is a folder" in refusal("in/a.wav", "-o", "full", "--force")
    assert "to_rate=1" in refusal("in/a.wav", "-o", "low.wav", "--rate", 1)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--iterations", "0"), "starts from noise"),
        (("--iterations", "-1"), "--iterations -1 must be at least 0"),
        (("--steps", "4"), "steps=4 has no meaning for model 'mel-inversion'"),
        (("--steps", "0"), "--steps 0 must be at least 1"),
        (("--sampler", "heun"), "no meaning for model 'mel-inversion'"),
        (("--sampler", "nuts"), "euler, euler_ancestral, heun, dpmpp_2m"),
        (("--sampler", "heun", "--sampler-option", "eta=1"), "of the sampler heun, which has s_churn"),
        (("--sampler", "euler_ancestral", "--sampler-option", "eta"), "'eta' must be NAME=VALUE"),
        (("--sampler", "euler_ancestral", "--sampler-option", "eta=many"), "must give a number for eta"),
        (("--sampler", "unipc", "--sampler-option", "order=2.5"), "must give a whole number for order"),
        (("--sampler-option", "eta=1"), "--sampler-option eta=1 needs --sampler"),
        (("--grid", "karras"), "grid=karras has no meaning for model 'mel-inversion'"),
        (("--grid", "cubic"), "--grid cubic must be one of karras, log_uniform"),
        (("--guidance", "2"), "guidance=2.0 has no meaning for model 'mel-inversion'"),
        (("--guidance-interval", "1", "2"), "guidance_interval=(1.0, 2.0) has no meaning for model 'mel-inversion'"),
        (("--guide", "none", "--guidance", "2"), "--guide none is not trained"),
        (("--guide", "nothing", "--guidance", "2"), "--guide: model='nothing' does not exist"),
        (("--dialect", "klingon"), "hifigan"),
        (("--dialect", "hifigan:colour=3"), "'colour' is not a field"),
        (("--dialect", "hifigan:hop_length=many"), "must be a number"),
        (("--device", "quantum"), "device='quantum' cannot be used here"),
        (("--device", "meta"), "device='meta' cannot be used here"),
        (("--model", "nothing"), "none"),
        (("--rate", "0"), "--rate 0 must be at least 1"),
        (("--batch-size", "0"), "--batch-size 0 must be at least 1"),
        (("--count", "2"), "no meaning with an input"),
        (("--seconds", "2"), "no meaning with an input"),
    ],
)
def test_options_without_a_meaning_are_refused_by_name(options: tuple[str, ...], reason: str):
    assert reason in refusal(sounds.write(Path("in.wav"), 3000), "-o", "out.wav", *options)
    assert not Path("out.wav").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--sampler", "euler_ancestral", "--sampler-option", "eta=2"), "eta=2.0 must lie between 0 and 1"),
        (("--guidance", "2"), "guidance=2.0 needs a guide"),
        (("--guidance-interval", "1", "2"), "no meaning without guidance"),
        (("--guide", "unconditional"), "needs --guidance, its strength"),
        (("--guide", "unconditional", "--guidance", "nan"), "guidance=nan"),
        (("--guide", "unconditional", "--guidance", "2", "--guidance-interval", "2", "1"), "interval=(2.0, 1.0)"),
        (("--guide", "vocoder", "--guidance", "2"), "guide has conditioner=MelConditioner"),
    ],
)
def test_impossible_sampling_is_refused_before_anything_is_made(
    options: tuple[str, ...], reason: str, unconditional: Path, vocoder: Path
):
    where = {"unconditional": str(unconditional), "vocoder": str(vocoder)}
    given = [where.get(option, option) for option in options]
    assert reason in refusal("--model", unconditional, "--seconds", 0.05, "-o", "made/out.wav", *given)
    assert not Path("made").exists()


def test_every_way_of_sampling_is_reached_from_the_command_line(unconditional: Path):
    """Each option changes the sound, and a model that guides itself does not."""
    what = ("--model", unconditional, "--seconds", 0.05, "--float")
    ways = {
        "plain": (),
        "itself": ("--guide", unconditional, "--guidance", 2),
        "karras": ("--grid", "karras"),
        "linear": ("--grid", "vp_linear"),
        "eta": ("--sampler", "euler_ancestral", "--sampler-option", "eta=0.5"),
        "options": ("--sampler", "heun", "--sampler-option", "s_churn=2", "--sampler-option", "s_noise=1.1"),
    }
    for name, options in ways.items():
        made(*what, "-o", f"{name}.wav", *options)
    plain = audio_io.read("plain.wav")[0]
    assert torch.equal(audio_io.read("itself.wav")[0], plain)
    for name in ("karras", "linear", "eta", "options"):
        assert float((audio_io.read(f"{name}.wav")[0] - plain).abs().max()) > 1e-4


def test_a_guide_moves_the_sound_within_the_interval_only(unconditional: Path, tmp_path: Path):
    weak = tiny.save(tmp_path / "weak", tiny.UNCONDITIONAL, seed=1)
    what = ("--model", unconditional, "--seconds", 0.05, "--float")
    guided = (*what, "--guide", weak, "--guidance", 2)
    made(*what, "-o", "plain.wav")
    made(*guided, "-o", "guided.wav")
    made(*guided, "--guidance-interval", 1e6, 1e7, "-o", "nowhere.wav")
    plain, moved, kept = (audio_io.read(f"{name}.wav")[0] for name in ("plain", "guided", "nowhere"))
    assert torch.equal(kept, plain)
    assert float((moved - plain).abs().max()) > 1e-4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported():
    assert "device='cuda' cannot be used here" in refusal(sounds.write(Path("in.wav"), 3000), "--device", "cuda")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_impossible_lengths_are_refused(seconds: str, unconditional: Path):
    assert "at least one sample" in refusal("--model", unconditional, "--seconds", seconds)


def test_audio_above_full_scale_is_scaled_or_kept_in_float():
    """The mel of a recording at 4 times full scale is that of the recording at full scale, at another level."""
    source = sounds.write(Path("loud.wav"), 4000, peak=4.0)
    assert "above full scale" in made(source, "-o", "fixed.wav")
    assert "above full scale" not in made(source, "-o", "float.wav", "--float")
    fixed, kept = audio_io.read("fixed.wav")[0], audio_io.read("float.wav")[0]
    peak = float(kept.abs().max())
    assert peak > 2
    assert float((fixed - kept / peak * (1 - 2**-15)).abs().max()) < 2**-15  # 16 bits
    assert float(fixed.abs().max()) == pytest.approx(1, abs=1e-4)


def test_a_failure_in_the_middle_leaves_what_was_finished_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    for name in ("a.wav", "b.wav"):
        sounds.write(Path("in", name), 3000)
    replace = os.replace

    def fail_for_b(source: str | Path, target: str | Path) -> None:
        if Path(target).name == "b.wav":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_b)
    assert "No space left" in refusal("in", "-o", "out", *QUICK)
    assert [path.name for path in Path("out").iterdir()] == ["a.wav"]


def test_ctrl_c_leaves_no_half_written_file():
    sounds.write(Path("long.wav"), 22050 * 60)
    command = [sys.executable, "-c", "from audiodiff.cli.main import generate_wav; generate_wav()", "long.wav"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FORCE_COLOR": "1"}
    process = subprocess.Popen(
        [*command, "-o", "out/long.wav", "--iterations", "5000"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    # The folder is made when all is checked, just before the computing.
    deadline = time.monotonic() + 60
    while not Path("out").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in said
    assert "Traceback" not in said
    assert "generating" in said  # the bar, on standard error
    assert list(Path("out").iterdir()) == []
