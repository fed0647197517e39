"""Build the wheel and the sdist, install each with the lock into a new environment, and use it."""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Relative: pip separates the paths in its variables by spaces, and that of the checkout may hold one.
LOCK = "locks/lock.txt"


def run(*command: str | Path, cwd: str | Path, **environment: str) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, env={**os.environ, **environment})
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed, as said above")


def torch_here() -> str:
    """Return the requirement on torch that is met by the build installed here, with CUDA or without."""
    import torch

    return f"torch=={torch.__version__}" if torch.__version__.endswith("+cpu") else "torch"


def install_and_use(package: Path, folder: Path, *options: str) -> None:
    python = folder / "bin" / "python"
    install = (python, "-m", "pip", "install", "-q", *options, package)
    run(*install, cwd=ROOT, PIP_CONSTRAINT=LOCK, PIP_BUILD_CONSTRAINT=LOCK)
    print(f"{package.name} is installed", flush=True)
    run(python, ROOT / "scripts" / "smoke.py", cwd=folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
        (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        install_and_use(wheel, environment, torch_here())
        # The sdist requires what the wheel does, which is there by now.
        install_and_use(sdist, environment, "--force-reinstall", "--no-deps")
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
        unpacked = folder / sdist.name.removesuffix(".tar.gz")
        tests = ("tests/test_packaging.py", "tests/test_docs.py", "tests/data/test_speech.py")
        run(sys.executable, "-m", "pytest", *tests, cwd=unpacked, OMP_NUM_THREADS="1")


if __name__ == "__main__":
    main()
