"""Crops are a pure function of (seed, k), equal crops of the whole resampled file, and decode little else."""

import dataclasses
import math
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import sounds
import torch

from audiodiff.data import CropDataset, Entry, collate, label_set, load_entries, load_whole, scanning
from audiodiff.dsp.resample import resample
from audiodiff.errors import DataError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.labels import LabelSet

SECONDS = (0.4, 1.0, 2.2, 3.1)


def _entries(folder: Path, *, sample_rate: int = 16000, n_channels: int = 1) -> list[Entry]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index, seconds in enumerate(SECONDS):
        audio = 0.2 * torch.randn(n_channels, round(seconds * sample_rate), generator=generator)
        audio_io.write(folder / f"{index}.flac", audio.clamp(-1, 1), sample_rate=sample_rate)
        rows.append(Entry(folder / f"{index}.flac", text=f"text {index}", label=f"label {index}", speaker="me"))
    good, bad = scanning.scan(rows)
    assert not bad
    return good


def _crops(entries: list[Entry], *, seed: int = 5, sample_rate: int = 16000, crop_samples: int = 4000) -> CropDataset:
    return CropDataset(entries, sample_rate=sample_rate, n_channels=1, crop_samples=crop_samples, seed=seed)


def test_an_item_is_the_same_in_any_order_and_in_any_instance(tmp_path: Path):
    entries = _entries(tmp_path)
    crops = _crops(entries)
    forwards = [crops[k] for k in range(60)]
    again = _crops(entries)
    for k in (59, 3, 58, 3, 0, 31):
        assert torch.equal(again[k]["audio"], forwards[k]["audio"])
        assert torch.equal(again[k]["labels"], forwards[k]["labels"])
        same = ("n_valid", "index", "path", "text", "label", "speaker")
        assert [again[k][name] for name in same] == [forwards[k][name] for name in same]


def test_another_seed_or_number_gives_another_crop(tmp_path: Path):
    entries = _entries(tmp_path)[3:]
    crops, others = _crops(entries, seed=0), _crops(entries, seed=1)
    first = [tuple(crops[k]["audio"][0, :8].tolist()) for k in range(20)]
    assert len(set(first)) == 20
    assert not set(first) & {tuple(others[k]["audio"][0, :8].tolist()) for k in range(20)}


def test_an_epoch_draws_every_entry_as_often_as_crops_fit_into_it(tmp_path: Path):
    crops = _crops(_entries(tmp_path))
    turns = {f"{index}.flac": math.ceil(seconds * 16000 / 4000) for index, seconds in enumerate(SECONDS)}
    assert crops.n_per_epoch == sum(turns.values())
    orders = []
    for epoch in range(3):
        names = [Path(crops[epoch * crops.n_per_epoch + i]["path"]).name for i in range(crops.n_per_epoch)]
        assert Counter(names) == turns
        orders.append(tuple(names))
    assert len(set(orders)) == 3


def test_an_item_has_the_texts_of_the_manifest(tmp_path: Path):
    crops = _crops(_entries(tmp_path))
    item = crops[7]
    name = Path(item["path"]).stem
    assert (item["text"], item["label"], item["speaker"], item["index"]) == (f"text {name}", f"label {name}", "me", 7)
    assert item["audio"].dtype == torch.float32
    assert item["audio"].shape == (1, 4000)


def test_crops_reach_both_ends_of_a_recording(tmp_path: Path):
    audio = torch.linspace(-0.5, 0.5, 101)[None]
    audio_io.write(tmp_path / "ramp.wav", audio, sample_rate=16000, subtype="FLOAT")
    (entry,), _ = scanning.scan([Entry(tmp_path / "ramp.wav")], min_seconds=0.0)
    crops = _crops([entry], crop_samples=98)
    firsts = {round(100 * (crops[k]["audio"][0, 0].item() + 0.5)) for k in range(60)}
    assert firsts == {0, 1, 2, 3}


@pytest.mark.parametrize("from_rate", [16000, 22050, 48000, 8000])
@pytest.mark.parametrize("to_rate", [16000, 11025])
def test_a_crop_of_the_resampled_file_is_a_resampled_crop(tmp_path: Path, from_rate: int, to_rate: int):
    entries = _entries(tmp_path, sample_rate=from_rate)
    whole = {str(e.path): resample(audio_io.read(e.path)[0], from_rate=from_rate, to_rate=to_rate) for e in entries}
    crops = _crops(entries, sample_rate=to_rate, crop_samples=5000)
    for k in range(14):
        item = crops[k]
        n_valid = item["n_valid"]
        assert n_valid == min(5000, whole[item["path"]].shape[-1])
        windows = whole[item["path"]][0, : whole[item["path"]].shape[-1] - n_valid + 8].unfold(-1, 8, 1)
        first = int((windows - item["audio"][0, :8]).abs().amax(dim=-1).argmin())
        # A float32 convolution over other blocks rounds differently; nothing else may differ.
        expected = whole[item["path"]][:, first : first + n_valid]
        torch.testing.assert_close(item["audio"][:, :n_valid], expected, rtol=0, atol=1e-6)


def test_a_whole_recording_is_the_resampled_file(tmp_path: Path):
    for entry in _entries(tmp_path, sample_rate=22050):
        expected = resample(audio_io.read(entry.path)[0], from_rate=22050, to_rate=16000)
        assert torch.equal(load_whole(entry, sample_rate=16000, n_channels=1), expected)
        beginning = load_whole(entry, sample_rate=16000, n_channels=1, max_seconds=0.5)
        torch.testing.assert_close(beginning, expected[:, :8000], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("from_rate", "most"), [(16000, 4000), (44100, 4000 * 441 // 160 + 2 * 199 + 441)])
def test_a_crop_decodes_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_rate: int, most: int):
    crops = _crops(_entries(tmp_path, sample_rate=from_rate))
    for k in range(30):
        crops[k]  # the offset of each recording is measured once
    asked: list[int] = []
    read = audio_io.read

    def counting(path: Path, *, start: int = 0, n_samples: int | None = None):
        assert n_samples is not None
        asked.append(n_samples)
        return read(path, start=start, n_samples=n_samples)

    monkeypatch.setattr(audio_io, "read", counting)
    for k in range(30):
        crops[k]
    assert len(asked) == 30
    assert max(asked) <= most + 1


@pytest.mark.parametrize("offset", [0.05, -0.3])
def test_crops_are_those_of_a_recording_without_its_offset(tmp_path: Path, offset: float):
    audio = sounds.white(0, seconds=2.0, rate=16000)
    audio = audio - audio.mean()
    made = []
    for name, samples in (("plain.wav", audio), ("offset.wav", audio + offset)):
        sounds.save_float(tmp_path / name, samples)
        entries, _ = scanning.scan([Entry(tmp_path / name)])
        made.append([_crops(entries, crop_samples=3000)[k]["audio"] for k in range(5)])
        made[-1].append(load_whole(entries[0], sample_rate=8000, n_channels=1))
    for plain, without in zip(*made, strict=True):
        torch.testing.assert_close(without, plain, rtol=0, atol=1e-5)


def test_the_offset_of_a_long_recording_is_that_of_blocks_of_it(tmp_path: Path):
    audio = sounds.white(0, seconds=30.0, rate=16000)
    sounds.save_float(tmp_path / "a.wav", audio - audio.mean() + 0.1)
    entries, _ = scanning.scan([Entry(tmp_path / "a.wav")])
    whole = load_whole(entries[0], sample_rate=16000, n_channels=1)
    # 8 blocks of 32768 samples of a standard deviation of 0.1.
    assert abs(float(whole.mean())) < 4 * 0.1 / math.sqrt(8 * 32768)


def test_a_short_recording_is_padded_with_zeros_at_its_end(tmp_path: Path):
    entries = _entries(tmp_path)[:1]
    item = _crops(entries, crop_samples=10000)[0]
    assert item["n_valid"] == 6400
    assert torch.equal(item["audio"][:, :6400], audio_io.read(entries[0].path)[0])
    assert item["audio"][:, 6400:].eq(0).all()


def test_a_segment_of_a_file_contains_nothing_from_around_it(tmp_path: Path):
    audio = torch.full((1, 16000), 0.9)
    audio[:, 4000:9000] = torch.linspace(-0.5, 0.5, 5000)
    audio_io.write(tmp_path / "a.wav", audio, sample_rate=16000)
    (entry,), _ = scanning.scan([Entry(tmp_path / "a.wav", start=0.25, seconds=0.3125)])
    crops = _crops([entry], crop_samples=3000)
    assert max(crops[k]["audio"].max().item() for k in range(40)) <= 0.5
    resampled = load_whole(entry, sample_rate=8000, n_channels=1)
    assert torch.equal(resampled, resample(audio_io.read(entry.path)[0][:, 4000:9000], from_rate=16000, to_rate=8000))


def test_stereo_is_kept_or_averaged_and_mono_does_not_become_stereo(tmp_path: Path):
    stereo = _entries(tmp_path, n_channels=2)
    both = load_whole(stereo[1], sample_rate=16000, n_channels=2)
    assert torch.equal(both, audio_io.read(stereo[1].path)[0])
    mono = load_whole(stereo[1], sample_rate=16000, n_channels=1)
    torch.testing.assert_close(mono, both.mean(dim=0, keepdim=True), rtol=0, atol=0)
    narrow = dataclasses.replace(stereo[1], n_channels=1)
    with pytest.raises(DataError, match="n_channels=1 cannot become 2"):
        load_whole(narrow, sample_rate=16000, n_channels=2)


def test_entries_that_cannot_be_used_are_refused(tmp_path: Path):
    entries = _entries(tmp_path)
    with pytest.raises(DataError, match="at least one entry"):
        _crops([])
    with pytest.raises(DataError, match="has not been scanned"):
        _crops([Entry(tmp_path / "0.flac")])
    with pytest.raises(ParameterError, match="crop_samples=0"):
        _crops(entries, crop_samples=0)
    with pytest.raises(ParameterError, match="seed=-1"):
        _crops(entries, seed=-1)
    with pytest.raises(ParameterError, match="k=-1"):
        _crops(entries)[-1]


def test_a_file_that_shrank_after_the_scan_is_named(tmp_path: Path):
    entries = _entries(tmp_path)
    audio_io.write(entries[0].path, torch.full((1, 100), 0.5), sample_rate=16000)
    with pytest.raises(DataError, match=r"0\.flac: 1 x 100 samples at sample 0 must be 1 x 6400"):
        load_whole(entries[0], sample_rate=16000, n_channels=1)


def test_the_entries_of_a_folder_make_crops(tmp_path: Path):
    _entries(tmp_path)
    crops = _crops(list(load_entries(tmp_path).split("train")))
    assert crops[0]["audio"].abs().max() > 0


def _labelled(folder: Path) -> tuple[list[Entry], LabelSet]:
    names = ("kick", "kick", "kick", "")
    entries = [dataclasses.replace(e, label=name) for e, name in zip(_entries(folder), names, strict=True)]
    entries[1] = dataclasses.replace(entries[1], label="tom")
    return entries, label_set(entries, COLUMNS)


COLUMNS = {"drum": "label", "who": "speaker"}


def test_an_item_has_the_indices_of_its_labels(tmp_path: Path):
    entries, labels = _labelled(tmp_path)
    crops = CropDataset(
        entries, sample_rate=16000, n_channels=1, crop_samples=4000, seed=0, labels=labels, columns=COLUMNS
    )
    batch = collate([crops[k] for k in range(crops.n_per_epoch)])
    assert batch["labels"].dtype == torch.int64
    expected = {"0": [0, 0], "1": [1, 0], "2": [0, 0], "3": [-1, 0]}
    assert batch["labels"].tolist() == [expected[Path(path).stem] for path in batch["path"]]
    assert collate([_crops(entries)[0]])["labels"].shape == (1, 0)
    assert crops.lengths == tuple(round(16000 * seconds) for seconds in SECONDS)


def test_balance_draws_values_equally_often_and_counts_none_as_a_value(tmp_path: Path):
    entries, labels = _labelled(tmp_path)
    crops = CropDataset(
        entries,
        sample_rate=16000,
        n_channels=1,
        crop_samples=4000,
        seed=0,
        labels=labels,
        columns=COLUMNS,
        balance="drum",
    )
    # Turns: kick 2 + 9, tom 4, none 13.
    assert Counter(crops[k]["label"] for k in range(crops.n_per_epoch)) == {"kick": 13, "tom": 13, "": 13}


def test_alike_groups_crops_by_their_length_after_cropping(tmp_path: Path):
    entries = _entries(tmp_path) * 4
    crops = CropDataset(entries, sample_rate=16000, n_channels=1, crop_samples=10**5, seed=0, alike=4)
    for first in range(0, 64, 4):
        assert len({crops[k]["n_valid"] for k in range(first, first + 4)}) == 1


def test_labels_that_do_not_fit_are_refused_before_anything_is_drawn(tmp_path: Path):
    entries, labels = _labelled(tmp_path)
    made = partial(CropDataset, entries, sample_rate=16000, n_channels=1, crop_samples=4000, seed=0)
    with pytest.raises(DataError, match=r"1\.flac: drum=tom is not known; it must be one of: kick"):
        made(labels=LabelSet({"drum": ["kick"]}), columns={"drum": "label"})
    with pytest.raises(ParameterError, match="balance='size' must be one of the labels: drum, who"):
        made(labels=labels, columns=COLUMNS, balance="size")
    with pytest.raises(ParameterError, match=r"balance='drum' .* there are none"):
        made(balance="drum")
    with pytest.raises(ParameterError, match="must name a column for each label"):
        made(labels=labels)
    with pytest.raises(ParameterError, match="alike=0 must be positive"):
        made(alike=0)
