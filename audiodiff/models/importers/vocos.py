"""Vocos: the mel vocoder of the package vocos."""

from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from audiodiff.dsp import mel
from audiodiff.models.importers.family import Family, Imported, Options
from audiodiff.models.importers.nodes import dialect_node, one_call, renamed
from audiodiff.models.importers.source import Source

_NAMES = {
    "backbone.embed.": "first.",
    "backbone.norm.": "first_norm.",
    "backbone.convnext.": "blocks.",
    "backbone.final_layer_norm.": "last_norm.",
    "head.out.": "last.",
    ".dwconv.": ".over_time.",
    ".pwconv1.": ".expand.",
    ".pwconv2.": ".shrink.",
    ".gamma": ".scale",
}


def _recognises(tensors: Mapping[str, Tensor]) -> bool:
    return "backbone.convnext.0.pwconv1.weight" in tensors and "head.out.weight" in tensors


def _convert(source: Source, options: Options) -> Imported:
    # What belongs to training or is computed from the settings: mel filters, windows, discriminators.
    own = {name: weight for name, weight in source.tensors.items() if name.startswith(("backbone.", "head.out."))}
    channels, bands, _ = source.shape("backbone.embed.weight")
    n_fft = source.shape("head.out.weight")[0] - 2
    rate = options("sample_rate", 24000, key="feature_extractor.init_args.sample_rate")
    hop = options("hop_length", 256, key="head.init_args.hop_length")
    network = {
        "_target_": "audiodiff.networks.vocos.Vocos",
        "frame_bands": bands,
        "channels": channels,
        "hidden_channels": source.shape("backbone.convnext.0.pwconv1.weight")[0],
        "n_layers": source.count("backbone.convnext.{}.dwconv.weight".format),
        "n_fft": n_fft,
        "hop_length": hop,
        "padding": options("padding", "center", key="head.init_args.padding"),
    }
    dialect = dialect_node("vocos", sample_rate=rate, n_fft=n_fft, hop_length=hop, n_mels=bands)
    if network["padding"] == "same":
        # Its mels are then framed likewise.
        fields = asdict(mel.dialect("vocos", sample_rate=rate, n_fft=n_fft, hop_length=hop, n_mels=bands))
        dialect = {"_target_": "audiodiff.dsp.mel.MelDialect", **fields, "name": "vocos-same", "centred": False}
    return Imported(one_call(network, sample_rate=rate, dialect=dialect), renamed(own, _NAMES), tuple(options.assumed))


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
