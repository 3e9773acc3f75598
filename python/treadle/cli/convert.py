"""`treadle convert`: makes a model of a state dict or a file of Keras, or one of another dtype."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from treadle._inputs.checks import DTYPES
from treadle._storage import kinds

if TYPE_CHECKING:
    import argparse

HELP = "make a model of a file of Keras or a recurrent PyTorch state dict, or one in another dtype"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source",
        help="a file of Keras (.keras, .h5), a state dict saved as safetensors (not a pickle), or "
        "what treadle.save wrote",
    )
    parser.add_argument("target", help="the model file to write")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="store the weight matrices in this dtype (default: the model's, or float32)",
    )
    parser.add_argument(
        "--mode",
        choices=("lstm", "gru", "rnn"),
        help="the kind of the net (default: told from the shapes of its weights)",
    )
    parser.add_argument(
        "--prefix",
        help='the start of the names of the weights, such as "encoder.lstm." (default: found '
        "in the file)",
    )
    parser.add_argument(
        "--batch-first",
        action="store_true",
        help="make a model whose inputs and outputs are [B, T, ...] instead of [T, B, ...]",
    )
    parser.add_argument(
        "--nonlinearity", help="the activation of an RNN: tanh (default), relu, ..."
    )
    parser.add_argument(
        "--config", help="the file with the JSON of model.to_json(), for weights of Keras alone"
    )


def run(options: argparse.Namespace) -> int:
    """Convert the file and print what it holds."""
    from treadle.layers import build
    from treadle.layers.state_dict import convert_file

    if os.path.exists(options.target) and os.path.samefile(options.source, options.target):
        raise ValueError("treadle convert: target is the source, expected another file")
    if _is_keras(options.source):
        return _of_keras(options)
    if options.config:
        raise ValueError("treadle convert: --config is for weights of Keras")
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
    print(f"{options.target}: {module!r}, {build.count(module).elements:,} parameters")
    return 0


def _is_keras(name: str) -> bool:
    if not os.path.isfile(name):
        return False
    with open(name, "rb") as file:
        return kinds.is_keras(file.read(kinds.START))


def _of_keras(options: argparse.Namespace) -> int:
    """Convert a whole model of Keras."""
    import treadle.keras

    for option in ("mode", "prefix", "batch_first", "nonlinearity"):
        if getattr(options, option):
            raise ValueError(
                f"treadle convert: --{option.replace('_', '-')} is for a state dict, and "
                f"{options.source} is a model of Keras"
            )
    model = treadle.keras.load(options.source, config=options.config)
    if options.dtype:
        model = model.to(options.dtype)
    model.save(options.target)
    print(f"{options.target}: {model!r}, {model.weight_bytes:,} bytes of weights")
    return 0
