"""Vocos, the mel vocoder of the package vocos, and WaveNeXt, which has its backbone."""

from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from audiodiff.dsp import mel
from audiodiff.errors import CheckpointError
from audiodiff.models.importers.family import Family, Imported, Options
from audiodiff.models.importers.nodes import Node, dialect_node, one_call, renamed
from audiodiff.models.importers.source import Source

_NAMES = {
    "backbone.embed.": "backbone.first.",
    "backbone.norm.": "backbone.first_norm.",
    "backbone.convnext.": "backbone.blocks.",
    "backbone.final_layer_norm.": "backbone.last_norm.",
    "head.out.": "last.",
    "head.linear_1.": "expand.",
    "head.linear_2.": "last.",
    ".dwconv.": ".over_time.",
    ".pwconv1.": ".expand.",
    ".pwconv2.": ".shrink.",
    ".gamma": ".scale",
}


def _recognises(tensors: Mapping[str, Tensor]) -> bool:
    return "backbone.convnext.0.pwconv1.weight" in tensors and "head.out.weight" in tensors


def _convert(source: Source, options: Options) -> Imported:
    network = _backbone(source)
    bands = network["frame_bands"]
    n_fft = source.shape("head.out.weight")[0] - 2
    rate = options("sample_rate", 24000, key="feature_extractor.init_args.sample_rate")
    hop = options("hop_length", 256, key="head.init_args.hop_length")
    network |= {
        "_target_": "audiodiff.networks.vocos.Vocos",
        "n_fft": n_fft,
        "hop_length": hop,
        "padding": options("padding", "center", key="head.init_args.padding"),
    }
    dialect = dialect_node("vocos", sample_rate=rate, n_fft=n_fft, hop_length=hop, n_mels=bands)
    if network["padding"] == "same":
        # Its mels are then framed likewise.
        fields = asdict(mel.dialect("vocos", sample_rate=rate, n_fft=n_fft, hop_length=hop, n_mels=bands))
        dialect = {"_target_": "audiodiff.dsp.mel.MelDialect", **fields, "name": "vocos-same", "centred": False}
    return Imported(one_call(network, sample_rate=rate, dialect=dialect), _weights(source), tuple(options.assumed))


def _backbone(source: Source) -> Node:
    channels, bands, _ = source.shape("backbone.embed.weight")
    return {
        "frame_bands": bands,
        "channels": channels,
        "hidden_channels": source.shape("backbone.convnext.0.pwconv1.weight")[0],
        "n_layers": source.count("backbone.convnext.{}.dwconv.weight".format),
    }


def _weights(source: Source) -> dict[str, Tensor]:
    """Return the weights by our names, without those of training and what is computed from the settings."""
    kept = ("backbone.", "head.out.", "head.linear_")
    return renamed({name: weight for name, weight in source.tensors.items() if name.startswith(kept)}, _NAMES)


def _is_wavenext(tensors: Mapping[str, Tensor]) -> bool:
    return {"backbone.convnext.0.pwconv1.weight", "head.linear_1.weight", "head.linear_2.weight"} <= tensors.keys()


def _wavenext(source: Source, options: Options) -> Imported:
    hop, last_channels = source.shape("head.linear_2.weight")
    mel = "feature_extractor.init_args."
    rate = options("sample_rate", 22050, key=f"{mel}sample_rate")
    stated = options("hop_length", hop, key=f"{mel}hop_length")
    if stated != hop:
        raise CheckpointError(f"{source.path}: hop_length={stated} does not fit the last layer of the file, {hop}")
    network = {
        "_target_": "audiodiff.networks.vocos.WaveNext",
        **_backbone(source),
        "last_channels": last_channels,
        "hop_length": hop,
    }
    # Its feature extractor is Vocos' (HTK filters to half the rate) unless its settings say otherwise.
    slaney = options("mel_scale", "slaney", key=f"{mel}mel_scale") == "slaney"
    dialect = dialect_node(
        "wavenext" if slaney else "vocos",
        sample_rate=rate,
        n_fft=options("n_fft", 1024, key=f"{mel}n_fft"),
        hop_length=hop,
        n_mels=network["frame_bands"],
        f_max=float(options("f_max", 8000 if slaney else rate // 2, key=f"{mel}f_max")),
    )
    return Imported(one_call(network, sample_rate=rate, dialect=dialect), _weights(source), tuple(options.assumed))


WAVENEXT = Family(
    "wavenext",
    "WaveNeXt of mel spectrograms, on Vocos' backbone",
    _is_wavenext,
    _wavenext,
    {
        "sample_rate": "Hz",
        "hop_length": "samples per frame, those of the last layer",
        "n_fft": "of the mel",
        "mel_scale": "slaney, or htk for mels of Vocos' own extractor",
        "f_max": "highest frequency of the mel, Hz",
    },
)
VOCOS = Family(
    "vocos",
    "Vocos of mel spectrograms (package vocos)",
    _recognises,
    _convert,
    {
        "sample_rate": "Hz",
        "hop_length": "samples per frame",
        "padding": "center or same: where the frames of its inverse STFT lie",
    },
)
