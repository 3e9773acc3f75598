"""Cases of the layers around a recurrent net, alone and in a sequence, and of mixed dtypes."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import treadle
from support.bits.numbers import Case, Numbers
from support.bits.recurrent import DTYPES

LAYERS: dict[str, list[tuple[Any, ...]]] = {
    "Linear": [(37, 70), (300, 5, False)],
    "Conv1d": [(6, 20, 3), (6, 8, 3, 2, 1, 2, 2), (6, 6, 5, 1, "same", 1, 6, False), (6, 4, 1)],
    "Conv2d": [
        (6, 20, 3),
        (20, 70, 3, (2, 1), 1, (1, 2)),
        (6, 6, (5, 3), 1, "same", 1, 6, False),
        (6, 4, 1),
    ],
    "ConvTranspose1d": [(6, 20, 3), (6, 8, 4, 2, 1, 1, 2), (6, 4, 2, 3, 0, 0, 1, False, 2)],
    "ConvTranspose2d": [
        (6, 20, 4, 2, 1),
        (20, 7, (3, 2), (2, 3), 1, (1, 0), 1, False),
        (6, 6, 3, 2, 1, 1, 6),
    ],
    "Embedding": [(30, 7)],
    "BatchNorm1d": [(37,), (37, 1e-3, False)],
    "BatchNorm2d": [(6,)],
    "GroupNorm": [(3, 6)],
    "InstanceNorm1d": [(6,)],
    "InstanceNorm2d": [(6,)],
    "MaxPool1d": [(3, 2, 1)],
    "MaxPool2d": [(3, 2, 1)],
    "AvgPool1d": [(3, 2, 1)],
    "AvgPool2d": [(3, 2, 1)],
    "AdaptiveAvgPool1d": [(5,), (1,)],
    "AdaptiveAvgPool2d": [(5,), (1,)],
    "AdaptiveMaxPool1d": [(5,), (1,)],
    "AdaptiveMaxPool2d": [(5,), (1,)],
    "Upsample": [((5, 60), None, "bilinear"), (None, 1.7)],
    "ZeroPad1d": [((2, 1),)],
    "ZeroPad2d": [((2, 1, 0, 3),)],
    "ReLU": [()],
    "Tanh": [()],
    "Sigmoid": [()],
    "GELU": [(), ("tanh",)],
    "SiLU": [()],
    "Softplus": [()],
    "Softsign": [()],
    "ELU": [(0.5,)],
    "LeakyReLU": [(0.2,)],
    "Hardsigmoid": [()],
    "Hardswish": [()],
    "ReLU6": [()],
    "Hardtanh": [(-0.5, 0.25)],
    "Softmax": [(), (0,)],
    "LogSoftmax": [(), (0,)],
    "Identity": [()],
    "Flatten": [()],
    "Transpose": [(0, 1)],
}
"""Class -> the arguments of its cases."""


def cases() -> Iterator[Case]:
    for cls, several in LAYERS.items():
        for arguments in several:
            for dtype in DTYPES if cls == "Linear" or cls.startswith("Conv") else DTYPES[:1]:
                name = f"layer/{cls}/{dtype}/{'-'.join(map(str, arguments))}"
                yield Case(name, partial(_layer, name, cls, arguments, dtype))
    for choice in ("float32", "bfloat16", "int8", ["int8", "bfloat16", "float32"]):
        name = f"layer/mixed/{choice if isinstance(choice, str) else '-'.join(choice)}"
        yield Case(name, partial(_mixed, name, choice))
    for dtype in DTYPES:
        name = f"layer/Sequential/{dtype}"
        yield Case(name, partial(_sequence, name, dtype))
    for dtype in DTYPES:
        for score, fed, size in (("dot", 1, 40), ("general", 0, 300), ("additive", 1, 40)):
            name = f"layer/Seq2Seq/{dtype}/{score}"
            yield Case(name, partial(_pair, name, dtype, score, fed, size))


def _loaded(numbers: Numbers, module: Any) -> Any:
    module.load_state_dict(numbers.state_dict(module))
    return module


def _layer(name: str, cls: str, arguments: tuple[Any, ...], dtype: str) -> Any:
    numbers = Numbers(name)
    module = _loaded(numbers, getattr(treadle, cls)(*arguments)).to(dtype)
    if cls.startswith("BatchNorm"):
        variance = np.abs(module.running_var) + np.float32(0.5)
        module.load_state_dict({"running_var": variance}, strict=False)
    if cls == "Embedding":
        return module(numbers.integers(0, 30, 4, 9))
    first = arguments[0] if arguments else 0
    columns = {"Linear": (9, first)}
    columns |= dict.fromkeys(["Conv1d", "ConvTranspose1d", "InstanceNorm1d"], (2, 6, 23))
    columns |= dict.fromkeys(["Conv2d", "ConvTranspose2d"], (2, first, 9, 7))
    columns |= dict.fromkeys(["BatchNorm2d", "InstanceNorm2d"], (2, 6, 5, 7))
    columns |= {"GroupNorm": (3, 6, 5, 7), "Upsample": (2, 6, 9, 37), "ZeroPad2d": (2, 6, 9, 37)}
    pools = ["MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d"]
    columns |= dict.fromkeys(pools, (20, 9, 37))
    return module(numbers.floats(*columns.get(cls, (5, 37)), reach=8))


def _mixed(name: str, choice: Any) -> Any:
    """Three layers, as a whole and as a stream."""
    numbers = Numbers(name)
    found = []
    for cls in (treadle.RNN, treadle.LSTM, treadle.GRU):
        module = _loaded(numbers, cls(7, 20, 3)).to(choice)
        x = numbers.floats(9, 3, 7)
        found.append((module(x), module.stream(3).run(x)))
    return found


def _sequence(name: str, dtype: str) -> Any:
    numbers = Numbers(name)
    module = treadle.Sequential(
        treadle.Conv1d(6, 20, 3, padding=1),
        treadle.GELU(),
        treadle.Transpose(1, 2),
        treadle.GRU(20, 9, batch_first=True),
        treadle.Linear(9, 4),
        treadle.LogSoftmax(),
    )
    return _loaded(numbers, module).to(dtype)(numbers.floats(3, 6, 23))


def _pair(name: str, dtype: str, score: str, fed: int, size: int) -> Any:
    """An encoder and a decoder with attention: what follows all tokens, and the probabilities."""
    numbers = Numbers(name)
    module = treadle.Seq2Seq(
        treadle.Sequential(treadle.Embedding(30, 9), treadle.LSTM(9, size, batch_first=True)),
        treadle.Sequential(
            treadle.Embedding(20, 7),
            treadle.LSTM(7 + fed * size, size, batch_first=True),
            treadle.Linear(2 * size, 20),
        ),
        score,
        bridge=score == "additive",
    )
    x, tokens = numbers.integers(0, 30, 5, 11), numbers.integers(0, 20, 5, 4)
    lengths = numbers.lengths(11, 5)
    module = _loaded(numbers, module).to(dtype)
    return module(x, tokens, lengths=lengths, output_attentions=True)
