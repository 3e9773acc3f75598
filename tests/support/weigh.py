"""Say what a wheel weighs: ``python tests/support/weigh.py treadle-*.whl build/cp311-*``.

The first table has the bytes of the wheel and of what pip makes of it, for each part; the second,
where a build folder is given, the machine code of its largest objects, before the linker drops what
nobody calls.
"""

import compileall
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def part(path):
    """Return the part of the package to which a file belongs."""
    name = path.parts[0] if len(path.parts) > 1 else ""
    if path.suffix == ".so":
        return "the compiled module"
    if path.suffix == ".pyc":
        return "byte code"
    if "benchmarks" in path.parts:
        return "benchmarks"
    return "metadata" if name.endswith(".dist-info") else "Python and data"


def weigh(wheel):
    """Return {part: [bytes in the wheel, bytes when installed]}."""
    found = {}
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        for entry in archive.infolist():
            weight = found.setdefault(part(Path(entry.filename)), [0, 0])
            weight[0] += entry.compress_size
        archive.extractall(folder)
        compileall.compile_dir(folder, quiet=1)
        for file in Path(folder).rglob("*"):
            if file.is_file():
                weight = found.setdefault(part(file.relative_to(folder)), [0, 0])
                weight[1] += file.stat().st_size
    named = sum(weight[0] for weight in found.values())
    found["names of files"] = [Path(wheel).stat().st_size - named, 0]
    return found


def objects(build):
    """Return [(bytes of code, path)] of a build folder, the largest first."""
    paths = sorted(Path(build).rglob("*.o"))
    lines = subprocess.run(["size", *paths], check=True, capture_output=True, text=True).stdout
    weights = [int(line.split()[0]) for line in lines.splitlines()[1:]]
    return sorted(zip(weights, paths, strict=True), reverse=True)


def main():
    weights = weigh(sys.argv[1])
    weights["all"] = [sum(column) for column in zip(*weights.values(), strict=True)]
    print(f"{'':22}{'wheel':>12}{'installed':>12}")
    for name, (packed, unpacked) in weights.items():
        print(f"{name:22}{packed:12,}{unpacked:12,}")
    for build in sys.argv[2:]:
        for weight, path in objects(build)[:16]:
            print(f"{weight:10,} {path.relative_to(build)}")


if __name__ == "__main__":
    main()
