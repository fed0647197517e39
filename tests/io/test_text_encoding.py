"""Text is UTF-8 in every locale: names, labels and cards come from other machines."""

import ast
from collections.abc import Iterator
from pathlib import Path

import audiodiff

PACKAGE = Path(audiodiff.__file__).parent
ASCII_EVERYWHERE = ("threads.py",)
"""Reads numbers of the kernel."""


def text_without_encoding(source: str) -> Iterator[int]:
    """Yield the lines that read or write text in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        in_bytes = any(isinstance(text, str) and "b" in text for text in texts)
        of_devnull = "os." in ast.unparse(node)
        if name in ("read_text", "write_text") or (name == "open" and not in_bytes and not of_devnull):
            yield node.lineno


def test_the_search_finds_what_it_should():
    lines = ["p.read_text()", 'p.read_text(encoding="utf-8")', 'p.open("rb")', 'open("a")', 'p.open("w", newline="")']
    assert list(text_without_encoding("\n".join(lines))) == [1, 4, 5]


def test_every_text_is_read_and_written_as_utf_8():
    sources = [path for path in PACKAGE.rglob("*.py") if path.name not in ASCII_EVERYWHERE]
    assert len(sources) > 200
    found = {path: list(text_without_encoding(path.read_text(encoding="utf-8"))) for path in sources}
    assert not {path.name: lines for path, lines in found.items() if lines}
