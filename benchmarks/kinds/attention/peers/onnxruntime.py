"""ONNX Runtime runs whichever of its three attention operators is fastest, bound to fixed memory.

The variants are these: `multi-head` is com.microsoft.MultiHeadAttention on [B, S, N * E], which has
a tiled kernel if there is no mask; `attention` is ai.onnx Attention-23 on [B, N, S, E]; `grouped`
is com.microsoft. GroupQueryAttention, always causal, for prompts and for decoding: the cache is
input and output in one buffer, and the last token is appended to it in every call. What an operator
cannot do (grouped heads, masks) it is not tried for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.attention.case import AttentionCase, AttentionInputs, mask
from ....core.peers.onnxruntime import settings
from . import ROWS, other_way, other_ways

MICROSOFT = "com.microsoft"


def variants(case: AttentionCase, threads: int) -> tuple[str, ...]:
    """Return the operators that can do the case."""
    found = []
    if case.kv_heads == case.N:
        found.append("multi-head")
    found.append("attention")
    if case.decoding or case.causal:
        found.append("grouped")
    return (*found, *other_ways(case))


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(
    case: AttentionCase, inputs: AttentionInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Make a session with bound memory."""
    best = (
        "grouped" if case.causal or (case.kv_heads != case.N and variant == ROWS) else "multi-head"
    )
    other = other_way(prepare, case, inputs, threads, variant, best)
    if other is not None:
        return other
    make = {"multi-head": _multi_head, "attention": _attention, "grouped": _grouped}[variant]
    node, fed, constants, outputs = make(case, *inputs)
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}

    def value(name: str, array: Array) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kinds[array.dtype], array.shape)

    graph = helper.make_graph(
        [node],
        "case",
        [value(name, array) for name, array in fed.items()],
        [value(name, array) for name, array in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid(MICROSOFT, 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), settings(threads), providers=["CPUExecutionProvider"]
    )
    share = onnxruntime.OrtValue.ortvalue_from_numpy
    binding = session.io_binding()
    for name, array in fed.items():
        binding.bind_ortvalue_input(name, share(array))
    for name, array in outputs.items():
        binding.bind_ortvalue_output(name, share(array))
    y: Array = outputs["y"]
    run = session.run_with_iobinding

    def bound(keep: Any = (fed, outputs)) -> Array:
        # A binding does not keep its NumPy arrays alive; the default argument does.
        run(binding)
        return y

    def result(y: Array) -> Array:
        return y if y.ndim == 4 else y.reshape(case.B, case.S, case.N, case.E).swapaxes(1, 2)

    return Prepared(bound, result)


def _flat(part: Array) -> Array:
    """Return [B, N, S, E] as [B, S, N * E]."""
    batch, _, length, _ = part.shape
    return np.ascontiguousarray(part.swapaxes(1, 2)).reshape(batch, length, -1)


def _multi_head(case: AttentionCase, q: Array, k: Array, v: Array) -> tuple[Any, ...]:
    names = ["q", "k", "v"]
    inputs = dict(zip(names, map(_flat, (q, k, v)), strict=True))
    constants = {}
    if case.lengths:
        names += ["", "lengths"]
        constants["lengths"] = np.array(case.lengths, np.int32)
    node = helper.make_node(
        "MultiHeadAttention",
        names,
        ["y"],
        domain=MICROSOFT,
        num_heads=case.N,
        unidirectional=int(case.causal),
    )
    return node, inputs, constants, {"y": np.zeros_like(inputs["q"])}


def _attention(case: AttentionCase, q: Array, k: Array, v: Array) -> tuple[Any, ...]:
    names, constants = ["q", "k", "v"], {}
    if case.lengths:
        names.append("mask")
        # Given in full: an older runtime does not broadcast it.
        constants["mask"] = np.broadcast_to(mask(case), (case.B, 1, case.S, case.K)).copy()
    causal = int(case.causal and not case.lengths)
    node = helper.make_node("Attention", names, ["y"], is_causal=causal)
    return node, {"q": q, "k": k, "v": v}, constants, {"y": np.zeros_like(q)}


def _grouped(case: AttentionCase, q: Array, k: Array, v: Array) -> tuple[Any, ...]:
    """Put the newest S tokens at the end of each row's cache, which holds those before."""
    new = 1 if case.decoding else case.K
    ends = np.array(case.key_lengths, np.int64)
    past_k, past_v = k.copy(), v.copy()
    if case.decoding:
        rows = np.arange(case.B)
        fresh_k, fresh_v = (part[rows, :, ends - 1][:, None] for part in (k, v))
        newest = [np.ascontiguousarray(p).reshape(case.B, new, -1) for p in (fresh_k, fresh_v)]
    else:
        newest = [_flat(k), _flat(v)]
    inputs = {"q": _flat(q), "k": newest[0], "v": newest[1]}
    inputs |= {"past_k": past_k, "past_v": past_v}
    constants = {"ends": (ends - 1).astype(np.int32), "total": np.array(case.K, np.int32)}
    node = helper.make_node(
        "GroupQueryAttention",
        ["q", "k", "v", "past_k", "past_v", "ends", "total"],
        ["y", "present_k", "present_v"],
        domain=MICROSOFT,
        num_heads=case.N,
        kv_num_heads=case.kv_heads,
    )
    outputs = {"y": np.zeros_like(inputs["q"]), "present_k": past_k, "present_v": past_v}
    return node, inputs, constants, outputs
