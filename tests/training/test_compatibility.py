"""Every process x preconditioning x density x objective either trains or is refused, with its groups and a remedy."""

import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import tiny
import torch
from omegaconf import DictConfig, OmegaConf

from audiodiff.errors import ParameterError
from audiodiff.training.building import build_training_step
from audiodiff.training.compatibility import check_choices
from audiodiff.training.config import compose, config_folder, instantiate, plain
from audiodiff.training.step import Float32Batch

GROUPS = ("process", "preconditioning", "density", "objective")
CHOICES = {group: sorted(path.stem for path in (config_folder() / group).glob("*.yaml")) for group in GROUPS}
MATRIX = list(itertools.product(*CHOICES.values()))
TINY = (
    *("network.channels=4", "network.n_layers=1", "network.dilation_cycle=1", "++network.step_features=4"),
    *("audio.sample_rate=8000", "audio.n_fft=64", "audio.hop_length=16", "audio.win_length=64", "audio.n_mels=8"),
    *("audio.f_max=4000.0", "data.crop_frames=8"),
)


@cache
def _base(network: str) -> DictConfig:
    """Compose what the choices are put into."""
    more = () if network == "diffwave" else ("network.n_fft=64", "network.hop_length=16")
    config = compose([f"network={network}", *TINY, *more])
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    return config


@cache
def _option(group: str, name: str) -> DictConfig:
    loaded = OmegaConf.load(config_folder() / group / f"{name}.yaml")
    assert isinstance(loaded, DictConfig)
    return loaded


@cache
def _node(group: str, name: str, process: str) -> Mapping[str, Any]:
    """Resolve an option as it is under a process."""
    told = {other: _resolved("spectral")[other] for other in ("audio", "data", "train", "representation", "signal_std")}
    config = OmegaConf.create({**told, "process": _option("process", process), group: _option(group, name)})
    node = OmegaConf.to_container(config[group], resolve=True)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


@cache
def _resolved(network: str) -> dict[str, Any]:
    config = OmegaConf.to_container(_base(network), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _config(process: str, preconditioning: str, density: str, objective: str) -> dict[str, Any]:
    """Combine choices with the network, the sampler and the learnt variance that suit them."""
    betas = _node("process", process, process).get("betas")
    counts = betas is not None and preconditioning != "edm"
    hybrid = objective == "hybrid"
    refines = objective == "mrstft"
    network = "spectral_refiner" if refines else "diffwave" if counts or hybrid else "spectral"
    config = dict(_resolved(network))
    config["process"] = _node("process", process, process)
    chosen = {"preconditioning": preconditioning, "density": density, "objective": objective}
    chosen["sampler"] = "karras" if process == "edm" else "discrete" if counts else "flow"
    config |= {group: _node(group, name, process) for group, name in chosen.items()}
    if network == "diffwave":
        sinusoidal = {"_target_": "audiodiff.networks.embedding.Sinusoidal"}
        embedding = {**config["network"]["embedding"], "n_steps": _n_steps(betas)} if counts else sinusoidal
        config["network"] = {**config["network"], "embedding": embedding, "frame_bands": 8}
        if hybrid:
            config["network"]["out_channels"] = 2
    if objective == "spectral":
        config["objective"] = {**config["objective"], "n_fft": 64, "hop_length": 16, "n_bands": 16}
    if refines:
        config["objective"] = {**config["objective"], "windows": [16, 64]}
        config["method"] = {**_node("method", "refinement", process), "n_iterations": [1]}
    config["sampler"] = {**config["sampler"], "n_steps": 4}
    denoiser = {"network": config["network"], "preconditioning": config["preconditioning"]}
    denoiser = {**config["model"]["denoiser"], **denoiser, "learns_variance": hybrid}
    parts = {"denoiser": denoiser, "sampler": config["sampler"], "warm_start": refines}
    config["model"] = {**config["model"], **parts}
    return config


def _n_steps(betas: Any) -> int:
    return len(instantiate(betas, name="betas")) if isinstance(betas, dict) else len(betas)


@cache
def _process(name: str) -> Any:
    return instantiate(_node("process", name, name), name="process")


@cache
def _problems(combination: tuple[str, ...]) -> list[str]:
    return list(check_choices(_config(*combination), process=_process(combination[0])))


@cache
def _sensible() -> list[tuple[str, ...]]:
    return [combination for combination in MATRIX if not _problems(combination)]


def _covering(combinations: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Choose combinations that hold every option, and every process with every preconditioning that it suits."""
    seen: set[tuple[tuple[int, str], ...]] = set()
    order = torch.randperm(len(combinations), generator=torch.Generator().manual_seed(0)).tolist()
    for index in order:
        process, target, *others = enumerate(combinations[index])
        pairs = {(process, target), *((other,) for other in others)}
        if not pairs <= seen:
            seen |= pairs
            yield combinations[index]


def _trains_or_is_refused(combination: tuple[str, ...]) -> bool:
    """Build a combination and take two optimiser steps; return False where it is refused in words."""
    try:
        module = build_training_step(_config(*combination))
    except ParameterError as error:
        _assert_is_an_answer(str(error))
        return False
    audio = 0.1 * torch.randn(4, 1, 128, generator=torch.Generator().manual_seed(0))
    parameters = list(module.parameters())
    for step in range(2):
        total, plain, sigma = module(Float32Batch(audio), torch.Generator().manual_seed(step))
        assert bool(torch.isfinite(total).all()), combination
        gradients = torch.autograd.grad(total.mean(), parameters, allow_unused=True)
        module.density.update(sigma, plain)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                assert bool(torch.isfinite(gradient).all()), combination
                parameter.data -= 1e-4 * gradient
    return True


def _assert_is_an_answer(text: str) -> None:
    for line in text.splitlines():
        assert any(name in line for name in (*GROUPS, "sampler", "network", "model.")), line
        assert any(word in line for word in ("choose", "set ")), line


def test_every_refusal_of_the_matrix_names_a_group_and_a_remedy():
    for combination in MATRIX:
        for problem in _problems(combination):
            _assert_is_an_answer(problem)
            assert "\n" not in problem


def test_every_option_is_sensible_somewhere():
    for place, names in enumerate(CHOICES.values()):
        assert {combination[place] for combination in _sensible()} == set(names)


def test_every_option_and_every_suitable_preconditioning_trains():
    trained = {combination for combination in _covering(_sensible()) if _trains_or_is_refused(combination)}
    for place, names in enumerate(CHOICES.values()):
        assert {combination[place] for combination in trained} == set(names)


@pytest.mark.slow
def test_the_whole_matrix_trains_or_is_refused():
    n_trained = sum(_trains_or_is_refused(combination) for combination in MATRIX)
    assert 0.9 * len(_sensible()) < n_trained <= len(_sensible())


@pytest.mark.parametrize(
    ("chosen", "missing"),
    [
        (("conditioner=degraded",), "network=spectral_restorer and method=restoration"),
        (("network=spectral_restorer", "network.level=0.1"), "conditioner=degraded and method=restoration"),
        (("method=restoration", "network=spectral_restorer", "network.level=0.1"), "conditioner=degraded"),
        (("conditioner=degraded", "network=spectral_restorer"), "method=restoration"),
        (("preset=prior", "method=denoising"), "method=restoration"),
    ],
)
def test_the_parts_of_a_prior_are_refused_without_each_other(chosen: tuple[str, ...], missing: str):
    more = ["audio=plain", "objective.by_noisy=true", "validation=loss"]
    if "preset=prior" not in chosen:
        more.append("network=spectral_unconditional")
        more += [] if "conditioner=degraded" in chosen else ["conditioner=none"]
    config = plain(compose([*more, *chosen]))
    with pytest.raises(ParameterError, match=f"without {missing}"):
        build_training_step(config)


@pytest.mark.parametrize(
    ("override", "missing"),
    [
        ("model.warm_start=false", "model.warm_start=true"),
        ("network=spectral", "network=spectral_refiner"),
        ("method=denoising", "method=refinement"),
        ("objective=spectral", "objective=mrstft"),
    ],
)
def test_the_parts_of_a_refiner_are_refused_without_each_other(override: str, missing: str):
    config = plain(compose([*tiny.REFINING, override]))
    with pytest.raises(ParameterError, match=f"without {missing}: .* choose preset=refiner"):
        build_training_step(config)


@pytest.mark.parametrize("other", ["preconditioning=velocity", "process=vp_cosine"])
def test_a_refiner_predicts_the_sound_itself_on_a_flow(other: str):
    config = plain(compose([*tiny.REFINING, other]))
    with pytest.raises(ParameterError, match="choose process=flow preconditioning=sample"):
        build_training_step(config)


@pytest.mark.parametrize("other", ["preconditioning=velocity", "process=vp_cosine"])
def test_a_restorer_predicts_the_sound_itself_on_a_flow(other: str):
    config = plain(compose(["audio=plain", "preset=prior", "validation=loss", other]))
    with pytest.raises(ParameterError, match="choose process=flow preconditioning=sample"):
        build_training_step(config)
