"""The object files: what one ISA level compiles can never be linked in the place of another's.

An inline function shared between objects built with different -m flags is emitted in each; the
linker keeps one of them, perhaps the AVX-512 one, and an older CPU dies of it. So every symbol that
another object can see must be in treadle::<isa>, one function is all that a level exports, and what
is compiled for the baseline must not contain wider registers.
"""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = [tool for tool in ("nm", "objdump") if shutil.which(tool) is None]
WIDE = re.compile(r"%[yz]mm\d|%k[1-7]\b")
ARM = 183  # the number of 64-bit Arm in the header of an ELF file
# The instructions that a level has and none below it.
ARM_LEVELS = {
    "neon": re.compile(r"\tfmla\t"),
    "neon_dotprod": re.compile(r"\tsdot\t"),
    "neon_i8mm": re.compile(r"\tsmmla\t"),
    "neon_bf16": re.compile(r"\tbfmlal[bt]\t"),
}
# The names of instructions that only some Arm CPUs have: dot products, matrices, bfloat16, LSE.
ARM_EXTENSIONS = re.compile(
    r"\t(?:[us]{1,2}dot|[us]{1,2}mmla|bf(?:dot|mmla|mlal|cvt)\w*|cas|ldadd)"
)
TILES = re.compile(r"%tmm\d|\btile(release|zero)\b|\bldtilecfg\b")


def build_directory():
    """TREADLE_BUILD_DIR, or the newest build of the extension next to the tests."""
    if "TREADLE_BUILD_DIR" in os.environ:
        return Path(os.environ["TREADLE_BUILD_DIR"])
    root = Path(__file__).resolve().parents[2] / "build"
    found = sorted(root.glob("*/_core*.so"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None


BUILD = build_directory()
has_objects = pytest.mark.skipif(
    BUILD is None or bool(TOOLS),
    reason=f"no build directory (set TREADLE_BUILD_DIR) or no binutils (missing: {TOOLS})",
)


def object_files():
    """Map the path of every object that the extension links to its ISA level or None (baseline).

    A build folder may also hold the C++ tests and micro-benchmarks, which have rules of their own.
    """
    result = {}
    for path in sorted(BUILD.glob("**/*.o")):
        if path.relative_to(BUILD).parts[0] in ("tests", "benchmarks"):
            continue
        target = next((part for part in path.parts if part.endswith(".dir")), "")
        level = re.fullmatch(r"kernels_(\w+)\.dir", target)
        result[path] = level[1] if level else None
    return result


def tool(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_arm(path):
    with path.open("rb") as file:
        header = file.read(20)
    return header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") == ARM


def binutils(name, path):
    """The tool that reads an object, which may be cross-compiled for 64-bit Arm."""
    crossed = is_arm(path) and platform.machine() != "aarch64"
    return f"aarch64-linux-gnu-{name}" if crossed else name


def disassembly(path):
    return tool(binutils("objdump", path), "-d", path).splitlines()


def visible_symbols(path):
    """Defined symbols that the linker sees, demangled: global, weak, unique and common ones."""
    symbols = []
    for line in tool(binutils("nm", path), "-C", "--defined-only", path).splitlines():
        _, kind, name = line.split(" ", 2)
        if kind.isupper() or kind in "uvw":
            symbols.append(name)
    return symbols


def foreign_symbols(path, level):
    return [s for s in visible_symbols(path) if not s.startswith(f"treadle::{level}::")]


def exported_functions(path, level):
    return [s for s in visible_symbols(path) if s.startswith(f"treadle::{level}::")]


def wide_instructions(path):
    return [line for line in disassembly(path) if WIDE.search(line)]


TILE_NAMES = (
    *("ldtilecfg", "tilerelease", "tilezero", "tileloadd", "tilestored"),
    *("tdpbf16ps", "tdpbusd"),
)


def tile_instructions(path):
    return [line for line in disassembly(path) if TILES.search(line)]


@has_objects
def test_every_level_was_built():
    levels = set(object_files().values())
    assert {"portable", None} <= levels
    some = next(iter(object_files()))
    if is_arm(some):
        assert set(ARM_LEVELS) <= levels
    elif tool("objdump", "-f", some).find("x86-64") > 0:
        assert {"avx2", "avx512", "avx512_bf16", "amx"} <= levels


@has_objects
def test_a_level_exports_its_table_and_nothing_else():
    for path, level in object_files().items():
        if level is not None:
            assert foreign_symbols(path, level) == [], path
            assert len(exported_functions(path, level)) == 1, path
            assert re.match(rf"treadle::{level}::fill\(", exported_functions(path, level)[0])


@has_objects
def test_the_baseline_has_no_wide_registers():
    checked = 0
    for path, level in object_files().items():
        if level in (None, "portable"):
            assert wide_instructions(path) == [], path
            checked += 1
    assert checked > 3


@has_objects
def test_the_levels_are_what_they_say():
    """The flags arrived: wide registers are used where they should be, and no wider ones."""
    for path, level in object_files().items():
        lines = wide_instructions(path)
        if level == "avx2":
            assert any("%ymm" in line for line in lines)
            assert not any("%zmm" in line or "%k" in line for line in lines)
        if level in ("avx512", "avx512_bf16", "amx"):
            assert any("%zmm" in line for line in lines)


@has_objects
def test_tiles_are_in_their_level_and_left_without_any():
    """The object that configures tiles also releases them, and no other has such instructions."""
    for path, level in object_files().items():
        names = {name for line in tile_instructions(path) for name in TILE_NAMES if name in line}
        assert names == (set(TILE_NAMES) if level == "amx" else set()), path


@has_objects
@pytest.mark.skipif(
    BUILD is None or not any(map(is_arm, object_files())), reason="the objects are not for Arm"
)
def test_the_levels_of_arm_are_what_they_say():
    """A level has its own instructions and none of those that belong to a level above it."""
    for path, level in object_files().items():
        lines = disassembly(path)
        own = ARM_LEVELS.get(level)
        assert own is None or any(own.search(line) for line in lines), path
        if level in (None, "portable", "neon"):
            assert [line for line in lines if ARM_EXTENSIONS.search(line)] == [], path
        for name in list(ARM_LEVELS)[list(ARM_LEVELS).index(level) + 1 :] if own else []:
            assert not any(ARM_LEVELS[name].search(line) for line in lines), path


@has_objects
@pytest.mark.skipif(
    BUILD is None or not any(BUILD.glob("**/_core*.so")), reason="a build of the C++ tests alone"
)
def test_the_extension_exports_nothing_of_ours():
    """Only its entry point: another extension must not pick up a kernel of this one."""
    extension = next(BUILD.glob("**/_core*.so"))
    names = [
        line.split(" ", 2)[2]
        for line in tool("nm", "-DC", "--defined-only", extension).splitlines()
    ]
    assert "PyInit__core" in names
    assert [name for name in names if "treadle" in name] == []


# The checks themselves: on small objects that break each rule.

COMPILER = shutil.which(os.environ.get("CXX", "c++"))
needs_compiler = pytest.mark.skipif(
    COMPILER is None or bool(TOOLS), reason=f"no C++ compiler or no binutils (missing: {TOOLS})"
)

GOOD = (
    "namespace treadle::avx2 { namespace { int f(int x) { return x; } } "
    "int fill(int x) { return f(x); } }"
)
VIOLATIONS = {
    "free function": ("int helper() { return 1; }", "helper()"),
    "inline function": ("inline int helper() { return 1; } auto* keep = &helper;", "helper()"),
    "template": (
        "template <class T> T helper(T x) { return x; } template int helper(int);",
        "int helper<int>(int)",
    ),
    "other namespace": ("namespace treadle { int helper() { return 1; } }", "treadle::helper()"),
    "other level": ("namespace treadle::avx512 { int f() { return 1; } }", "treadle::avx512::f()"),
    "C function": ('extern "C" int helper() { return 1; }', "helper"),
    "variable": ("int counter = 1;", "counter"),
    "standard library": (
        """#include <algorithm>
        auto pick = static_cast<const int& (*)(const int&, const int&)>(&std::max<int>);""",
        "int const& std::max<int>(int const&, int const&)",
    ),
}


def compiled(folder, code, *flags):
    source, target = folder / "unit.cpp", folder / "unit.o"
    source.write_text(code)
    tool(COMPILER, "-std=c++17", "-O0", *flags, "-c", source, "-o", target)
    return target


@needs_compiler
@pytest.mark.parametrize("violation", VIOLATIONS)
def test_foreign_symbols_are_seen(tmp_path, violation):
    code, symbol = VIOLATIONS[violation]
    assert symbol in foreign_symbols(compiled(tmp_path, code + "\n" + GOOD), "avx2")


@needs_compiler
def test_a_good_object_passes(tmp_path):
    path = compiled(tmp_path, GOOD)
    assert foreign_symbols(path, "avx2") == []
    assert exported_functions(path, "avx2") == ["treadle::avx2::fill(int)"]


@needs_compiler
def test_a_second_export_is_seen(tmp_path):
    path = compiled(tmp_path, GOOD + "namespace treadle::avx2 { int more() { return 1; } }")
    assert len(exported_functions(path, "avx2")) == 2


WIDE_FLAGS = {"ymm": ["-mavx2", "-O3"], "zmm": ["-mavx512f", "-mprefer-vector-width=512", "-O3"]}


@needs_compiler
@pytest.mark.parametrize("register", WIDE_FLAGS)
def test_wide_registers_are_seen(tmp_path, register):
    probe = compiled(tmp_path, "int f() { return 1; }")
    if "x86-64" not in tool("objdump", "-f", probe):
        assert wide_instructions(probe) == []
        return
    code = "void f(float* x) { for (int i = 0; i < 1024; ++i) x[i] += 1; }"
    path = compiled(tmp_path, code, *WIDE_FLAGS[register])
    assert any(f"%{register}" in line for line in wide_instructions(path))
    assert wide_instructions(compiled(tmp_path, code, "-O3")) == []
