"""The operators of graphs as NumPy writes them, in float64: what fusions must not change.

`run` executes a graph node by node. It has the operators that fusions look for and make; the
operators of all graphs are tested against the onnx package's own reference.
"""

import math

import numpy as np

from reference import graph_recurrent as recurrent
from reference import graph_windows as windows
from treadle.graph import Graph
from treadle.graph.vocabulary import COMPUTED_DTYPES

_erf = np.vectorize(math.erf, otypes=[float])


def run(graph, inputs, outer=None):
    """The outputs of a graph by name, for inputs by name. float32 is computed in float64."""
    values = dict(outer or {})
    for name, array in {**graph.constants, **inputs}.items():
        values[name] = _wide(np.asarray(array))
    for node in graph.nodes:
        outputs = _node(node, values)
        values.update((n, o) for n, o in zip(node.outputs, outputs, strict=False) if n)
    return {value.name: values[value.name] for value in graph.outputs}


def run_node(node, arrays):
    """The outputs of one node in the dtypes of the engine, as `treadle.graph.program.run_node`."""
    names = [f"i{n}" if array is not None else "" for n, array in enumerate(arrays)]
    values = {n: _wide(np.asarray(a)) for n, a in zip(names, arrays, strict=True) if n}
    copy = type(node)(node.op, names, node.outputs, node.attributes, node.name)
    found = _node(copy, values)
    return [a.astype(np.float32) if a.dtype == np.float64 else a for a in map(np.asarray, found)]


def _wide(array):
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _node(node, values):
    if node.op == "If":
        name = "then_branch" if values[node.inputs[0]].item() else "else_branch"
        return list(run(node.attributes[name], {}, values).values())
    arrays = [values[name] if name else None for name in node.inputs]
    with np.errstate(all="ignore"):
        result = OPERATORS[node.op](node.attributes, *arrays)
    return list(result) if isinstance(result, tuple | list) else [result]


def activation(attributes, x):
    name = attributes.get("activation", "linear")
    alpha, beta = attributes.get("alpha"), attributes.get("beta")
    return ACTIVATIONS[name](x, *[p for p in (alpha, beta) if p is not None])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def hard_sigmoid(x, alpha, beta):
    return np.clip(alpha * x + beta, 0, 1)


ACTIVATIONS = {
    "linear": lambda x, *_: x,
    "relu": lambda x, *_: np.maximum(x, 0),
    "sigmoid": lambda x, *_: sigmoid(x),
    "tanh": lambda x, *_: np.tanh(x),
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": lambda x, *_: x * hard_sigmoid(x, 1 / 6, 0.5),
    "clip": lambda x, low, high: np.clip(x, low, high),
    "leaky_relu": lambda x, alpha, *_: np.where(x >= 0, x, alpha * x),
    "elu": lambda x, alpha, *_: np.where(x >= 0, x, alpha * np.expm1(x)),
    "softplus": lambda x, *_: np.logaddexp(0, x),
    "softsign": lambda x, *_: x / (1 + abs(x)),
    "silu": lambda x, *_: x * sigmoid(x),
    "gelu": lambda x, *_: x / 2 * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x, *_: gelu_tanh(x),
    "affine": lambda x, alpha, beta: alpha * x + beta,
}


def linear(attributes, x, weight, bias=None, residual=None):
    y = x @ weight.T
    y = y if bias is None else y + bias
    return activation(attributes, y if residual is None else y + residual)


def gemm(attributes, a, b, c=None):
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    y = attributes.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + attributes.get("beta", 1.0) * c


def conv_last(attributes, x, weight, bias=None, residual=None):
    y = windows.last(windows.conv)(attributes, x, np.moveaxis(weight, -1, 1), bias)
    return activation(attributes, y if residual is None else y + residual)


def conv_transpose_last(attributes, x, weight, bias=None):
    y = windows.last(windows.conv_transpose)(attributes, x, np.moveaxis(weight, -1, 1), bias)
    return activation(attributes, y)


def layer_norm(attributes, x, scale, bias=None):
    axes = tuple(range(attributes.get("axis", -1) % x.ndim, x.ndim))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    y = (x - mean) / np.sqrt(var + attributes.get("epsilon", 1e-5)) * scale
    return y if bias is None else y + bias


def softmax(attributes, x):
    """Nothing but minus infinity gives zeros."""
    axis = attributes.get("axis", -1)
    most = x.max(axis, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        e = np.exp(x - np.where(most == -np.inf, 0, most))
    total = e.sum(axis, keepdims=True)
    return e / np.where(total == 0, 1, total)


def attention(attributes, q, k, v, mask=None):
    """q [B, S, N, E], k [B, K, N, E], v [B, K, N, F]."""
    q, k, v = (np.swapaxes(array, 1, 2) for array in (q, k, v))
    scores = q @ np.swapaxes(k, -1, -2) * attributes["scale"]
    if mask is not None and mask.dtype == bool:
        scores = np.where(mask, scores, attributes.get("hidden_score", -np.inf))
    elif mask is not None:
        scores = scores + mask
    y = softmax({}, scores)
    if attributes.get("nan_to_zero"):
        y = np.where(np.isnan(y), 0, y)
    return np.swapaxes(y @ v, 1, 2)


def reduce_(function):
    def run_reduce(attributes, x, axes=None):
        chosen = tuple(int(a) for a in axes) if axes is not None and axes.size else None
        return function(x, axis=chosen, keepdims=bool(attributes.get("keepdims", 1)))

    return run_reduce


def reshape(attributes, x, shape):
    target = [
        x.shape[i] if n == 0 and not attributes.get("allowzero") else int(n)
        for i, n in enumerate(shape)
    ]
    return x.reshape(target)


def slice_(attributes, x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cut = [slice(None)] * x.ndim
    for a, s, e, t in zip(axes, starts, ends, steps, strict=True):
        gone = t < 0 and e < -(2**31)
        cut[a] = slice(int(s), None if gone else int(e), int(t))
    return x[tuple(cut)]


def split(attributes, x, sizes=None):
    axis = attributes.get("axis", 0)
    if sizes is None:
        each = -(-x.shape[axis] // attributes["num_outputs"])
        sizes = [each] * (attributes["num_outputs"] - 1)
        sizes.append(x.shape[axis] - sum(sizes))
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def unsqueeze(attributes, x, axes):
    return np.expand_dims(x, tuple(int(a) for a in axes))


def squeeze(attributes, x, axes=None):
    return x.squeeze(None if axes is None else tuple(int(a) for a in axes))


def pad(attributes, x, pads, value=None, axes=None):
    axes = list(range(x.ndim)) if axes is None else [int(a) for a in axes]
    width = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        width[axis] = (int(pads[i]), int(pads[i + len(axes)]))
    mode = attributes.get("mode", "constant")
    if mode == "constant":
        return np.pad(x, width, constant_values=0 if value is None else value.item())
    return np.pad(x, width, mode={"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode])


def magnitude(attributes, x):
    n = x.shape[-1] // 2
    return np.sqrt(x[..., :n] ** 2 + x[..., n:] ** 2)


def _cast(attributes, x):
    to = attributes["to"]
    return _wide(x.astype(COMPUTED_DTYPES.get(to, to)))


OPERATORS = {
    "Identity": lambda attributes, x: x,
    "Add": lambda attributes, a, b: a + b,
    "Sub": lambda attributes, a, b: a - b,
    "Mul": lambda attributes, a, b: a * b,
    "Div": lambda attributes, a, b: a / b if a.dtype.kind == "f" else a // b,
    "Pow": lambda attributes, a, b: a**b,
    "Neg": lambda attributes, x: -x,
    "Sqrt": lambda attributes, x: np.sqrt(x),
    "Reciprocal": lambda attributes, x: 1 / x,
    "Exp": lambda attributes, x: np.exp(x),
    "Erf": lambda attributes, x: _erf(x),
    "Equal": lambda attributes, a, b: a == b,
    "IsNaN": lambda attributes, x: np.isnan(x),
    "Not": lambda attributes, x: ~x,
    "Where": lambda attributes, c, a, b: np.where(c, a, b),
    "Relu": lambda attributes, x: np.maximum(x, 0),
    "Sigmoid": lambda attributes, x: sigmoid(x),
    "Tanh": lambda attributes, x: np.tanh(x),
    "Softplus": lambda attributes, x: np.logaddexp(0, x),
    "HardSigmoid": lambda attributes, x: hard_sigmoid(
        x, attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    ),
    "HardSwish": lambda attributes, x: x * hard_sigmoid(x, 1 / 6, 0.5),
    "treadle.HardSwish": lambda attributes, x: (
        x * hard_sigmoid(x, attributes["alpha"], attributes["beta"])
    ),
    "treadle.Silu": lambda attributes, x: x * sigmoid(x),
    "LeakyRelu": lambda attributes, x: np.where(x >= 0, x, attributes.get("alpha", 0.01) * x),
    "Elu": lambda attributes, x: np.where(x >= 0, x, attributes.get("alpha", 1.0) * np.expm1(x)),
    "Gelu": lambda attributes, x: (
        gelu_tanh(x) if attributes.get("approximate") == "tanh" else ACTIVATIONS["gelu"](x)
    ),
    "Clip": lambda attributes, x, low=None, high=None: np.clip(x, low, high),
    "Softmax": softmax,
    "LayerNormalization": layer_norm,
    "MatMul": lambda attributes, a, b: a @ b,
    "Gemm": gemm,
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "BatchNormalization": windows.batch_norm,
    "InstanceNormalization": windows.instance_norm,
    "MaxPool": lambda attributes, x: windows.pool(attributes, x, windows.largest),
    "AveragePool": lambda attributes, x: windows.pool(attributes, x, windows.mean),
    "GlobalAveragePool": lambda attributes, x: x.mean(tuple(range(2, x.ndim)), keepdims=True),
    "GlobalMaxPool": lambda attributes, x: x.max(tuple(range(2, x.ndim)), keepdims=True),
    "ReduceMean": reduce_(np.mean),
    "ReduceSum": reduce_(np.sum),
    "ReduceMax": reduce_(np.max),
    "Resize": windows.resize,
    "Shape": lambda attributes, x: np.array(
        x.shape[attributes.get("start", 0) : attributes.get("end", None)], np.int64
    ),
    "Size": lambda attributes, x: np.int64(x.size),
    "Cast": _cast,
    "Reshape": reshape,
    "Flatten": lambda attributes, x: x.reshape(
        int(np.prod(x.shape[: attributes.get("axis", 1)])), -1
    ),
    "Transpose": lambda attributes, x: x.transpose(attributes.get("perm")),
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": lambda attributes, *xs: np.concatenate(xs, attributes["axis"]),
    "Split": split,
    "Slice": slice_,
    "Gather": lambda attributes, x, i: np.take(x, i, attributes.get("axis", 0)),
    "Expand": lambda attributes, x, s: x * np.ones([int(n) for n in s], x.dtype),
    "Tile": lambda attributes, x, r: np.tile(x, [int(n) for n in r]),
    "Pad": pad,
    "ConstantOfShape": lambda attributes, s: _wide(
        np.full([int(n) for n in s], np.asarray(attributes.get("value", np.float32(0))).item())
    ),
    "Range": lambda attributes, a, b, c: np.arange(a.item(), b.item(), c.item(), dtype=a.dtype),
    "treadle.Linear": linear,
    "treadle.Conv": conv_last,
    "treadle.ConvTranspose": conv_transpose_last,
    "treadle.MaxPool": windows.last(
        lambda attributes, x: windows.pool(attributes, x, windows.largest)
    ),
    "treadle.AveragePool": windows.last(
        lambda attributes, x: windows.pool(attributes, x, windows.mean)
    ),
    "treadle.GlobalAveragePool": lambda attributes, x: x.mean(
        tuple(range(1, x.ndim - 1)), keepdims=True
    ),
    "treadle.GlobalMaxPool": lambda attributes, x: x.max(
        tuple(range(1, x.ndim - 1)), keepdims=True
    ),
    "treadle.Resize": windows.resize,
    "treadle.InstanceNormalization": windows.last(windows.instance_norm),
    "treadle.Attention": attention,
    "treadle.Magnitude": magnitude,
    "treadle.Recurrent": recurrent.node,
}


def graph_of(nodes, inputs, outputs, constants=None):
    """A graph in which inputs are (name, shape[, dtype]) and outputs are names."""
    from treadle.graph import Value

    arrays = {name: np.asarray(array) for name, array in (constants or {}).items()}
    values = [Value(one[0], *(one[2:] or ("float32",)), one[1]) for one in inputs]
    return Graph(values, [Value(name, "", None) for name in outputs], list(nodes), arrays)
