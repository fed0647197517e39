"""`audiodiff stream`, also `generate-wav - --out -`: standard input to standard output."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sounds
import torch
import typer
from typer.testing import CliRunner

import audiodiff
from audiodiff.cli.main import stream_arguments
from audiodiff.cli.stream import stream_command
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.models.synthesizer import Synthesizer

PCM = 1.5 / 32768  # a step of 16 bits, and a half


def pcm(n_samples: int) -> tuple[torch.Tensor, bytes]:
    """Return a sound of whole 16-bit samples, (1, time), and its bytes."""
    integers = (sounds.tones(n_samples, sample_rate=22050) * 32768).round()
    return integers / 32768, integers[0].numpy().astype("<i2").tobytes()


def run(*arguments: str, data: bytes = b""):
    application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    application.command()(stream_command)
    return CliRunner().invoke(application, arguments, input=data)


def test_the_command_writes_samples_and_nothing_else(vocoder: Path):
    audio, data = pcm(6000)
    done = run("--model", str(vocoder), "--chunk-frames", "4", "--rate", "16000", data=data)
    assert done.exit_code == 0, done.exception
    own = audiodiff.load(vocoder)
    assert isinstance(own, Synthesizer)
    padded = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % 256))
    whole = own.generate(own.mel(padded[None]), n_samples=padded.shape[-1])[0, 0]
    expected = resample(whole, from_rate=22050, to_rate=16000)[: math.ceil(6000 * 16000 / 22050)].clamp(-1, 1)
    written = torch.from_numpy(np.frombuffer(done.stdout_bytes, "<i2").astype(np.float32)) / 32768
    assert written.shape == expected.shape
    assert (written - expected).abs().max() < PCM + 1e-4 * max(1.0, float(expected.abs().max()))
    assert "input s16le mono at 22050 Hz; output s16le mono at 16000 Hz" in done.stderr


def test_frames_of_another_logarithm_sound_as_those_of_the_models(vocoder: Path):
    mel = audiodiff.dialect("hifigan").mel(pcm(256 * 12)[0][0])
    frames = {"hifigan": mel, "hifigan:log=10": mel / math.log(10), "hifigan:log=none": mel.exp()}
    sounds_of = []
    for dialect, values in frames.items():
        data = values.T.contiguous().numpy().astype("<f4").tobytes()
        done = run("--model", str(vocoder), "--input", "mel", "--dialect", dialect, "--chunk-frames", "4", data=data)
        assert done.exit_code == 0, done.exception
        sounds_of.append(np.frombuffer(done.stdout_bytes, "<i2").astype(np.float32) / 32768)
    for other in sounds_of[1:]:
        assert np.abs(other - sounds_of[0]).max() < 2 * PCM


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--input", "mp3"), "--input mp3 must be one of pcm, mel"),
        (("--input", "mel", "--input-rate", "8000"), "--input-rate 8000 has no meaning"),
        (("--input-rate", "0"), "from_rate=0"),
        (("--steps", "2"), "steps=2 has no meaning for model"),
        (("--steps", "0"), "--steps 0 must be at least 1"),
        (("--chunk-frames", "0"), "chunk_frames=0"),
        (("--look-ahead", "-1"), "ahead_frames=-1"),
        ((), "ended after nothing"),
    ],
)
def test_impossible_streams_are_refused(arguments: tuple[str, ...], reason: str):
    done = run(*arguments)
    assert isinstance(done.exception, audiodiff.errors.AudiodiffError)
    assert reason in str(done.exception)
    assert done.stdout_bytes == b""


@pytest.mark.parametrize("option", ["--float", "--guidance=2", "--batch-size=2", "a.wav"])
def test_options_and_inputs_of_files_are_unknown_to_a_stream(option: str):
    done = run(option)
    assert done.exit_code == 2
    assert option.partition("=")[0] in done.stderr
    assert done.stdout_bytes == b""


def test_a_model_that_takes_no_mel_is_refused(unconditional: Path):
    assert "knows no mel" in str(run("--model", str(unconditional), data=b"xx").exception)


def test_generate_with_standard_input_and_output_is_a_stream():
    assert stream_arguments(["-", "-o", "-", "--stdin", "mel"]) == ["--stdin", "mel"]
    assert stream_arguments(["--out", "-", "-"]) == []
    assert stream_arguments(["a.wav", "-o", "b.wav"]) is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-",), "give --out -"),
        (("-", "-o", "a.wav"), "give --out -"),
        (("a.wav", "-o", "-"), "with other inputs give a file"),
        (("-o", "-"), "with other inputs give a file"),
        (("a.wav", "--stdin", "mel"), "--stdin has no meaning without the input -"),
        (("a.wav", "--look-ahead=0"), "--look-ahead=0 has no meaning without the input -"),
    ],
)
def test_standard_input_and_output_go_together(arguments: tuple[str, ...], reason: str):
    with pytest.raises(ParameterError, match=reason):
        stream_arguments(arguments)


def started(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from audiodiff.cli.main import generate_wav; generate_wav()", "-", "-o", "-"]
    return subprocess.Popen(
        [*command, "--iterations", "2", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_audio_comes_while_the_input_is_open_and_ctrl_c_is_quiet():
    process = started("--chunk-frames", "4", "--look-ahead", "2")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pcm(256 * 10)[1])
    process.stdin.flush()
    assert len(process.stdout.read(2 * 4 * 256)) == 2 * 4 * 256
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.count(b"\n") == 1
    assert b"ms later" in said


def test_a_reader_that_leaves_early_ends_it_without_a_message():
    process = started()
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(pcm(60_000)[1], timeout=60)
    assert process.returncode == 128 + signal.SIGPIPE
    assert said.count(b"\n") == 1
    assert b"ms later" in said
