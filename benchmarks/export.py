"""Compare the speed of exported programs in ONNX Runtime and torch.export with the model in PyTorch, on one thread.

    audiodiff export speech-22k -o exported
    python -m benchmarks.export exported speech-22k --seconds 4

Each program runs beside the model, in turns; the ratios are medians. A denoiser is one evaluation of the network.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import audiodiff
from audiodiff.tasks.export.programs import programs_of
from audiodiff.tasks.export.write import CONTENTS, runner


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = json.loads((options.folder / CONTENTS).read_text())
    model = audiodiff.load(options.model, device="cpu")
    for program in programs_of(model):
        written = about["programs"].get(program.name)
        if written is None:
            continue
        run = runner(options.folder / written["file"])
        one = program.example(1, torch.Generator().manual_seed(0))[0 if program.name != "vocoder" else 1].shape[-1]
        inputs = program.example(round(options.seconds * about["sample_rate"] / one), torch.Generator().manual_seed(0))
        with torch.inference_mode():
            run(inputs), program.module(*inputs)
            calls = partial(run, inputs), partial(program.module, *inputs)
            pairs = [tuple(map(seconds, calls)) for _ in range(options.repeats)]
        theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{program.name}: {written['file']} {theirs:.3f} s, PyTorch {ours:.3f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
