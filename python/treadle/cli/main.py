"""`treadle COMMAND`: finds the command, runs it, turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from treadle.cli import bench, convert, demo, embed, info, run, search, trace

if TYPE_CHECKING:
    from collections.abc import Sequence

# Every module has `add(parser)`, which declares its options, and `run(options)`, which returns the
# exit code.
COMMANDS = {
    "demo": demo,
    "bench": bench,
    "info": info,
    "convert": convert,
    "embed": embed,
    "search": search,
    "run": run,
    "trace": trace,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 1 or 2 after a message on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # The benchmarks parse their own options, so that they need not be imported for a --help.
        if words[:1] == ["bench"]:
            return bench.run(words[1:])
        parser = _parser()
        options, rest = parser.parse_known_args(words)
        # argparse gives a list that may be empty only what stands before the first option.
        if rest and (options.command != "run" or any(word.startswith("-") for word in rest)):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if rest:
            options.text += rest
        status: int = COMMANDS[options.command].run(options)
        if sys.stdout is not None:  # The shell's >&- closes it.
            sys.stdout.flush()
        return status
    except BrokenPipeError:  # The reader of a pipe has left, as in `treadle info | head`.
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
    for name, command in COMMANDS.items():
        command.add(commands.add_parser(name, add_help=name != "bench", help=command.HELP))
    return parser
