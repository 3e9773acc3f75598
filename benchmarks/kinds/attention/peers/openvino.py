"""OpenVINO runs a model of one ScaledDotProductAttention (opset 13), float32 asked for.

Grouped heads are broadcast in the graph, as exported decoders have it, which the CPU plugin folds
into the operator where it can. The settings are those of core/peers/openvino.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as operators

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.attention.case import AttentionCase, AttentionInputs, mask
from ....core.peers.openvino import settings
from . import other_way, other_ways


def variants(case: AttentionCase, threads: int) -> tuple[str, ...]:
    """Return the ways that give the right answer."""
    return ("operator", *other_ways(case))


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def model(case: AttentionCase) -> openvino.Model:
    """Return a model with inputs q, k, v and output [B, N, S, E]."""
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
    case: AttentionCase, inputs: AttentionInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Make an infer request on fixed tensors."""
    other = other_way(prepare, case, inputs, threads, variant, "operator")
    if other is not None:
        return other
    request = openvino.Core().compile_model(model(case), "CPU", settings(threads))
    made = request.create_infer_request()
    for index, part in enumerate(inputs):
        made.set_input_tensor(index, openvino.Tensor(part, shared_memory=True))
    y = np.zeros(inputs[0].shape, np.float32)
    made.set_output_tensor(0, openvino.Tensor(y, shared_memory=True))

    def run(keep: Any = inputs) -> Array:
        made.infer(share_outputs=True)
        return y

    return Prepared(run, lambda _: y)
