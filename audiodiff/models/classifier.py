"""Audio classifier: probabilities of the values of each label, and an embedding to compare sounds in.

A small convolutional network on its own log-mel spectrogram: a centred Hann frame of at least 25 ms every 10 ms, bands
from 0 Hz to half the sample rate, zeros around the sound, which is first scaled to a fixed RMS. Padding is masked, so
that the result depends neither on the level of a sound nor on the other sounds of the batch.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import AudiodiffError, CheckpointError, ParameterError, check_whole
from audiodiff.labels import LabelSet
from audiodiff.models import checkpoint, registry
from audiodiff.models.devices import check_precision, device_named
from audiodiff.models.dialect_fields import check_dialect
from audiodiff.models.weights import load_weights

TARGET = "audiodiff.models.classifier.Classifier"
"""`_target_` of a classifier in config.yaml."""
MIN_RATE = 1000
_FRAME_SECONDS, _HOP_SECONDS = 0.025, 0.01
_RMS = 0.1
_LOG_RANGE = 3.0
_MIN_RMS = 1e-8


class Prediction(NamedTuple):
    """Output of a classifier.

    Args:
        log_probabilities: of the values of each label.
        embedding: nonnegative features, from which the heads compute the logits.
    """

    log_probabilities: Mapping[str, Float[Tensor, "batch _"]]
    embedding: Float[Tensor, "batch features"]


class Classifier(nn.Module):
    """Log-mel spectrogram, 3 x 3 convolutions, mean and maximum over time, a hidden layer, a linear head per label.

    Args:
        sample_rate: of the sounds, Hz.
        vocabularies: the values of each label.
        columns: column of the manifest with each label's values, in training.
        n_mels: bands of the spectrogram.
        channels: of the convolutions; time and frequency are halved after each but the last.
        n_features: length of the embedding.
        dropout: on the inputs of the hidden layer and the heads, in training.

    Raises:
        ParameterError: if an argument is out of range.

    Example:
        >>> classifier = Classifier(sample_rate=8000, vocabularies={"digit": ["0", "1"]}, columns={"digit": "label"})
        >>> prediction = classifier.eval()(torch.randn(3, 1, 4000), torch.tensor([4000, 3000, 100]))
        >>> prediction.log_probabilities["digit"].shape, prediction.embedding.shape
        (torch.Size([3, 2]), torch.Size([3, 64]))
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        vocabularies: Mapping[str, Sequence[str]],
        columns: Mapping[str, str],
        n_mels: int = 40,
        channels: Sequence[int] = (16, 32, 64, 96),
        n_features: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_whole(sample_rate, name="sample_rate", least=MIN_RATE)
        check_whole(n_features, name="n_features", least=2)
        for width in channels:
            check_whole(width, name="channels", least=1)
        if not 0.0 <= dropout < 1.0:
            raise ParameterError(f"dropout={dropout} must lie in [0, 1)")
        self.labels = LabelSet(vocabularies)
        if not self.labels.names or set(columns) != set(self.labels.names):
            raise ParameterError(
                f"columns={dict(columns)} must name a column for each label, and there must be a label"
            )
        self.columns = dict(columns)
        self.sample_rate = sample_rate
        self.settings: dict[str, Any] = {
            "sample_rate": sample_rate,
            "vocabularies": {name: list(known) for name, known in self.labels.vocabularies.items()},
            "columns": self.columns,
            "n_mels": n_mels,
            "channels": list(channels),
            "n_features": n_features,
            "dropout": dropout,
        }
        self.front = _front(sample_rate, n_mels=n_mels)
        _ = self.front.filters()
        self.blocks = nn.ModuleList(
            _Block(before, after) for before, after in zip([1, *channels], channels, strict=False)
        )
        n_bands = n_mels
        for _block in channels[:-1]:
            n_bands = -(-n_bands // 2)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(2 * channels[-1] * n_bands, n_features)
        self.heads = nn.ModuleDict(
            {_key(name): nn.Linear(n_features, len(known)) for name, known in self.labels.vocabularies.items()}
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Change all tensors, as `to` and `half` do, but for their precision; see `check_precision`."""
        check_precision(fn)
        return super()._apply(fn, recurse)

    @property
    def n_features(self) -> int:
        """Length of the embedding."""
        return self.hidden.out_features

    def forward(self, audio: Float[Tensor, "batch 1 time"], n_valid: Int[Tensor, "batch"]) -> Prediction:
        """Classify sounds of n_valid samples each, followed by zeros."""
        n_frames = n_valid // self.front.hop_length + 1
        x = self._log_mel(audio, n_valid)
        # The windows of the first frames after the end overlap the sound.
        x = x * _mask(n_frames, n=x.shape[-1])[:, None, None]
        for index, block in enumerate(self.blocks):
            x = block(x, _mask(n_frames, n=x.shape[-1]))
            if index + 1 < len(self.blocks):
                # Values are nonnegative, so that the zeros after the end change no maximum.
                x = F.max_pool2d(x, 2, ceil_mode=True)
                n_frames = (n_frames + 1) // 2
        mean = x.sum(-1) / n_frames[:, None, None]
        pooled = torch.cat([mean, x.amax(-1)], dim=1).flatten(1)
        embedding = F.relu(self.hidden(self.dropout(pooled)))
        dropped = self.dropout(embedding)
        logits = {name: self.heads[_key(name)](dropped) for name in self.labels.names}
        return Prediction({name: each.log_softmax(-1) for name, each in logits.items()}, embedding)

    def _log_mel(
        self, audio: Float[Tensor, "batch 1 time"], n_valid: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch 1 n_mels frames"]:
        """Return the spectrogram, scaled so that silence is 0."""
        energy = audio.square().sum((-2, -1)) / n_valid
        loud = audio * (_RMS / energy.sqrt().clamp(min=_MIN_RMS))[:, None, None]
        return (self.front.mel(loud) - self.front.floor) / _LOG_RANGE  # (batch, 1, n_mels, frames)


class _Block(nn.Module):
    """A convolution with batch normalisation over the frames that are not padding; 0 in the padding."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(after)

    def forward(
        self, x: Float[Tensor, "batch before bands frames"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch after bands frames"]:
        frames = self.convolution(x).permute(0, 3, 1, 2)  # (batch, frames, after, bands)
        result = torch.zeros_like(frames)
        result[mask] = F.relu(self.norm(frames[mask]))
        return result.permute(0, 2, 3, 1)


def _mask(n_frames: Int[Tensor, "batch"], *, n: int) -> Bool[Tensor, "batch frames"]:
    return torch.arange(n, device=n_frames.device) < n_frames[:, None]


def _key(name: str) -> str:
    """Return a valid module name for a label: without dots."""
    return "label_" + name.replace(".", "_dot_")


def _front(sample_rate: int, *, n_mels: int) -> MelDialect:
    n_fft = 1 << (round(_FRAME_SECONDS * sample_rate) - 1).bit_length()
    return MelDialect(
        name="classifier",
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=round(_HOP_SECONDS * sample_rate),
        win_length=n_fft,
        n_mels=n_mels,
        f_min=0.0,
        f_max=sample_rate / 2,
        scale="slaney",
        area_normalised=True,
        window_normalised=False,
        centred=True,
        pad_mode="constant",
        power_offset=0.0,
        amplitude_min=1e-4,
        amplitude_max=1e9,
        log_gain=1.0,
        log_offset=0.0,
    )


def save(classifier: Classifier, folder: Path, *, metrics: Mapping[str, Any], card: str) -> None:
    """Write a classifier to a folder: config.yaml, model.safetensors, metrics.json, README.md.

    Args:
        classifier: the model.
        folder: replaced as a whole.
        metrics: of its quality.
        card: the model card, Markdown.
    """
    checkpoint.save(
        folder,
        model={"_target_": TARGET, **classifier.settings},
        sample_rate=classifier.sample_rate,
        mel_dialect=classifier.front,
        weights=classifier.state_dict(),
        metrics=metrics,
        card=card,
    )


def load(where: str | Path, *, device: str | torch.device = "cpu") -> Classifier:
    """Load a classifier for use; no class but `Classifier` is built, whatever config.yaml names.

    Args:
        where: its folder, or the run that trained it.
        device: as torch names it, or "auto": the GPU if there is one.

    Raises:
        CheckpointError: if it is missing, damaged or not a classifier.
    """
    folder = registry.find(where)
    config = checkpoint.read_config(folder)
    node = {key: value for key, value in config["model"].items() if key != "_target_"}
    if config["model"].get("_target_") != TARGET:
        raise CheckpointError(
            f"{folder} holds no classifier: model._target_ must be {TARGET}; train one with "
            "audiodiff train recipes=fsdd/classifier data.root=/my/recordings"
        )
    try:
        classifier = Classifier(**node)
    except (AudiodiffError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{folder}: the model node does not build: {str(error).splitlines()[0]}") from error
    check_dialect(classifier.front, config, folder)
    load_weights(classifier, folder / checkpoint.WEIGHTS)
    return classifier.to(device_named(device)).eval()


def classify(
    classifier: Classifier, clips: Sequence[Float[Tensor, "_ _"]], *, batch_seconds: float = 30.0
) -> Prediction:
    """Classify sounds of any lengths, in batches with little padding.

    Args:
        clips: at the classifier's rate; channels are averaged.
        batch_seconds: sound and padding per batch.

    Raises:
        ParameterError: if there are no clips, or one is empty.
    """
    if not clips or any(clip.shape[-1] < 1 for clip in clips):
        raise ParameterError(f"{len(clips)} clips must be at least one, and none empty")
    device = classifier.hidden.weight.device
    order = sorted(range(len(clips)), key=lambda index: clips[index].shape[-1])
    parts: list[Prediction] = []
    first = 0
    with torch.inference_mode():
        while first < len(order):
            last = first + 1
            while last < len(order) and (
                (last + 1 - first) * clips[order[last]].shape[-1] <= batch_seconds * classifier.sample_rate
            ):
                last += 1
            chosen = [clips[index].mean(0, keepdim=True) for index in order[first:last]]
            longest = chosen[-1].shape[-1]
            audio = torch.stack([F.pad(clip, (0, longest - clip.shape[-1])) for clip in chosen]).to(device)
            n_valid = torch.tensor([clip.shape[-1] for clip in chosen], device=device)
            parts.append(classifier(audio, n_valid))
            first = last
    original = torch.tensor(order).argsort()
    return Prediction(
        {
            name: torch.cat([part.log_probabilities[name] for part in parts]).cpu().double()[original]
            for name in classifier.labels.names
        },
        torch.cat([part.embedding for part in parts]).cpu().double()[original],
    )
