"""Construction of a training step from a configuration, with checks that its parts fit together."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.preconditioning import EDM, Preconditioning
from audiodiff.diffusion.process import DiscreteVP, Process, sigma_range
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import AudiodiffError, ParameterError, check_whole
from audiodiff.labels import LabelSet
from audiodiff.models.building import Builder
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.models.representations.representation import Representation
from audiodiff.models.safety import foreign_targets
from audiodiff.networks.embedding import Embedding, StepTable
from audiodiff.training.compatibility import check_choices
from audiodiff.training.config import instantiate, readable
from audiodiff.training.datasets import crop_samples
from audiodiff.training.step import Float32Batch, TrainingStep

N_DRAWN = 4096
"""Noise levels that are drawn to see the range of a density."""
FAR = 0.25
"""Share of the range of c_noise in training by which sampling may start beyond it: EDM's own 80 is 0.18 beyond."""
HOMES = {
    "network": "audiodiff/networks/",
    "conditioner": "audiodiff/models/conditioners/",
    "representation": "audiodiff/models/representations/",
}
"""Folders of the classes that a model is made of; all others are in audiodiff/diffusion/."""

Config = Mapping[str, Any]


def with_labels(config: Config, labels: LabelSet) -> dict[str, Any]:
    """Fill in the values of labels for the conditioner and the method, and their number of features for the network.

    Args:
        config: resolved.
        labels: those of the training data.
    """
    filled = copy.deepcopy(dict(config))
    found = {name: list(known) for name, known in labels.vocabularies.items()}
    if "vocabularies" in config["method"]:
        filled["method"]["vocabularies"] = config["method"]["vocabularies"] or found
    if "vocabularies" not in config["conditioner"]:
        return filled
    vocabularies = config["conditioner"]["vocabularies"] or found
    n_features = LabelSet(vocabularies).n_features
    step_size = config["model"]["denoiser"]["step_size"]
    if step_size is not None:
        n_features += step_size["n_features"]
    for node in (filled, filled["model"]):
        node["conditioner"]["vocabularies"] = vocabularies
    for node in (filled, filled["model"]["denoiser"]):
        node["network"]["vector_features"] = n_features
    return filled


def build_training_step(config: Config) -> TrainingStep:
    """Build the model of a training configuration with its loss.

    Raises:
        ParameterError: with one line for each choice that does not fit.
    """
    problems: list[str] = []
    build = Builder()

    def attempt(name: str, node: Mapping[str, Any] | None) -> Any:
        if node is None:
            return None
        try:
            return instantiate(node, name=name, build=build)
        except ParameterError as error:
            problems.append(str(error))
        return None

    def raise_problems() -> None:
        if problems:
            raise ParameterError("\n".join(problems))

    problems += _foreign_problems(config["model"])
    raise_problems()
    check_whole(config["sampler"].get("n_steps", 1), name="sampler.n_steps", least=1)
    check_whole(config["data"]["n_channels"], name="data.n_channels", least=1)
    for name in ("sample_rate", "hop_length"):
        check_whole(config["audio"][name], name=f"audio.{name}", least=1)
    dialect = attempt("audio", config["audio"].get("dialect"))
    process = attempt("process", config["process"])
    problems += _dialect_problems(config, dialect=dialect)
    problems += _mels_problems(config)
    raise_problems()
    problems += check_choices(config, process=process)
    raise_problems()
    names = ("representation", "conditioner", "network", "preconditioning", "density", "objective", "sampler")
    parts = {name: attempt(name, config[name]) for name in names}
    problems += _crop_problems(config, dialect=dialect)
    raise_problems()
    problems += _channel_problems(config, **{name: parts[name] for name in ("representation", "conditioner")})
    encoder = getattr(parts["network"], "step_encoder", None)
    if encoder is not None:  # a network of one's own may embed the clock as it likes
        problems += _clock_problems(process, embedding=encoder.embedding, preconditioning=parts["preconditioning"])
    raise_problems()
    synthesizer = instantiate(config["model"], name="model", build=build)
    make = instantiate(config["method"], name="method", build=build)
    with readable("method"):
        module = make(synthesizer=synthesizer, objective=parts["objective"], density=parts["density"])
    _try_grid(module, process=process)
    _try(module, n_channels=config["data"]["n_channels"], n_samples=_shortest(config, dialect=dialect))
    return module


def _foreign_problems(model: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each class of the model whose checkpoint could not be loaded again."""
    for field, target in foreign_targets(model, field="model"):
        key = field.removeprefix("model.").removeprefix("denoiser.")
        place = HOMES.get(key.partition(".")[0], "audiodiff/diffusion/")
        yield (
            f"{key}._target_={target} lies outside of audiodiff, so that a checkpoint with it could not be loaded: "
            f"give --trust {target.partition('.')[0]}, here and to every command that loads it, or put the class into "
            f"a module in {place} of a checkout (pip install -e .)"
        )


def _crop_problems(config: Config, *, dialect: MelDialect | None) -> Iterator[str]:
    try:
        crop = crop_samples(config)
    except ParameterError as error:
        yield str(error)
        return
    if dialect is not None and crop < dialect.n_fft:
        yield (
            f"the training crop of {crop} samples must hold at least one window of n_fft={dialect.n_fft}: "
            f"set data.crop_seconds=null data.crop_frames={-(-dialect.n_fft // dialect.hop_length)} or more"
        )


def _shortest(config: Config, *, dialect: MelDialect | None) -> int:
    """Return the length of the shortest crop that could be trained on, which is quick to compute."""
    if dialect is None:
        return min(crop_samples(config), 256)
    return -(-dialect.n_fft // dialect.hop_length) * dialect.hop_length


def _try_grid(module: TrainingStep, *, process: Process) -> None:
    """Check the grid and the solver of sampling, and its first sigma against training and process."""
    model = module.synthesizer
    try:
        first = float(model.sampler.grid(model.sampler.n_steps)[0])
        model.check_sampling()
    except ParameterError as error:
        raise ParameterError(f"sampler: {error}") from error
    for problem in range_problems(
        process=process, preconditioning=model.denoiser.preconditioning, density=module.density, first=first
    ):
        raise ParameterError(problem)


def _try(module: TrainingStep, *, n_channels: int, n_samples: int) -> None:
    """Compute one loss on silence, to find what does not fit between conditioner, network and objective."""
    model = module.synthesizer
    audio = torch.zeros(1, n_channels, n_samples)
    condition = model.conditioner(audio)
    try:
        with torch.no_grad():
            encoded = model.denoiser.bind(condition).encoded
            module(Float32Batch(audio), torch.Generator())
    except (AudiodiffError, RuntimeError, IndexError) as error:
        if condition.frames is None and model.dialect is not None and not model.representation.makes_mel:
            raise ParameterError(
                f"conditioner=none, and the network needs a mel spectrogram ({str(error).splitlines()[0]}): choose "
                "conditioner=mel, or network=spectral_unconditional or network=wavenet"
            ) from error
        raise ParameterError(f"the parts do not fit together: {str(error).splitlines()[0]}") from error
    if condition.frames is not None and encoded.frames is None and encoded.signal is None:
        raise ParameterError(
            "conditioner=mel gives the network a mel spectrogram, and this network ignores it: choose "
            "network=spectral or network=diffwave, or conditioner=none"
        )


def _dialect_problems(config: Config, *, dialect: MelDialect | None) -> Iterator[str]:
    """Refuse parts that need a mel dialect where audio has none."""
    for name, other in (("conditioner", "none"), ("representation", "waveform")):
        if dialect is None and config["audio"].get("dialect") is None and "dialect" in config[name]:
            yield f"{name} needs a mel dialect, and audio has none: choose audio=hifigan, or {name}={other}"
    node = config["audio"].get("dialect")
    if isinstance(node, Mapping) and "stats=" in str(node.get("name")):
        yield (
            f"audio.dialect.name={node['name']} names a file, which the checkpoint would need: give the numbers, as in "
            "+audio.dialect.mean=-5.5 +audio.dialect.std=2.1, or lists of one for each band"
        )


def _mels_problems(config: Config) -> Iterator[str]:
    """Refuse mels of another system where nothing is conditioned on them."""
    mels = config["data"].get("mels")
    if mels is None:
        return
    if not str(config["conditioner"]["_target_"]).endswith(".MelConditioner"):
        yield f"data.mels={mels} has no meaning for a model without conditioner=mel: set data.mels=null"
    method = str(config["method"]["_target_"]).rpartition(".")[2]
    if method in ("OnGeneratedMels", "Restoration"):
        yield f"data.mels={mels} and a method that makes mels itself, {method}: choose one of them"


def _channel_problems(config: Config, *, representation: Representation, conditioner: Conditioner) -> Iterator[str]:
    """Compare the channels of the data, the representation and the network."""
    n_channels, network = config["data"]["n_channels"], config["network"]
    if n_channels != 1 and (conditioner.needs_mel or representation.makes_mel):
        yield f"data.n_channels={n_channels} must be 1: a mel spectrogram is made from mono audio"
        return
    channels = representation.channels
    if network.get("in_channels", channels) != channels:
        yield (
            f"network.in_channels={network['in_channels']} must be the {channels} channels of the representation: "
            f"set network.in_channels={channels}"
        )
    given = network.get("out_channels")
    if config["model"]["denoiser"].get("learns_variance"):
        if given != 2 * channels:
            yield (
                f"model.denoiser.learns_variance=true with network.out_channels={given}: set network.out_channels="
                f"{2 * channels}, half of them for the variance, in network=wavenet or network=diffwave"
            )
    elif given not in (None, channels):
        yield (
            f"network.out_channels={given} must be the {channels} channels of the representation, unless objective="
            "hybrid learns a variance with model.denoiser.learns_variance=true: set network.out_channels=null"
        )


def _clock_problems(process: Process, *, embedding: Embedding, preconditioning: Preconditioning) -> Iterator[str]:
    """Compare the embedding of the noise level with the range of c_noise."""
    counts = isinstance(process, DiscreteVP) and not isinstance(preconditioning, EDM)
    n_steps = len(process.betas) if isinstance(process, DiscreteVP) and counts else None
    n_known = embedding.table.shape[0] if isinstance(embedding, StepTable) else None
    if n_steps == n_known:
        return
    if n_steps is None:
        yield (
            f"network.embedding has {n_known} steps and the clock of the process is continuous: choose "
            "process=diffwave50 or diffwave200 with preconditioning=epsilon, or another network"
        )
    elif n_known is None:
        yield (
            f"the process has {n_steps} steps and network.embedding expects a clock in [0, 1]: choose "
            "another process, or network=diffwave"
        )
    else:
        yield (
            f"network.embedding.n_steps={n_known} must be the process's {n_steps} steps: "
            f"set network.embedding.n_steps={n_steps}"
        )


def range_problems(
    *, process: Process, preconditioning: Preconditioning, density: SigmaDistribution, first: float
) -> Iterator[str]:
    """Compare the noise levels of training with the range of the process and with the start of sampling.

    Args:
        first: the first sigma of sampling.
    """
    least, greatest = sigma_range(process)
    timed = not isinstance(preconditioning, EDM)
    if not math.isfinite(first):
        yield "sampler.grid starts where alpha_t is 0 and sigma infinite: set sampler.grid.t_start=0.999"
        return
    if timed and first > greatest * (1.0 + 1e-6):
        yield (
            f"the sampler starts at sigma={first:.4g}, and the clock of the process ends at sigma={greatest:.4g}, "
            "beyond which the network was not trained: choose sampler=flow, or another process"
        )
        return
    with torch.no_grad():
        drawn = density(N_DRAWN, generator=torch.Generator().manual_seed(0)).double()
        beyond = float(((drawn < 0.999 * least) | (drawn > 1.001 * greatest)).double().mean())
        levels = torch.stack([drawn.min(), drawn.max(), drawn.new_tensor(first)])
        lowest, highest, start = preconditioning(levels).c_noise.tolist()
    if timed and beyond > 0.01:
        yield (
            f"density draws {100 * beyond:.0f} % of its noise levels outside sigma={least:.4g} to {greatest:.4g}, "
            "where the clock of the process ends: choose density=uniform_time, or preconditioning=edm"
        )
    elif start > highest + FAR * (highest - lowest):
        yield (
            f"the sampler starts at sigma={first:.4g}, far beyond sigma={float(drawn.max()):.4g}, the noisiest that "
            "density draws: choose a grid that starts lower, as sampler=flow does with density=uniform_time, or a "
            "density that reaches further"
        )
