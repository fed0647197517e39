"""Rows of a benchmark that are measured in processes of their own."""

import json
import subprocess
import sys
from typing import Any


def measured_apart(module: str, *arguments: str, name: str) -> Any:
    """Run a module and return what it prints last, from JSON; end everything where it fails, with the row's name."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])
