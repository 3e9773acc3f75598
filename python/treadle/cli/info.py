"""`treadle info`: the build, the machine, and what is in a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle._storage import kinds
from treadle._storage.formats import arrays, dtype_of
from treadle.layers import build

if TYPE_CHECKING:
    import argparse

    from treadle.graph.model import Model
    from treadle.layers.module import Module

HELP = "show the build, the machine, and what is in a model file"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "file",
        nargs="?",
        help="a file that treadle.save wrote, or a model of ONNX or Keras; its layers or nodes are "
        "listed",
    )
    parser.add_argument(
        "--profile", action="store_true", help="run a whole model, and tell the time of each node"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="with --profile: a size (batch=8, input.1=512), or the numbers in an input (sr=16000)",
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
        module = load(options.file)
        if isinstance(module, treadle.Model):
            describe_model(module, _numbers(options.set) if options.profile else None)
        elif options.profile:
            raise ValueError("treadle info: --profile needs a whole model, not a layer")
        else:
            describe(module)
    return 0


def load(name: str) -> Module | Model:
    """Open a file of treadle, of ONNX or of Keras."""
    import treadle

    with open(name, "rb") as file:
        start = file.read(kinds.START)
    if kinds.is_keras(start):
        import treadle.keras

        model: Model = treadle.keras.load(name)
        return model
    if kinds.is_onnx(start) or name.endswith(".onnx"):
        import treadle.onnx

        return treadle.onnx.load(name)
    loaded: Module | Model = treadle.load(name)
    return loaded


def _numbers(settings: list[str]) -> dict[str, int]:
    """Read settings such as batch=8."""
    numbers = {}
    for setting in settings:
        name, sign, number = setting.rpartition("=")
        if not sign or not number.lstrip("-").isdecimal():
            raise ValueError(f"treadle info: --set is {setting!r}, expected NAME=NUMBER")
        numbers[name] = int(number)
    return numbers


def describe_model(model: Model, chosen: dict[str, int] | None) -> None:
    """Print what a whole model is and, where numbers are chosen, the time of its nodes."""
    from treadle.graph import describe as words

    if model.table is not None:
        model.summary()
        print()
    print("\n".join(words.describe(model)))
    if chosen is not None:
        print()
        print("\n".join(words.profile(model, words.example_inputs(model, chosen))))


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
