"""Try the ends of the ranges in pyproject.toml: the oldest of every direct dependency, and the newest there is.

`make ranges` runs this with the Python that has uv beside it. The oldest versions are tried on the oldest Python on the
PATH, the newest on the newest, from 3.10 to 3.13. Each is used three times: as installed, with a torchaudio whose
compiled part does not load, and without torchaudio. Environments with CUDA take about 5 GB each; they are deleted.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
BREAK = """
import importlib.util, pathlib
for library in pathlib.Path(importlib.util.find_spec("torchaudio").origin).parent.glob("lib/*.so"):
    library.unlink()
    library.write_bytes(b"built for another torch")
"""


def run(*command: str | Path) -> str:
    parts = [str(part) for part in command]
    environment = {**os.environ, "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(parts, cwd=tempfile.gettempdir(), capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(parts)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def present() -> list[str]:
    """Return those Pythons that uv finds here, oldest first."""
    found = []
    for version in PYTHONS:
        try:
            run(UV, "python", "find", "--no-project", "--system", version)
        except RuntimeError:
            continue
        found.append(version)
    return found


def direct() -> set[str]:
    """Return the names of the direct dependencies."""
    block = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    return set(re.findall(r'^    "([a-zA-Z0-9-]+)', block[1], re.MULTILINE))


def attempt(end: str, resolution: str, version: str) -> None:
    """Install one end of the ranges and use it; say which versions were installed."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        run(UV, "venv", "--python", version, folder)
        run(UV, "pip", "install", "--python", python, "--resolution", resolution, ROOT)
        names = direct()
        installed = [line for line in run(UV, "pip", "freeze", "--python", python).splitlines() if "==" in line]
        print(f"{end}:", *[line for line in installed if line.partition("==")[0] in names], flush=True)
        print(run(python, ROOT / "scripts" / "smoke.py"), end="", flush=True)
        run(python, "-c", BREAK)
        print(run(python, ROOT / "scripts" / "smoke.py"), end="", flush=True)
        run(UV, "pip", "uninstall", "--python", python, "torchaudio")
        print(run(python, ROOT / "scripts" / "smoke.py"), end="", flush=True)


def main() -> None:
    found = present()
    if not found:
        sys.exit("no Python 3.10 to 3.13 is present: install one")
    attempt("oldest", "lowest-direct", found[0])
    attempt("newest", "highest", found[-1])


if __name__ == "__main__":
    main()
