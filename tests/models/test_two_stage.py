"""A model of mels and a vocoder are two calls in one, in one folder; what does not fit is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

import audiodiff
from audiodiff.cli.join import join_command
from audiodiff.cli.main import generate_wav, main
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.dsp.inversion import griffin_lim
from audiodiff.errors import AudioFileError, CheckpointError, MelError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint
from audiodiff.models.mel_inverter import CONSTRAINT, INVERSIONS, MelInverter
from audiodiff.models.sampling import SamplingOptions
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.types import Mel

SMALL_DIALECT = ["audio.sample_rate=8000", "audio.n_fft=256", "audio.win_length=256", "audio.hop_length=64"]
SMALL_DIALECT += ["audio.n_mels=20", "audio.f_max=4000.0"]
FIRST = [*tiny.LOG_MEL, *SMALL_DIALECT, "sampler=flow", "sampler.n_steps=2"]
SECOND = [*tiny.VOCODER, *SMALL_DIALECT, "network.n_fft=128", "network.hop_length=64", "model.n_iterations=0"]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Save a first and a second stage."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("stages")
    return tiny.save(folder / "mel", FIRST), tiny.save(folder / "vocoder", SECOND, seed=1)


@pytest.fixture(scope="module")
def joined(stages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("joined") / "both"
    join_command(str(stages[0]), str(stages[1]), out)
    return out


def model(where: Path, *, vocoder: Path | str | None = None) -> Synthesizer:
    loaded = checkpoint.load(where, device="cpu", vocoder=vocoder)
    assert isinstance(loaded, Synthesizer)
    return loaded


def mel_of(first: Synthesizer, *, batch: int, n_samples: int, seed: int) -> Mel:
    """Return the mels that a first stage makes."""
    assert first.dialect is not None
    mels: list[Mel] = []

    def invert(noise: Mel, mel: Mel, **options: Any) -> Mel:
        mels.append(mel)
        return CONSTRAINT.invert(noise, mel, **options)

    first.vocoder = MelInverter(dialect=first.dialect, n_iterations=1, inversion=replace(CONSTRAINT, invert=invert))
    audiodiff.set_num_workers(1)  # one example after the other
    first.generate(batch=batch, n_samples=n_samples, seed=seed)
    audiodiff.set_num_workers(None)
    return torch.cat(mels)


def test_one_call_is_the_two_calls_by_hand(stages: tuple[Path, Path]):
    both = model(stages[0], vocoder=stages[1])
    made = both.generate(batch=2, n_samples=6400, seed=3)
    mel = mel_of(model(stages[0]), batch=2, n_samples=6400, seed=3)
    assert torch.equal(made, model(stages[1]).generate(mel, n_samples=6400, seed=3))
    assert float(made.std()) > 0.0


def test_the_mel_constraint_as_a_stage_is_the_model_without_one(stages: tuple[Path, Path]):
    alone = model(stages[0])
    assert alone.dialect is not None
    staged = model(stages[0])
    staged.vocoder = MelInverter(dialect=alone.dialect, n_iterations=alone.n_iterations)
    assert torch.equal(alone.generate(n_samples=5000, seed=1), staged.generate(n_samples=5000, seed=1))


def test_griffin_lim_as_a_stage_is_griffin_lim_of_the_mel(stages: tuple[Path, Path]):
    first = model(stages[0], vocoder="griffin-lim")
    made = first.generate(n_samples=4800, iterations=4, seed=2)
    mel = mel_of(model(stages[0]), batch=1, n_samples=4800, seed=2)
    assert first.dialect is not None
    start = BlockNoise(2, [0])(torch.zeros(1, 1, 4800), -1)[:, 0]
    assert torch.equal(made[:, 0], griffin_lim(mel, start, dialect=first.dialect, n_iterations=4))


@pytest.mark.parametrize("second", ["vocoder", "none"])
def test_a_long_sound_of_two_stages_is_the_same_in_pieces(
    second: str, stages: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    both = model(stages[0], vocoder=stages[1] if second == "vocoder" else "none")
    n_samples = 25 * 8000
    pieces = list(both.generate_chunks(n_samples=n_samples, iterations=0 if second == "vocoder" else 2))
    assert len(pieces) > 1
    monkeypatch.setattr("audiodiff.models.chunking.CHUNK_SECONDS", 1000.0)
    whole = both.generate(n_samples=n_samples, iterations=0 if second == "vocoder" else 2)
    assert torch.allclose(torch.cat(pieces, dim=-1), whole, atol=1e-4 * float(whole.abs().max()))


def test_progress_counts_the_steps_of_both_stages(stages: tuple[Path, Path]):
    both = model(stages[0], vocoder=stages[1])
    seen: list[tuple[int, int]] = []
    both.generate(batch=2, n_samples=3200, iterations=3, on_step=lambda done, of_all: seen.append((done, of_all)))
    assert seen == [(done, 2 * (2 + 2 + 3)) for done in range(1, 2 * (2 + 2 + 3) + 1)]


def test_a_joined_folder_is_the_two_in_one(joined: Path, stages: tuple[Path, Path]):
    made = model(joined).generate(batch=2, n_samples=3200)
    assert torch.equal(made, model(stages[0], vocoder=stages[1]).generate(batch=2, n_samples=3200))
    assert not (joined / checkpoint.STATE).exists()
    names = load_file(joined / checkpoint.WEIGHTS)
    assert {name for name in names if name.startswith("vocoder.")} == {
        f"vocoder.{name}" for name in load_file(stages[1] / checkpoint.WEIGHTS)
    }
    card = (joined / checkpoint.CARD).read_text()
    assert "audiodiff join" in card
    assert "Second stage" in card


def test_the_vocoder_of_a_folder_can_be_exchanged_and_left_out(joined: Path, stages: tuple[Path, Path]):
    assert torch.equal(
        model(joined, vocoder="none").generate(n_samples=3200), model(stages[0]).generate(n_samples=3200)
    )
    again = joined.with_name("again")
    join_command(str(joined), "none", again)
    assert torch.equal(model(again).generate(n_samples=3200), model(stages[0]).generate(n_samples=3200))


def test_half_the_bytes_are_matrices_rounded_to_eight_bits(joined: Path, stages: tuple[Path, Path]):
    half = joined.with_name("half")
    join_command(str(stages[0]), str(stages[1]), half, "bfloat16")
    exact, rounded = model(joined), model(half)
    stored = load_file(half / checkpoint.WEIGHTS)
    for (name, one), other in zip(exact.named_parameters(), rounded.parameters(), strict=True):
        assert other.dtype == torch.float32
        assert stored[name].dtype == (torch.bfloat16 if one.ndim > 1 else torch.float32)
        assert torch.equal(other, one.to(torch.bfloat16).float() if one.ndim > 1 else one)
    for one, other in zip(exact.buffers(), rounded.buffers(), strict=True):
        assert torch.equal(one, other)
    n_matrix = sum(weight.numel() for weight in exact.parameters() if weight.ndim > 1)
    sizes = [(folder / checkpoint.WEIGHTS).stat().st_size for folder in (joined, half)]
    assert sizes[0] - sizes[1] == pytest.approx(2 * n_matrix, abs=4096)  # the header names its types


def test_dialects_that_differ_are_refused_field_by_field(stages: tuple[Path, Path], tmp_path: Path):
    other = tiny.save(tmp_path / "other", [*SECOND, "audio.n_fft=512", "audio.f_max=3800.0"])
    with pytest.raises(MelError) as refused:
        join_command(str(stages[0]), str(other), tmp_path / "out")
    assert "n_fft is 256, the vocoder's 512" in str(refused.value)
    assert "f_max is 4000.0, the vocoder's 3800.0" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_stages_that_cannot_be_joined_are_refused_by_name(stages: tuple[Path, Path], tmp_path: Path):
    first, second = map(str, stages)
    out = tmp_path / "out"
    for model_name, vocoder, kind, said in (
        (second, second, ParameterError, "the first stage makes no mel"),
        (first, first, ParameterError, "takes no mel spectrogram"),
        (first, "griffin-lim", ParameterError, "has no weights to join"),
        ("none", second, ParameterError, "MODEL none is not trained"),
        (first, "nobody", CheckpointError, "'nobody' does not exist"),
    ):
        with pytest.raises(kind, match=said):
            join_command(model_name, vocoder, out)
    with pytest.raises(ParameterError, match="--dtype float16 must be one of float32, bfloat16"):
        join_command(first, second, out, "float16")
    with pytest.raises(ParameterError, match="is the folder of a stage"):
        join_command(first, second, stages[0].parent, force=True)
    out.mkdir()
    with pytest.raises(AudioFileError, match="exists: give --force"):
        join_command(first, second, out)
    (out / "mine.txt").write_text("")
    with pytest.raises(AudioFileError, match=r"holds mine\.txt"):
        join_command(first, second, out, force=True)
    with pytest.raises(ParameterError, match="has no meaning for model 'none'"):
        audiodiff.load("none", vocoder=second)


def test_a_name_inverts_by_griffin_lim():
    model = audiodiff.load("griffin-lim", dialect="tacotron2", device="cpu")
    assert isinstance(model, MelInverter)
    assert model.inversion is INVERSIONS["griffin-lim"]
    mel = model.mel(0.1 * torch.randn(1, 1, 256 * 20, generator=torch.Generator().manual_seed(0)))
    assert model.generate(mel, iterations=2).shape == (1, 1, model.dialect.n_samples(21))
    with pytest.raises(ParameterError, match="looks at the whole sound"):
        model.open_stream()
    with pytest.raises(ParameterError, match="no meaning for model 'griffin-lim'"):
        list(model.generate_chunks([mel], n_samples=256, options=SamplingOptions(steps=4)))


def test_help_shows_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["audiodiff", "join", "--help"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 0
    assert "audiodiff join runs/mel runs/vocoder -o digits" in capsys.readouterr().out


def test_a_command_takes_the_second_stage_that_is_asked_for(
    joined: Path, stages: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = {}
    for name, where, options in (
        ("joined", joined, ()),
        ("given", stages[0], ("--vocoder", str(stages[1]))),
        ("left out", joined, ("--vocoder", "none")),
        ("alone", stages[0], ()),
        ("griffin-lim", joined, ("--vocoder", "griffin-lim", "--iterations", "2")),
    ):
        out = tmp_path / f"{name}.wav"
        monkeypatch.setattr(
            "sys.argv", ["generate-wav", "--model", str(where), "--seconds", "0.4", "--float", "-o", str(out), *options]
        )
        with pytest.raises(SystemExit) as exited:
            generate_wav()
        assert exited.value.code == 0
        made[name] = audio_io.read(out)[0]
    assert torch.equal(made["joined"], made["given"])
    assert torch.equal(made["left out"], made["alone"])
    assert not torch.equal(made["joined"], made["alone"])
    assert not torch.equal(made["griffin-lim"], made["alone"])
