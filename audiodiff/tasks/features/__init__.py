"""Feature vectors of recordings, from the activations of a diffusion model.

    model = audiodiff.load("speech-prior-16k")
    vector = audiodiff.features.features(model, audio, sample_rate=16000)

`load_features` and `save_features` read and write files of `audiodiff features`, and `features_from` takes those or
recordings. See `audiodiff.clustering` for clusters of vectors.
"""

from audiodiff.tasks.features.archive import Features, load_features, save_features
from audiodiff.tasks.features.extract import FeatureLayer, default_layer, features
from audiodiff.tasks.features.files import features_from, features_of_files, list_recordings, load_model

__all__ = [
    "FeatureLayer",
    "Features",
    "default_layer",
    "features",
    "features_from",
    "features_of_files",
    "list_recordings",
    "load_features",
    "load_model",
    "save_features",
]
