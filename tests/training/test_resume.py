"""A run that was stopped and resumed is the run that was never stopped."""

import math
import shutil
import time
from pathlib import Path

import pytest
import runs
import torch

from audiodiff.errors import CheckpointError, TrainingError
from audiodiff.models import checkpoint, registry
from audiodiff.training.learner import Learner
from audiodiff.training.step import seed_step

WAYS = {
    "plain": (),
    "warm-up and cosine": ("lr_schedule=cosine", "lr_schedule.total_steps=6", "lr_schedule.warmup_steps=2"),
    "accumulation": ("train.accumulate=2",),
    "validation in between": ("train.validate_every=2",),
    "a worker": ("data.n_workers=1",),
    "bf16": ("fabric.precision=bf16-mixed",),
    "sgd": ("optimizer=sgd",),
    "adam, no average": ("optimizer=adam", "train.ema_decay=0.0"),
    "deterministic": ("train.deterministic=true",),
    "loss second moment": (
        "density=loss_second_moment",
        "density.n_bins=2",
        "++density.history=1",
        "train.accumulate=2",
    ),
    "a learnt schedule": ("process=variational", "density=variational", "train.accumulate=2"),
    "mel": (
        "representation=log_mel",
        "conditioner=none",
        "network=wavenet",
        "network.in_channels=80",
        "objective=plain_l2",
        "validation=loss",
        "model.n_iterations=1",
    ),
    "degraded recordings": (
        "conditioner=degraded",
        "network=spectral_restorer",
        "method=restoration",
        "objective.by_noisy=true",
        "audio=plain",
        "validation=loss",
    ),
    "discriminators": (
        "method=adversarial",
        "method.discriminators.periods=[2]",
        "method.discriminators.resolutions=[[64,16,64]]",
        "method.discriminators.channels=1",
    ),
    "labels of short clips": (
        "representation=log_mel",
        "conditioner=labels",
        "data.labels={class: folder}",
        "data.balance=class",
        "data.alike=2",
        "data.crop_frames=90",
        "network=wavenet",
        "network.in_channels=80",
        "objective=plain_l2",
        "validation=loss",
        "model.n_iterations=1",
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_three_steps_and_a_resume_for_three_more_are_six_steps(way: tuple[str, ...], recordings: Path, tmp_path: Path):
    try:
        runs.trained(recordings, tmp_path / "whole", *way, "train.steps=6")
        runs.trained(recordings, tmp_path / "parts", *way, "train.steps=3")
        runs.resumed(recordings, tmp_path / "parts", *way, "train.steps=6")
    finally:
        torch.use_deterministic_algorithms(False)
    whole, parts = runs.state(tmp_path / "whole"), runs.state(tmp_path / "parts")
    assert parts["step"] == 6
    runs.assert_same(parts, whole)


def test_a_killed_run_resumes_to_the_bits_of_one_that_was_never_killed(recordings: Path, tmp_path: Path):
    way = (
        "density=loss_second_moment",
        "density.n_bins=2",
        "++density.history=2",
        "train.accumulate=2",
        "train.validate_every=4",
        "train.save_every=3",
        "train.keep=2",
        "data.n_workers=1",
        "fabric.precision=bf16-mixed",
    )
    process = runs.start(recordings, tmp_path / "killed", *way, "train.steps=100000")
    until = time.monotonic() + 120
    while not runs.newest(tmp_path / "killed"):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.005)
    process.kill()
    process.communicate()
    stopped_at = int(runs.newest(tmp_path / "killed").removeprefix("step_"))
    steps = f"train.steps={stopped_at + 3}"

    runs.resumed(recordings, tmp_path / "killed", *way, steps)
    runs.trained(recordings, tmp_path / "whole", *way, steps)
    runs.assert_same(runs.state(tmp_path / "killed"), runs.state(tmp_path / "whole"))
    files = [(registry.find(tmp_path / run) / checkpoint.WEIGHTS).read_bytes() for run in ("killed", "whole")]
    assert files[0] == files[1]
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))


def test_the_noise_of_a_step_is_a_pure_function_of_seed_step_and_rank():
    def draws(**key: int) -> tuple[float, float]:
        generator = seed_step(**key)
        return float(torch.rand((), generator=generator)), float(torch.rand(()))

    key = {"seed": 3, "step": 5, "rank": 1}
    first = draws(**key)
    torch.rand(10)
    assert draws(**key) == first
    assert len({draws(**(key | {name: value})) for name in key for value in (6, 7, 8)}) == 9
    assert draws(seed=2**63, step=10**7, rank=9) == draws(seed=2**63, step=10**7, rank=9)


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    run = tmp_path_factory.mktemp("three") / "run"
    torch.set_num_threads(1)
    runs.trained(recordings, run, "train.steps=3", "train.save_every=1", "lr_schedule=cosine")
    return run


@pytest.fixture
def run(three_steps: Path, tmp_path: Path) -> Path:
    return shutil.copytree(three_steps, tmp_path / "run")


SAME = ("train.steps=6", "lr_schedule=cosine", "lr_schedule.total_steps=3")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer.lr=0.5", "optimizer.lr was 0.001, is 0.5"),
        ("seed=1", "seed was 0, is 1"),
        ("train.batch_size=3", "train.batch_size was 2, is 3"),
        ("network.channels=9", "network.channels was 8, is 9"),
        ("lr_schedule.total_steps=6", "lr_schedule.total_steps was 3, is 6"),
        ("fabric.precision=bf16-mixed", "fabric.precision was '32-true', is 'bf16-mixed'"),
    ],
)
def test_a_changed_setting_is_refused_by_name(override: str, named: str, run: Path, recordings: Path):
    with pytest.raises(TrainingError, match=r"resume\.exact=false") as raised:
        runs.resumed(recordings, run, *SAME, override)
    assert named in str(raised.value)
    assert runs.newest(run) == "step_00000003"


def test_changed_threads_are_refused_by_name(run: Path, recordings: Path):
    torch.set_num_threads(2)
    with pytest.raises(TrainingError, match=r"machine\.threads was 1, is 2"):
        runs.resumed(recordings, run, *SAME)


def test_changed_recordings_are_refused_and_moved_ones_are_not(run: Path, recordings: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"machine\.data was"):
        runs.resumed(runs.recordings(tmp_path / "more", n=5), run, *SAME)
    moved = shutil.copytree(recordings, tmp_path / "moved")
    assert runs.resumed(moved, run, *SAME).step == 6


def test_what_changes_no_weight_may_change(run: Path, recordings: Path):
    free = ("train.save_every=2", "data.n_workers=1", "sampler.n_steps=3", "model.n_iterations=2", "validation=loss")
    assert runs.resumed(recordings, run, *SAME, *free).step == 6


def test_an_inexact_resume_goes_on_with_the_new_settings(run: Path, recordings: Path):
    changed = ("resume.exact=false", "train.steps=4", "lr_schedule=constant", "optimizer=sgd", "optimizer.lr=0.0")
    before = runs.state(run)["model"]
    assert runs.resumed(recordings, run, *changed).step == 4
    runs.assert_same(runs.state(run)["model"], before)


def test_an_inexact_resume_of_another_network_names_what_does_not_fit(run: Path, recordings: Path):
    with pytest.raises(TrainingError, match=r"another model(.|\n)*input_projection"):
        runs.resumed(recordings, run, *SAME, "network.channels=9", "resume.exact=false")


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        ("cosine", "with a new curve of the learning rate from here: audiodiff train train.resume=RUN train.steps=6 "
        "lr_schedule.first_step=3"),
        ("constant", "to make as many again: audiodiff train train.resume=RUN train.steps=6"),
    ],
)  # fmt: skip
def test_a_finished_run_gives_the_line_that_makes_more_steps(
    schedule: str, line: str, recordings: Path, tmp_path: Path
):
    run, same = tmp_path / "run", f"lr_schedule={schedule}"
    runs.trained(recordings, run, same, "train.steps=3")
    with pytest.raises(TrainingError) as refused:
        runs.resumed(recordings, run, same, "train.steps=3")
    assert str(refused.value).endswith(line.replace("RUN", str(run)))
    overrides = str(refused.value).partition(f"train.resume={run} ")[2].split()
    assert runs.resumed(recordings, run, same, *overrides).step == 6


def test_more_steps_under_the_cosine_are_refused_with_the_new_curve(run: Path, recordings: Path):
    with pytest.raises(TrainingError, match=r"begin a new curve of the learning rate with lr_schedule\.first_step=3,"):
        runs.resumed(recordings, run, "lr_schedule=cosine", "train.steps=9")
    with pytest.raises(TrainingError, match=r"first_step=3,"):
        runs.resumed(recordings, run, "lr_schedule=cosine", "train.steps=9", "lr_schedule.first_step=2")
    with pytest.raises(TrainingError) as refused:
        runs.resumed(recordings, run, "lr_schedule=cosine", "train.steps=9", "seed=1")
    assert "first_step" not in str(refused.value)


def test_the_rates_of_a_new_curve_are_their_closed_form(recordings: Path, tmp_path: Path, monkeypatch):
    found: list[float] = []
    step = Learner.step
    monkeypatch.setattr(Learner, "step", lambda *args: (report := step(*args), found.append(report.lr))[0])
    warm = ("lr_schedule=cosine", "lr_schedule.warmup_steps=1", "lr_schedule.final=0.1")
    runs.trained(recordings, tmp_path / "run", *warm, "train.steps=4", "optimizer.lr=0.001")
    again = ("train.steps=10", "lr_schedule.first_step=4", "optimizer.lr=0.0005")
    runs.resumed(recordings, tmp_path / "run", *warm, *again)

    def curve(n: int) -> list[float]:
        """Half of the peak at step 0, which warms up, then half a cosine from 1 to 0.1 that would end at step n."""
        fall = [0.1 + 0.9 * math.cos(math.pi / 2 * (step - 1) / (n - 1)) ** 2 for step in range(1, n)]
        return [0.5, *fall]

    assert found == pytest.approx([0.001 * f for f in curve(4)] + [0.0005 * f for f in curve(6)], rel=1e-12)


def test_a_new_curve_stopped_and_resumed_is_the_one_that_never_stopped(run: Path, recordings: Path, tmp_path: Path):
    again = ("lr_schedule=cosine", "train.steps=7", "lr_schedule.first_step=3")
    whole = shutil.copytree(run, tmp_path / "whole")
    runs.resumed(recordings, whole, *again)
    runs.resumed(recordings, run, *again, "train.save_every=5")
    shutil.rmtree(run / "checkpoints" / "step_00000007")
    (run / "checkpoints" / "latest").write_text("step_00000005")
    runs.resumed(recordings, run, *again)
    runs.assert_same(runs.state(run), runs.state(whole))


def test_a_curve_that_begins_after_the_run_is_refused(run: Path, recordings: Path, tmp_path: Path):
    late = ("lr_schedule=cosine", "train.steps=9", "lr_schedule.first_step=5")
    with pytest.raises(TrainingError, match=r"this run begins at step 0: leave it out"):
        runs.trained(recordings, tmp_path / "new", *late)
    with pytest.raises(TrainingError, match=r"this run begins at step 3: leave it out, or set it to 3"):
        runs.resumed(recordings, run, *late, "resume.exact=false")


def test_a_used_folder_is_refused_before_the_recordings_are_looked_for(run: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=f"train.resume={run}"):
        runs.trained(tmp_path / "nowhere", run)


def test_a_run_without_a_checkpoint_cannot_be_resumed(recordings: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="does not exist"):
        runs.resumed(recordings, tmp_path / "nothing")


def test_a_checkpoint_without_its_state_is_for_use_only(run: Path, recordings: Path):
    (registry.find(run) / checkpoint.STATE).unlink()
    with pytest.raises(TrainingError, match="made for use, not for resume"):
        runs.resumed(recordings, run, *SAME)


def test_a_damaged_state_is_said_to_be_damaged(run: Path, recordings: Path):
    path = registry.find(run) / checkpoint.STATE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="damaged"):
        runs.resumed(recordings, run, *SAME)


def test_a_run_taken_up_from_an_earlier_step_keeps_what_it_saves(run: Path, recordings: Path):
    earlier = run / "checkpoints" / "step_00000001"
    config = runs.config(recordings, *SAME, "train.steps=2", "train.keep=1", f"train.resume={earlier}")
    from audiodiff.training.run import train

    assert train(config, run=run).step == 2
    assert runs.newest(run) == "step_00000002"
    assert runs.state(run)["step"] == 2
    assert not earlier.exists()


def test_the_newest_validation_outlives_a_resume(run: Path, recordings: Path):
    measured = runs.state(run)["metrics"]
    assert measured["loss"] > 0
    runs.resumed(recordings, run, *SAME, "train.save_every=1", "train.keep=9")
    between = torch.load(run / "checkpoints" / "step_00000004" / checkpoint.STATE, weights_only=True)
    assert between["metrics"] == measured
    assert runs.state(run)["metrics"] != measured
