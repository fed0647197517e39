"""Datasets of a training run: recordings by split, and crops of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from audiodiff.data import speech_folder
from audiodiff.data.dataset import CropDataset, n_samples_at
from audiodiff.data.manifest import Entry
from audiodiff.data.paired_mels import PairedMels, best_lag, pair_mels
from audiodiff.data.scanning import Scan, load_entries, source_entries
from audiodiff.data.source import AudioSource
from audiodiff.dsp.mel import dialect as dialect_named
from audiodiff.errors import DataError, ParameterError, check_whole
from audiodiff.labels import LabelSet
from audiodiff.training.config import absolute, build_part, instantiate

Config = Mapping[str, Any]
N_COMPARED, LEAST_FIT = 4, 0.8
"""Recordings that given mels are compared with, and the least correlation that is not warned of."""


def recordings(config: Config) -> Scan:
    """Scan the recordings of a training configuration.

    Raises:
        ParameterError: if it names none.
        DataError: if they are missing, or cannot be used.
    """
    data = config["data"]
    if data.get("source") is not None:
        return source_entries(build_part(data["source"], kind=AudioSource, name="data.source"))
    if data["root"] is None:
        raise ParameterError("data.root=null: give a folder of recordings or a manifest, data.root=/my/recordings")
    root = speech_folder() if data["root"] == "embedded" else absolute(str(data["root"]), name="data.root")
    if not root.exists():
        raise DataError(f"data.root={data['root']} does not exist (as {root})")
    if not isinstance(data["min_seconds"], int | float):
        raise ParameterError(f"data.min_seconds={data['min_seconds']} must be a number of seconds")
    columns = list(data["labels"].values())
    return load_entries(root, on_bad=data["on_bad"], min_seconds=data["min_seconds"], columns=columns)


def split_recordings(config: Config) -> Scan:
    """Scan the recordings, of which some must be for training and some for validation.

    Raises:
        ParameterError, DataError: as `recordings`; also if a split is empty.
    """
    scan = recordings(config)
    for split in ("train", "val"):
        if split not in scan.splits:
            raise DataError(
                f"{data_name(config)}: no recording is in the split {split!r} (there is "
                f"{', '.join(scan.splits)}): training needs at least one to learn from and one to be measured on"
            )
    return scan


def data_name(config: Config) -> str:
    """Return the name of the data of a training configuration: its folder, manifest or source."""
    source = config["data"].get("source")
    return str(config["data"]["root"] if source is None else source["_target_"])


def crops(
    scan: Scan, split: str, *, config: Config, labels: LabelSet, sample_rate: int, n_channels: int
) -> CropDataset:
    """Return the crops of one split, balanced by label if it is the one for training."""
    data, entries = config["data"], scan.split(split)
    return CropDataset(
        entries,
        sample_rate=sample_rate,
        n_channels=n_channels,
        crop_samples=crop_samples(config),
        seed=config["seed"],
        labels=labels,
        columns=data["labels"],
        balance=data["balance"] if split == "train" else None,
        alike=data["alike"],
        read=scan.read,
        mels=_mels(entries, config, sample_rate=sample_rate),
    )


def _mels(entries: Sequence[Entry], config: Config, *, sample_rate: int) -> PairedMels | None:
    """Pair recordings with the mels of `data.mels`."""
    data, node = config["data"], config["audio"].get("dialect")
    if data.get("mels") is None:
        return None
    own = None if data["mels_dialect"] is None else dialect_named(str(data["mels_dialect"]))
    check_whole(data["mels_tolerance"], name="data.mels_tolerance", least=0)
    return pair_mels(
        entries,
        absolute(str(data["mels"]), name="data.mels"),
        lengths=[n_samples_at(entry, sample_rate) for entry in entries],
        dialect=instantiate(node, name="audio.dialect"),
        own=own,
        key=str(data["mels_key"]),
        tolerance=data["mels_tolerance"],
    )


def describe_mels(dataset: CropDataset, mels: PairedMels) -> str:
    """Describe how the mels of another system fit their recordings, from a few of them."""
    found = []
    for index in range(min(N_COMPARED, len(dataset.entries))):
        truth = mels.dialect.mel(dataset.whole(index)[0])
        found.append(best_lag(mels.window(index, first=0, n_frames=truth.shape[-1]), truth))
    lag = sorted(lag for lag, _ in found)[len(found) // 2]
    fit = sum(fit for _, fit in found) / len(found)
    text = f"mels of {mels.files[0].parent}: correlation {fit:.2f} with those of the recordings at lag {lag}"
    if lag != 0 or not fit > LEAST_FIT:
        text += (
            " frames. WARNING: they do not fit their recordings, and a vocoder learns nothing good of them: make them "
            "with the durations of the recordings (teacher forcing), and check data.mels_dialect"
        )
    return text


def crop_samples(config: Config) -> int:
    """Return the length of a training crop in samples.

    Raises:
        ParameterError: unless exactly one of crop_frames and crop_seconds is given, and fits the hop.
    """
    data, audio = config["data"], config["audio"]
    frames, seconds = data["crop_frames"], data["crop_seconds"]
    if (frames is None) == (seconds is None):
        raise ParameterError(
            f"data.crop_frames={frames} and data.crop_seconds={seconds}: set exactly one of them, the other to null"
        )
    if frames is not None:
        if not isinstance(frames, int) or frames < 1:
            raise ParameterError(f"data.crop_frames={frames} must be a whole number, at least 1")
        return int(frames) * int(audio["hop_length"])
    if not isinstance(seconds, int | float):
        raise ParameterError(f"data.crop_seconds={seconds} must be a number")
    samples = round(seconds * audio["sample_rate"])
    hop = audio["hop_length"] if audio.get("dialect") is not None else 1
    if samples < 1 or samples % hop:
        nearest = max(1, round(samples / hop)) * hop
        raise ParameterError(
            f"data.crop_seconds={seconds} is {samples} samples, which must be a multiple of audio.hop_length={hop}: "
            f"set data.crop_seconds=null data.crop_frames={nearest // hop}"
        )
    return samples
