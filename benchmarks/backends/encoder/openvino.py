"""OpenVINO: BERT built from operators of opset 13, which the CPU plugin fuses, float32 asked for.

Embeddings, products, MVN (layer norm), ScaledDotProductAttention, exact GELU. Shapes are fixed for a
batch of ids and dynamic for sentences. No mask is given where nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as operators

from ...data import Array
from ...encoder.cases import EncoderCase
from ...encoder.checkpoint import Layer, Model
from .. import Prepared
from ..openvino import settings
from . import ROWS, by_rows, pipeline, with_rows


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """One way, or row by row."""
    return with_rows(case, "operators")


_compiled: dict[tuple[Any, ...], Any] = {}


def release() -> None:
    """Compiled models of a case end with it."""
    _compiled.clear()


def graph(model: Model, batch: int, tokens: int, masked: bool) -> openvino.Model:
    """Inputs ids [B, S], positions [1, S] and, if masked, mask [B, 1, 1, S]; -1 is any size."""
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
        y = _linear(_attention(model, layer, x, mask), layer.out)
        x = _norm(operators.add(x, y), layer.norm1, model.eps)
        up = operators.gelu(_linear(x, layer.up), "ERF")
        x = _norm(operators.add(x, _linear(up, layer.down)), layer.norm2, model.eps)
    return openvino.Model([x], parameters, "bert")


def _linear(x: Any, weights: tuple[Array, Array]) -> Any:
    return operators.add(operators.matmul(x, weights[0], False, True), weights[1])


def _norm(x: Any, weights: tuple[Array, Array], eps: float) -> Any:
    normal = operators.mvn(x, np.array([-1]), True, eps, "INSIDE_SQRT")
    return operators.add(operators.multiply(normal, weights[0]), weights[1])


def _attention(model: Model, layer: Layer, x: Any, mask: Any) -> Any:
    apart = np.array([0, 0, model.heads, model.hidden // model.heads])
    heads = [
        operators.transpose(
            operators.reshape(_linear(x, weights), apart, special_zero=True),
            np.array([0, 2, 1, 3]),
        )
        for weights in (layer.q, layer.k, layer.v)
    ]
    y = operators.scaled_dot_product_attention(*heads, attention_mask=mask)
    back = operators.transpose(y, np.array([0, 2, 1, 3]))
    return operators.reshape(back, np.array([0, 0, model.hidden]), special_zero=True)


def _compile(model: Model, shape: tuple[int, int], masked: bool, threads: int) -> Any:
    key = (shape, masked, threads)
    if key not in _compiled:
        made = graph(model, *shape, masked)
        _compiled[key] = openvino.Core().compile_model(made, "CPU", settings(threads))
    return _compiled[key]


def _inputs(ids: Array, lengths: Array | None) -> list[Array]:
    positions = np.arange(ids.shape[1], dtype=np.int32)[None]
    given = [ids.astype(np.int32), positions]
    if lengths is not None:
        given.append((positions < lengths[:, None])[:, None, None])
    return given


def prepare(case: EncoderCase, model: Model, inputs: Any, threads: int, variant: str) -> Prepared:
    """An infer request on fixed tensors; for sentences, one that takes any shape."""
    if case.sentences:
        request = _compile(model, (-1, -1), True, threads).create_infer_request()
        return pipeline.prepared(_any_shape(request), inputs)
    if variant == ROWS:
        # A model of fixed shape takes a second to compile and a copy of the weights.
        single = "any shape" if case.lengths else "operators"
        return by_rows(prepare, case, model, inputs, threads, single)
    shape = (-1, -1) if variant == "any shape" else (case.B, case.S)
    compiled = _compile(model, shape, bool(case.lengths), threads)
    made = compiled.create_infer_request()
    given = _inputs(inputs, np.array(case.lengths) if case.lengths else None)
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
