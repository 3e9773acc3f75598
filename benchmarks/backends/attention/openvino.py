"""OpenVINO: a model of one ScaledDotProductAttention (opset 13), float32 asked for.

Grouped heads are broadcast in the graph, as exported decoders have it, which the CPU plugin folds
into the operator where it can. Settings as for the recurrent nets (../openvino.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as operators

from ...attention.cases import AttentionCase
from ...attention.reference import mask
from ...data import Array
from .. import Prepared
from ..openvino import settings
from . import other_way, other_ways


def variants(case: AttentionCase, threads: int) -> tuple[str, ...]:
    """Ways that give the right answer."""
    return ("operator", *other_ways(case))


def release() -> None:
    """Nothing outlives what `prepare` returned."""


def model(case: AttentionCase) -> openvino.Model:
    """Inputs q, k, v; output [B, N, S, E]."""
    heads = (case.N, case.kv_heads, case.kv_heads)
    lengths = (case.S, case.K, case.K)
    parameters = [
        operators.parameter([case.B, n, length, case.E], np.float32)
        for n, length in zip(heads, lengths, strict=True)
    ]
    q, k, v = parameters
    if case.kv_heads != case.N:
        k, v = (_repeat(case, part) for part in (k, v))
    more: dict[str, Any] = {"causal": case.causal}
    if case.lengths:
        more = {"attention_mask": operators.constant(mask(case)), "causal": False}
    return openvino.Model(
        [operators.scaled_dot_product_attention(q, k, v, **more)], parameters, "case"
    )


def _repeat(case: AttentionCase, part: Any) -> Any:
    group = case.N // case.kv_heads
    apart = operators.unsqueeze(part, np.array(2))
    wide = operators.broadcast(apart, np.array([case.B, case.kv_heads, group, case.K, case.E]))
    shape = np.array([case.B, case.N, case.K, case.E])
    return operators.reshape(wide, shape, special_zero=False)


def prepare(
    case: AttentionCase, q: Array, k: Array, v: Array, threads: int, variant: str
) -> Prepared:
    """An infer request on fixed tensors."""
    other = other_way(prepare, case, (q, k, v), threads, variant, "operator")
    if other is not None:
        return other
    request = openvino.Core().compile_model(model(case), "CPU", settings(threads))
    made = request.create_infer_request()
    parts = (q, k, v)
    for index, part in enumerate(parts):
        made.set_input_tensor(index, openvino.Tensor(part, shared_memory=True))
    y = np.zeros(q.shape, np.float32)
    made.set_output_tensor(0, openvino.Tensor(y, shared_memory=True))

    def run(keep: Any = parts) -> Array:
        made.infer(share_outputs=True)
        return y

    return Prepared(run, lambda y: y)
