"""Low-rank adapters: they start as nothing, train alone, resume to the bit, and merge into what they computed."""

from pathlib import Path

import pytest
import runs
import torch
from torch import nn

import audiodiff
from audiodiff.condition import Condition
from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.models import checkpoint, registry
from audiodiff.models.adapter import LAYERS, AdapterSettings, adapter_weights, add_adapters, apply_adapters
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.run import build


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    run = tmp_path_factory.mktemp("base") / "run"
    torch.set_num_threads(1)
    runs.trained(recordings, run, "train.steps=2", "optimizer.lr=0.01", "validation.n_examples=0")
    return run


def adapting(base: Path, *more: str) -> tuple[str, ...]:
    return (f"train.init_from={base}", "train.lora.rank=2", "optimizer.lr=0.01", "validation.n_examples=0", *more)


def loaded(where: Path) -> Synthesizer:
    model = audiodiff.load(str(where), device="cpu")
    assert isinstance(model, Synthesizer)
    return model


def output(model: Synthesizer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    assert model.dialect is not None
    mel = model.dialect.mel(0.1 * torch.randn(1, 2048, generator=generator))
    x = 0.1 * torch.randn(1, 1, 2048, generator=generator)
    with torch.no_grad():
        return model.denoiser.bind(Condition(frames=mel))(x, torch.tensor([0.05]))


def test_a_new_adapter_changes_nothing_and_has_the_formulas_size(base: Path):
    model = loaded(base)
    before = output(model)
    network = model.denoiser.network
    assert isinstance(network, nn.Module)
    shapes = [(m.weight.shape[0], m.weight[0].numel()) for m in network.modules() if isinstance(m, LAYERS)]
    add_adapters(model, AdapterSettings(3, 3.0), seed=0)
    assert torch.equal(output(model), before)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == sum(min(3, rows, columns) * (rows + columns) for rows, columns in shapes)


def test_a_merged_model_equals_the_adapted_one_to_rounding(base: Path):
    adapted, merged, settings = loaded(base), loaded(base), AdapterSettings(2, 5.0)
    add_adapters(adapted, settings, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1, generator=generator)
    apply_adapters(merged, adapter_weights(adapted.state_dict()), settings, where=Path("adapter"))
    changed = output(adapted)
    torch.testing.assert_close(output(merged), changed, rtol=1e-5, atol=1e-6)
    assert float((changed - output(loaded(base))).abs().max()) > 1e-3


def test_training_moves_the_adapters_alone_and_saves_them_apart(base: Path, recordings: Path, tmp_path: Path):
    run = tmp_path / "run"
    ready = build(runs.config(recordings, *adapting(base, "train.steps=2", "train.ema_decay=0.0")), run=run)
    model = ready.learner.module.synthesizer
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    ready.fit()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad or torch.equal(parameter, frozen[name])
    folder = registry.find(run)
    assert not (folder / registry.WEIGHTS).exists()
    n_bytes = (folder / registry.ADAPTER).stat().st_size
    assert n_bytes < (registry.find(base) / registry.WEIGHTS).stat().st_size
    assert not torch.equal(output(loaded(run)), output(loaded(base)))
    torch.testing.assert_close(output(loaded(run)), output(model.eval()), rtol=1e-5, atol=1e-6)


def test_a_resumed_run_of_adapters_equals_one_without_a_stop(base: Path, recordings: Path, tmp_path: Path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    runs.trained(recordings, whole, *adapting(base, "train.steps=4"))
    runs.trained(recordings, parts, *adapting(base, "train.steps=2"))
    runs.resumed(recordings, parts, *adapting(base, "train.steps=4"))
    for name in ("model", "ema", "optimizer", "adapter"):
        runs.assert_same(runs.state(whole)[name], runs.state(parts)[name])


def test_a_run_merged_by_the_command_needs_its_base_no_longer(base: Path, recordings: Path, tmp_path: Path):
    from audiodiff.cli.merge import merge_command

    run = tmp_path / "run"
    runs.trained(recordings, run, *adapting(base, "train.steps=1"))
    merge_command(str(run), tmp_path / "merged")
    assert torch.equal(output(loaded(tmp_path / "merged")), output(loaded(run)))
    with pytest.raises(ParameterError, match="has no adapters"):
        merge_command(str(tmp_path / "merged"), tmp_path / "again")


def test_an_adapter_of_another_or_a_missing_base_is_refused(base: Path, recordings: Path, tmp_path: Path):
    run = tmp_path / "run"
    runs.trained(recordings, run, *adapting(base, "train.steps=1"))
    config = registry.find(run) / checkpoint.CONFIG
    text = config.read_text()
    config.write_text(text.replace(str(registry.find(base).resolve()), str(tmp_path / "gone")))
    with pytest.raises(CheckpointError, match=r"missing.*adapter\.base"):
        loaded(run)
    config.write_text(text.replace("sha256: ", "sha256: 0"))
    with pytest.raises(CheckpointError, match="has other weights"):
        loaded(run)


def test_adapters_without_a_trained_model_are_refused(recordings: Path, tmp_path: Path):
    with pytest.raises(ParameterError, match=r"train\.init_from=RUN"):
        build(runs.config(recordings, "train.lora.rank=2"), run=tmp_path / "run")
    for rank in ("-1", "1.5"):
        with pytest.raises(ParameterError, match=r"train\.lora\.rank"):
            build(runs.config(recordings, f"train.lora.rank={rank}", "train.init_from=x"), run=tmp_path / "run")
