"""Renew locks/lock.txt: every dependency, transitive ones too, as plain pins for Python 3.10 to 3.13.

`make lock` installs uv into .venv-tools and runs this. What changed is printed, one name a line.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "locks" / "lock.txt"
# What builds those dependencies that have no wheel (pesq, antlr4-python3-runtime); pip resolves it apart from the rest.
BUILD = ("setuptools", "wheel", "cython")
HEAD = """\
# Every dependency of audiodiff, of its tests and of its build, for Python 3.10 to 3.13. Made by `make lock`.
"""
# A pin, and the Pythons or platforms that it is for. A local version such as +cpu would tie it to one index.
PIN = re.compile(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.]+( ; .+)?")


def resolve() -> list[str]:
    """Resolve for all four Pythons at once, and return one line for each pin."""
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder) / "build.in"
        build.write_text("\n".join(BUILD))
        command = [Path(sys.executable).with_name("uv"), "pip", "compile", "--no-config", "--quiet", "--no-header"]
        command += ["--no-annotate", "--universal", "--python-version", "3.10", "--all-extras", "--upgrade"]
        command += ["--constraint", ROOT / "locks" / "held.txt", ROOT / "pyproject.toml", build]
        done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"uv could not resolve the dependencies; locks/lock.txt is as it was.\n{done.stderr}")
    lines = [line for line in done.stdout.splitlines() if line]
    for line in lines:
        if not PIN.fullmatch(line):
            sys.exit(f"uv wrote {line!r}, which is no plain pin; locks/lock.txt is as it was")
    return lines


def versions(lines: list[str]) -> dict[str, str]:
    """Return the versions of each name, joined where they differ between Pythons."""
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, version = line.partition(" ;")[0].partition("==")
        if version and not line.startswith("#"):
            found.setdefault(name, []).append(version)
    return {name: ", ".join(dict.fromkeys(each)) for name, each in found.items()}


def main() -> None:
    before = versions(LOCK.read_text().splitlines()) if LOCK.exists() else {}
    lines = resolve()
    LOCK.write_text(HEAD + "\n".join(lines) + "\n")
    after = versions(lines)
    changed = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
    for name in changed:
        print(f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}")
    print(f"locks/lock.txt: {len(after)} packages, {len(changed)} changed")


if __name__ == "__main__":
    main()
