"""The Python that the documentation shows."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["streaming.md"])
def test_the_examples_of_a_page_run_one_after_another(page):
    blocks = BLOCK.findall((DOCS / page).read_text())
    assert blocks
    names: dict[str, object] = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("page", ["streaming.md"])
def test_the_examples_that_are_not_run_are_python(page):
    shown = re.findall(r"^```python not-run\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    assert shown
    for block in shown:
        compile(block, page, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("checker", [["pyright"], ["mypy", "--ignore-missing-imports", "--follow-imports=silent"]])
def test_the_examples_of_all_pages_pass_type_checkers(checker: list[str], tmp_path: Path):
    if importlib.util.find_spec(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    pages = []
    for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]:
        blocks = BLOCK.findall(page.read_text())
        if blocks:
            pages.append(tmp_path / f"{page.stem.replace('-', '_')}.py")
            pages[-1].write_text("\n".join(blocks))
    assert pages
    done = subprocess.run([sys.executable, "-m", *checker, *map(str, pages)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
