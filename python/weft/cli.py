"""The command line: weft demo | bench | info | convert | embed | search."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from weft.module import Module


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
    except BrokenPipeError:  # `weft info | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        message = str(error) or type(error).__name__
        print(message if message.startswith("weft") else f"weft: {message}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from weft import __version__

    parser = argparse.ArgumentParser(
        prog="weft", description="Recurrent nets and transformer encoders on the CPU."
    )
    parser.add_argument("--version", action="version", version=f"weft {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="watch a trained LSTM tell the language of a text")
    demo.add_argument("text", nargs="*", help="the text (default: standard input, or a sentence)")
    demo.add_argument("--file", help="read the text from a file, or from - (standard input)")
    demo.add_argument(
        "--color", action=argparse.BooleanOptionalAction, help="default: on a terminal"
    )

    commands.add_parser("bench", add_help=False, help="measure the machine and the layers")

    info = commands.add_parser("info", help="the build, the machine, and what is in a model file")
    info.add_argument("file", nargs="?", help="a model that weft.save wrote")

    convert = commands.add_parser("convert", help="make a recurrent model of a PyTorch state dict")
    convert.add_argument("source", help="a state dict saved as safetensors (not a pickle)")
    convert.add_argument("target", help="the model file to write")
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
    from weft import demo

    if options.text and options.file:
        raise ValueError("weft demo: both a text and --file are given, expected one of them")
    demo.main(" ".join(options.text) if options.text else None, options.file, color=options.color)
    return 0


def _bench(arguments: list[str]) -> int:
    status: int | None = import_module("weft.benchmarks.run").main(arguments)
    return status or 0


def _info(options: argparse.Namespace) -> int:
    import weft
    from weft import _core

    print(f"weft     {weft.__version__}")
    print(f"isa      {weft.isa()} (available: {', '.join(weft.available_isas())})")
    print(f"threads  {weft.get_num_threads()}")
    print("build    " + ", ".join(f"{k} {v}" for k, v in _core.build_info().items()))
    if options.file:
        print()
        describe(weft.load(options.file))
    return 0


def describe(module: Module) -> None:
    """Print a table of the layers: parameters, their bytes, and FLOPs per time step (or token) and
    row, to which attention adds the products of queries with keys and values.
    """
    rows: dict[str, list[int]] = {}
    total = [0, 0, 0]
    for name, value in module._packed.parameters.items():
        for row in (rows.setdefault(_layer_of(name), [0, 0, 0]), total):
            row[0] += value.size
            row[1] += value.nbytes
            # Each weight is multiplied and added once; gates and biases are small beside that.
            row[2] += 2 * value.size if value.ndim == 2 else 0
    rows["all"] = total
    print(module)
    print(f"{'layer':<12}{'parameters':>14}{'bytes':>14}{'FLOPs per step':>18}")
    for label, (size, nbytes, flops) in rows.items():
        print(f"{label:<12}{size:>14,}{nbytes:>14,}{flops:>18,}")
    packed = module._packed.native  # one object, several, or none
    parts = packed if isinstance(packed, tuple) else () if packed is None else (packed,)
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
    import weft
    from weft.convert import from_state_dict_file

    if os.path.exists(options.target) and os.path.samefile(options.source, options.target):
        raise ValueError("weft convert: target is the source, expected another file")
    configuration = {}
    if options.batch_first:
        configuration["batch_first"] = True
    if options.nonlinearity:
        configuration["nonlinearity"] = options.nonlinearity
    module = from_state_dict_file(options.source, options.mode, options.prefix, **configuration)
    weft.save(module, options.target)
    print(f"{options.target}: {module!r}, {module.num_parameters:,} parameters")
    return 0


def _embed(options: argparse.Namespace) -> int:
    from weft.transformers import commands

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
    from weft.transformers import commands

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
