"""The order of the house: who may import or include whom, how large files and functions may be."""

import pytest

from support import house

# A room imports only rooms before it. `benchmarks`, a folder beside the package, stands above it.
ROOMS = (
    *("_public", "_places", "_version"),
    *("_core_streams", "_core_graph", "_core_transformer", "_core"),
    *("_inputs", "_storage", "runtime", "layers", "functional"),
    *(
        "generation",
        "seq2seq",
        "graph",
        "torch",
        "keras",
        "onnx",
        "transformers",
        "inspection",
        "demo",
        "cli",
        "__main__",
        "benchmarks",
    ),
)
# A folder of cpp/ includes only folders before it.
FOLDERS = (
    *("simd", "kernels", "runtime", "engine/schedule", "engine/product", "engine/conv"),
    *(
        "engine/attention",
        "engine/recurrent",
        "engine/transformer",
        "engine/graph",
        "engine/graph/ops",
        "bindings",
    ),
)
MOST_PARAMETERS = {"C++": 8, "Python": 7}
MOST_LINES, MOST_LINES_OF_TESTS, MOST_COLUMNS = 400, 550, 100

# PyTorch prescribes these signatures, positions included.
PYTORCHS = {
    "python/treadle/functional/norms.py batch_norm",
    "python/treadle/functional/norms.py instance_norm",
    "python/treadle/layers/attention.py __call__",
    "python/treadle/layers/attention.py __init__",
    "python/treadle/functional/conv.py conv_transpose1d",
    "python/treadle/functional/conv.py conv_transpose2d",
    "python/treadle/layers/conv.py __init__",
    "python/treadle/layers/conv_transpose.py __init__",
    "python/treadle/layers/transformer.py __init__",
    "python/treadle/torch/multihead.py forward",
}


def room(module):
    """The room of a module: the second part of its name, or "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def test_rooms_are_known(source):
    names = {room(module) for module in house.modules(source)}
    assert names - {""} <= set(ROOMS)


def test_order_of_rooms(source):
    """The package's own names are there for users: of the rooms, only the highest may use them."""
    wrong = []
    for module, _, target, for_types in house.imports(source):
        inside, of = room(module), room(target)
        if inside in ("", of):
            continue
        if of == "":
            if inside in ("torch", "keras", "demo", "cli", "__main__", "benchmarks"):
                continue
            wrong.append(f"{module} -> {target}")
        elif ROOMS.index(of) > ROOMS.index(inside):
            wrong.append(f"{module} -> {target}" + " (types)" * for_types)
    assert wrong == []


def test_no_import_circle(source):
    edges = [
        (module, target) for module, _, target, for_types in house.imports(source) if not for_types
    ]
    assert house.circles(edges) == []


def folder(path):
    """The folder of a file below cpp/."""
    return path.rpartition("/")[0]


def test_folders_are_known(source):
    assert {folder(path) for path, _, _ in house.includes(source)} <= set(FOLDERS)


def test_order_of_folders(source):
    wrong = [
        f"{path}:{line} {target}"
        for path, line, target in house.includes(source)
        if FOLDERS.index(folder(target)) > FOLDERS.index(folder(path))
    ]
    assert wrong == []


def test_no_include_circle(source):
    assert house.circles((path, target) for path, _, target in house.includes(source)) == []


def test_parameters(source):
    """Behind so many, a call is read by names: of a structure in C++, of keywords in Python."""
    many = [
        f"{path.relative_to(source)} {name}"
        for path in house.files(source, ".h", ".cpp")
        if source / "cpp/bindings" in path.parents
        for _, name, count in house.cpp_functions(path.read_text())
        if count > MOST_PARAMETERS["C++"]
    ]
    many += [
        f"{path.relative_to(source)} {name}"
        for path in house.files(source, ".py")
        if source / "python" in path.parents
        for _, name, count in house.python_functions(path)
        if count > MOST_PARAMETERS["Python"]
    ]
    assert set(many) == PYTORCHS


def test_limits_of_files(source):
    long, wide = [], []
    for path in house.files(source, ".py", ".pyi", ".h", ".cpp"):
        lines = path.read_text().splitlines()
        name = path.relative_to(source).as_posix()
        if len(lines) > (MOST_LINES_OF_TESTS if path.name.startswith("test_") else MOST_LINES):
            long.append(name)
        if any(len(line) > MOST_COLUMNS for line in lines):
            wide.append(name)
    assert (long, wide) == ([], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int f() {", [("f", 0)]),
        ("void f(int a, std::map<int, int> b) const {\n}", [("f", 2)]),
        ("A::A(int a, int b) : a_(a), b_{b} {}", [("A", 2)]),
        ("if (f(a, b)) { g(c, d); }", []),
        (
            "auto x = [&](int a, F<void(int, int)> b) -> std::pair<int, int> { return h(a, 2); };",
            [("lambda", 2)],
        ),
        ('// f(a, b) {\nint g(const char* text = "a, b) {", int n = 1) {', [("g", 2)]),
        ("x = ok ? f(a, b) : g(c, d);", []),
        ("for (auto& x : all(a, b)) {", []),
    ],
)
def test_reading_of_functions(text, expected):
    assert [(name, count) for _, name, count in house.cpp_functions(text)] == expected


def test_circles():
    assert house.circles([("a", "b"), ("b", "c"), ("c", "b"), ("d", "a"), ("c", "e")]) == [
        ["b", "c"]
    ]
