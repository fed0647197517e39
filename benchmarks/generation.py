"""Time generation by label: one sound, and sixteen in one batch.

    python benchmarks/generation.py --model digits-8k --threads 2

Medians of 5 runs after a warm-up, in one process: seconds, and seconds of sound per second. Labels take all values that
the model knows in turn; the model draws the lengths. Prints a Markdown table.
"""

import argparse
import statistics
import time
from typing import Any

import torch

import audiodiff
from audiodiff.models.synthesizer import Synthesizer

N_RUNS = 5


def rows_of(model: Synthesizer, n: int) -> list[dict[str, str]]:
    """Return n rows of labels that take all values in turn."""
    if model.labels is None:
        return [{}] * n
    known = model.labels.vocabularies
    return [{name: values[k % len(values)] for name, values in known.items()} for k in range(n)]


def timed(model: Synthesizer, rows: list[dict[str, str]], **options: Any) -> tuple[float, float]:
    """Return the median time of generating the rows, and the duration of the sound, in seconds."""
    spent = []
    for seed in range(N_RUNS + 1):
        began = time.perf_counter()
        model.generate(labels=rows, seed=0, **options)
        if seed > 0:
            spent.append(time.perf_counter() - began)
    return statistics.median(spent), sum(model.lengths(rows, seed=0)) / model.sample_rate


def main() -> None:
    """Print a row for every setting of the sampler."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="digits-8k")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = audiodiff.load(arguments.model)
    if not isinstance(model, Synthesizer) or model.needs_mel:
        raise SystemExit(f"--model {arguments.model} must be one that generates from labels or from nothing")
    ways: dict[str, dict[str, Any]] = {
        "as it comes": {},
        "8 steps": {"steps": 8},
        "16 steps": {"steps": 16},
        "16 steps, guidance 2": {"steps": 16, "guidance": 2.0},
    }
    print(f"{arguments.model}, {arguments.threads} threads\n")
    print("| | one sound, s | sixteen, s | sound in sixteen, s | x real time |")
    print("|---|---|---|---|---|")
    for name, options in ways.items():
        if options.get("guidance") and not model.conditioner.can_drop:
            continue
        one, _ = timed(model, rows_of(model, 1), **options)
        sixteen, sound = timed(model, rows_of(model, 16), **options)
        print(f"| {name} | {one:.2f} | {sixteen:.2f} | {sound:.2f} | {sound / sixteen:.1f} |", flush=True)


if __name__ == "__main__":
    main()
