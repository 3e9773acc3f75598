"""OpenVINO runs BERT built from operators of opset 13, which the CPU plugin fuses.

Embeddings, products, MVN (layer norm), ScaledDotProductAttention, exact GELU. Shapes are fixed for
a batch of ids and dynamic for sentences. No mask is given where nothing is padded. The precision is
asked for. In int8 the weights are compressed, with a scale per output, and the plugin quantises the
activations as they come, in groups along k; variants are the size of the groups and what everything
else is computed in. (Its compression framework, nncf, calibrates fixed scales instead: not tried.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as operators

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.minilm.case import ROWS, EncoderCase
from ....core.models.minilm.checkpoint import EncoderInputs, Layer, Model
from ....core.peers.openvino import PRECISION, settings
from . import by_rows, pipeline, with_rows


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """Return one way, in int8 a few, and row by row."""
    return with_rows(case, *(INT8 if case.dtype == "int8" else ("operators",)))


# The settings of each variant that compile_model gets beside the common ones.
INT8 = {
    f"groups of {size}, {precision} elsewhere": {
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(size),
        "INFERENCE_PRECISION_HINT": precision,
    }
    for precision in ("f32", "bf16")
    for size in (32, 128)
}

_compiled: dict[tuple[Any, ...], Any] = {}


def release() -> None:
    """Drop the compiled models of the case."""
    _compiled.clear()


def graph(
    model: Model, batch: int, tokens: int, masked: bool, compressed: bool = False
) -> openvino.Model:
    """Return a model with inputs ids [B, S], positions [1, S] and, if masked, mask [B, 1, 1, S].

    A size of -1 stands for any.
    """
    linear = _compressed if compressed else _linear
    ids = operators.parameter([batch, tokens], np.int32)
    positions = operators.parameter([1, tokens], np.int32)
    parameters = [ids, positions]
    mask = None
    if masked:
        mask = operators.parameter([batch, 1, 1, tokens], bool)
        parameters.append(mask)
    rows = np.array(0)
    x = operators.add(
        operators.gather(model.words, ids, rows), operators.gather(model.positions, positions, rows)
    )
    x = _norm(x, model.norm, model.eps)
    for layer in model.layers:
        y = linear(_attention(model, layer, x, mask, linear), layer.out)
        x = _norm(operators.add(x, y), layer.norm1, model.eps)
        up = operators.gelu(linear(x, layer.up), "ERF")
        x = _norm(operators.add(x, linear(up, layer.down)), layer.norm2, model.eps)
    return openvino.Model([x], parameters, "bert")


def _linear(x: Any, weights: tuple[Array, Array]) -> Any:
    return operators.add(operators.matmul(x, weights[0], False, True), weights[1])


def _compressed(x: Any, weights: tuple[Array, Array]) -> Any:
    """Do the same with int8 weights, which the plugin does not widen."""
    scale = (np.abs(weights[0]).max(axis=1, keepdims=True) / 127).astype(np.float32)
    integers = np.rint(weights[0] / scale).astype(np.int8)
    wide = operators.convert(operators.constant(integers), np.float32)
    product = operators.matmul(x, operators.multiply(wide, scale), False, True)
    return operators.add(product, weights[1])


def _norm(x: Any, weights: tuple[Array, Array], eps: float) -> Any:
    normal = operators.mvn(x, np.array([-1]), True, eps, "INSIDE_SQRT")
    return operators.add(operators.multiply(normal, weights[0]), weights[1])


def _attention(model: Model, layer: Layer, x: Any, mask: Any, linear: Callable[..., Any]) -> Any:
    apart = np.array([0, 0, model.heads, model.hidden // model.heads])
    heads = [
        operators.transpose(
            operators.reshape(linear(x, weights), apart, special_zero=True),
            np.array([0, 2, 1, 3]),
        )
        for weights in (layer.q, layer.k, layer.v)
    ]
    y = operators.scaled_dot_product_attention(*heads, attention_mask=mask)
    back = operators.transpose(y, np.array([0, 2, 1, 3]))
    return operators.reshape(back, np.array([0, 0, model.hidden]), special_zero=True)


def _compile(
    model: Model, shape: tuple[int, int], masked: bool, threads: int, dtype: str, variant: str
) -> Any:
    key = (shape, masked, threads, dtype, variant)
    if key not in _compiled:
        compressed = dtype == "int8"
        options = settings(threads, PRECISION.get(dtype, "f32"))
        options |= INT8[variant] if compressed else {}
        made = graph(model, *shape, masked, compressed)
        _compiled[key] = openvino.Core().compile_model(made, "CPU", options)
    return _compiled[key]


def _inputs(ids: Array, lengths: Array | None) -> list[Array]:
    positions = np.arange(ids.shape[1], dtype=np.int32)[None]
    given = [ids.astype(np.int32), positions]
    if lengths is not None:
        given.append((positions < lengths[:, None])[:, None, None])
    return given


def prepare(
    case: EncoderCase, inputs: EncoderInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Make an infer request on fixed tensors; for sentences, one that takes any shape."""
    model, rows = inputs
    if case.sentences:
        compiled = _compile(model, (-1, -1), True, threads, case.dtype, variant)
        request = compiled.create_infer_request()
        return pipeline.prepared(_any_shape(request), rows)
    if variant == ROWS:
        # A model of fixed shape takes a second to compile and a copy of the weights.
        single = "any shape" if case.lengths else "operators"
        if case.dtype == "int8":
            single = next(iter(INT8))
        return by_rows(prepare, case, inputs, threads, single)
    shape = (-1, -1) if variant == "any shape" else (case.B, case.S)
    masked = bool(case.lengths)
    compiled = _compile(model, shape, masked, threads, case.dtype, variant)
    made = compiled.create_infer_request()
    given = _inputs(rows, np.array(case.lengths) if case.lengths else None)
    for index, value in enumerate(given):
        made.set_input_tensor(index, openvino.Tensor(value, shared_memory=True))
    y = np.zeros((case.B, case.S, model.hidden), np.float32)
    made.set_output_tensor(0, openvino.Tensor(y, shared_memory=True))

    def run(keep: Any = given) -> Array:
        made.infer(share_outputs=True)
        return y

    return Prepared(run, lambda y: y)


def _any_shape(request: Any) -> Callable[[Array, Array], Array]:
    def run(ids: Array, lengths: Array) -> Array:
        given = dict(enumerate(_inputs(ids, lengths)))
        found: Array = request.infer(given, share_inputs=True, share_outputs=True)[0]
        return found

    return run
