"""Measure what fine-tuning a vocoder on another system's mels brings.

    python -m benchmarks.given_mels FOLDER --out OUT [--model speech-22k] [--steps 400] [--train 300] [--test 24]

FOLDER holds speech with a manifest.csv of the splits train, val and test. The mels are those of the recordings,
smoothed along time and frequency by binomial kernels of five frames and five bands: an acoustic model gives means,
which are as smooth. The model is trained on smoothed mels of recordings of the split train, with --recipe and one
thread, and both models vocode smoothed mels of unseen recordings, with --iterations of the mel constraint (the model's
own unless given). Printed are means, and the mean of the paired differences with its 95 % interval (Student's t).
DistillMOS is measured where the package is installed.
"""

import argparse
import csv
import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

import audiodiff
from audiodiff.dsp.resample import resample
from audiodiff.metrics import score


def smoothed(mel: Tensor) -> Tensor:
    """Smooth (n_mels, frames) by (1 4 6 4 1) / 16 along both axes."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    padded = F.pad(mel[None, None], (2, 2, 2, 2), mode="replicate")
    return F.conv2d(padded, row.outer(row)[None, None])[0, 0]


def mos_model() -> Callable[[Tensor], float] | None:
    """Return DistillMOS as a function of audio at 16 kHz, None where it is not installed."""
    if importlib.util.find_spec("distillmos") is None:
        return None
    import distillmos  # pyright: ignore[reportMissingImports]

    model = distillmos.ConvTransformerSQAModel().eval()
    return lambda audio: float(model(audio[None])[0, 0])


@torch.no_grad()
def measured(
    where: str, test: list[Path], out: Path, mos: Callable[[Tensor], float] | None, *, iterations: int | None
) -> dict[str, np.ndarray]:
    """Vocode smoothed mels of the test recordings, and return the metrics of each."""
    model = audiodiff.load(where, device="cpu")
    found: dict[str, list[float]] = {}
    for path in test:
        audio, rate = audiodiff.read(path)
        audio = resample(audio, from_rate=rate, to_rate=model.sample_rate)
        mel = torch.from_numpy(np.load(out / "mels" / f"{path.stem}.npy"))
        made = model.generate(mel[None], seed=0, iterations=iterations)[0]
        truth = audio[:, : made.shape[-1]]
        made = made[:, : truth.shape[-1]]
        for name, value in score(made, truth, sample_rate=model.sample_rate, names=["pesq_wb", "lsd"]).items():
            found.setdefault(name, []).append(float(value.mean()))
        if mos is not None:
            low = resample(made, from_rate=model.sample_rate, to_rate=16000)[0]
            found.setdefault("DistillMOS", []).append(mos(low))
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Prepare the mels, measure, train, measure again, and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="speech-22k")
    parser.add_argument("--recipe", default="speech/vocoder")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--test", type=int, default=24)
    parser.add_argument("--true-mels", action="store_true", help="train on the recordings' own mels, for comparison")
    parser.add_argument("overrides", nargs="*", help="more overrides of the training")
    wanted = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    with (wanted.folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    train = [wanted.folder / row["path"] for row in rows if row["split"] == "train"][: wanted.train]
    held = [wanted.folder / row["path"] for row in rows if row["split"] == "val"][:8]
    test = [wanted.folder / row["path"] for row in rows if row["split"] == "test"][: wanted.test]
    (wanted.out / "mels").mkdir(parents=True, exist_ok=True)
    model = audiodiff.load(wanted.model, device="cpu")
    for path in [*train, *held, *test]:
        audio, rate = audiodiff.read(path)
        mel = model.mel(resample(audio, from_rate=rate, to_rate=model.sample_rate))
        np.save(wanted.out / "mels" / f"{path.stem}.npy", smoothed(mel.reshape(mel.shape[-2:])).numpy())
    manifest = wanted.out / "data.csv"
    lines = [f"{path.resolve()},{split}" for split, paths in (("train", train), ("val", held)) for path in paths]
    manifest.write_text("\n".join(["path,split", *lines, ""]))
    mos = mos_model()
    before = measured(wanted.model, test, wanted.out, mos, iterations=wanted.iterations)
    run = wanted.out / "run"
    arguments = [
        f"recipes={wanted.recipe}", f"data.root={manifest}", f"data.mels={wanted.out / 'mels'}",
        f"train.init_from={wanted.model}", f"train.steps={wanted.steps}", "train.save_every=0",
        "train.validate_every=0", "validation=loss", "logger=none", f"hydra.run.dir={run}", *wanted.overrides,
    ]  # fmt: skip
    if wanted.true_mels:
        arguments = [each for each in arguments if not each.startswith("data.mels=")]
    subprocess.run([sys.executable, "-m", "audiodiff", "train", *arguments], check=True)
    after = measured(str(run), test, wanted.out, mos, iterations=wanted.iterations)
    print(f"{len(test)} unseen recordings, {wanted.model}, {wanted.steps} steps\n")
    print("| | before | after | difference, 95 % |")
    print("|---|---|---|---|")
    for name, first in before.items():
        change = after[name] - first
        half = stats.t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / math.sqrt(len(change))
        print(
            f"| {name} | {first.mean():.3f} | {after[name].mean():.3f} | {change.mean():+.3f}, "
            f"{change.mean() - half:+.3f} to {change.mean() + half:+.3f} |"
        )


if __name__ == "__main__":
    main()
