"""Cases of recurrent nets: layers, cells, streams, functions, and gradients."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import treadle
from support.bits.numbers import Case, Numbers

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
DTYPES = ("float32", "bfloat16", "int8")
# (T, B, I, H): around vectors and tiles, then sizes at which threads share the work.
SHAPES = [
    (1, 1, 1, 1), (3, 2, 5, 7), (2, 3, 4, 3), (3, 5, 9, 8), (7, 7, 2, 15), (4, 8, 16, 16),
    (3, 9, 17, 17), (6, 1, 33, 31), (4, 17, 7, 33), (3, 1, 64, 47), (2, 31, 6, 63), (1, 65, 11, 65),
    (0, 2, 5, 7), (25, 1, 128, 128), (12, 20, 40, 256),
    (30, 16, 256, 256), (20, 2, 512, 512),
]  # fmt: skip
ACTIVATIONS = [
    "tanh", "sigmoid", "relu", "linear", "softsign", "softplus", "hard_sigmoid", "elu",
    "leaky_relu",
    "thresholded_relu", "affine", "scaled_tanh", "gelu", "gelu_tanh", "silu",
    "hard_swish", "clip", ("clip", -0.5, 0.25),
    ("hard_sigmoid", 0.2, 0.5), ("elu", 0.5), ("leaky_relu", 0.3), ("thresholded_relu", 0.25),
    ("affine", 0.5, 0.25), ("scaled_tanh", 0.75, 0.5),
]  # fmt: skip


def cases() -> Iterator[Case]:
    yield from _layers()
    yield from _cells()
    yield from _streams()
    yield from _functions()
    yield from _gradients()


def _class(mode: str, suffix: str = "") -> Any:
    return getattr(treadle, mode.upper() + suffix)


def _loaded(numbers: Numbers, cls: Any, *args: Any, **options: Any) -> Any:
    module = cls(*args, seed=0, **options)
    module.load_state_dict(numbers.state_dict(module))
    return module


def _state(numbers: Numbers, mode: str, *leading: int, hidden: int, output: int = 0) -> Any:
    h = numbers.floats(*leading, output or hidden)
    return (h, numbers.floats(*leading, hidden)) if mode == "lstm" else h


def _layer(name: str, mode: str, shape: tuple[int, ...], **options: Any) -> Any:
    """A layer over sequences of ``shape`` (T, B, I, H); some options are those of the call."""
    numbers, (T, B, I, H) = Numbers(name), shape
    wanted = {k for k in ("lengths", "mask", "resets", "state", "unbatched") if k in options}
    module = _loaded(
        numbers, _class(mode), I, H, **{k: options[k] for k in options if k not in wanted}
    )
    first, D = options.get("batch_first", False), 1 + options.get("bidirectional", False)
    rows = (T,) if "unbatched" in wanted else (B, T) if first else (T, B)
    leading = (D * options.get("num_layers", 1), *(() if "unbatched" in wanted else (B,)))
    sizes = {"hidden": H, "output": options.get("proj_size", 0)}
    call: dict[str, Any] = {}
    if "lengths" in wanted:
        call["lengths"] = numbers.lengths(T, B)
    if "mask" in wanted:
        call["mask"] = numbers.flags(B, T, share=2 / 3)
    if "resets" in wanted:
        call["resets"] = numbers.flags(*rows, share=1 / 4)
        call["reset_state"] = _state(numbers, mode, *leading, **sizes)
    state = _state(numbers, mode, *leading, **sizes) if "state" in wanted else None
    return module(numbers.floats(*rows, I), state, **call)


def _layers() -> Iterator[Case]:
    def case(name: str, mode: str, shape: tuple[int, ...], **options: Any) -> Case:
        return Case(name, partial(_layer, name, mode, shape, **options))

    two = {"num_layers": 2, "bidirectional": True}
    variants: dict[str, dict[str, Any]] = {
        "bidirectional": two,
        "no_bias": {"bias": False},
        "unbatched": {"unbatched": True, "state": True} | two,
        "batch_first_state": {"batch_first": True, "state": True} | two,
        "lengths": {"lengths": True} | two,
        "mask": {"mask": True} | two,
        "resets": {"resets": True} | two,
        "resets_lengths_state": {"resets": True, "lengths": True, "state": True},
    }
    for mode in GATES:
        own = dict(variants)
        if mode == "lstm":
            own["projection"] = {"proj_size": 7} | two
            own["projection_lengths"] = {"proj_size": 7, "lengths": True, "state": True} | two
        if mode == "gru":
            own["reset_before"] = {"reset_after": False} | two
            own["reset_before_mask"] = {"reset_after": False, "mask": True, "state": True}
        for dtype in DTYPES:
            for shape in SHAPES:
                letters = "x".join(map(str, shape))
                yield case(f"layer/{mode}/{dtype}/{letters}", mode, shape, dtype=dtype)
            for label, options in own.items():
                yield case(
                    f"layer/{mode}/{dtype}/{label}", mode, (6, 5, 9, 19), dtype=dtype, **options
                )
        for activation in ACTIVATIONS:
            if mode == "rnn":
                chosen = {"nonlinearity": activation}
            else:
                chosen = {"activation": activation, "recurrent_activation": activation}
            label = activation if isinstance(activation, str) else "-".join(map(str, activation))
            yield case(f"layer/{mode}/activation/{label}", mode, (5, 4, 6, 19), **chosen)


def _cell(name: str, mode: str, **options: Any) -> Any:
    numbers = Numbers(name)
    cell = _loaded(numbers, _class(mode, "Cell"), 9, 19, **options)
    x, state = numbers.floats(5, 9), _state(numbers, mode, 5, hidden=19)
    return cell(x), cell(x, state), cell(x[0])


def _cells() -> Iterator[Case]:
    for mode in GATES:
        variants: list[dict[str, Any]] = [{"dtype": dtype} for dtype in DTYPES] + [{"bias": False}]
        variants += [{"reset_after": False}] if mode == "gru" else []
        for options in variants:
            label = "-".join(f"{k}={v}" for k, v in options.items())
            name = f"cell/{mode}/{label}"
            yield Case(name, partial(_cell, name, mode, **options))


def _stream(name: str, mode: str, batch: int, **options: Any) -> Any:
    """A layer of two, step by step, then in chunks, with resets between them."""
    numbers = Numbers(name)
    module = _loaded(numbers, _class(mode), 9, 33, num_layers=2, **options)
    stream, x = module.stream(batch), numbers.floats(12, batch, 9)
    found = [stream.step(row) for row in x[:3]]
    found.append(stream.run(x[3:8]))
    stream.reset(rows=[batch - 1])
    found.append(stream.step(x[8], out=found[0].copy()))
    stream.reset(
        state=_state(numbers, mode, 2, batch, hidden=33, output=options.get("proj_size", 0))
    )
    found.append(stream.run(x[9:]))
    return found, stream.state


def _streams() -> Iterator[Case]:
    for mode in GATES:
        for dtype in DTYPES:
            for batch in (1, 3, 9):
                name = f"stream/{mode}/{dtype}/{batch}"
                yield Case(name, partial(_stream, name, mode, batch, dtype=dtype))
    name = "stream/lstm/projection"
    yield Case(name, partial(_stream, name, "lstm", 2, proj_size=7))


# Options of the functions, beside what decides shapes: None stands for an array.
_FUNCTION_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "rnn": [
        {}, {"clip": 0.5}, {"reverse": True, "lengths": None}, {"nonlinearity": "softplus"},
        {"batch_first": True, "mask": None, "h_0": None}, {"resets": None, "reverse": True},
        {"nonlinearity": "relu", "biases": False},
    ],
    "lstm": [
        {}, {"clip": 0.5}, {"input_forget": True}, {"peepholes": None}, {"weight_hr": None},
        {"peepholes": None, "clip": 0.75, "input_forget": True, "reverse": True},
        {"reverse": True, "lengths": None, "h_0": None}, {"biases": False},
        {"batch_first": True, "mask": None, "h_0": None}, {"resets": None, "weight_hr": None},
        {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
        {"output_activation": "relu", "peepholes": None, "resets": None, "reverse": True},
    ],
    "gru": [
        {}, {"clip": 0.5}, {"reset_after": False}, {"reverse": True, "lengths": None, "h_0": None},
        {"batch_first": True, "mask": None, "h_0": None}, {"resets": None, "reverse": True},
        {"reset_after": False, "resets": None, "lengths": None, "clip": 0.75}, {"biases": False},
        {"activation": "elu", "recurrent_activation": "hard_sigmoid"},
    ],
}  # fmt: skip


def _arguments(
    numbers: Numbers, mode: str, shape: tuple[int, ...], options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and options of functional.rnn, lstm or gru: those of its cell, and the others."""
    (T, B, I, H), rows = shape, GATES[mode] * shape[3]
    P = 5 if "weight_hr" in options else H
    own: dict[str, Any] = {
        "weight_ih": numbers.weights(rows, I),
        "weight_hh": numbers.weights(rows, P),
    }
    if options.get("biases", True):
        own |= {"bias_ih": numbers.floats(rows), "bias_hh": numbers.floats(rows)}
    for name, size in (("weight_hr", (P, H)), ("peepholes", (3 * H,))):
        if name in options:
            own[name] = numbers.weights(*size)
    time = (B, T) if options.get("batch_first") else (T, B)
    more: dict[str, Any] = {"x": numbers.floats(*time, I)}
    if "h_0" in options:
        more["h_0"] = numbers.floats(B, P)
        if mode == "lstm":
            more["c_0"] = numbers.floats(B, H)
    if "lengths" in options:
        more["lengths"] = numbers.lengths(T, B)
    if "mask" in options:
        more["mask"] = numbers.flags(B, T, share=2 / 3)
    if "resets" in options:
        more["resets"] = numbers.flags(*time, share=1 / 4)
        more["reset_state"] = _state(numbers, mode, B, hidden=H, output=P)
    for name, value in options.items():
        if value is not None and name != "biases":
            (more if name in ("reverse", "batch_first") else own)[name] = value
    return own, more


def _function(name: str, mode: str, shape: Any, options: dict[str, Any]) -> Any:
    numbers = Numbers(name)
    own, more = _arguments(numbers, mode, shape, options)
    x = more.pop("x")
    result = getattr(treadle.functional, mode)(x, **own, **more)
    return result, getattr(treadle.functional, f"{mode}_cell")(numbers.floats(3, x.shape[2]), **own)


def _functions() -> Iterator[Case]:
    for mode, every in _FUNCTION_OPTIONS.items():
        for options in every:
            name = f"functional/{mode}/{_label(options)}"
            yield Case(name, partial(_function, name, mode, (6, 5, 9, 19), options))


def _label(options: dict[str, Any]) -> str:
    return ",".join(k if v is None else f"{k}={v}" for k, v in options.items()) or "plain"


def _gradient(name: str, mode: str, shape: Any, options: dict[str, Any]) -> Any:
    """Both ways with and without gates saved, from gradients of some of the results and of all."""
    functional, found = treadle.functional, []
    forward: Callable[..., Any] = getattr(functional, f"{mode}_forward")
    backward: Callable[..., Any] = getattr(functional, f"{mode}_backward")
    for recompute in (False, True):
        numbers = Numbers(name)
        own, more = _arguments(numbers, mode, shape, options)
        y, state, saved = forward(more.pop("x"), **own, **more, recompute=recompute)
        dy = numbers.floats(*y.shape)
        h_n, c_n = state if mode == "lstm" else (state, None)
        finals = {"dh_n": numbers.floats(*h_n.shape)}
        if c_n is not None:
            finals["dc_n"] = numbers.floats(*c_n.shape)
        found += [y, state, backward(saved, dy), backward(saved, dy, **finals)]
        found.append(backward(saved, **finals))
    return found


def _gradients() -> Iterator[Case]:
    for mode, every in _FUNCTION_OPTIONS.items():
        for options in every:
            name = f"gradient/{mode}/{_label(options)}"
            yield Case(name, partial(_gradient, name, mode, (6, 5, 9, 19), options))
        for shape in [
            (1, 1, 1, 1),
            (4, 8, 16, 16),
            (4, 17, 7, 33),
            (25, 1, 64, 64),
            (6, 20, 40, 96),
        ]:
            name = f"gradient/{mode}/{'x'.join(map(str, shape))}"
            yield Case(name, partial(_gradient, name, mode, shape, {}))
        every_activation: list[Any] = ACTIVATIONS
        if mode != "rnn":  # The gated cells are recorded with default parameters only.
            every_activation = [name for name in ACTIVATIONS if isinstance(name, str)]
        for activation in every_activation:
            label = activation if isinstance(activation, str) else "-".join(map(str, activation))
            chosen = {"nonlinearity" if mode == "rnn" else "activation": activation}
            name = f"gradient/{mode}/activation/{label}"
            yield Case(name, partial(_gradient, name, mode, (3, 4, 5, 19), chosen))
