"""The pages of docs/learn have the parts that they promise; Sphinx runs their programs."""

import ast
import re

import pytest

from support import reader

FOLDER = reader.ROOT / "docs" / "learn"
PAGES = [path for path in sorted(FOLDER.glob("*.md")) if path.name != "index.md"]
MOST_LINES = 40


def cells(page):
    """The code cells of a page, without the lines that tell MyST-NB how to show them."""
    found = re.findall(
        r"^```\{code-cell\} python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    return [re.sub(r"^:.*\n", "", text, flags=re.MULTILINE) for text in found]


def lines_of_code(text):
    """The number of lines that are neither empty nor comments nor docstrings."""
    tree = ast.parse(text)
    strings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = enumerate(text.splitlines(), 1)
    return sum(number not in strings and not re.match(r"\s*(#|$)", line) for number, line in lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_parts_of_a_page(page):
    """A page has a formula, short blocks, a picture, a claim, three tasks and its sources."""
    text, code = page.read_text(), cells(page)
    titles = re.findall(r"^## (.*)", text, re.MULTILINE)
    for title in ("The program", "The picture", "Three things to try", "Sources"):
        assert title in titles
    assert "```text\n" in text.partition("## The program")[0]
    assert (
        len(re.findall(r"^\d\. ", text.partition("## Three things to try")[2], re.MULTILINE)) == 3
    )
    assert all(lines_of_code(cell) < MOST_LINES for cell in code)
    assert any("plt.show()" in cell for cell in code)
    assert any(isinstance(node, ast.Assert) for cell in code for node in ast.walk(ast.parse(cell)))
    assert "![" not in text  # pictures are made, not pasted
    assert all(len(line) <= 100 for cell in code for line in cell.splitlines())


def test_pages_are_listed():
    """The list of pages has each of them once."""
    listed = re.search(r"```\{toctree\}(.*?)```", (FOLDER / "index.md").read_text(), re.DOTALL)[1]
    assert sorted(re.findall(r"^(\w+)$", listed, re.MULTILINE)) == [page.stem for page in PAGES]


def test_nothing_runs_a_page_a_second_time():
    """The reader of blocks leaves the programs to Sphinx."""
    assert all(reader.groups(page) == [] for page in [*PAGES, FOLDER / "index.md"])


def test_lines_of_code():
    assert (
        lines_of_code('"""A text."""\n# note\n\ndef f():\n    """More\n    of it."""\n    x = 1\n')
        == 2
    )
