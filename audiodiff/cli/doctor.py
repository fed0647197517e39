"""`audiodiff doctor`: say in one screen whether everything works on this machine, and what mends it if not."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.doctor.machine import examine
from audiodiff.io.console import progress


def doctor_command(
    runs: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder that training writes into.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Say in one screen whether everything works on this machine, and what mends it if not.

    Packages are imported, formats of audio written and read in memory, models loaded, and a mel is inverted. The exit
    code is 1 if something does not work.

    \b
    Examples:
      audiodiff doctor
      audiodiff doctor --runs /data/runs
      audiodiff doctor --json > machine.json
    """
    findings = []
    with progress("looking", total=1):
        findings.extend(examine(runs))
    problems = [finding for finding in findings if finding.problem is not None]
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
        raise SystemExit(bool(problems))
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{'ok' if finding.problem is None else 'NO':2}  {finding.name:{width}}  {finding.value}")
        if finding.problem is not None:
            print(f"{'':{width + 6}}{finding.problem}")
    print("everything works" if not problems else f"{len(problems)} of {len(findings)} do not work")
    raise SystemExit(bool(problems))
