"""This module reads the source: imports, includes, and how many parameters functions have."""

import ast
import re

SOURCES = ("python/treadle", "benchmarks", "examples", "docs", "cpp", "tests", ".ci")


def files(root, *suffixes):
    """Every source file of the project with one of the suffixes, but for what a build has made."""
    found = []
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            # The benchmarks are a folder of their own, which a developer may link into the package.
            if path.suffix in suffixes and not name.startswith("python/treadle/benchmarks/"):
                found.append(path)
    return [path for path in found if path.name != "_version.py"]  # its line is generated


def modules(root):
    """Every module of the package by its full name -> its file; the benchmarks among them."""
    stubs = ("_core_streams", "_core_graph", "_core_transformer", "_core")
    result = {f"treadle.{name}": root / f"python/treadle/{name}.pyi" for name in stubs}
    for name, folder in {
        "treadle": root / "python/treadle",
        "treadle.benchmarks": root / "benchmarks",
    }.items():
        for path in files(root, ".py"):
            if folder in path.parents:
                parts = path.relative_to(folder).with_suffix("").parts
                if parts[-1] == "__init__":
                    parts = parts[:-1]
                result[".".join((name, *parts))] = path
    return result


def imports(root):
    """Every import of one module of the package by another: (module, line, imported, for types).

    Imports inside functions are among them. A name that an import takes from a package counts as
    the package, unless it is a module.
    """
    known = modules(root)
    for name, path in known.items():
        tree = ast.parse(path.read_text(), str(path))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for_types = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")
                    base = ".".join([*above[: len(above) - node.level + 1], *filter(None, [base])])
                whole = [f"{base}.{alias.name}" for alias in node.names]
                targets = [target if target in known else base for target in whole]
            else:
                continue
            for target in targets:
                if target.split(".")[0] == "treadle" and target != name:
                    yield name, node.lineno, target, id(node) in for_types


def includes(root):
    """Every `#include "..."` in cpp/: (file, line, included), as paths below cpp/."""
    for path in files(root, ".h", ".cpp"):
        if root / "cpp" in path.parents:
            for line, text in enumerate(path.read_text().splitlines(), 1):
                if found := re.match(r'\s*#\s*include\s+"([^"]+)"', text):
                    yield path.relative_to(root / "cpp").as_posix(), line, found[1]


def circles(edges):
    """The circles of a graph, a list of pairs (from, to): each as the sorted list of its nodes."""
    graph = {}
    for begin, end in edges:
        graph.setdefault(begin, set()).add(end)
    reached = {}
    for node in graph:
        seen, todo = set(), [node]
        while todo:
            for following in graph.get(todo.pop(), ()):
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        reached[node] = seen
    found = {
        tuple(sorted(other for other in seen if node in reached.get(other, ())))
        for node, seen in reached.items()
        if node in seen
    }
    return sorted(map(list, found))


def python_functions(path):
    """Every function of a Python file: (line, name, number of positional parameters but self)."""
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [argument.arg for argument in node.args.posonlyargs + node.args.args]
            yield node.lineno, node.name, len(names) - (names[:1] in (["self"], ["cls"]))


STATEMENTS = {"if", "for", "while", "switch", "catch", "return", "sizeof", "decltype", "alignas"}


def cpp_functions(text):
    """Every definition of a function or lambda in C++: (line, name, number of parameters)."""
    # Comments and strings become spaces, so that lines and columns stay.
    blank = re.sub(
        r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'',
        lambda found: re.sub(r"[^\n]", " ", found[0]),
        text,
        flags=re.DOTALL,
    )
    for found in re.finditer(r"(\w+|\])\s*\(", blank):
        if found[1] in STATEMENTS:
            continue
        end = closing(blank, found.end() - 1)
        # Between the parameters and the body may stand const, noexcept and the type of the result.
        after = re.match(r"[\w\s<>,*&]*(?:->)?(?:[\w\s<>,*&]|::)*([{:])", blank[end : end + 200])
        words = set(re.findall(r"\w+", blank[end : end + after.end()])) if after else set()
        if after is None or not (
            "->" in after[0] or words <= {"const", "noexcept", "override", "mutable"}
        ):
            continue
        # A colon begins the initialisers of a constructor, unless it belongs to `? :` or a `for`.
        before = re.sub(r"(\bexplicit\b|[\w:~]|\s)+$", "", blank[: found.end() - 1])
        if after[1] == ":" and before[-1:] not in ("", ";", "{", "}", ">"):
            continue
        line = blank.count("\n", 0, found.start()) + 1
        name = "lambda" if found[1] == "]" else found[1]
        yield line, name, count_parameters(blank[found.end() : end - 1])


def closing(text, begin):
    """The index behind the bracket that closes the one at `begin`."""
    depth = 0
    for index in range(begin, len(text)):
        depth += (text[index] in "([{") - (text[index] in ")]}")
        if depth == 0:
            return index + 1
    return len(text)


def count_parameters(text):
    """The number of parameters in what stands between the brackets of a function."""
    depth, count = 0, 1
    for before, letter in zip(" " + text, text, strict=False):
        depth += (letter in "([{<") - (letter in ")]}" or (letter == ">" and before != "-"))
        count += letter == "," and depth == 0
    return count if text.strip() else 0
