"""This module captures recurrent layers and attention, each as one operator of the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.torch.capture_builder import captures
from treadle.torch.capture_movement import cut, is_zero, transposed
from treadle.torch.capture_recurrent import MODES
from treadle.torch.capture_sizes import number, one, same, size_of, vector

if TYPE_CHECKING:
    from treadle.torch.capture_builder import Call

_PARTS = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


def _recurrent(call: Call, x: str, states: list[str | None], options: dict[str, Any]) -> Any:
    """Add a stack of recurrent layers: (y, h_n, c_n)."""
    weights, lengths = options.pop("weights"), options.pop("lengths", None)
    mode, activation = MODES[options.pop("mode")]
    parts = [*_PARTS[: 4 if options["bias"] else 2]]
    parts += ["weight_hr"] * bool(options["proj_size"])
    both = options["direction"] == "bidirectional"
    names = [
        f"{layer}.{end}{part}"
        for layer in range(options["num_layers"])
        for end in (("", "reverse.") if both else ("",))
        for part in parts
    ]
    values = [call.value(weight) for weight in weights]
    if any(value not in call.builder.constants for value in values):
        raise call.refuse("the weights of a recurrent layer are computed, expected parameters")
    return call.builder.emit_all(
        "treadle.Recurrent",
        [x, *states, lengths, *values],
        3 if mode == "lstm" else 2,
        **{key: int(v) if isinstance(v, bool) else v for key, v in options.items()},
        mode=mode,
        activation=[activation],
        weights=names,
    )


@captures("treadle.captured_stack")
def _captured_stack(call: Call) -> Any:
    states = [None if is_zero(call, call[n]) else call.optional(n) for n in ("h", "c")]
    keys = ("mode", "input_size", "hidden_size", "proj_size", "num_layers", "bias", "batch_first")
    options = {key: call[key] for key in keys}
    options["direction"] = "bidirectional" if call["bidirectional"] else "forward"
    options |= {"weights": call["weights"], "lengths": call.optional("lengths", "int64")}
    found = _recurrent(call, call.value("x", "float32"), states, options)
    return (*found, None)[:3]


@captures("treadle.recurrent")
def _layer(call: Call) -> Any:
    """Write a layer that a module of `treadle.torch` recorded as treadle's own operator."""
    mode = call["mode"].upper()
    mode = f"RNN_{call['activation'].upper()}" if mode == "RNN" else mode
    states = [None if is_zero(call, call[n]) else call.optional(n) for n in ("h", "c")]
    options = {key: call[key] for key in ("hidden_size", "proj_size", "bias", "batch_first")}
    options |= {
        "mode": mode,
        "input_size": int(call.shape("x")[2]),
        "num_layers": 1,
        "direction": "bidirectional" if call["directions"] == 2 else "forward",
        "weights": call["weights"],
        "lengths": call.optional("lengths", "int64"),
    }
    found = _recurrent(call, call.value("x", "float32"), states, options)
    return (*found, None, None)[:4] if mode == "LSTM" else (*found, None, None)


@captures("aten.lstm_cell", "aten.gru_cell", "aten.rnn_tanh_cell", "aten.rnn_relu_cell")
def _cell(call: Call) -> Any:
    """Write a cell as a sequence of one step."""
    name = str(call.node.target).split(".")[1].removesuffix("_cell")
    found = call["hx"] if name == "lstm" else [call["hx"]]
    at = call.builder.integers([0])
    states: list[str | None] = [
        None if is_zero(call, s) else call.emit("Unsqueeze", call.value(s), at) for s in found
    ]
    states += [None] * (2 - len(states))
    weights = [call[w] for w in ("w_ih", "w_hh", "b_ih", "b_hh") if call[w] is not None]
    options = {
        "mode": name.upper(), "input_size": int(call.shape("w_ih")[1]),
        "hidden_size": int(call.shape("w_hh")[1]), "proj_size": 0, "num_layers": 1,
        "bias": len(weights) == 4, "batch_first": False, "direction": "forward",
        "weights": weights,
    }  # fmt: skip
    x = call.emit("Unsqueeze", call.value("input", "float32"), at)
    _, *ends = _recurrent(call, x, states, options)
    ends = [call.emit("Squeeze", end, at) for end in ends]
    return tuple(ends) if name == "lstm" else ends[0]


@captures("treadle.captured_cut")
def _captured_cut(call: Call) -> str:
    """Cut to the longest row, or to ``total`` steps, and fill what lies behind a row's length."""
    y, axis, lengths = call.value("y"), call["axis"], call.value("lengths", "int64")
    steps = size_of(call, call["y"], axis)
    before, total = call.shape("y")[axis], call["total"]
    zero, step = (call.builder.constant(np.array(n, np.int64)) for n in (0, 1))
    times = call.emit("Range", zero, number(call, steps), step)
    rank = call.rank("y")
    # [B, T] or [T, B], then one axis for each further axis of y
    rows = call.emit("Unsqueeze", lengths, call.builder.integers([axis]))
    times = call.emit("Unsqueeze", times, call.builder.integers([1 - axis]))
    inside = call.emit("Less", times, rows)
    if rank > 2:
        inside = call.emit("Unsqueeze", inside, call.builder.integers(range(2, rank)))
    filling = call.value(call["padding"], call.dtype)
    if call["padding"] or not _ends_in_zeros(call, y):
        y = call.emit("Where", inside, y, filling)
    if total is None:
        end = call.emit("ReduceMax", lengths, call.builder.integers([0]), keepdims=1)
        return cut(call, y, axis, 0, end)
    if same(before, total):
        return y
    missing = call.emit("Sub", one(call, total), one(call, steps))
    missing = call.emit("Max", missing, call.builder.integers([0]))
    pads = call.emit("Concat", call.builder.integers([0]), missing, axis=0)
    y = call.emit("Pad", y, pads, filling, call.builder.integers([axis]), mode="constant")
    return cut(call, y, axis, 0, total)


def _ends_in_zeros(call: Call, y: str) -> bool:
    """Tell whether a value is the output of a recurrent layer that knows the lengths."""
    maker = call.builder.maker(y)
    while maker is not None and maker.op == "Transpose":
        maker = call.builder.maker(maker.inputs[0])
    return maker is not None and maker.op == "treadle.Recurrent" and bool(maker.inputs[3])


@captures("aten.scaled_dot_product_attention")
def _attention(call: Call) -> str:
    if call["dropout_p"]:
        raise call.refuse("it drops at random (dropout_p), which a captured model cannot")
    return attention(call, call.optional("attn_mask"), bool(call["is_causal"]))


def attention(call: Call, mask: str | None, causal: bool) -> str:
    """Add attention of query, key and value [B.., N, S, E]."""
    rank = call.rank("query")
    values = [call.value(name, "float32") for name in ("query", "key", "value")]
    heads = [call.shape(name)[-3] if rank > 2 else 1 for name in ("query", "key")]
    if call.get("enable_gqa") and not same(*heads):
        values[1:] = [
            _repeated(call, v, n) for v, n in zip(values[1:], ("key", "value"), strict=True)
        ]
    if causal:
        mask = _both(call, mask, _causal(call))
    if rank > 4:
        raise call.refuse(f"attention of {rank} axes is not supported, expected at most 4")
    if rank < 4:
        missing = call.builder.integers(range(4 - rank))
        values = [call.emit("Unsqueeze", value, missing) for value in values]
    values = [transposed(call, value, [0, 2, 1, 3]) for value in values]
    scale = call.get("scale")
    scale = float(call.shape("query")[-1]) ** -0.5 if scale is None else float(scale)
    y = call.emit("treadle.Attention", *values, mask, scale=scale)
    y = call.emit("Transpose", y, perm=[0, 2, 1, 3])
    return y if rank == 4 else call.emit("Squeeze", y, call.builder.integers(range(4 - rank)))


def _causal(call: Call) -> str:
    """Return bool [S, K]: a query sees no later key."""
    zero, step = (call.builder.constant(np.array(n, np.int64)) for n in (0, 1))
    ranges = [
        call.builder.once("Range", zero, number(call, size_of(call, call[name], -2)), step)
        for name in ("query", "key")
    ]
    queries = call.builder.once("Unsqueeze", ranges[0], call.builder.integers([1]))
    return call.builder.once("GreaterOrEqual", queries, ranges[1])


def _both(call: Call, mask: str | None, causal: str) -> str:
    if mask is None:
        return causal
    raise call.refuse("attn_mask together with is_causal is not supported")


def _repeated(call: Call, value: str, name: str) -> str:
    """Return keys or values [B, M, K, E] for N heads: each as often as its group has heads."""
    own, wanted = call.shape(name)[-3], call.shape("query")[-3]
    times = int(wanted) // int(own)
    rank = call.rank(name)
    axis = rank - 2
    value = call.emit("Unsqueeze", value, call.builder.integers([axis]))
    sizes = [1] * (rank + 1)
    sizes[axis] = times
    value = call.emit("Expand", value, vector(call, sizes))
    ends = [0] * (rank - 3) + [int(wanted)]
    tail = [size_of(call, call[name], rank - 2), int(call.shape(name)[-1])]
    if isinstance(tail[0], int):
        return call.emit("Reshape", value, call.builder.integers([*ends, *tail]))
    return call.emit("Reshape", value, call.builder.integers([*ends, -1, tail[1]]))
