"""`treadle demo`: a trained LSTM tells the language of a text while one watches."""

from __future__ import annotations

import argparse

HELP = "watch a trained LSTM tell the language of a text"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "text",
        nargs="*",
        help="the text, the name of a file, or - (default: standard input, or a sentence)",
    )
    parser.add_argument("--file", help="read the text from a file, or from - (standard input)")
    parser.add_argument(
        "--color",
        action=argparse.BooleanOptionalAction,
        help="print in color (default: if the output is a terminal)",
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="also write the gates and states of its LSTM, letter by letter, into a .html, .png, "
        ".svg, .pdf or .npz file",
    )


def run(options: argparse.Namespace) -> int:
    """Read the text and show the languages."""
    from treadle.demo import reader

    if options.text and options.file:
        raise ValueError("treadle demo: both a text and --file are given, expected one of them")
    text = " ".join(options.text) if options.text else None
    if options.trace is None:
        reader.main(text, options.file, color=options.color)
        return 0
    from treadle.demo import traced

    read = traced.text_of(text, options.file)
    reader.run(read, color=options.color)
    found = traced.traced(read)
    found.save(options.trace)
    print(f"{options.trace}: {len(found)} arrays of {len(found.tokens or ())} letters")
    return 0
