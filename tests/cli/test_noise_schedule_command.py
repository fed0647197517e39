"""`audiodiff noise-schedule`: results are as measured, never worse than the start, and written whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

import commands
import pytest
import sounds
import torch

import audiodiff
from audiodiff.cli.noise_schedule import noise_schedule_command
from audiodiff.diffusion.grid import BetaTable
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule import measures, optimize
from audiodiff.tasks.noise_schedule.examples import unconditional_examples
from audiodiff.tasks.noise_schedule.optimize import optimize_schedule
from audiodiff.tasks.noise_schedule.request import ScheduleRequest

pytestmark = pytest.mark.usefixtures("empty_working_directory")

DIFFWAVE = "1e-4,1e-3,0.01,0.05,0.2,0.5"


run, made, _refusal = commands.of(noise_schedule_command)


def refusal(*arguments: str | Path) -> str:
    message = _refusal(*arguments)
    assert "\n" not in message
    return message


def loaded(folder: Path) -> Synthesizer:
    model = audiodiff.load(folder, device="cpu")
    assert isinstance(model, Synthesizer)
    return model


def note(folder: Path) -> dict:
    return json.loads((folder / checkpoint.METRICS).read_text())["schedule"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write four recordings of different sounds, all to validate on."""
    folder = tmp_path_factory.mktemp("data")
    rows = ["path,split"]
    for index in range(4):
        sounds.write(folder / f"{index}.wav", 4000 + 500 * index, peak=0.2 + 0.1 * index)
        rows.append(f"{index}.wav,val")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize(("metric", "better"), [("lsd", "lower"), ("si_sdr", "higher"), ("convergence", "lower")])
def test_the_checkpoint_samples_with_exactly_the_best_grid(
    metric: str, better: str, vocoder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measures, "N_REFERENCE_STEPS", 16)
    out = Path("fast")
    said = made(vocoder, "--steps", "3", "--data", data, "-n", "2", "--metric", metric, "--trials", "8", "-o", out)
    before, after, found = loaded(vocoder), loaded(out), note(out)
    assert after.sampler.n_steps == 3
    assert after.sampler.grid(3).tolist() == [*found["sigmas"], 0.0]
    for name, weight in before.state_dict().items():
        assert torch.equal(weight, after.state_dict()[name])
    mel = before.mel(sounds.tones(4096, sample_rate=22050)[None])
    expected = measures.on_grid(before, tuple(found["sigmas"]), solver=None).generate(mel, seed=3)
    assert torch.equal(after.generate(mel, seed=3), expected)
    assert found["n_trials"] == 8
    assert len(found["measured"]) == 2
    sign = -1 if better == "higher" else 1
    for each in found["measured"]:
        assert each["better"] == better
        assert sign * each["after"] <= sign * each["before"]
    card = (out / checkpoint.CARD).read_text()
    assert f"--metric {metric}" in card
    assert "--trials 8 " in card.replace("\n", " ")
    assert "on 2 held out" in said
    assert (out / "schedule.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "model.safetensors",
        "metrics.json",
        "README.md",
        "schedule.png",
    }


def test_a_search_is_deterministic(vocoder: Path, data: Path):
    for name in ("a", "b"):
        made(vocoder, "--steps", "2", "--data", data, "-n", "1", "--metric", "lsd", "--trials", "6", "-o", name)
    assert note(Path("a"))["sigmas"] == note(Path("b"))["sigmas"]
    assert note(Path("a"))["measured"] == note(Path("b"))["measured"]


@pytest.mark.parametrize("strategy", ["elbo", "truncation"])
@pytest.mark.parametrize("name", ["vocoder", "unconditional", "log_mel"])
def test_dynamic_programming_works_for_every_kind_of_model(
    strategy: str, name: str, data: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(optimize, "N_LEVELS", 12)
    model = request.getfixturevalue(name)
    given = ["--data", data] if strategy == "elbo" or name == "vocoder" else []
    made(model, "--steps", "3", "-n", "1", "--seconds", "0.1", "--strategy", strategy, *given, "-o", "fast")
    (each,) = note(Path("fast"))["measured"]
    assert each["after"] <= each["before"]
    assert loaded(Path("fast")).sampler.grid(3).tolist() == [*note(Path("fast"))["sigmas"], 0.0]


def test_an_unconditional_model_is_searched_on_convergence(unconditional: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measures, "N_REFERENCE_STEPS", 16)
    made(unconditional, "--steps", "2", "-n", "1", "--seconds", "0.05", "--trials", "12", "-o", "fast")
    searched, held_out = note(Path("fast"))["measured"]
    assert searched["what"].startswith("convergence")
    assert searched["after"] <= searched["before"]
    assert held_out["after"] <= held_out["before"]


def test_convergence_of_the_reference_itself_is_minus_infinity(unconditional: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measures, "N_REFERENCE_STEPS", 16)
    model = loaded(unconditional)
    low, high = measures.sampler_range(model.sampler)
    examples = unconditional_examples(model, n=1, seconds=0.02)
    quality = measures.Convergence(model, examples, low=low, high=high, seed=0, on_part=lambda done, of_all: None)
    levels = measures.log_uniform(low, high, measures.N_REFERENCE_STEPS)
    same = measures.on_grid(model, levels, solver="heun")
    assert quality(same, lambda done, of_all: None) == float("-inf")


@pytest.mark.parametrize(("option", "table"), [("--betas", DIFFWAVE), ("--sigmas", "3,0.5")])
def test_a_table_is_installed_unchanged(option: str, table: str, unconditional: Path):
    numbers = [float(part) for part in table.split(",")]
    expected = BetaTable(numbers)(6).tolist() if option == "--betas" else [*numbers, 0.0]
    said = made(unconditional, option, table, "--sampler", "euler_ancestral", "-o", "fast")
    model = loaded(Path("fast"))
    assert model.sampler.grid(len(numbers)).tolist() == expected
    assert model.sampler.solver.__name__ == "euler_ancestral"
    assert model.generate(seconds=0.1).shape == (1, 1, round(0.1 * model.sample_rate))
    if option == "--betas":
        assert "0.0001,0.001,0.01,0.05,0.2,0.5" in said


def test_a_table_can_be_measured_and_a_new_note_replaces_the_old_one(vocoder: Path, data: Path):
    made(vocoder, "--sigmas", "9,0.5", "--data", data, "-n", "1", "--metric", "lsd", "-o", "a")
    (each,) = note(Path("a"))["measured"]
    assert each["before"] is not None
    made("a", "--sigmas", "8,0.4", "-o", "b")
    made("a", "--sigmas", "7,0.3", "-o", "b", "--force")
    card = (Path("b") / checkpoint.CARD).read_text()
    assert card.count("## Noise levels") == 1
    assert "--sigmas 7,0.3" in card
    assert note(Path("b"))["start"] == [9.0, 0.5]


def fake_metric(best: tuple[float, float]) -> Callable[..., float]:
    """Make a metric whose optimum is at one level for the examples searched on, and elsewhere for the others."""

    def value(model: Synthesizer, on_part: object, *, examples: list, metric: object, seed: int) -> float:
        goal = best[0] if examples[0].item == 0 else best[1]
        return abs(float(model.sampler.grid(1)[0].log()) - goal)

    return value


def test_a_grid_that_is_worse_on_held_out_recordings_is_discarded(
    vocoder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    model = loaded(vocoder)
    own = measures.own_grid(model.sampler, 1)
    assert own is not None
    start = float(torch.tensor(own[0]).log())
    arguments = (vocoder, "--steps", "1", "--data", data, "-n", "1", "--metric", "lsd", "--trials", "30")
    monkeypatch.setattr(optimize, "mean_metric", fake_metric((start - 3.0, start)))
    assert "the start is kept" in made(*arguments, "-o", "kept")
    assert tuple(note(Path("kept"))["sigmas"]) == own
    assert all(each["before"] == each["after"] for each in note(Path("kept"))["measured"])
    monkeypatch.setattr(optimize, "mean_metric", fake_metric((start - 3.0, start - 2.5)))
    made(*arguments, "-o", "taken")
    assert float(torch.tensor(note(Path("taken"))["sigmas"][0]).log()) == pytest.approx(start - 3.0, abs=0.05)


def test_ctrl_c_prints_the_best_grid_so_far_and_writes_nothing(
    vocoder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    true, calls = measures.mean_metric, []

    def interrupted(*arguments: object, **options: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return true(*arguments, **options)

    monkeypatch.setattr(optimize, "mean_metric", interrupted)
    result = run(vocoder, "--steps", "2", "--data", data, "-n", "1", "--metric", "lsd", "-o", "out/fast")
    assert result.exit_code != 0
    assert "best of 2 trials: lsd" in result.output
    assert "to install it: --sigmas" in result.output
    assert list(Path("out").iterdir()) == []


def test_recordings_without_a_value_of_the_metric_are_left_out(vocoder: Path, data: Path):
    # Two tones for 0.2 s are no speech, so STOI exists for none of them.
    arguments = (vocoder, "--steps", "2", "--data", data, "-n", "2", "-o", "fast", "--metric", "stoi")
    result = run(*arguments)
    assert "left out" in result.output
    assert "stoi has no value for any of the 2 recordings" in str(result.exception)
    assert not Path("fast").exists()


def test_invalid_arguments_are_refused_in_one_line_before_any_work(
    vocoder: Path, unconditional: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.setattr("audiodiff.cli.noise_schedule.optimize_schedule", work)
    steps = ("--steps", "2", "-o", "fast")
    with_data = (*steps, "--data", data)
    for expected, arguments in {
        "give --steps N, or a table": (vocoder, "-o", "fast"),
        "--steps 0 must be at least 1": (vocoder, "--steps", "0", "-o", "fast"),
        "--trials 0 must": (vocoder, *with_data, "--trials", "0"),
        "-n 0 must": (vocoder, *with_data, "-n", "0"),
        "--seconds 0.0 must": (vocoder, *with_data, "--seconds", "0"),
        "metric 'mos' is unknown, there are snr_db": (vocoder, *with_data, "--metric", "mos"),
        "--strategy magic must be one of search, elbo, truncation": (vocoder, *with_data, "--strategy", "magic"),
        "sampler='magic' must be one of euler": (vocoder, *with_data, "--sampler", "magic"),
        "MODEL none is not trained": ("none", *with_data),
        "MODEL mel-inversion is not trained": ("mel-inversion", *with_data),
        "model='missing' does not exist": ("missing", *with_data),
        "this model is unconditional": (unconditional, *with_data, "--metric", "lsd"),
        "--strategy elbo needs recordings": (unconditional, *steps, "--strategy", "elbo"),
        "this model needs recordings": (vocoder, *steps),
        "--sampler euler_ancestral": (vocoder, *with_data, "--sampler", "euler_ancestral", "--metric", "convergence"),
        "give one of them": (vocoder, "-o", "fast", "--sigmas", "1", "--betas", "0.1"),
        "--steps 2 must be 3": (vocoder, *steps, "--sigmas", "3,2,1"),
        "--strategy elbo has no meaning with a table": (vocoder, "-o", "fast", "--sigmas", "2,1", "--strategy", "elbo"),
        "sigmas[0]=1.0 must be greater": (vocoder, "-o", "fast", "--sigmas", "1,2"),
        "--sigmas a,b must be numbers": (vocoder, "-o", "fast", "--sigmas", "a,b"),
        "betas[0]=1.5 must lie between": (vocoder, "-o", "fast", "--betas", "1.5"),
        "0 < sigma_min < sigma_max": (vocoder, *with_data, "--sigma-min", "5000"),
        "is the model's own folder, or holds it": (vocoder, "--steps", "2", "-o", vocoder.parent, "--force"),
        "device='abacus'": (vocoder, *with_data, "--device", "abacus"),
    }.items():
        message = refusal(*arguments)
        # torch appends the devices that it knows.
        assert expected.replace("--sampler euler_ancestral", "the sampler euler_ancestral") in message, message
    assert list(Path().iterdir()) == []


def test_folders_with_other_files_are_never_replaced(unconditional: Path):
    table = (unconditional, "--sigmas", "3,0.5", "-o")
    made(*table, "fast")
    assert "exists: give --force" in refusal(*table, "fast")
    made(*table, "fast", "--force")
    Path("fast/mine.txt").write_text("precious")
    assert "holds mine.txt" in refusal(*table, "fast", "--force")
    Path("file").write_text("precious")
    assert "holds file" in refusal(*table, "file", "--force")
    assert "cannot be written to" in refusal(*table, "file/below")
    assert Path("file").read_text() == Path("fast/mine.txt").read_text() == "precious"


def test_too_few_recordings_are_refused(vocoder: Path):
    sounds.write(Path("one/a.wav"), 4000)
    Path("one/manifest.csv").write_text("path,split\na.wav,val\n")
    arguments = (vocoder, "--steps", "2", "-o", "fast", "--data")
    assert "1 usable recording" in refusal(*arguments, "one")
    assert "'test'" in refusal(*arguments, "one", "--split", "test")
    assert "missing" in refusal(*arguments, "missing")


def test_a_schedule_is_found_from_python_too(unconditional: Path):
    model = loaded(unconditional)
    result = optimize_schedule(model, ScheduleRequest(steps=2, strategy="table", given=(3.0, 0.5)))
    assert result.sigmas == (3.0, 0.5)
    assert result.comparisons == ()
