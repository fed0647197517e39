"""Data sets of recordings: manifests, scanning, random crops, batches, and the embedded speech set.

scan = load_entries(speech_folder())
crops = CropDataset(scan.split("train"), sample_rate=22050, n_channels=1, crop_samples=16384, seed=0)
for batch in batches(crops, batch_size=16, n_workers=1):
    ...
"""

from importlib import resources
from pathlib import Path

from audiodiff.data.dataset import CropDataset, Example, load_whole
from audiodiff.data.labels import label_indices, label_set
from audiodiff.data.loader import Batch, StepIndices, batches, collate
from audiodiff.data.manifest import Entry, read_manifest, vocabulary, write_manifest
from audiodiff.data.scanning import (
    SILENCE_PEAK,
    BadFile,
    Scan,
    describe_resampling,
    load_entries,
    scan,
    scan_folder,
    source_entries,
)
from audiodiff.data.source import AudioSource
from audiodiff.data.splits import divide

__all__ = [
    "SILENCE_PEAK",
    "AudioSource",
    "BadFile",
    "Batch",
    "CropDataset",
    "Entry",
    "Example",
    "Scan",
    "StepIndices",
    "batches",
    "collate",
    "describe_resampling",
    "divide",
    "label_indices",
    "label_set",
    "load_entries",
    "load_whole",
    "read_manifest",
    "scan",
    "scan_folder",
    "source_entries",
    "speech_folder",
    "vocabulary",
    "write_manifest",
]


def speech_folder() -> Path:
    """Return the folder of the embedded speech set: 72 sentences by six synthetic voices, with transcripts and splits.

    Example:
        >>> load_entries(speech_folder(), split="test").entries[0].text
        'The quiet harbour woke when the ferry blew its horn.'
    """
    return Path(str(resources.files("audiodiff.data") / "speech"))
