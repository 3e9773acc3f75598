"""The documentation runs, names everything, leads somewhere, and shows the stored results.

Here the Python blocks of a section run in one namespace of this process, after every doctest of the
package. `tests/support/reader.py` runs them again, and the shell's, each in an environment that has
what its section installs and nothing else.
"""

import doctest
import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

import treadle
import treadle.generation
import treadle.onnx
import treadle.torch
import treadle.transformers
from support import reader


def module_names():
    found = pkgutil.walk_packages(treadle.__path__, "treadle.", onerror=lambda name: None)
    names = [info.name for info in found if not info.name.startswith("treadle.benchmarks")]
    return ["treadle", *(n for n in names if n not in ("treadle._core", "treadle.__main__"))]


@pytest.mark.parametrize("name", module_names())
def test_doctests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert results.failed == 0


OWNERS = {
    owner.__name__: owner
    for owner in (
        *(treadle, treadle.functional, treadle.generation, treadle.inspection, treadle.onnx),
        treadle.torch,
        treadle.transformers,
    )
}


def _is_ours(value):
    """And not PyTorch's, of which treadle.torch's modules are."""
    return getattr(value, "__module__", "treadle").startswith("treadle")


# A class says the package as its module, so that testmod passes over the methods of each.
@pytest.mark.parametrize("owner", ["treadle", "treadle.torch", "treadle.transformers"])
def test_doctests_of_public_objects(owner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package, examples = importlib.import_module(owner), 0
    names = vars(package) | {name: getattr(package, name) for name in package.__all__}
    for name in package.__all__:
        value = getattr(package, name)
        if not (isinstance(value, type) or (callable(value) and _is_ours(value))):
            continue
        for test in doctest.DocTestFinder().find(value, name, module=False, globs=names):
            member = test.name.split(".")[1:][:1]
            if member and not _is_ours(getattr(value, member[0])):
                continue  # PyTorch's own forward, which a class keeps for what treadle cannot do.
            result = doctest.DocTestRunner().run(test)
            assert result.failed == 0
            examples += result.attempted
    assert examples > 10


def public_objects():
    """Every public name of the package, its public methods and properties included."""
    for prefix, owner in OWNERS.items():
        for name in owner.__all__:
            value = getattr(owner, name)
            if callable(value):
                yield f"{prefix}.{name}", value
            classes = value.__mro__[:-1] if isinstance(value, type) else ()
            for cls in filter(_is_ours, classes):
                for attribute, member in vars(cls).items():
                    if attribute.startswith("_") or not _is_ours(member):
                        continue
                    if callable(member) or isinstance(member, classmethod | property):
                        yield f"{prefix}.{name}.{attribute}", member


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    """With a docstring; functions and classes with a runnable example too."""
    text = PUBLIC[name].__doc__
    assert text
    assert len(text.splitlines()[0]) > 10
    if name.rpartition(".")[0] in OWNERS:
        assert ">>>" in text or name == "treadle.load"  # shown by save's


PAGES = reader.pages()
GROUPS = [group for page in PAGES for group in reader.groups(page)]


def python_blocks(group):
    return [block for block in group.blocks if block.language == "python"]


@pytest.mark.parametrize(
    "group",
    [group for group in GROUPS if python_blocks(group)],
    ids=lambda group: f"{group.page}:{group.title}".replace(" ", "-"),
)
def test_blocks(group, tmp_path, monkeypatch):
    """The Python blocks of a section, in their order and in one namespace."""
    monkeypatch.chdir(tmp_path)
    threads = treadle.get_num_threads()
    names = {"__name__": "reader"}
    try:
        for block in python_blocks(group):
            place = f"{group.page}:{block.line}"
            if "vectors.npy" in block.text:  # made by a shell block
                continue
            exec(compile(block.text, place, "exec"), names)  # noqa: S102
    finally:
        treadle.set_num_threads(threads)


def test_reader_finds_sections_and_install_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n```sh\npip install .\n```\n## B\n```python\n1\n```\n```text\nx\n```\n"
        "## C\n```sh\npip install a && pip install b\n```\n```sh\nc\n```\n"
        "## D\n<!-- command:x -->\n```sh\nd\n```\n```python\n2\n```\n"
    )
    first, second = reader.groups(page, tmp_path)
    assert (first.install, second.install) == ("pip install .", "pip install a && pip install b")
    assert [(b.text, b.line) for b in first.blocks] == [("1\n", 6), ("2\n", 24)]
    assert [(b.text, b.line) for b in second.blocks] == [("c\n", 16)]
    page.write_text("# A\n```python\n1\n```\n")
    with pytest.raises(ValueError, match=r"page.md:2: no install line"):
        reader.groups(page, tmp_path)


def test_reader_says_what_fails(capsys):
    blocks = [reader.Block("python", "print('seen')\n1 / 0\n", 3), reader.Block("sh", "false", 9)]
    assert reader.run_blocks([*blocks, reader.Block("sh", "true", 12)], "page.md") == 2
    output = capsys.readouterr().out
    assert "FAILED page.md:3\nseen" in output
    assert "FAILED page.md:9" in output
    assert "passed page.md:12" in output


def anchors(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


LINKED = [*PAGES, *(p for p in sorted(reader.ROOT.glob("*.md")) if p not in PAGES)]
LINKED += [reader.ROOT / "benchmarks" / "README.md"]


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(reader.ROOT).as_posix())
def test_links(page):
    """Every link within the project names a file that exists, and an anchor that the file has."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page}: {target}"
        assert file.is_relative_to(reader.ROOT)
        if anchor:
            assert anchor in anchors(file.read_text()), f"{page}: {target}"


def test_readme_is_short(source):
    assert len((source / "README.md").read_text().splitlines()) <= 200


def test_reference_names_everything(source):
    """The summary of the reference lists every public name of the package."""
    text = (source / "docs" / "reference" / "treadle.md").read_text()
    listed = set(re.findall(r"^   (\w+)$", text, re.MULTILINE))
    assert listed == set(treadle.__all__) - {"__version__", "functional"}


def test_tables_show_the_stored_results(source):
    """README.md and docs/performance.md have the tables that the stored results make."""
    from treadle.benchmarks import front, report

    results = source / "benchmarks" / "results"
    readme = (source / "README.md").read_text()
    found, others = front.read(results), report.second(results)
    assert front.layers(found) in readme
    assert front.by_kind(found, others) in readme
    performance = (source / "docs" / "performance.md").read_text()
    for result in found.values():
        for section in dict.fromkeys(map(report.section_of, result["cases"])):
            text = report.markdown(report.only(result, section), others.get(section))
            assert text.rstrip() in performance
    accuracy = importlib.import_module("treadle.benchmarks.kinds.accuracy.report")
    assert accuracy.markdown(json.loads((results / "accuracy.json").read_text())) in performance


def test_pictures_are_small():
    for path in Path(reader.ROOT / "benchmarks" / "results").glob("*.png"):
        assert path.stat().st_size < 300_000
