"""`audiodiff evaluate`: pairs, what is done to them, what is refused, what is written, and exit codes."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

import audiodiff
from audiodiff import metrics
from audiodiff.cli.evaluate import evaluate_command, evaluate_paths
from audiodiff.dsp.resample import resample
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io import audio as audio_io

RATE = 16000
QUICK = ["snr_db", "lsd"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(seed: int, n_samples: int = 8000, n_channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (0.1 * torch.randn(n_channels, n_samples, generator=generator)).clamp(-1, 1)


def save(path: Path, audio: torch.Tensor, *, rate: int = RATE) -> None:
    audio_io.write(path, audio, sample_rate=rate, subtype="FLOAT")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Make three pairs, one in a subfolder, the estimate 20 dB over its error."""
    reference, estimate = tmp_path / "reference", tmp_path / "estimate"
    for seed, name in enumerate(["a.wav", "b.wav", "sub/c.wav"]):
        save(reference / name, noise(seed))
        save(estimate / name, noise(seed) + 0.1 * noise(seed + 10))
    return reference, estimate


def run(*arguments: str | Path):
    application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    application.command()(evaluate_command)
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


def test_folders_are_paired_by_relative_name_whatever_the_suffix(folders: tuple[Path, Path]):
    reference, estimate = folders
    flac, _ = audio_io.read(estimate / "b.wav")
    audio_io.write(estimate / "b.flac", flac.clamp(-1, 1), sample_rate=RATE)
    (estimate / "b.wav").unlink()
    report = evaluate_paths(reference, estimate, names=QUICK)
    assert [row.name for row in report.rows] == ["a", "b", "sub/c"]
    for seed, row in enumerate(report.rows):
        expected = metrics.snr_db(noise(seed) + 0.1 * noise(seed + 10), noise(seed)).item()
        assert row.values["snr_db"] == pytest.approx(expected, abs=1e-2)  # 16 bits of the flac
    assert report.summaries["snr_db"].n == 3


def test_two_files_are_paired_whatever_their_names(folders: tuple[Path, Path]):
    reference, estimate = folders
    report = evaluate_paths(reference / "a.wav", estimate / "b.wav", names=QUICK)
    assert [row.name for row in report.rows] == ["b"]
    assert report.rows[0].values["snr_db"] < 0


def test_names_without_partner_are_refused_or_left_out_and_named(folders: tuple[Path, Path]):
    reference, estimate = folders
    (estimate / "a.wav").rename(estimate / "z.wav")
    with pytest.raises(ParameterError, match=r"1 references.*\(a\).*1 estimates.*\(z\).*--allow-missing"):
        evaluate_paths(reference, estimate, names=QUICK)
    report = evaluate_paths(reference, estimate, names=QUICK, allow_missing=True)
    assert (report.missing, report.extra, len(report.rows)) == (("a",), ("z",), 2)


def test_what_cannot_be_paired_at_all_says_why(folders: tuple[Path, Path], tmp_path: Path):
    reference, estimate = folders
    save(tmp_path / "other" / "q.wav", noise(0))
    with pytest.raises(ParameterError, match=r"nothing to compare.*a, b, sub/c.*q"):
        evaluate_paths(reference, tmp_path / "other", allow_missing=True)
    with pytest.raises(ParameterError, match="two files or two folders"):
        evaluate_paths(reference, estimate / "a.wav")
    with pytest.raises(AudioFileError, match="no such"):
        evaluate_paths(reference, tmp_path / "absent")
    audio_io.write(estimate / "a.flac", noise(0), sample_rate=RATE)
    with pytest.raises(ParameterError, match="one name"):
        evaluate_paths(reference, estimate)


def test_another_rate_is_resampled_and_noted(tmp_path: Path):
    reference = noise(0)
    estimate = resample(reference, from_rate=RATE, to_rate=24000)
    save(tmp_path / "r.wav", reference)
    save(tmp_path / "e.wav", estimate, rate=24000)
    (row,) = evaluate_paths(tmp_path / "r.wav", tmp_path / "e.wav", names=["snr"]).rows
    expected = metrics.snr_db(resample(estimate, from_rate=24000, to_rate=RATE), reference).item()
    assert row.values["snr_db"] == pytest.approx(expected, abs=1e-4)
    assert row.sample_rate == RATE
    assert "24000 to 16000" in row.notes[0]


@pytest.mark.parametrize("surplus", [-1600, -7, 7, 1600])
def test_lengths_are_trimmed_up_to_the_limit(tmp_path: Path, surplus: int):
    audio = noise(0, 10000)
    save(tmp_path / "r.wav", audio[:, :8000])
    save(tmp_path / "e.wav", audio[:, : 8000 + surplus])
    (row,) = evaluate_paths(tmp_path / "r.wav", tmp_path / "e.wav", names=["snr"]).rows
    assert row.values["snr_db"] == math.inf
    assert f"trimmed by {abs(surplus)} samples" in row.notes[0]


def test_a_pair_that_cannot_be_compared_is_a_row_with_its_reason_and_the_others_go_on(folders: tuple[Path, Path]):
    reference, estimate = folders
    save(estimate / "a.wav", noise(0, 8000 + 1601))
    (estimate / "b.wav").write_text("not audio")
    report = evaluate_paths(reference, estimate, names=QUICK)
    a, b, c = report.rows
    assert a.refusal is not None
    assert "longer than its reference" in a.refusal
    assert b.refusal is not None
    assert "cannot be read" in b.refusal
    assert c.refusal is None
    summary = report.summaries["snr_db"]
    assert (summary.n, summary.n_excluded, summary.reasons) == (1, 2, {"refused": 2})
    assert summary.mean == c.values["snr_db"]


def test_channels_must_agree(tmp_path: Path):
    save(tmp_path / "r.wav", noise(0))
    save(tmp_path / "e.wav", noise(0, n_channels=2))
    with pytest.raises(AudioFileError, match="2 channels"):
        evaluate_paths(tmp_path / "r.wav", tmp_path / "e.wav")


def test_if_not_one_pair_can_be_compared_it_is_an_error_and_nothing_is_written(tmp_path: Path):
    for name in ("a", "b"):
        save(tmp_path / "r" / f"{name}.wav", noise(0))
        save(tmp_path / "e" / f"{name}.wav", noise(0, 100))
    with pytest.raises(AudioFileError, match="none of 2 pairs"):
        evaluate_paths(tmp_path / "r", tmp_path / "e", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_silent_and_short_files_are_counted_with_their_reason_and_in_no_mean(folders: tuple[Path, Path]):
    reference, estimate = folders
    save(reference / "silent.wav", torch.zeros(1, 8000))
    save(estimate / "silent.wav", noise(0))
    save(reference / "short.wav", noise(1, 500))
    save(estimate / "short.wav", noise(2, 500))
    report = evaluate_paths(reference, estimate, names=["snr", "pesq_wb", "stoi", "lsd"])
    assert report.summaries["snr_db"].reasons == {"silent reference": 1}
    assert report.summaries["pesq_wb"].reasons == {"silent reference": 1, "shorter than 0.25 s": 1}
    assert report.summaries["lsd"].n == 3
    assert all(math.isfinite(summary.mean) for summary in report.summaries.values())


def test_results_are_written_as_strict_json_and_csv_and_kept_unless_forced(folders: tuple[Path, Path], tmp_path: Path):
    reference, estimate = folders
    save(estimate / "a.wav", noise(0))
    save(reference / "b.wav", torch.zeros(1, 8000))
    out = tmp_path / "new" / "out"
    report = evaluate_paths(reference, estimate, names=QUICK, out=out, minimums={"snr": 5.0})
    assert sorted(path.name for path in out.iterdir()) == ["metrics.csv", "metrics.json"]

    document = json.loads((out / "metrics.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert document["audiodiff"] == audiodiff.__version__
    snr = document["metrics"]["snr_db"]
    assert (snr["n"], snr["n_infinite"], snr["n_excluded"]) == (1, 1, 1)
    assert snr["mean"] == report.summaries["snr_db"].mean
    assert snr["interval_95"] == [None, None]
    assert snr["definition"].startswith("10 log10")
    assert [file["values"]["snr_db"] for file in document["files"][:2]] == ["inf", None]
    assert document["files"][1]["reasons"]["snr_db"] == "silent reference"
    assert document["gates"][0]["passes"] is True

    with (out / "metrics.csv").open() as file:
        a, b, c = csv.DictReader(file)
    assert (a["snr_db"], b["snr_db"]) == ("inf", "")
    assert float(c["snr_db"]) == pytest.approx(snr["mean"], rel=1e-5)
    assert b["reasons"] == "snr_db: silent reference; lsd: silent reference"

    with pytest.raises(AudioFileError, match="--force"):
        evaluate_paths(reference, estimate, names=QUICK, out=out)
    evaluate_paths(reference, estimate, names=["lsd"], out=out, force=True)
    assert list(json.loads((out / "metrics.json").read_text())["metrics"]) == ["lsd"]


def test_two_processes_find_what_one_finds(folders: tuple[Path, Path]):
    one, two = (evaluate_paths(*folders, names=QUICK, workers=n) for n in (1, 2))
    assert one.rows == two.rows
    assert one.summaries == two.summaries


def test_the_command_prints_each_file_the_means_and_the_notes(folders: tuple[Path, Path]):
    reference, estimate = folders
    save(estimate / "a.wav", torch.zeros(1, 8000))
    result = run(reference, estimate, "--metrics", "si_sdr,pesq_wb,lsd")
    assert result.exit_code == 0, result.output
    for text in ("sub/c", "si_sdr_db", "95 % interval", "no value of si_sdr_db, pesq_wb: silent estimate (1)"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (("--min", "snr_db=15"), 0),
        (("--min", "snr=25"), 1),
        (("--max", "lsd=0.01"), 1),
        (("--max", "lsd=5", "--min", "snr=25"), 1),
    ],
)
def test_gates_set_the_exit_code_and_are_named(folders: tuple[Path, Path], gate: tuple[str, ...], code: int):
    result = run(*folders, "--metrics", "lsd", *gate)
    assert result.exit_code == code, result.output
    assert ("gate failed" in result.stderr) == (code == 1)


def test_a_gate_on_what_has_no_value_fails_and_one_on_identical_files_passes(folders: tuple[Path, Path]):
    reference, _ = folders
    assert not evaluate_paths(reference, reference, names=["snr"], minimums={"snr": 100.0}).failed_gates
    save(reference / "silent.wav", torch.zeros(1, 8000))
    silent = reference / "silent.wav"
    (gate,) = evaluate_paths(silent, silent, names=["lsd"], maximums={"lsd": 100.0}).failed_gates
    assert str(gate) == "lsd = no value over 0 of 1 files, must be at most 100"


@pytest.mark.parametrize("bad", ["pesq_wb", "pesq_wb=", "pesq_wb=high", "pesq=2", "snr=nan"])
def test_malformed_gates_are_refused(folders: tuple[Path, Path], bad: str):
    result = run(*folders, "--min", bad)
    assert isinstance(result.exception, ParameterError)


def test_unknown_metrics_are_refused_with_the_list(folders: tuple[Path, Path]):
    result = run(*folders, "--metrics", "snr,psnr")
    assert isinstance(result.exception, ParameterError)
    assert "'psnr' is unknown, there are snr_db," in str(result.exception)


def test_file_names_are_not_read_as_markup(tmp_path: Path):
    for folder in ("r", "e"):
        save(tmp_path / folder / "take [red]1[/].wav", noise(0))
    assert "take [red]1[/]" in run(tmp_path / "r", tmp_path / "e", "--metrics", "lsd").stdout


def test_help_shows_examples_and_says_what_snr_means_for_a_vocoder():
    result = run("--help")
    assert result.exit_code == 0
    assert "--min pesq_wb=2.5" in result.stdout
    assert "a vocoder is free to choose" in " ".join(result.stdout.split())
