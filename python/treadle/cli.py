"""The command line: treadle demo | bench | info | convert | embed | search."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from treadle._checks import DTYPES
from treadle._formats import arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.module import Module


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code, 1 after a message on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["bench"]:  # its options are its own
            return _bench(given[1:])
        options = _parser().parse_args(given)
        commands = {
            "demo": _demo,
            "info": _info,
            "convert": _convert,
            "embed": _embed,
            "search": _search,
        }
        status = commands[options.command](options)
        if sys.stdout is not None:  # closed by the shell's >&-
            sys.stdout.flush()
        return status
    except BrokenPipeError:  # `treadle info | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        message = str(error) or type(error).__name__
        print(message if message.startswith("treadle") else f"treadle: {message}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from treadle import __version__

    parser = argparse.ArgumentParser(
        prog="treadle", description="Recurrent nets and transformer encoders on the CPU."
    )
    parser.add_argument("--version", action="version", version=f"treadle {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="watch a trained LSTM tell the language of a text")
    demo.add_argument("text", nargs="*", help="the text (default: standard input, or a sentence)")
    demo.add_argument("--file", help="read the text from a file, or from - (standard input)")
    demo.add_argument(
        "--color", action=argparse.BooleanOptionalAction, help="default: on a terminal"
    )

    commands.add_parser("bench", add_help=False, help="measure the machine and the layers")

    info = commands.add_parser("info", help="the build, the machine, and what is in a model file")
    info.add_argument("file", nargs="?", help="a model that treadle.save wrote")

    convert = commands.add_parser(
        "convert",
        help="make a model of a recurrent PyTorch state dict, or one in another dtype",
    )
    convert.add_argument(
        "source",
        help="a state dict saved as safetensors (not a pickle), or what treadle.save wrote",
    )
    convert.add_argument("target", help="the model file to write")
    convert.add_argument(
        "--dtype", choices=DTYPES, help="of the matrices (default: the model's, or float32)"
    )
    convert.add_argument("--mode", choices=("lstm", "gru", "rnn"), help="default: by the shapes")
    convert.add_argument(
        "--prefix", help='of the names, such as "encoder.lstm." (default: find it)'
    )
    convert.add_argument("--batch-first", action="store_true", help="x and y are [B, T, ...]")
    convert.add_argument("--nonlinearity", help="of an RNN: tanh (default), relu, ...")

    embed = commands.add_parser("embed", help="the vectors of a file's lines")
    search = commands.add_parser("search", help="a file's lines that are nearest to a question")
    for command in (embed, search):
        command.add_argument("model", help="directory of a sentence-transformers model")
    search.add_argument("query", help="the question")
    for command in (embed, search):
        command.add_argument(
            "--input", required=True, help="a text file in UTF-8, or - for standard input"
        )
        command.add_argument("--batch-size", type=int, default=32, help="default: 32 lines")
    embed.add_argument("--output", required=True, help="the .npy file to write, [lines, D]")
    embed.add_argument("--normalize", action="store_true", help="vectors of length 1")
    search.add_argument("--top", type=int, default=5, help="how many lines to print (default: 5)")
    return parser


def _demo(options: argparse.Namespace) -> int:
    from treadle import demo

    if options.text and options.file:
        raise ValueError("treadle demo: both a text and --file are given, expected one of them")
    demo.main(" ".join(options.text) if options.text else None, options.file, color=options.color)
    return 0


def _bench(arguments: list[str]) -> int:
    status: int | None = import_module("treadle.benchmarks.run").main(arguments)
    return status or 0


def _info(options: argparse.Namespace) -> int:
    import treadle
    from treadle import _core

    print(f"treadle     {treadle.__version__}")
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
    native = module._packed.native  # one object, several, or none
    parts = native if isinstance(native, tuple) else () if native is None else (native,)
    rows: dict[str, list[int]] = {}
    total = [0, 0, 0]
    for name, value in module._packed.parameters.items():
        matrix = len(value.shape) == 2 and bool(parts)
        for row in (rows.setdefault(_layer_of(name), [0, 0, 0]), total):
            row[0] += value.size
            row[1] += sum(array.nbytes for array in arrays(name, value).values())
            # Each weight is multiplied and added once; gates and biases are small beside that.
            row[2] += 2 * value.size if matrix else 0
    rows["all"] = total
    print(module)
    print(
        f"{'layer':<12}{'parameters':>14}{'bytes':>14}{'FLOPs per step':>18}  "
        f"{'dtype':<10}{'kernel'}"
    )
    for label, (size, nbytes, flops) in rows.items():
        of = f"{module._dtype:<10}{parts[0].isa}" if flops else f"{'float32':<10}-"
        print(f"{label:<12}{size:>14,}{nbytes:>14,}{flops:>18,}  {of}")
    print(f"packed weights: {sum(part.weight_bytes for part in parts):,} bytes")


def _layer_of(name: str) -> str:
    """What a parameter is part of: l0_reverse, layers.0, self_attn, ...; or the module itself."""
    _, _, suffix = name.partition("_l")
    if suffix:
        return f"l{suffix}"
    first, dot, rest = name.partition(".")
    if first == "layers":
        return f"layers.{rest.partition('.')[0]}"
    return first if dot else "itself"


def _convert(options: argparse.Namespace) -> int:
    from treadle.convert import convert_file

    if os.path.exists(options.target) and os.path.samefile(options.source, options.target):
        raise ValueError("treadle convert: target is the source, expected another file")
    configuration: dict[str, object] = {}
    if options.batch_first:
        configuration["batch_first"] = True
    if options.nonlinearity:
        configuration["nonlinearity"] = options.nonlinearity
    module = convert_file(
        options.source,
        options.target,
        dtype=options.dtype,
        mode=options.mode,
        prefix=options.prefix,
        **configuration,
    )
    print(f"{options.target}: {module!r}, {module._count()[1]:,} parameters")
    return 0


def _embed(options: argparse.Namespace) -> int:
    from treadle.transformers import commands

    rows, size = commands.embed(
        options.model,
        options.input,
        options.output,
        batch_size=options.batch_size,
        normalize=options.normalize,
    ).shape
    print(f"{options.output}: {rows:,} vectors of {size} numbers")
    return 0


def _search(options: argparse.Namespace) -> int:
    from treadle.transformers import commands

    found = commands.search(
        options.model,
        options.query,
        options.input,
        top=options.top,
        batch_size=options.batch_size,
    )
    for score, number, line in found:
        print(f"{score:6.3f}  {number:>6}  {line}")
    return 0
