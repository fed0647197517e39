"""The Python that the documentation shows."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
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
