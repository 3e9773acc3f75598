"""`treadle run`: does a task of `treadle.transformers.pipeline` with texts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import DTYPES
from treadle.cli.answers import readable
from treadle.cli.lines import lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

HELP = "do a task with texts: classify, tag, answer questions, translate, summarise"
_NAME = "treadle run"
# The exit code for a task, a directory or an option that cannot be used; argparse has the same.
_UNUSABLE = 2


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("task", help="the task, such as text-classification; a wrong one lists all")
    parser.add_argument("model", help="directory of a model with its tokenizer")
    parser.add_argument("text", nargs="*", help="the texts; without any, lines of standard input")
    parser.add_argument(
        "--file", help="a text file in UTF-8 whose lines are the texts, or - for standard input"
    )
    parser.add_argument("--context", help="question-answering: the text that answers the questions")
    parser.add_argument("--labels", help="zero-shot-classification: labels with commas between")
    parser.add_argument("--src-lang", help="translation: the language of the texts")
    parser.add_argument("--tgt-lang", help="translation: the language of the answers")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the task, such as top_k=3 or aggregation_strategy=simple",
    )
    parser.add_argument("--dtype", choices=DTYPES, help="the dtype of the weights")
    parser.add_argument("--batch-size", type=int, help="how many texts to run at once")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each text")


def run(options: argparse.Namespace) -> int:
    """Run the task and print the answers, each as soon as it is there."""
    from treadle.transformers.pipelines.tasks import pipeline

    if options.text and options.file is not None:
        raise ValueError(f"{_NAME}: there are texts and --file, expected either of them")
    try:
        pipe = pipeline(options.task, options.model, dtype=options.dtype, **_settings(options))
    except (ValueError, TypeError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return _UNUSABLE
    if pipe.task == "question-answering" and options.context is None:
        raise ValueError(f"{_NAME}: there is no --context, expected the text with the answers")
    inputs = list(_texts(options)) if options.text else _texts(options)
    for text, answer in _answers(pipe, inputs, options):
        found = json.dumps(answer, ensure_ascii=False) if options.json else readable(text, answer)
        print(found, flush=True)
    return 0


def _answers(
    pipe: Any, inputs: Iterable[str], options: argparse.Namespace
) -> Iterator[tuple[str, Any]]:
    """Yield each text with its answer, in order."""
    kept: list[str] = []

    def taken() -> Iterator[Any]:
        for text in inputs:
            kept.append(text)
            context = options.context
            yield text if context is None else {"question": text, "context": context}

    for answer in pipe(taken()):
        text = kept.pop(0)
        yield (text if options.context is None else options.context), answer


def _texts(options: argparse.Namespace) -> Iterator[str]:
    """Yield the texts of the command line, or the lines of a file."""
    if options.text:
        yield from options.text
    else:
        yield from lines(_NAME, "-" if options.file is None else options.file)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the task."""
    settings: dict[str, Any] = {}
    for setting in options.set:
        name, sign, value = setting.partition("=")
        if not (sign and name.isidentifier()):
            raise ValueError(f"{_NAME}: --set is {setting!r}, expected NAME=VALUE")
        settings[name] = _value(value)
    for name, value in (
        ("candidate_labels", options.labels),
        ("src_lang", options.src_lang),
        ("tgt_lang", options.tgt_lang),
        ("batch_size", options.batch_size),
    ):
        if value is not None:
            settings[name] = value
    return settings


def _value(text: str) -> Any:
    """Return a number, true, false, null or a list in JSON; other texts stay texts."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
