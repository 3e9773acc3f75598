"""What the documentation shows runs: every doctest of the package, every Python block of README."""

import doctest
import importlib
import pkgutil
import re

import pytest

import weft


def module_names():
    found = pkgutil.walk_packages(weft.__path__, "weft.", onerror=lambda name: None)
    names = [info.name for info in found if not info.name.startswith("weft.benchmarks")]
    return ["weft", *(n for n in names if n not in ("weft._core", "weft.__main__"))]


@pytest.mark.parametrize("name", module_names())
def test_doctests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert results.failed == 0


def public_objects():
    """Every public name of the package, its public methods included."""
    for owner, names in ((weft, weft.__all__), (weft.functional, weft.functional.__all__)):
        for name in names:
            value = getattr(owner, name)
            if callable(value):
                yield f"{owner.__name__}.{name}", value
            if isinstance(value, type):
                for attribute, member in vars(value).items():
                    if callable(member) and not attribute.startswith("_"):
                        yield f"weft.{name}.{attribute}", member


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    """With a docstring; functions and classes with a runnable example too."""
    text = PUBLIC[name].__doc__
    assert text
    assert len(text.splitlines()[0]) > 10
    if name.count(".") == 1 or name.startswith("weft.functional."):
        assert ">>>" in text or name == "weft.load"  # shown by save's


def readme_blocks(source):
    text = (source / "README.md").read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_readme(source, tmp_path, monkeypatch):
    """The blocks in their order, in one namespace, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    blocks, names = readme_blocks(source), {"__name__": "readme"}
    assert blocks
    for number, block in enumerate(blocks, 1):
        if ">>>" in block:
            test = doctest.DocTestParser().get_doctest(block, names, f"README {number}", None, 0)
            assert doctest.DocTestRunner().run(test, clear_globs=False).failed == 0
            names |= test.globs
        else:
            exec(compile(block, f"README.md block {number}", "exec"), names)  # noqa: S102
