"""`treadle info`: the build, the machine, and what is in a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle._storage.formats import arrays, dtype_of
from treadle.layers import build

if TYPE_CHECKING:
    import argparse

    from treadle.layers.module import Module

HELP = "show the build, the machine, and what is in a model file"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "file", nargs="?", help="a model file that treadle.save wrote; its layers are listed"
    )


def run(options: argparse.Namespace) -> int:
    """Print the facts, and the table of a model."""
    import treadle
    from treadle import _core

    print(f"treadle  {treadle.__version__}")
    print(f"isa      {treadle.isa()} (available: {', '.join(treadle.available_isas())})")
    print(f"threads  {treadle.get_num_threads()}")
    print("build    " + ", ".join(f"{k} {v}" for k, v in _core.build_info().items()))
    if options.file:
        print()
        describe(treadle.load(options.file))
    return 0


def describe(module: Module) -> None:
    """Print a table of the layers: parameters, their bytes, FLOPs per time step (or token) and row,
    to which attention adds the products of queries with keys and values, and, where there are
    matrices, their dtype and the ISA level whose products multiply by them.
    """
    parts = build.natives(module)
    rows: dict[str, list[int]] = {}
    kernels: dict[str, str] = {}
    total = [0, 0, 0]
    for name, value in build.parameters(module).items():
        isa = build.isa(module, name, value)
        if isa is not None:
            kernels[_layer_of(name)] = f"{dtype_of(value):<10}{isa}"
        for row in (rows.setdefault(_layer_of(name), [0, 0, 0]), total):
            row[0] += value.size
            row[1] += sum(array.nbytes for array in arrays(name, value).values())
            # Each weight is multiplied and added once; gates and biases are small beside that.
            row[2] += 0 if isa is None else 2 * value.size
    rows["all"] = total
    if kernels:
        one, *others = set(kernels.values())
        kernels["all"] = f"{'several':<10}-" if others else one
    print(module)
    print(
        f"{'layer':<12}{'parameters':>14}{'bytes':>14}{'FLOPs per step':>18}  "
        f"{'dtype':<10}{'kernel'}"
    )
    for label, (size, nbytes, flops) in rows.items():
        of = kernels.get(label, f"{'float32':<10}-")
        print(f"{label:<12}{size:>14,}{nbytes:>14,}{flops:>18,}  {of}")
    print(f"packed weights: {sum(part.weight_bytes for part in parts):,} bytes")


def _layer_of(name: str) -> str:
    """Name the part that holds a parameter (l0_reverse, layers.0, self_attn, ...) or "itself"."""
    first, dot, rest = name.partition(".")
    if first == "layers":
        return f"layers.{rest.partition('.')[0]}"
    if dot:
        return first
    _, _, suffix = name.partition("_l")
    return f"l{suffix}" if suffix else "itself"
