"""A run that starts from a checkpoint starts as that model, and resumes as any other."""

import shutil
from pathlib import Path

import pytest
import runs
import torch
from safetensors.torch import load_file

import audiodiff
from audiodiff.errors import CheckpointError, ParameterError, TrainingError
from audiodiff.models import checkpoint, registry
from audiodiff.models.examples import training_example
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.building import build_training_step
from audiodiff.training.initial import start_from
from audiodiff.training.run import train
from audiodiff.training.step import Float32Batch, seed_step

HORIZON = (
    "++network.vector_features=8",
    "model.denoiser.step_size={_target_:audiodiff.networks.step_size.StepSizeEmbedding,process:${process},n_features:8}",
)
METHODS = {
    "progressive": ("method=progressive", "sampler.n_steps=2"),
    "consistency": ("method=consistency", "method.n_levels=3", "sampler.solver.name=consistency"),
    "reflow": ("method=reflow", "method.n_steps=2"),
    "shortcut": ("method=shortcut", "method.n_doublings=2", "sampler.solver.name=shortcut", *HORIZON),
}
MEL = (
    "representation=log_mel",
    "conditioner=none",
    "network=wavenet",
    "network.in_channels=80",
    "objective=plain_l2",
    "validation=loss",
    "model.n_iterations=1",
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    run = tmp_path_factory.mktemp("teacher") / "run"
    torch.set_num_threads(1)
    runs.trained(recordings, run, "train.steps=3", "optimizer.lr=0.01", "validation.n_examples=0")
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(registry.find(run) / checkpoint.WEIGHTS)


def started(teacher: Path, recordings: Path, *overrides: str, across: bool = False) -> Synthesizer:
    config = runs.config(recordings, *overrides)
    model = checkpoint.build(config["model"], where=Path("model"))
    start_from(str(teacher), synthesizer=model, model=config["model"], across=across)
    return model.eval()


def from_teacher(teacher: Path) -> str:
    return f"train.init_from={teacher}"


def test_a_run_without_learning_is_the_checkpoint_that_it_starts_from(teacher, recordings, tmp_path):
    runs.trained(
        recordings, tmp_path / "run", from_teacher(teacher), "train.steps=1", "optimizer=sgd", "optimizer.lr=0.0"
    )
    runs.assert_same(weights(tmp_path / "run"), weights(teacher))


def test_the_statistics_of_a_representation_come_from_the_checkpoint(recordings, tmp_path):
    still = (*MEL, "train.steps=1", "optimizer=sgd", "optimizer.lr=0.0")
    runs.trained(recordings, tmp_path / "first", *still)
    louder = runs.recordings(tmp_path / "others", seed=9)
    runs.trained(louder, tmp_path / "second", *still, from_teacher(tmp_path / "first"))
    runs.trained(louder, tmp_path / "alone", *still)
    first, second, alone = (weights(tmp_path / run) for run in ("first", "second", "alone"))
    statistics = [name for name in first if name.startswith("representation.")]
    assert statistics
    for name in statistics:
        assert torch.equal(first[name], second[name])
        assert not torch.equal(first[name], alone[name])


def test_a_student_with_a_new_step_size_embedding_starts_as_its_teacher(teacher, recordings):
    student = started(teacher, recordings, *METHODS["shortcut"])
    model = audiodiff.load(teacher, device="cpu")
    assert isinstance(model, Synthesizer)
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(2, 1, 2048, generator=generator)
    x0, condition = training_example(model, audio)
    x, sigma = x0 + 0.1 * torch.randn(x0.shape, generator=generator), torch.tensor([0.1, 0.2])
    with torch.no_grad():
        expected = model.denoiser.bind(condition)(x, sigma)
        bound = student.denoiser.bind(condition)
        assert torch.equal(bound(x, sigma), expected)
        assert torch.equal(bound.predict_jump(x, sigma, torch.tensor([0.0, 0.1])), expected)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("network.channels=9",), "model.denoiser.network.channels was 8, is 9"),
        (("network.dilation_cycle=1",), "model.denoiser.network.dilation_cycle was 4, is 1"),
        (("network=diffwave", "process=diffwave50", "preconditioning=epsilon"), "model.denoiser.network._target_ was"),
        (("preconditioning=v",), "model.denoiser.preconditioning._target_ was"),
        (("process.noise_scale=0.2",), "model.denoiser.preconditioning.process.noise_scale was 0.1, is 0.2"),
        (("audio=vocos",), "model.sample_rate was 22050, is 24000"),
        (("audio=tacotron2",), "model.dialect.name was 'hifigan', is 'tacotron2'"),
        (("++network.vector_features=8",), "vector_projection.weight was absent, is (16, 8)"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_with_what_differs(overrides, named, teacher, recordings):
    with pytest.raises(TrainingError, match="is of another model") as raised:
        started(teacher, recordings, *overrides)
    assert named in str(raised.value)


def test_a_vocoder_can_go_on_at_another_rate_and_mel(teacher, recordings):
    other = ("audio=tacotron2", "audio.sample_rate=16000")
    with pytest.raises(TrainingError, match=r"init_across=true"):
        started(teacher, recordings, *other)
    model = started(teacher, recordings, *other, across=True)
    assert model.sample_rate == 16000
    runs.assert_same(dict(model.state_dict()), weights(teacher))


def test_what_is_no_matter_of_the_mel_is_refused_across_dialects_too(teacher, recordings):
    with pytest.raises(TrainingError, match="preconditioning") as raised:
        started(teacher, recordings, "audio=tacotron2", "preconditioning=v", across=True)
    assert "dialect" not in str(raised.value)
    assert "init_across" not in str(raised.value)
    with pytest.raises(TrainingError, match=r"weight was \("):
        started(teacher, recordings, "audio.n_mels=40", across=True)


def test_a_step_size_embedding_cannot_be_left_out_again(teacher, recordings, tmp_path):
    way = (*METHODS["shortcut"], from_teacher(teacher), "train.steps=1", "validation.n_examples=0")
    runs.trained(recordings, tmp_path / "run", *way)
    with pytest.raises(TrainingError, match=r"denoiser\.step_size\.projection1\.bias was \(8,\), is absent"):
        started(tmp_path / "run", recordings)


def test_a_missing_checkpoint_is_named(recordings, tmp_path):
    with pytest.raises(CheckpointError, match=r"train\.init_from: model='.*nowhere' does not exist"):
        runs.trained(recordings, tmp_path / "run", from_teacher(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["progressive", "consistency", "reflow"])
def test_a_student_without_a_teacher_is_refused(name, recordings, tmp_path):
    with pytest.raises(ParameterError, match=r"train\.init_from=RUN"):
        runs.trained(recordings, tmp_path / "run", *METHODS[name])


def test_a_teacher_of_another_dialect_is_refused(teacher, recordings, tmp_path):
    with pytest.raises(ParameterError, match="the teacher's dialect"):
        runs.trained(recordings, tmp_path / "run", *METHODS["reflow"], from_teacher(teacher), "audio=tacotron2")


@pytest.mark.parametrize("way", METHODS.values(), ids=METHODS.keys())
def test_a_student_resumes_to_the_bits_of_one_that_was_never_stopped(way, teacher, recordings, tmp_path):
    way = (*way, from_teacher(teacher), "validation.n_examples=0")
    runs.trained(recordings, tmp_path / "whole", *way, "train.steps=4")
    runs.trained(recordings, tmp_path / "parts", *way, "train.steps=2")
    runs.resumed(recordings, tmp_path / "parts", *way, "train.steps=4")
    runs.assert_same(runs.state(tmp_path / "parts"), runs.state(tmp_path / "whole"))
    assert not torch.equal(
        *(weights(run)["denoiser.network.skip_projection.bias"] for run in (teacher, tmp_path / "parts"))
    )


def test_a_fine_tuned_run_resumes_without_its_initial_checkpoint(teacher, recordings, tmp_path):
    gone = tmp_path / "gone"
    runs.trained(recordings, gone, "train.steps=1")
    way = (from_teacher(gone), "validation.n_examples=0")
    runs.trained(recordings, tmp_path / "whole", *way, "train.steps=4")
    runs.trained(recordings, tmp_path / "parts", *way, "train.steps=2")
    gone.rename(tmp_path / "elsewhere")
    runs.resumed(recordings, tmp_path / "parts", *way, "train.steps=4")
    runs.assert_same(runs.state(tmp_path / "parts"), runs.state(tmp_path / "whole"))


def test_a_resume_with_another_teacher_is_refused(recordings, tmp_path):
    runs.trained(recordings, tmp_path / "teacher", "train.steps=1")
    way = (*METHODS["reflow"], from_teacher(tmp_path / "teacher"), "validation.n_examples=0")
    runs.trained(recordings, tmp_path / "run", *way, "train.steps=1")
    runs.resumed(recordings, tmp_path / "teacher", "train.steps=2")
    with pytest.raises(TrainingError, match="the method's teacher was"):
        runs.resumed(recordings, tmp_path / "run", *way, "train.steps=2")


@pytest.mark.parametrize("way", METHODS.values(), ids=METHODS.keys())
def test_mixed_precision_leaves_a_gradient_and_the_teacher_as_it_was(way, teacher, recordings):
    config = runs.config(recordings, *way, from_teacher(teacher))
    module = build_training_step(config)
    start_from(str(teacher), synthesizer=module.synthesizer, model=config["model"])
    audio = 0.1 * torch.randn(2, 1, 2048, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _, _ = module(Float32Batch(audio), seed_step(seed=0, step=0, rank=0))
    total.mean().backward()
    reached = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in module.named_parameters() if name.startswith("synthesizer.")}
    saved = module.synthesizer.state_dict().keys()
    assert not any("teacher" in name for name in saved)


def test_a_model_card_says_where_the_weights_began(teacher, recordings, tmp_path):
    way = (from_teacher(teacher), "train.steps=1", "validation.n_examples=0")
    train(runs.config(recordings, *way), run=tmp_path)
    assert f"from the weights of {teacher}" in (registry.find(tmp_path) / checkpoint.CARD).read_text()


def test_a_checkpoint_from_before_a_field_means_its_default(teacher, recordings, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(registry.find(teacher), old)
    config = old / checkpoint.CONFIG
    kept = [line for line in config.read_text().splitlines() if "look_ahead" not in line]
    config.write_text("\n".join(kept))
    started(old, recordings)
    with pytest.raises(TrainingError, match=r"model\.denoiser\.network\.look_ahead was None, is 0"):
        started(old, recordings, "network.look_ahead=0")
