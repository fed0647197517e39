"""Run rows of a benchmark in separate processes."""

import json
import subprocess
import sys
from typing import Any


def measured_apart(module: str, *arguments: str, name: str) -> Any:
    """Run a module and return its last line of output, parsed as JSON; if it fails, exit with the row's name."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])
