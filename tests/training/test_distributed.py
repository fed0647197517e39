"""DDP with two CPU processes, through the command line."""

import re
import shutil
from pathlib import Path

import pytest
import runs
import torch

from audiodiff.data.loader import StepIndices

PROGRAM = '''
"""The command line, with each process leaving what it ended with."""
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from audiodiff.cli.main import main as cli
from audiodiff.training import loop

OUT = Path(__file__).parent
fit = loop.fit

def watched(learner, settings, **arguments):
    seen, opened = [], arguments["batches"]

    @contextmanager
    def batches(step):
        def watch(stream):
            for batch in stream:
                seen.append(batch["index"].tolist())
                yield batch
        with opened(step) as stream:
            yield watch(stream)

    outcome = fit(learner, settings, **(arguments | {"batches": batches}))
    weights = learner.module.state_dict()
    density = learner.module.density.state()
    left = {"weights": weights, "seen": seen, "density": density}
    torch.save(left, OUT / f"rank{learner.fabric.global_rank}.pt")
    return outcome

loop.fit = watched
if __name__ == "__main__":
    cli()
'''


@pytest.mark.slow
def test_two_processes_learn_the_same_weights_and_resume_to_the_bit(recordings: Path, tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run, again = tmp_path / "run", tmp_path / "again"
    learns = ("density=loss_second_moment", "density.n_bins=2", "++density.history=3")
    way = ("fabric=ddp", "train.accumulate=2", "train.save_every=2", "train.keep=9", *learns)
    process = runs.start(recordings, run, *way, "train.steps=4", program=runs.script(program))
    said = runs.finished(process)
    assert process.returncode == 0, said
    assert "on 2 x cpu" in said
    assert len(re.findall("waited for data", said)) == 1

    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    runs.assert_same(ranks[0]["weights"], ranks[1]["weights"])
    runs.assert_same(ranks[0]["density"], ranks[1]["density"])
    # 4 steps of 2 processes, 2 batches and 2 examples, once each.
    assert ranks[0]["density"]["counts"].sum() == 32
    assert (ranks[0]["density"]["counts"] >= 3).all()
    for rank, found in enumerate(ranks):
        draws = iter(StepIndices(batch_size=2, world_size=2, rank=rank, accumulate=2))
        assert found["seen"] == [next(draws) for _ in range(8)]
    assert not {k for draw in ranks[0]["seen"] for k in draw} & {k for draw in ranks[1]["seen"] for k in draw}

    # Taken up again from step 2 by the installed command, which has to start its second process by itself.
    shutil.copytree(run, again)
    (again / "checkpoints" / "latest").write_text("step_00000002\n")
    shutil.rmtree(again / "checkpoints" / "step_00000004")
    process = runs.start(recordings, again, *way, "train.steps=4", f"train.resume={again}")
    said = runs.finished(process)
    assert process.returncode == 0, said
    runs.assert_same(runs.state(again), runs.state(run))
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in run.iterdir())


@pytest.mark.slow
def test_two_processes_train_the_same_adapters(recordings: Path, tmp_path: Path):
    program, base, run = tmp_path / "program.py", tmp_path / "base", tmp_path / "run"
    program.write_text(PROGRAM)
    runs.trained(recordings, base, "train.steps=1", "validation.n_examples=0")
    way = ("fabric=ddp", f"train.init_from={base}", "train.lora.rank=2", "train.steps=2", "validation.n_examples=0")
    process = runs.start(recordings, run, *way, program=runs.script(program))
    said = runs.finished(process)
    assert process.returncode == 0, said
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)["weights"] for rank in range(2)]
    runs.assert_same(ranks[0], ranks[1])
    assert any(bool(value.any()) for name, value in ranks[0].items() if name.endswith(".up"))
