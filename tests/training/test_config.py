"""Every recipe and every option composes and builds; what cannot fit together is one readable line with its remedy."""

import math
from pathlib import Path

import pytest
import tiny
import torch

from audiodiff.errors import ParameterError
from audiodiff.labels import LabelSet
from audiodiff.networks.wavenet import WaveNet
from audiodiff.training.building import build_training_step, with_labels
from audiodiff.training.config import compose, config_folder, instantiate, plain, recipe_root
from audiodiff.training.datasets import crop_samples
from audiodiff.training.log import build_logs
from audiodiff.training.step import TrainingStep

SMALL = ("network.channels=8", "network.n_layers=2", "data.root=embedded")
RECIPES = sorted(f"{path.parent.name}/{path.stem}" for path in (recipe_root() / "recipes").glob("*/*.yaml"))
TEACHER, FIRST_STAGE = "train.init_from=", "method.first_stage.where="
STUDENTS = ("techniques/progressive", "techniques/consistency", "techniques/reflow")
# What else has to be chosen for an option to fit; after TEACHER goes the folder of a trained model.
FAIR = "objective.by_noisy=true"
COUNTING = ("process=diffwave50", "density=discrete", "preconditioning=epsilon")
REFINING = (
    "network=spectral_refiner",
    "objective=mrstft",
    "method=refinement",
    "model.warm_start=true",
)
ALSO = {
    "audio=plain": (FAIR, "conditioner=none", "network=spectral_unconditional"),
    "conditioner=degraded": (FAIR, "network=spectral_restorer", "method=restoration"),
    "method=restoration": (FAIR, "network=spectral_restorer", "conditioner=degraded"),
    "network=spectral_restorer": (FAIR, "conditioner=degraded", "method=restoration"),
    "network=spectral_refiner": REFINING,
    "objective=mrstft": REFINING,
    "method=refinement": REFINING,
    "conditioner=labels": (FAIR, "network=wavenet", "data.labels={class: folder}"),
    "conditioner=none": (FAIR, "network=spectral_unconditional"),
    "network=spectral_unconditional": (FAIR, "conditioner=none"),
    "network=wavenet": (FAIR, "conditioner=none"),
    "network=diffwave": COUNTING,
    "representation=log_mel": (
        "conditioner=none",
        "network=wavenet",
        "network.in_channels=80",
        "objective=plain_l2",
    ),
    "process=diffwave50": ("network=diffwave",),
    "process=diffwave200": ("network=diffwave", "network.embedding.n_steps=200"),
    "density=discrete": ("network=diffwave", "process=diffwave50"),
    "process=cosine_discrete": ("network=diffwave", "network.embedding.n_steps=200"),
    "process=edm": ("preconditioning=edm", "density=log_normal", "sampler=karras"),
    "process=variational": ("density=variational",),
    "density=variational": ("process=variational",),
    "objective=hybrid": (
        "network=diffwave",
        *COUNTING,
        "model.denoiser.learns_variance=true",
        "++network.out_channels=2",
    ),
    "method=consistency": ("sampler.solver.name=consistency", TEACHER),
    "method=progressive": ("sampler.n_steps=4", TEACHER),
    "method=reflow": (TEACHER,),
    "method=on_generated_mels": (FIRST_STAGE,),
    "method=shortcut": (
        "sampler.n_steps=2",
        "sampler.solver.name=shortcut",
        "++network.vector_features=64",
        "model.denoiser.step_size={_target_:audiodiff.networks.step_size.StepSizeEmbedding,process:${process},n_features:64}",
    ),
    "sampler=diffwave_fast": ("network=diffwave", *COUNTING),
    "sampler=ddim": ("network=diffwave", *COUNTING),
    "sampler=discrete": ("network=diffwave", *COUNTING),
}
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}" for path in config_folder().glob("*/*.yaml") if path.parent.name != "hydra"
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("teacher") / "model", list(SMALL))


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("first_stage") / "model", tiny.LOG_MEL)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vocabularies = "conditioner.vocabularies={digit: [one, other], speaker: [one, other]}"
    overrides = ["recipes=fsdd/mel", *SMALL, vocabularies, "network.vector_features=4"]
    return tiny.save(tmp_path_factory.mktemp("digits") / "model", overrides)


def composed(*overrides: str) -> dict:
    return plain(compose([*SMALL, *overrides]))


def built(config: dict) -> TrainingStep:
    labels = LabelSet(dict.fromkeys(config["data"]["labels"], ("one", "other")))
    return build_training_step(with_labels(config, labels))


def test_the_recipes_are_those_that_are_promised():
    assert {
        "quickstart/vocoder",
        "quickstart/mel",
        "ljspeech/vocoder",
        "music/vocoder",
        "sc09/unconditional",
        "folder/vocoder",
        "folder/unconditional",
    } <= set(RECIPES)


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if not recipe.endswith("/classifier")])
def test_every_recipe_composes_and_builds(recipe: str, teacher: Path, digits: Path):
    more = (f"{TEACHER}{teacher}",) if recipe in STUDENTS else ()
    if recipe == "fsdd/vocoder_finetune":
        more = (f"{FIRST_STAGE}{digits}",)
    config = composed(f"recipes={recipe}", *more)
    module = built(config)
    assert module.synthesizer.sample_rate == config["audio"]["sample_rate"]
    for name in ("optimizer", "lr_schedule"):
        assert callable(instantiate(config[name], name=name))
    assert len(build_logs(config["logger"])) == len(config["logger"])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes_and_builds(option: str, teacher: Path, first_stage: Path):
    found = {TEACHER: teacher, FIRST_STAGE: first_stage}
    also = (f"{other}{found[other]}" if other in found else other for other in ALSO.get(option, ()))
    config = composed(option, *also)
    built(config)
    for name in ("optimizer", "lr_schedule"):
        assert callable(instantiate(config[name], name=name))
    assert len(build_logs(config["logger"])) == len(config["logger"])


def test_a_recipe_beats_the_defaults_and_the_command_line_beats_the_recipe():
    assert composed()["train"]["steps"] == 1000
    assert composed("recipes=folder/vocoder")["train"]["steps"] == 20000
    assert composed("recipes=folder/vocoder", "train.steps=7")["train"]["steps"] == 7
    assert composed("recipes=ljspeech/vocoder")["optimizer"]["_target_"] == "torch.optim.Adam"
    assert composed("recipes=ljspeech/vocoder", "optimizer=sgd")["optimizer"]["_target_"] == "torch.optim.SGD"
    assert composed("recipes=ljspeech/vocoder", "debug=two_steps")["train"]["steps"] == 2


def test_a_folder_of_ones_own_adds_recipes(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("# @package _global_\nseed: 9\n")
    config = compose(["recipes=mine"], config_folders=(tmp_path,))
    assert config.seed == 9


REFUSED = {
    "audio.n_fft=200": "hop_length=256",
    "audio.f_max=20000.0": "f_max=20000.0 Hz must not pass half of sample_rate=22050 Hz; give f_max=11025.0 or less",
    "data.crop_seconds=1.0 data.crop_frames=null": (
        "must be a multiple of audio.hop_length=256: set data.crop_seconds=null data.crop_frames=86"
    ),
    "data.crop_frames=2": "at least one window of n_fft=1024: set data.crop_seconds=null data.crop_frames=4 or more",
    "data.crop_frames=0": "data.crop_frames=0 must be a whole number, at least 1",
    "data.crop_frames=1.5": "data.crop_frames=1.5 must be a whole number",
    "data.crop_frames=null": "data.crop_frames=None and data.crop_seconds=None: set exactly one of them",
    "data.crop_seconds=1.0": "data.crop_frames=64 and data.crop_seconds=1.0: set exactly one of them",
    "data.n_channels=2": "data.n_channels=2 must be 1: a mel spectrogram is made from mono audio",
    "data.n_channels=2 conditioner=none objective.by_noisy=true network=spectral_unconditional": "channels=2 must be 1",
    "network=diffwave process=diffwave50 network.in_channels=2": "set network.in_channels=1",
    "representation=log_mel conditioner=none network=wavenet objective=plain_l2": "set network.in_channels=80",
    "network=diffwave": "has 50 steps and the clock of the process is continuous: choose process=",
    "network=diffwave process=diffwave50 preconditioning=edm": "has 50 steps and the clock of the process is",
    "network=diffwave process=diffwave200": "set network.embedding.n_steps=200",
    "process=diffwave50": "the process has 50 steps and network.embedding expects a clock in [0, 1]: choose",
    "density=discrete": "density=discrete draws the steps of a table, and this process has none: choose",
    "density=log_normal network=diffwave process=diffwave50": "noise levels that the steps of the process do not reach",
    "sampler=discrete": "visits the steps of a table, and this process has none: choose sampler=flow",
    "sampler=diffwave_fast process=vp_linear sampler.n_steps=8": "n_steps=8 must be 6",
    "conditioner=none network=spectral_unconditional": "set objective.by_noisy=true",
    "conditioner=labels objective=plain_l2": "say where they are found, as in 'data.labels={digit: label}'",
    "network=wavenet": "this network ignores it: choose network=spectral or network=diffwave, or conditioner=none",
    "conditioner=none objective.by_noisy=true": "of 80 bands): choose conditioner=mel, or network=",
    "conditioner=none objective=plain_l2 network=diffwave process=diffwave50": "80 features of it): choose",
    "sampler=karras network=diffwave process=diffwave50": "starts at sigma=80, and the clock of the process ends at "
    "sigma=1.605, beyond which the network was not trained: choose sampler=flow",
    "process=ve preconditioning=velocity": "the network's target would grow with the noise, up to sigma=80; choose",
    "process=edm density=log_normal sampler=karras": "tell small noise levels apart; choose preconditioning=edm",
    "process=edm preconditioning=edm sampler=karras": "nearly every example would be noise; choose density=log_normal",
    "process=edm preconditioning=edm density=log_normal": "nearly every step would be in noise; choose sampler=karras",
    "process=variational": "each of them needs the other: choose both, or density=uniform_time with another process",
    "process=variational density=variational preconditioning=edm": "would not be saved; choose preconditioning=v",
    "objective=vdm process=variational density=variational preconditioning=v": "as density=variational does",
    "objective=vdm density=log_normal": "a bound where the clock is drawn uniformly: choose density=uniform_time",
    "objective=vdm objective.power._target_=audiodiff.diffusion.objective.Absolute": "weights the squared error of x0",
    "network=diffwave process=diffwave50 objective=vdm": "this process has steps: choose objective=hybrid",
    "sampler.solver.name=adaptive sampler.n_steps=1": "sampler: sigmas=",
    "sampler.solver.name=ddpm +sampler.solver.variance=learned": "and this denoiser does not learn it: set model",
    "model.denoiser.learns_variance=true": "this objective does not train the variance: choose objective=hybrid",
    "method=progressive sampler.solver.name=heun": "set sampler.solver.name=euler",
    "sampler.solver.name=shortcut": "has no step size as input: choose recipes=techniques/shortcut, or",
    "density=log_normal density.mean=5.0 process=ve": "of its noise levels outside sigma=0.002 to 80, where the clock",
    "density=log_normal density.mean=-5.0 preconditioning=edm sampler=karras": "the noisiest that density draws:",
    "++sampler.grid.t_start=1.0": "set sampler.grid.t_start=0.999",
    "sampler=diffwave_fast": "process=Flow must preserve the variance for a start from x_t ~ N(0, 1): choose",
    "sampler=diffwave_fast process=ve": "process=VE must preserve the variance for a start from x_t ~ N(0, 1): choose",
    "audio=plain": "conditioner needs a mel dialect, and audio has none: choose audio=hifigan, or conditioner=none",
    "network=diffwave process=diffwave50 network.frame_bands=100": "has 80 features and this network needs 100",
    "network=diffwave process=diffwave50 +network.upsample._target_=audiodiff.networks.upsample.Upsampler "
    "+network.upsample.hop_length=256 +network.upsample.factors=[16,8]": "16 * 8 = 128 must multiply to hop_length=256",
    "network.kernel_size=2": "network: kernel_size=2 must be odd and positive",
    "network.hop_length=4000": "hop_length=4000 must be at most half of n_fft=",
    "audio.dialect.name=nobody": "nobody",
    "process._target_=audiodiff.diffusion.process.Nothing": "process: ",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_a_refusal_is_one_line_with_its_remedy(overrides: str):
    with pytest.raises(ParameterError) as raised:
        build_training_step(composed(*overrides.split()))
    assert REFUSED[overrides] in str(raised.value)
    assert str(raised.value).count("\n") == 0


def test_each_of_several_problems_has_its_line():
    with pytest.raises(ParameterError) as raised:
        build_training_step(composed("process=diffwave50", "preconditioning=epsilon", "data.crop_frames=1"))
    assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(ParameterError) as raised:
        build_training_step(composed("objective=hybrid"))
    assert len(str(raised.value).splitlines()) == 2
    with pytest.raises(ParameterError) as raised:
        build_training_step(composed("density=discrete", "sampler=discrete"))
    assert len(str(raised.value).splitlines()) == 2


def test_edm_tells_a_continuous_clock_whatever_the_process():
    build_training_step(composed("process=diffwave50", "preconditioning=edm"))


def test_a_crop_is_as_long_as_it_says():
    assert crop_samples(composed()) == 64 * 256
    seconds = composed("recipes=folder/unconditional", "data.crop_seconds=0.5")
    assert crop_samples(seconds) == 11025


def test_an_interpolation_to_nowhere_is_said_in_one_line():
    with pytest.raises(ParameterError, match=r"does not resolve: .*nowhere") as raised:
        plain(compose(["data.root=${nowhere}"]))
    assert "\n" not in str(raised.value)


def test_an_untrained_model_starts_from_a_finite_loss():
    module = build_training_step(composed())
    from audiodiff.training.step import Float32Batch

    audio = 0.1 * torch.randn(2, 1, 4096, generator=torch.Generator().manual_seed(0))
    losses, _, sigma = module(Float32Batch(audio), torch.Generator().manual_seed(0))
    assert all(math.isfinite(value) for value in [*losses.tolist(), *sigma.tolist()])


class OutsideNetwork(WaveNet):
    """A network as somebody writes it in a file of their own."""


@pytest.mark.parametrize("target", [f"{__name__}.OutsideNetwork", "torch.nn.Conv1d"])
def test_a_network_from_outside_is_refused_before_training(target: str):
    with pytest.raises(ParameterError) as refusal:
        build_training_step(composed("network=wavenet", f"network._target_={target}"))
    assert str(refusal.value) == (
        f"network._target_={target} lies outside of audiodiff, so that a checkpoint with it could not be loaded: "
        f"give --trust {target.partition('.')[0]}, here and to every command that loads it, or put the class into a "
        "module in audiodiff/networks/ of a checkout (pip install -e .)"
    )
