"""Compare every job with a baseline: run the benchmarks of this folder and write docs/jobs.md.

    python -m benchmarks.jobs.report --data ../shared/data                  # measures jobs without results
    python -m benchmarks.jobs.report --data ../shared/data --again enhance  # and some again
    python -m benchmarks.jobs.report                                        # the page alone, from existing results

Each benchmark writes a table, <job>.json, and figures to the folder of results, from which the page is made.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

JOBS = ("enhance", "inpaint", "extend", "declip", "edit", "augment", "anomaly", "features", "cluster", "map")
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "jobs.md"
RESULTS = ROOT / "docs" / "img" / "jobs"
HEAD = """# One model, many jobs

What every job gives on held-out recordings, beside the plain method that one would otherwise use. This page is made by
`python -m benchmarks.jobs.report --data DATA`, each part by the command under its title; intervals are 95 % bootstrap
intervals over recordings. How each is used, and what it cannot do: [restoration](jobs/restoration.md),
[editing](jobs/editing.md), [augmentation](jobs/augmentation.md), [anomaly detection](jobs/anomaly.md),
[features, clusters and maps](jobs/features.md).
"""

# What a row says at a glance: the job, in which case, by which column; and cells that tell the rows of the method, and
# of what it is compared with.
GLANCE = (
    (
        "enhance",
        "at 5 dB",
        "PESQ-WB",
        ("5", "all", "ours, 1 step, from noise"),
        ("5", "all", "Wiener, decision-directed"),
    ),
    ("enhance", "at 5 dB", "ESTOI", ("5", "all", "ours, 1 step, from noise"), ("5", "all", "spectral subtraction")),
    (
        "enhance",
        "at 5 dB",
        "SI-SDR, dB",
        ("5", "all", "ours, 1 step, from noise"),
        ("5", "all", "spectral subtraction"),
    ),
    ("inpaint", "gaps of 100 ms", "LSD", ("100 ms", "ours"), ("100 ms", "Janssen")),
    ("inpaint", "gaps of 300 ms", "LSD", ("300 ms", "ours"), ("300 ms", "shaped noise")),
    ("inpaint", "gaps of 300 ms", "PESQ", ("300 ms", "ours"), ("300 ms", "Janssen")),
    ("extend", "from 2 kHz", "level, dB", ("2000 Hz", "ours"), ("2000 Hz", "shaped noise")),
    ("extend", "from 2 kHz", "LSD", ("2000 Hz", "ours"), ("2000 Hz", "shaped noise")),
    ("extend", "from 2 kHz", "DistillMOS", ("2000 Hz", "ours"), ("2000 Hz", "do nothing")),
    ("extend", "from 4 kHz", "LSD", ("4000 Hz", "ours"), ("4000 Hz", "shaped noise")),
    ("extend", "from 4 kHz", "DistillMOS", ("4000 Hz", "ours"), ("4000 Hz", "do nothing")),
    ("extend", "from 4 kHz", "PESQ", ("4000 Hz", "ours"), ("4000 Hz", "do nothing")),
    ("declip", "at an SDR of 1 dB", "SI-SDR, dB", ("speech", "1 dB", "ours"), ("speech", "1 dB", "cubic")),
    ("declip", "at an SDR of 7 dB", "SI-SDR, dB", ("speech", "7 dB", "ours"), ("speech", "7 dB", "cubic")),
    ("declip", "at an SDR of 7 dB", "PESQ", ("speech", "7 dB", "ours"), ("speech", "7 dB", "cubic")),
    ("declip", "music at 7 dB", "SI-SDR, dB", ("music", "7 dB", "ours"), ("music", "7 dB", "cubic")),
    (
        "edit",
        "another speaker",
        "both, %",
        ("another speaker", "inversion", "0.9"),
        ("another speaker", "vocoder round trip"),
    ),
    ("augment", "2 recordings of each digit", "accuracy on test, %", ("digits-8k", "2"), ("noise, gain, shift", "2")),
    (
        "augment",
        "the same, no digit heard",
        "accuracy on test, %",
        ("noise, gain, shift and speech prior", "2"),
        ("noise, gain, shift", "2"),
    ),
    ("anomaly", "unheard digits", "AUC, diffusion, %", ("mean of unheard digits",), "AUC, mixture, %"),
    ("anomaly", "the same, with labels", "AUC, diffusion, %", ("mean of unheard digits",), "AUC, templates, %"),
    (
        "anomaly",
        "speech not as usual",
        "AUC, diffusion, %",
        ("mean of speech that is not as usual",),
        "AUC, mixture, %",
    ),
    (
        "features",
        "digit, unseen speaker",
        "accuracy, %",
        ("digit, unseen speaker", "digits-8k"),
        ("digit, unseen speaker", "MFCC with deltas"),
    ),
    ("features", "digit", "accuracy, %", ("digit", "digits-8k"), ("digit", "MFCC")),
    ("features", "digit, speech prior", "accuracy, %", ("digit", "speech prior"), ("digit", "MFCC")),
    (
        "cluster",
        "digits, centred",
        "accuracy under the best matching, %",
        ("digits, centred by speaker", "digits-8k"),
        ("digits, centred by speaker", "log-mel"),
    ),
    (
        "map",
        "UMAP, centred",
        "5-NN accuracy of digit, %",
        ("UMAP, centred by speaker", "digits-8k"),
        ("UMAP, centred by speaker", "MFCC"),
    ),
)


def main() -> None:
    """Run what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets; without it nothing is measured")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results and figures")
    parser.add_argument("--again", nargs="*", default=[], choices=JOBS, help="jobs to measure again")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for job in JOBS:
        if options.data and (job in options.again or not (options.out / f"{job}.json").exists()):
            print(f"measuring {job}", flush=True)
            command = [sys.executable, "-m", f"benchmarks.jobs.{job}"]
            subprocess.run([*command, "--data", str(options.data), "--out", str(options.out)], check=True, cwd=ROOT)
    done = [job for job in JOBS if (options.out / f"{job}.json").exists()]
    results = [json.loads((options.out / f"{job}.json").read_text()) for job in done]
    parts = [_part(each, figures=options.out.relative_to(PAGE.parent)) for each in results]
    missing = [f"`{job}`" for job in JOBS if job not in done]
    rest = [f"Not measured yet on the weights that ship: {', '.join(missing)}.\n"] if missing else []
    glance = _at_a_glance(dict(zip(done, results, strict=True)))
    PAGE.write_text("\n".join([HEAD, glance, *parts, *rest]))
    print(PAGE)


def _at_a_glance(results: dict[str, dict[str, Any]]) -> str:
    """Return the table of what matters most, with the best of what each method is compared with."""
    lines = ["## At a glance", "", "| job | case | measured by | ours | plain method | which |", "|" + "---|" * 6]
    for job, case, column, own, other in GLANCE:
        if job not in results:
            continue
        result = results[job]
        row = _row(result, own)
        ours = row[result["columns"].index(column)]
        if isinstance(other, str):
            plain, name = row[result["columns"].index(other)], other.split(", ")[1]
        else:
            against = _row(result, other)
            plain, name = against[result["columns"].index(column)], against[_who(result)]
        lines.append(f"| `{job}` | {case} | {column.replace('AUC, diffusion', 'AUC')} | {ours} | {plain} | {name} |")
    lines.append("\nLSD: less is better; 0.1 is 1 dB. The cases were picked to be typical; all are below.")
    return "\n".join(lines) + "\n"


def _who(result: dict[str, Any]) -> int:
    """Return the column that names the method."""
    return next(k for k, name in enumerate(result["columns"]) if name in ("method", "copies by", "features"))


def _row(result: dict[str, Any], cells: tuple[str, ...]) -> list[Any]:
    """Return the first row that has all of these cells."""
    return next(row for row in result["rows"] if set(cells) <= {str(value) for value in row})


def _part(result: dict[str, Any], *, figures: Path) -> str:
    """Return the page's part on a job."""
    lines = [f"## {result['title']}", "", *(f"    {command}" for command in result["commands"]), ""]
    lines += ["| " + " | ".join(result["columns"]) + " |", "|" + "---|" * len(result["columns"])]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in result["rows"]]
    lines += ["", *(f"- {note}" for note in result["notes"])]
    lines += [f"\n![{result['title']}]({(figures / figure).as_posix()})" for figure in result["figures"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
