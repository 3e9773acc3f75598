"""`treadle trace`: shows or saves what goes on inside a model while it reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import DTYPES
from treadle.cli.info import load

if TYPE_CHECKING:
    import argparse

    from treadle.inspection.result import Trace

HELP = "gates, states and attention of a model while it reads, as a picture, a page or arrays"
_NAME = "treadle trace"
_MOST_WRITTEN = 64


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "model",
        help="directory of a model with its tokenizer; or a file that treadle.save wrote, or one "
        "of Keras or ONNX",
    )
    parser.add_argument("--text", help="what a model with a tokenizer reads")
    parser.add_argument(
        "--input", help="what a file's model reads: an array in a .npy file, float32 or ids"
    )
    parser.add_argument(
        "--save", help="the file to write: .png, .svg, .pdf, .html or .npz (default: a list)"
    )
    parser.add_argument("--layer", type=int, action="append", help="a layer, for each that counts")
    parser.add_argument("--head", type=int, action="append", help="a head, for each that counts")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of a directory's model")


def run(options: argparse.Namespace) -> int:
    """Trace one call, then write the file or print the list of arrays."""
    found = _of_text(options) if os.path.isdir(options.model) else _of_array(options)
    if options.save is not None:
        found.save(options.save)
        print(f"{options.save}: {len(found)} arrays of {found.title}")
        return 0
    width = max(map(len, found), default=0)
    for name, array in found.items():
        sizes = ", ".join(
            f"{axis} {size}" for axis, size in zip(found.axes(name), array.shape, strict=True)
        )
        print(f"{name:<{width}}  {sizes}")
    return 0


def _of_text(options: argparse.Namespace) -> Trace:
    """Let a model read a text by its own tokenizer."""
    if options.text is None or options.input is not None:
        raise ValueError(f"{_NAME}: the model is a directory, expected --text and no --input")
    from treadle.inspection import trace
    from treadle.transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = _opened(options.model, options.dtype)
    inputs = tokenizer(options.text, return_tensors="np")
    given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    tracer = trace(model, layers=options.layer, heads=options.head)
    if isinstance(model, AutoModelForSeq2SeqLM):  # it reads what it has written itself
        written = model.generate(**given, max_new_tokens=_MOST_WRITTEN)
        given["decoder_input_ids"] = written[:, : max(written.shape[1] - 1, 1)]
    found = tracer(**given)
    found.tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    return found


def _opened(directory: str, dtype: str) -> Any:
    """Load the model of a directory by the class that takes its family."""
    from treadle.transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    first: ValueError | None = None
    for kind in (AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM):
        try:
            return kind.from_pretrained(directory, dtype=dtype)
        except ValueError as error:
            if "model_type" not in str(error):
                raise
            first = first or error
    assert first is not None
    raise first


def _of_array(options: argparse.Namespace) -> Trace:
    """Let the model of a file read an array."""
    if options.input is None or options.text is not None:
        raise ValueError(f"{_NAME}: the model is a file, expected --input and no --text")
    from treadle.inspection import trace

    module = load(options.model)
    with open(options.input, "rb") as file:
        try:
            x = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"{_NAME}: --input is no .npy file of numbers: {error}") from error
    return trace(module, layers=options.layer, heads=options.head)(x)
