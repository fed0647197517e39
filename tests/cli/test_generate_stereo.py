"""`audiodiff generate`: lengths, rates, bands, channels."""

from pathlib import Path

import commands
import pytest
import sounds
import stereo
import torch

from audiodiff.cli.generate import generate_command
from audiodiff.io import audio as audio_io

pytestmark = pytest.mark.usefixtures("empty_working_directory")

QUICK = ("--iterations", "2")


_, made, refusal = commands.of(generate_command)


@pytest.mark.parametrize("source_rate", [16000, 22050, 32000])
@pytest.mark.parametrize("n_samples", [1, 100, 5003])
@pytest.mark.parametrize("model", ["none", "vocoder"])
def test_the_length_is_exact_at_the_rate_of_input_and_model(
    source_rate: int, n_samples: int, model: str, request: pytest.FixtureRequest
):
    where = model if model == "none" else request.getfixturevalue(model)
    source = sounds.write(Path("in.wav"), n_samples, sample_rate=source_rate)
    made(source, "-o", "same.wav", "--model", where, "--rate", source_rate, *QUICK)
    assert audio_io.info("same.wav") == audio_io.info(source)
    made(source, "-o", "own.wav", "--model", where, *QUICK)
    own = audio_io.info("own.wav")
    assert (own.sample_rate, own.n_samples) == (22050, -(-n_samples * 22050 // source_rate))


@pytest.mark.parametrize("model", ["none", "griffin-lim", "vocoder"])
def test_equal_channels_give_equal_channels_those_of_a_mono_file(model: str, request: pytest.FixtureRequest):
    where = request.getfixturevalue(model) if model == "vocoder" else model
    mono = sounds.tones(4000, sample_rate=22050)
    audio_io.write("three.wav", mono.expand(3, -1), sample_rate=22050)
    audio_io.write("mono.wav", mono, sample_rate=22050)
    made("three.wav", "-o", "a.wav", "--model", where, *QUICK)
    made("mono.wav", "-o", "b.wav", "--model", where, *QUICK)
    assert torch.equal(audio_io.read("a.wav")[0], audio_io.read("b.wav")[0].expand(3, -1))


@pytest.mark.parametrize("model", ["mel-inversion", "speech-22k"])
@pytest.mark.parametrize("kind", stereo.MIXES)
def test_a_stereo_image_stays(kind: str, model: str):
    audio = stereo.MIXES[kind](stereo.sources(22050))
    audio_io.write("in.wav", audio, sample_rate=22050, subtype="FLOAT")
    made("in.wav", "-o", "out.wav", "--float", "--model", model)
    stereo.check_image(audio_io.read("out.wav")[0], audio, below_hz=8000, sample_rate=22050)


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_higher_rate_keeps_its_band_and_what_was_chosen_is_said(rate: int):
    source = sounds.write(Path("in.wav"), 6000, sample_rate=rate)
    said = made(source, "-o", "full.wav", *QUICK)
    assert "->" not in said
    assert audio_io.info("full.wav") == audio_io.info(source)
    chosen = said.split(f"inputs at {rate} Hz: dialect ")[1].split(", which keeps")[0]
    made(source, "-o", "same.wav", "--dialect", chosen, *QUICK)
    assert Path("same.wav").read_bytes() == Path("full.wav").read_bytes()
    assert "(--dialect hifigan gives 22050 Hz)" in said
    said = made(source, "-o", "low.wav", "--dialect", "hifigan", *QUICK)
    assert f"low.wav: {rate} -> 22050 Hz, nothing above 11025 Hz is kept" in said


def test_of_inputs_at_several_rates_the_loss_is_said_with_the_line_that_keeps_it():
    sounds.write(Path("in/a.wav"), 6000, sample_rate=44100)
    sounds.write(Path("in/b.wav"), 6000, sample_rate=22050)
    said = made("in", "-o", "out", *QUICK)
    assert "a.wav: 44100 -> 22050 Hz, nothing above 11025 Hz is kept" in said
    line = said.split("for the whole band: --dialect ")[1].split()[0]
    made("in/a.wav", "-o", "full.wav", "--dialect", line, *QUICK)
    assert audio_io.info("full.wav") == audio_io.info("in/a.wav")


def test_a_stereo_image_stays_in_the_whole_band():
    audio = stereo.MIXES["mixed"](stereo.sources(44100))
    audio_io.write("in.wav", audio, sample_rate=44100, subtype="FLOAT")
    made("in.wav", "-o", "out.wav", "--float")
    stereo.check_image(audio_io.read("out.wav")[0], audio, below_hz=16000, sample_rate=44100)
