"""ONNX Runtime runs the graph that its own optimiser for BERT makes, bound to fixed memory.

EmbedLayerNormalization, an attention operator, SkipLayerNormalization, BiasGelu: what
onnxruntime.transformers.optimizer fuses an exported BertModel into. (The exporter of PyTorch 2.13
writes a graph that it cannot fuse, so the graph is built from the weights.) The variants:
`attention` multiplies q, k and v at once and takes the rows' lengths; `multi-head` multiplies them
one by one, for an operator with a tiled kernel where nothing is padded. In int8 quantize_dynamic
does the products and the attention operator's, with a scale for each channel; embeddings stay
float32, which is as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.minilm.case import ROWS, EncoderCase
from ....core.models.minilm.checkpoint import EncoderInputs, Layer, Model
from ....core.peers.onnxruntime import check_dtype, quantized, settings
from . import by_rows, pipeline, with_rows

MICROSOFT = "com.microsoft"
SHAPES: tuple[str | int, str | int] = ("B", "S")


def variants(case: EncoderCase, threads: int) -> tuple[str, ...]:
    """Return the two attention operators, and row by row."""
    return with_rows(case, "attention", "multi-head")


_sessions: dict[tuple[Any, ...], Any] = {}


def release() -> None:
    """Drop the sessions of the case."""
    _sessions.clear()


class Graph:
    """A graph collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, value: Array) -> str:
        """Return the name of a new initialiser."""
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def add(self, kind: str, inputs: list[str], domain: str = MICROSOFT, **more: Any) -> str:
        """Return the name of the first output of a new node."""
        outputs = [f"n{len(self.nodes)}"]
        if kind == "EmbedLayerNormalization":
            outputs.append("ignored")
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **more))
        return outputs[0]

    def product(self, x: str, weight: Array) -> str:
        """Return the name of x W'."""
        return self.add("MatMul", [x, self.constant(weight.T)], domain="")


def model_bytes(model: Model, variant: str, ragged: bool) -> bytes:
    """Return a model with inputs ids [B, S] and, if ragged, lengths [B], int32.

    Its output is y [B, S, H].
    """
    graph = Graph()
    lengths = "lengths" if ragged else ""
    embeddings = [model.words, model.positions]
    x = graph.add(
        "EmbedLayerNormalization",
        ["ids", "", *map(graph.constant, embeddings), "", *map(graph.constant, model.norm)],
        epsilon=model.eps,
    )
    attend = {"attention": _attention, "multi-head": _multi_head}[variant]
    for layer in model.layers:
        y = attend(graph, model, layer, x, lengths)
        x = _add_norm(graph, model, y, x, layer.out, layer.norm1)
        up = graph.product(x, layer.up[0])
        y = graph.add("BiasGelu", [up, graph.constant(layer.up[1])])
        x = _add_norm(graph, model, y, x, layer.down, layer.norm2)
    graph.nodes[-1].output[0] = "y"
    integers, floats = TensorProto.INT32, TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("ids", integers, SHAPES)]
    if ragged:
        inputs.append(helper.make_tensor_value_info("lengths", integers, SHAPES[:1]))
    outputs = [helper.make_tensor_value_info("y", floats, [*SHAPES, model.hidden])]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "bert", inputs, outputs, list(graph.constants.values())),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=10,
    )
    return bytes(made.SerializeToString())


def _add_norm(
    graph: Graph,
    model: Model,
    y: str,
    x: str,
    linear: tuple[Array, Array],
    norm: tuple[Array, Array],
) -> str:
    inputs = [graph.product(y, linear[0]), x, *map(graph.constant, (*norm, linear[1]))]
    return graph.add("SkipLayerNormalization", inputs, epsilon=model.eps)


def _attention(graph: Graph, model: Model, layer: Layer, x: str, lengths: str) -> str:
    parts = (layer.q, layer.k, layer.v)
    weight = graph.constant(np.concatenate([part[0].T for part in parts], axis=1))
    bias = graph.constant(np.concatenate([part[1] for part in parts]))
    return graph.add("Attention", [x, weight, bias, lengths], num_heads=model.heads)


def _multi_head(graph: Graph, model: Model, layer: Layer, x: str, lengths: str) -> str:
    parts = (layer.q, layer.k, layer.v)
    products = [graph.product(x, part[0]) for part in parts]
    bias = graph.constant(np.concatenate([part[1] for part in parts]))
    return graph.add("MultiHeadAttention", [*products, bias, lengths], num_heads=model.heads)


def _session(model: Model, variant: str, ragged: bool, threads: int, dtype: str) -> Any:
    key = (variant, ragged, threads, dtype)
    if key not in _sessions:
        made = model_bytes(model, variant, ragged)
        if dtype == "int8":
            made = quantized(made, True, ("MatMul", "Attention"))
        _sessions[key] = onnxruntime.InferenceSession(
            made, settings(threads), providers=["CPUExecutionProvider"]
        )
    return _sessions[key]


def prepare(
    case: EncoderCase, inputs: EncoderInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Make a session with bound memory; for sentences, one that takes any shape."""
    model, rows = inputs
    check_dtype(case)
    if case.sentences:
        session = _session(model, variant, True, threads, case.dtype)
        return pipeline.prepared(_any_shape(session), rows)
    if variant == ROWS:
        return by_rows(prepare, case, inputs, threads, "attention")
    session = _session(model, variant, bool(case.lengths), threads, case.dtype)
    given = {"ids": rows.astype(np.int32)}
    if case.lengths:
        given["lengths"] = np.array(case.lengths, np.int32)
    y = np.zeros((case.B, case.S, model.hidden), np.float32)
    share = onnxruntime.OrtValue.ortvalue_from_numpy
    binding = session.io_binding()
    for name, value in given.items():
        binding.bind_ortvalue_input(name, share(value))
    binding.bind_ortvalue_output("y", share(y))

    def run(keep: Any = (given, session)) -> Array:
        # A binding does not keep its NumPy arrays alive; the default argument does.
        session.run_with_iobinding(binding)
        return y

    return Prepared(run, lambda y: y)


def _any_shape(session: Any) -> Callable[[Array, Array], Array]:
    def run(ids: Array, lengths: Array) -> Array:
        given = {"ids": ids.astype(np.int32), "lengths": lengths.astype(np.int32)}
        found: Array = session.run(None, given)[0]
        return found

    return run
