"""Every job against the plain method, in one page: runs the benchmarks of this folder and writes docs/jobs.md.

    python -m benchmarks.jobs.report --data ../shared/data                  # measures what has no result yet
    python -m benchmarks.jobs.report --data ../shared/data --again enhance  # and some again
    python -m benchmarks.jobs.report                                        # the page alone, of what there is

Each benchmark leaves a table, <job>.json, and its figures in the folder of results; the page is made of them.
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
    PAGE.write_text("\n".join([HEAD, *parts, *rest]))
    print(PAGE)


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
