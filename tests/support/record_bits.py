"""Record what everything computes, as hashes, to see whether a change has changed a bit.

    python tests/support/record_bits.py before.json
    ... change the code, build it ...
    python tests/support/record_bits.py after.json --compare before.json

The program runs every case of `support.bits` on each instruction set of the CPU, with one thread
and with two, whose results must be the same. It writes the SHA-256 of shapes, dtypes and bytes, one
case a line. An instruction set that a line does not name has the hash of the one before it in
`LEVELS`.

Where the file exists, it keeps the hashes of instruction sets that the CPU lacks: few have amx.

``--portable`` leaves out the cases whose bits depend on NumPy, PyTorch or the machine. Made with it
on x86-64, tests/reference/bits.json is the record that tests/project/test_bits.py compares with;
make it anew where a change of bits is meant.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import treadle

if __name__ == "__main__":  # the program's folder is on the path then, and not the one above it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import support  # noqa: F401

    del sys.path[0]  # the folders tests/torch and tests/transformers would pass for packages

from support.bits import attention, guests, layers, models, recurrent
from support.bits.numbers import Case

Record = dict[str, Any]
"""Case -> instruction set -> hash."""

LEVELS = ["portable", "avx2", "avx512", "avx512_bf16", "amx"]
"""The instruction sets of a record."""


def every_case(portable: bool = False) -> list[Case]:
    """The cases, or those alone whose bits do not depend on other libraries and on the machine."""
    found = [
        case for kind in (recurrent, attention, layers, models, guests) for case in kind.cases()
    ]
    names = [case.name for case in found]
    if len(set(names)) < len(names):
        raise ValueError(f"two cases have one name among {sorted(names)}")
    return [case for case in found if case.portable or not portable]


def digest(result: Any) -> str:
    """The first 12 digits of SHA-256 over the shapes, dtypes and bytes of nested arrays."""
    state = hashlib.sha256()
    for path, array in _arrays("", result):
        state.update(f"{path} {array.dtype.str} {array.shape};".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:12]


def _arrays(path: str, result: Any) -> Iterator[tuple[str, Any]]:
    if result is None:
        yield path, np.zeros(0, np.bool_)
    elif isinstance(result, dict):
        for name, item in result.items():
            yield from _arrays(f"{path}/{name}", item)
    elif isinstance(result, list | tuple):
        for index, item in enumerate(result):
            yield from _arrays(f"{path}/{index}", item)
    elif isinstance(result, np.ndarray):
        yield path, result
    else:
        raise TypeError(f"a case returned {type(result).__name__} at {path!r}, expected arrays")


def record(cases: list[Case], levels: list[str]) -> Record:
    """The hashes of cases on some instruction sets; ValueError where threads change one."""
    found: Record = {case.name: {} for case in cases}
    before = treadle.isa(), treadle.get_num_threads()
    try:
        for level in levels:
            treadle._core.set_isa(level)
            for case in cases:
                hashes = []
                for threads in (1, 2):
                    treadle.set_num_threads(threads)
                    hashes.append(digest(case.compute()))
                if hashes[0] != hashes[1]:
                    raise ValueError(f"{case.name} on {level}: two threads change the result")
                found[case.name][level] = hashes[0]
    finally:
        treadle._core.set_isa(before[0])
        treadle.set_num_threads(before[1])
    return found


def write(path: Path, found: Record) -> None:
    """A case a line, without the hashes that are those of the instruction set before."""
    lines = []
    for name, hashes in found.items():
        short, last = {}, None
        for level, value in hashes.items():
            if value != last:
                short[level] = last = value
        lines.append(f"{json.dumps(name)}: {json.dumps(short)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read(path: Path) -> Record:
    """Read a record that `write` has written, for all of `LEVELS`."""
    found: Record = {}
    for name, short in json.loads(path.read_text()).items():
        found[name], last = {}, None
        for level in LEVELS:
            found[name][level] = last = short.get(level, last)
    return found


def completed(found: Record, before: Record) -> Record:
    """``found`` with the hashes that ``before`` has for other instruction sets of its cases."""
    return {name: {**before.get(name, {}), **hashes} for name, hashes in found.items()}


def differences(before: Record, after: Record) -> list[str]:
    """The cases that differ, each with the instruction sets on which they do."""
    lines = [f"{name}: in the first record only" for name in before if name not in after]
    for name, hashes in after.items():
        if name not in before:
            lines.append(f"{name}: in the second record only")
            continue
        changed = [level for level, value in hashes.items() if before[name].get(level) != value]
        if changed:
            lines.append(f"{name}: other bits on {', '.join(changed)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--portable", action="store_true", help="leave out what depends on others")
    parser.add_argument("--compare", type=Path, help="a record to compare with")
    options = parser.parse_args()
    levels = treadle.available_isas()
    found = record(every_case(options.portable), levels)
    before = read(options.out) if options.out.exists() else {}
    write(options.out, completed(found, before))
    print(f"{len(found)} cases on {', '.join(levels)}, one thread and two")
    if options.compare is not None:
        lines = differences(read(options.compare), found)
        print("\n".join(lines) or f"the same bits as in {options.compare}")
        sys.exit(bool(lines))


if __name__ == "__main__":
    main()
