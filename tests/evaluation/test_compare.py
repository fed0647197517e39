"""Comparison of files with references: pairing, resampling and trimming, refusals, result files and gates."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from sounds import NOISE_RATE as RATE
from sounds import noise, noise_pairs, save_float

import audiodiff
from audiodiff import metrics
from audiodiff.dsp.resample import resample
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.evaluation.compare import evaluate_paths
from audiodiff.io import audio as audio_io

QUICK = ["snr_db", "lsd"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return noise_pairs(tmp_path)


def test_folders_are_paired_by_relative_name_without_suffix(folders: tuple[Path, Path]):
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


def test_two_files_of_any_names_are_paired(folders: tuple[Path, Path]):
    reference, estimate = folders
    report = evaluate_paths(reference / "a.wav", estimate / "b.wav", names=QUICK)
    assert [row.name for row in report.rows] == ["b"]
    assert report.rows[0].values["snr_db"] < 0


def test_files_without_a_partner_are_refused_or_left_out(folders: tuple[Path, Path]):
    reference, estimate = folders
    (estimate / "a.wav").rename(estimate / "z.wav")
    with pytest.raises(ParameterError, match=r"1 references.*\(a\).*1 estimates.*\(z\).*--allow-missing"):
        evaluate_paths(reference, estimate, names=QUICK)
    report = evaluate_paths(reference, estimate, names=QUICK, allow_missing=True)
    assert (report.missing, report.extra, len(report.rows)) == (("a",), ("z",), 2)


def test_what_cannot_be_paired_is_refused_with_the_reason(folders: tuple[Path, Path], tmp_path: Path):
    reference, estimate = folders
    save_float(tmp_path / "other" / "q.wav", noise(0))
    with pytest.raises(ParameterError, match=r"nothing to compare.*a, b, sub/c.*q"):
        evaluate_paths(reference, tmp_path / "other", allow_missing=True)
    with pytest.raises(ParameterError, match="two files or two folders"):
        evaluate_paths(reference, estimate / "a.wav")
    with pytest.raises(AudioFileError, match="no such"):
        evaluate_paths(reference, tmp_path / "absent")
    audio_io.write(estimate / "a.flac", noise(0), sample_rate=RATE)
    with pytest.raises(ParameterError, match="the same name"):
        evaluate_paths(reference, estimate)


def test_an_estimate_of_another_rate_is_resampled_and_noted(tmp_path: Path):
    reference = noise(0)
    estimate = resample(reference, from_rate=RATE, to_rate=24000)
    save_float(tmp_path / "r.wav", reference)
    save_float(tmp_path / "e.wav", estimate, rate=24000)
    (row,) = evaluate_paths(tmp_path / "r.wav", tmp_path / "e.wav", names=["snr"]).rows
    expected = metrics.snr_db(resample(estimate, from_rate=24000, to_rate=RATE), reference).item()
    assert row.values["snr_db"] == pytest.approx(expected, abs=1e-4)
    assert row.sample_rate == RATE
    assert "24000 to 16000" in row.notes[0]


@pytest.mark.parametrize("surplus", [-1600, -7, 7, 1600])
def test_lengths_are_trimmed_up_to_the_limit(tmp_path: Path, surplus: int):
    audio = noise(0, 10000)
    save_float(tmp_path / "r.wav", audio[:, :8000])
    save_float(tmp_path / "e.wav", audio[:, : 8000 + surplus])
    (row,) = evaluate_paths(tmp_path / "r.wav", tmp_path / "e.wav", names=["snr"]).rows
    assert row.values["snr_db"] == math.inf
    assert f"trimmed by {abs(surplus)} samples" in row.notes[0]


def test_a_pair_that_cannot_be_compared_is_a_row_with_the_reason(folders: tuple[Path, Path]):
    reference, estimate = folders
    save_float(estimate / "a.wav", noise(0, 8000 + 1601))
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
    save_float(tmp_path / "r.wav", noise(0))
    save_float(tmp_path / "e.wav", noise(0, n_channels=2))
    with pytest.raises(AudioFileError, match="2 channels"):
        evaluate_paths(tmp_path / "r.wav", tmp_path / "e.wav")


def test_if_no_pair_can_be_compared_nothing_is_written(tmp_path: Path):
    for name in ("a", "b"):
        save_float(tmp_path / "r" / f"{name}.wav", noise(0))
        save_float(tmp_path / "e" / f"{name}.wav", noise(0, 100))
    with pytest.raises(AudioFileError, match="none of 2 pairs"):
        evaluate_paths(tmp_path / "r", tmp_path / "e", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_silent_and_short_files_are_counted_and_not_averaged(folders: tuple[Path, Path]):
    reference, estimate = folders
    save_float(reference / "silent.wav", torch.zeros(1, 8000))
    save_float(estimate / "silent.wav", noise(0))
    save_float(reference / "short.wav", noise(1, 500))
    save_float(estimate / "short.wav", noise(2, 500))
    report = evaluate_paths(reference, estimate, names=["snr", "pesq_wb", "stoi", "lsd"])
    assert report.summaries["snr_db"].reasons == {"silent reference": 1}
    assert report.summaries["pesq_wb"].reasons == {"silent reference": 1, "shorter than 0.25 s": 1}
    assert report.summaries["lsd"].n == 3
    assert all(math.isfinite(summary.mean) for summary in report.summaries.values())


def test_results_are_strict_json_and_csv_and_kept_unless_forced(folders: tuple[Path, Path], tmp_path: Path):
    reference, estimate = folders
    save_float(estimate / "a.wav", noise(0))
    save_float(reference / "b.wav", torch.zeros(1, 8000))
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


def test_two_processes_give_the_rows_of_one(folders: tuple[Path, Path]):
    one, two = (evaluate_paths(*folders, names=QUICK, workers=n) for n in (1, 2))
    assert one.rows == two.rows
    assert one.summaries == two.summaries


def test_a_gate_fails_without_a_value_and_passes_on_identical_files(folders: tuple[Path, Path]):
    reference, _ = folders
    assert not evaluate_paths(reference, reference, names=["snr"], minimums={"snr": 100.0}).failed_gates
    save_float(reference / "silent.wav", torch.zeros(1, 8000))
    silent = reference / "silent.wav"
    (gate,) = evaluate_paths(silent, silent, names=["lsd"], maximums={"lsd": 100.0}).failed_gates
    assert str(gate) == "lsd = no value over 0 of 1 files, must be at most 100"
