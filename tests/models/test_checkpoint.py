"""A checkpoint is whole or absent, says what does not fit, and runs nothing that is not a part of a model."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import runs
import tiny
import torch
import yaml
from safetensors.torch import load_file, save_file

import audiodiff
from audiodiff.errors import CheckpointError, MelError, TrainingError
from audiodiff.models import checkpoint, registry
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.state import read_state


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return tiny.save(tmp_path_factory.mktemp("made") / "model", tiny.VOCODER)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "model")


def edit(folder: Path, *keys: str | int, value: Any) -> None:
    """Change one field of config.yaml."""
    config = yaml.safe_load((folder / checkpoint.CONFIG).read_text())
    node = config
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    (folder / checkpoint.CONFIG).write_text(yaml.safe_dump(config))


def save_again(folder: Path, model: Synthesizer, *, metrics: dict[str, float]) -> None:
    config = checkpoint.read_config(folder)
    checkpoint.save(
        folder,
        model=config["model"],
        sample_rate=config["sample_rate"],
        mel_dialect=model.dialect,
        weights=model.state_dict(),
        metrics=metrics,
        card="",
    )


def test_a_loaded_model_is_the_saved_one(folder: Path):
    torch.manual_seed(0)
    saved, loaded = tiny.synthesizer(tiny.VOCODER), audiodiff.load(folder, device="cpu")
    runs.assert_same(dict(loaded.state_dict()), dict(saved.state_dict()))
    assert (loaded.sample_rate, loaded.dialect) == (saved.sample_rate, saved.dialect)
    assert not loaded.training
    audio = 0.1 * torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.generate(loaded.mel(audio)), saved.generate(saved.mel(audio)))


def test_a_save_that_fails_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch):
    model = tiny.synthesizer(tiny.VOCODER)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for broken in ("safetensors.torch.save_file", "os.fsync", "json.dumps"):
        with monkeypatch.context() as patch:

            def fail(*_: object, **__: object) -> None:
                raise OSError("No space left on device")

            patch.setattr(broken, fail)
            with pytest.raises(OSError, match="No space"):
                save_again(folder, model, metrics={"loss": 2.0})
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_save_over_an_old_one_replaces_it_whole(folder: Path):
    (folder / "stray").write_text("")
    save_again(folder, tiny.synthesizer(tiny.VOCODER), metrics={"loss": 2.0})
    assert '"loss": 2.0' in (folder / checkpoint.METRICS).read_text()
    assert not (folder / "stray").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_latest_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    registry.point_latest(tmp_path, "step_1")

    def fail(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="killed"):
            registry.point_latest(tmp_path, "step_2")
    assert (tmp_path / "latest").read_text() == "step_1\n"
    registry.point_latest(tmp_path, "step_2")
    assert (tmp_path / "latest").read_text() == "step_2\n"


def test_a_model_is_found_by_run_by_checkpoints_and_by_step(made: Path, tmp_path: Path, monkeypatch):
    checkpoints = tmp_path / "run" / "checkpoints"
    for name in ("step_1", "step_2"):
        shutil.copytree(made, checkpoints / name)
    (checkpoints / ".step_3.123.new.tmp").mkdir()
    registry.point_latest(checkpoints, "step_2")
    assert registry.find(tmp_path / "run") == checkpoints / "step_2"
    assert registry.find(checkpoints) == checkpoints / "step_2"
    assert registry.find(checkpoints / "step_1") == checkpoints / "step_1"
    monkeypatch.setattr(registry, "SHIPPED", checkpoints)
    assert registry.find("step_1") == checkpoints / "step_1"
    with pytest.raises(CheckpointError, match=r"model='nobody' does not exist: .*none, .*step_1, step_2"):
        registry.find("nobody")
    with pytest.raises(CheckpointError, match=r"holds no config.yaml"):
        registry.find(tmp_path)


def test_pruning_keeps_the_newest(tmp_path: Path):
    for step in (1, 2, 3, 4, 9):
        (tmp_path / f"step_0{step}").mkdir()
    registry.prune(tmp_path, newest="step_04", keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_03", "step_04", "step_09"]


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "audiodiff.models.checkpoint.os.system",
        "audiodiff.networks.wavenet.torch.load",
        "audiodiff.networks.wavenet.nn.Linear",
        "audiodiff.cli.train.command",
        "audiodiff.io.audio.write",
        "audiodiff.models.checkpoint.save",
        "audiodiff_evil.Model",
        "${oc.env:HOME}",
        7,
    ],
)
def test_what_is_no_part_of_a_model_is_refused_by_field(target: object, folder: Path, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("was called")

    monkeypatch.setattr(os, "system", never)
    edit(folder, "model", "denoiser", "network", "_target_", value=target)
    with pytest.raises(CheckpointError, match=r"model\.denoiser\.network\._target_=.* refused as unsafe"):
        checkpoint.load(folder)


def test_unsafe_targets_are_found_in_lists_and_interpolations_anywhere(folder: Path):
    edit(folder, "model", "sampler", "grid", value=[{"_target_": "os.getcwd"}])
    with pytest.raises(CheckpointError, match=r"model\.sampler\.grid\.0\._target_='os.getcwd'"):
        checkpoint.load(folder)
    edit(folder, "model", "sampler", "grid", value="${oc.env:HOME}")
    with pytest.raises(CheckpointError, match=r"model\.sampler\.grid=.* must be resolved"):
        checkpoint.load(folder)


def test_config_is_read_without_making_objects(folder: Path):
    (folder / checkpoint.CONFIG).write_text("format: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        (("format",), 2, "format=2 is newer than 1"),
        (("format",), "new", "format must be a whole number"),
        (("model",), None, "model a mapping"),
        (("sample_rate",), 8000, "sample_rate=8000 is not the model's, 22050"),
        (("dialect", "f_max"), 4000.0, r"dialect\.f_max=4000.0 is not what the model node builds, 8000.0"),
        (("dialect",), None, "dialect must be that of the model node"),
        (("model", "denoiser", "network", "n_layers"), 0, "the model node does not build: n_layers=0"),
        (("model", "_target_"), "audiodiff.networks.embedding.Nothing", "does not exist in audiodiff"),
        (("model",), {"_target_": "audiodiff.networks.embedding.Sinusoidal"}, "must be audiodiff.models.synthesizer"),
    ],
)
def test_an_edited_field_is_refused_by_name(keys: tuple[str, ...], value: object, named: str, folder: Path):
    edit(folder, *keys, value=value)
    with pytest.raises(CheckpointError, match=named):
        checkpoint.load(folder)


def test_weights_that_do_not_fit_are_named(folder: Path):
    path, name = folder / checkpoint.WEIGHTS, "denoiser.network.skip_projection.bias"
    weights = load_file(path)
    for changed, named in (
        ({key: value for key, value in weights.items() if key != name}, f"the weight {name} of the model is missing"),
        (weights | {"extra": torch.zeros(1)}, "the weight extra is not one of the model's"),
        (weights | {name: torch.zeros(3)}, rf"{name} has shape \(3,\), the model \(8,\)"),
    ):
        save_file(changed, path)
        with pytest.raises(CheckpointError, match=named):
            checkpoint.load(folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        checkpoint.load(folder)


def test_another_dialect_than_the_models_is_refused(folder: Path):
    assert audiodiff.load(folder, dialect="hifigan", device="cpu").dialect.name == "hifigan"
    with pytest.raises(MelError):
        audiodiff.load(folder, dialect="tacotron2", device="cpu")


def test_the_training_state_is_loaded_without_unpickling(folder: Path, tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"step": Evil()}, folder / checkpoint.STATE)
    with pytest.raises(TrainingError, match="damaged"):
        read_state(str(folder), wanted={}, exact=True)
    assert not (tmp_path / "evil").exists()
    assert audiodiff.load(folder, device="cpu").sample_rate == 22050


def test_a_checkpoint_with_the_names_of_0_1_loads_with_a_warning_until_it_is_rewritten(folder: Path):
    """One old name of each kind: a class in a module that moved, a renamed class, a renamed key."""
    path = folder / checkpoint.CONFIG
    expected = audiodiff.load(folder, device="cpu").state_dict()
    text = path.read_text()
    old = text.replace("audiodiff.models.synthesizer.", "audiodiff.synthesizer.").replace(
        "warm_start:", "starts_from_mel:"
    )
    old = old.replace("audiodiff.networks.step_size.StepSizeEmbedding", "audiodiff.networks.horizon.HorizonEncoder")
    assert old != text
    path.write_text(old)
    with pytest.warns(FutureWarning, match="audiodiff.synthesizer.Synthesizer is now audiodiff.models.synthesizer"):
        loaded = audiodiff.load(folder, device="cpu").state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in expected.items())
    checkpoint.upgrade(folder)
    audiodiff.load(folder, device="cpu")
    assert "starts_from_mel" not in path.read_text()
    assert "audiodiff.synthesizer" not in path.read_text()


def test_every_file_of_a_checkpoint_respects_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        saved = tiny.save(tmp_path / "model", tiny.VOCODER)
    finally:
        os.umask(before)
    files = [path for path in saved.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {checkpoint.CONFIG, checkpoint.WEIGHTS}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o640"}
