"""What the documentation shows runs: every doctest of the package, every Python block of README."""

import doctest
import importlib
import pkgutil
import re

import pytest

import treadle
import treadle.torch
import treadle.transformers


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
    for owner in (treadle, treadle.functional, treadle.torch, treadle.transformers)
}


def _is_ours(value):
    """And not PyTorch's, of which treadle.torch's modules are."""
    return getattr(value, "__module__", "treadle").startswith("treadle")


# A class says the package as its module, so that testmod passes over the methods of each.
@pytest.mark.parametrize("owner", ["treadle", "treadle.torch", "treadle.transformers"])
def test_doctests_of_public_objects(owner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package, examples = importlib.import_module(owner), 0
    for name in package.__all__:
        value = getattr(package, name)
        if not (isinstance(value, type) or (callable(value) and _is_ours(value))):
            continue
        for test in doctest.DocTestFinder().find(
            value, name, module=False, globs=dict(vars(package))
        ):
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
