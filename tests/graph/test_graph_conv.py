"""Convolutions in a graph: one and two axes, residual and activation, low precision, padding that
follows from sizes, weights that are values.
"""

import numpy as np
import pytest

import treadle
from support.tolerance import assert_same_bits
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model

EPS = np.finfo(np.float32).eps


def reference(x, weight, bias, *, strides, dilations, pads, group):
    """The convolution of x [B, H, W, C] in float64, tap by tap."""
    x, weight = x.astype(float), weight.astype(float)
    x = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
    outputs, kh, kw, _ = weight.shape
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, d, k, s in zip(x.shape[1:3], dilations, (kh, kw), strides, strict=True)
    ]
    y = np.zeros((len(x), *sizes, outputs)) + bias
    each_in, each_out = x.shape[3] // group, outputs // group
    for g in range(group):
        own = slice(g * each_out, (g + 1) * each_out)
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dilations[0], i * dilations[0] + strides[0] * sizes[0], strides[0])
                cols = slice(j * dilations[1], j * dilations[1] + strides[1] * sizes[1], strides[1])
                part = x[:, rows, cols, g * each_in : (g + 1) * each_in]
                y[..., own] += part @ weight[own, i, j].T
    return y


def case(*, group=1, residual=False, channels=6, outputs=8, seed=0, **attributes):
    """A model of one convolution, its input and the exact result, without activation."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, 3, 2, channels // group)).astype(np.float32)
    bias = rng.standard_normal(outputs).astype(np.float32)
    x = rng.standard_normal((2, 9, 7, channels)).astype(np.float32)
    shapes = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], **attributes}
    exact = reference(x, weight, bias, group=group, **shapes)
    inputs, names = [Value("x", "float32", None)], ["x", "w", "b"]
    given = {"x": x}
    if residual:
        inputs.append(Value("r", "float32", None))
        names.append("r")
        given["r"] = rng.standard_normal(exact.shape).astype(np.float32)
        exact = exact + given["r"]
    node = Node("treadle.Conv", names, ["y"], {"group": group, **shapes}, "conv")
    graph = Graph(inputs, [Value("y", "float32", None)], [node], {"w": weight, "b": bias})
    return graph, given, exact


CASES = [
    {},
    {"strides": [2, 1], "pads": [1, 0, 2, 1]},
    {"dilations": [2, 3], "pads": [2, 1, 0, 1]},
    {"group": 2},
    {"residual": True},
    {"group": 6, "outputs": 12, "pads": [1, 1, 1, 0]},
    {"group": 6, "outputs": 6, "residual": True, "strides": [2, 2]},
    {"residual": True, "channels": 32, "outputs": 40, "pads": [1, 1, 1, 0]},
]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_convolution(isa, options, activation):
    graph, given, exact = case(**options)
    if activation:
        graph.nodes[0].attributes["activation"] = activation
        exact = np.maximum(exact, 0)
    found = Model(graph, single=True, optimised=True)(**given)
    assert found.shape == exact.shape
    bound = 4 * EPS * 6 * options.get("channels", 6) * 4
    np.testing.assert_allclose(found, exact, rtol=0, atol=bound)


@pytest.mark.parametrize("options", [*CASES, {"channels": 64, "outputs": 16}])
def test_low_precision(options):
    graph, given, exact = case(**options)
    model = Model(graph, single=True, optimised=True)
    for dtype, error in (("bfloat16", 0.02), ("int8", 0.04)):
        low = model.to(dtype)
        scale = np.abs(exact).max()
        assert np.abs(low(**given) - exact).max() < error * scale
        assert low.weight_bytes < model.weight_bytes
        back = low.to("float32")
        assert np.abs(back(**given) - exact).max() < error * scale


def test_one_axis():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 11, 5)).astype(np.float32)
    weight = rng.standard_normal((4, 3, 5)).astype(np.float32)
    node = Node("treadle.Conv", ["x", "w"], ["y"], {"auto_pad": "SAME_UPPER"}, "conv")
    values = [Value("x", "float32", None)], [Value("y", "float32", None)]
    model = Model(Graph(*values, [node], {"w": weight}), single=True, optimised=True)
    ones, pads = (1, 1), (0, 1, 0, 1)
    exact = reference(
        x[:, None], weight[:, None], 0.0, strides=ones, dilations=ones, pads=pads, group=1
    )[:, 0]
    np.testing.assert_allclose(model(x), exact, rtol=0, atol=60 * EPS)


def transposed(x, weight, *, strides, dilations, pads, extra, group):
    """The transposed convolution of x [B, H, W, C] in float64: every product is scattered."""
    inputs, kh, kw, each_out = weight.shape
    each_in = inputs // group
    full = [
        (size - 1) * s + d * (k - 1) + 1 + e
        for size, s, d, k, e in zip(x.shape[1:3], strides, dilations, (kh, kw), extra, strict=True)
    ]
    y = np.zeros((len(x), *full, each_out * group))
    for g in range(group):
        own_in, own_out = (slice(g * n, (g + 1) * n) for n in (each_in, each_out))
        for i, j in np.ndindex(x.shape[1:3]):
            for p, q in np.ndindex(kh, kw):
                at = i * strides[0] + p * dilations[0], j * strides[1] + q * dilations[1]
                part = x[:, i, j, own_in].astype(float) @ weight[own_in, p, q].astype(float)
                y[:, at[0], at[1], own_out] += part
    ends = [size - after for size, after in zip(full, pads[2:], strict=True)]
    return y[:, pads[0] : ends[0], pads[1] : ends[1]]


def transposed_case(channels=6, **options):
    """A model of one transposed convolution, its input and the exact result."""
    rng = np.random.default_rng(5)
    chosen = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "extra": (0, 0)}
    chosen |= {"group": 1, **options}
    x = rng.standard_normal((2, 5, 4, channels)).astype(np.float32)
    weight = rng.standard_normal((channels, 3, 2, 4)).astype(np.float32)
    attributes = {k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()}
    attributes["output_padding"] = attributes.pop("extra")
    node = Node("treadle.ConvTranspose", ["x", "w"], ["y"], attributes, "up")
    values = [Value("x", "float32", None)], [Value("y", "float32", None)]
    model = Model(Graph(*values, [node], {"w": weight}), single=True, optimised=True)
    return model, x, transposed(x, weight, **chosen)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": (2, 3), "pads": (1, 0, 0, 1)},
        {"strides": (2, 2), "extra": (1, 0), "dilations": (1, 2), "group": 2},
    ],
)
def test_transposed_convolution(isa, options):
    model, x, exact = transposed_case(**options)
    assert model(x).shape == exact.shape
    np.testing.assert_allclose(model(x), exact, rtol=0, atol=4 * 36 * 4 * EPS)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": (2, 3), "pads": (1, 0, 0, 1), "channels": 40},
        {"strides": (2, 2), "extra": (1, 0), "dilations": (1, 2), "group": 2, "channels": 40},
        {"strides": (4, 3), "group": 6},
    ],
)
def test_transposed_convolution_in_low_precision(isa, options, tmp_path):
    """The weight becomes the matrix of the product, and its node names the taps."""
    model, x, exact = transposed_case(**options)
    scale = np.abs(exact).max()
    for dtype, error in (("bfloat16", 0.02), ("int8", 0.04)):
        low = model.to(dtype)
        assert np.abs(low(x) - exact).max() < error * scale
        assert low.weight_bytes < model.weight_bytes or options.get("group") == 6
        treadle.save(low, tmp_path / "low.safetensors")
        assert_same_bits(treadle.load(tmp_path / "low.safetensors")(x), low(x))
        for row in range(len(x)):
            assert_same_bits(low(x[row : row + 1]), low(x)[row : row + 1])
        back = low.to("float32")
        assert np.abs(back(x) - exact).max() < error * scale
        other = low.to({"bfloat16": "int8", "int8": "bfloat16"}[dtype])
        assert np.abs(other(x) - exact).max() < 0.04 * scale
        layer = transposed_layer(model.graph).to(dtype)
        images = np.moveaxis(x, -1, 1)
        assert_same_bits(np.moveaxis(layer(images), 1, -1), low(x))


def transposed_layer(graph):
    """The layer of a model of one transposed convolution."""
    own, weight = graph.nodes[0].attributes, graph.constants["w"]
    layer = treadle.ConvTranspose2d(
        len(weight), weight.shape[-1] * own["group"], weight.shape[1:3], tuple(own["strides"]),
        output_padding=tuple(own["output_padding"]), groups=own["group"], bias=False,
        dilation=tuple(own["dilations"]),
    )  # fmt: skip
    layer.load_state_dict({"weight": np.moveaxis(weight, -1, 1)})
    top, left, bottom, right = own["pads"]
    return Cut(layer, top, left, bottom, right)


class Cut:
    """A layer whose outputs are cut on every side by itself."""

    def __init__(self, layer, *pads):
        self.layer, self.pads = layer, pads

    def to(self, dtype):
        return Cut(self.layer.to(dtype), *self.pads)

    def __call__(self, x):
        y, (top, left, bottom, right) = self.layer(x), self.pads
        return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


@pytest.mark.parametrize(
    "change",
    [
        {"group": 3},
        {"group": 0},
        {"outputs": 5},
        {"outputs": 0},
        {"outputs": "8"},
        {"kernel_shape": [3, 3]},
        {"kernel_shape": [3, 2, 1]},
        {"kernel_shape": None},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
        {"dtype": None},
    ],
)
def test_wrong_transposed_node_in_low_precision(change):
    graph = transposed_case(channels=40)[0].to("int8").graph
    assert graph.nodes[0].attributes["dtype"] == "int8"
    graph.nodes[0].attributes.update(change)
    with pytest.raises((ValueError, TypeError), match=r"treadle\.Model"):
        Model(graph, optimised=True)


@pytest.mark.parametrize(
    ("shape", "text"),
    [((2, 9, 7, 5), "with C = 6"), ((2, 9, 6), "one axis"), ((2, 2, 7, 6), "reach over more")],
)
def test_wrong_input(shape, text):
    model = Model(case()[0], optimised=True)
    with pytest.raises(ValueError, match=text):
        model(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "change",
    [
        {"strides": [0, 1]},
        {"strides": [1]},
        {"pads": [1]},
        {"pads": [-1, 0, 0, 0]},
        {"group": 3},
        {"group": 0},
        {"auto_pad": "OTHER"},
        {"dilations": "x"},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
    ],
)
def test_wrong_node(change):
    graph, _, _ = case()
    graph.nodes[0].attributes.update(change)
    with pytest.raises((ValueError, TypeError), match=r"treadle\.Model"):
        Model(graph, optimised=True)


def same_pads(auto, sizes, taps, strides, dilations):
    """The zeros before all axes, then behind them, that make an output for each stride."""
    before, after = [], []
    for size, k, s, d in zip(sizes, taps, strides, dilations, strict=True):
        zeros = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
        before.append(zeros // 2 if auto == "SAME_UPPER" else (zeros + 1) // 2)
        after.append(zeros - before[-1])
    return before + after


def first(x):
    """Channels last as channels first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def run_one(op, arrays, attributes, *, fixed, constant, dtype="float32"):
    """Run a node of ONNX whose x has sizes that the graph knows, or a weight that it knows."""
    names = ["x", "w", "b"][: len(arrays)]
    given = dict(zip(names, arrays, strict=True))
    held = {name: given.pop(name) for name in names[1:]} if constant else {}
    inputs = [Value(n, "float32", a.shape if fixed else [None] * a.ndim) for n, a in given.items()]
    node = Node(op, names, ["y"], attributes, "node")
    graph = Graph(inputs, [Value("y", "float32", None)], [node], held)
    model = Model(graph, single=True)
    return (model if dtype == "float32" else model.to(dtype))(**given)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize(
    ("group", "channels", "strides", "dilations"),
    [
        (1, 6, [2, 2], [1, 1]),
        (1, 20, [3, 1], [1, 2]),
        (2, 6, [1, 2], [2, 1]),
        (6, 6, [2, 3], [1, 1]),
        (1, 6, [5, 4], [1, 1]),
    ],
)
def test_padding_follows_from_the_size(isa, auto, fixed, group, channels, strides, dilations):
    """The size is known as the model is made or in a call, the weight always or in a call."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((12, 3, 2, channels // group)).astype(np.float32)
    bias = rng.standard_normal(12).astype(np.float32)
    bound = 4 * EPS * 6 * channels * 4
    for height, width in ((9, 7), (8, 12)):
        x = rng.standard_normal((2, height, width, channels)).astype(np.float32)
        pads = same_pads(auto, (height, width), (3, 2), strides, dilations)
        exact = reference(
            x, weight, bias, strides=strides, dilations=dilations, pads=pads, group=group
        )
        assert exact.shape[1:3] == (-(-height // strides[0]), -(-width // strides[1]))
        attributes = {"strides": strides, "dilations": dilations, "group": group, "auto_pad": auto}
        arrays = first(x), first(weight), bias
        for constant in (True, False):
            found = run_one("Conv", arrays, attributes, fixed=fixed, constant=constant)
            np.testing.assert_allclose(found, first(exact), rtol=0, atol=bound)
        low = run_one("Conv", arrays, attributes, fixed=fixed, constant=True, dtype="int8")
        assert np.abs(low - first(exact)).max() < 0.04 * np.abs(exact).max()


def test_the_padding_of_a_known_size_is_named_once():
    """A model of fixed sizes has pads, and one of free sizes computes them in each call."""
    weight = np.zeros((4, 3, 3, 3), np.float32)
    attributes = {"strides": [2, 2], "auto_pad": "SAME_UPPER"}
    for shape, kept in (((1, 3, 9, 8), False), (("b", 3, "h", 8), True), (("b", 3, 9, 8), False)):
        node = Node("Conv", ["x", "w"], ["y"], attributes, "node")
        values = [Value("x", "float32", shape)], [Value("y", "float32", None)]
        model = Model(Graph(*values, [node], {"w": weight}))
        conv = next(node for node in model.graph.nodes if node.op == "treadle.Conv")
        assert ("auto_pad" in conv.attributes) == kept
        assert conv.attributes.get("pads") == (None if kept else [1, 0, 1, 1])


def transposed_pads(sizes, taps, chosen):
    """The zeros of a transposed convolution: what `after` has less than zero is added behind."""
    ends, auto = [], chosen.get("auto_pad", "NOTSET")
    for i, (size, k) in enumerate(zip(sizes, taps, strict=True)):
        s, d, extra = chosen["strides"][i], chosen["dilations"][i], chosen["output_padding"][i]
        reach = (size - 1) * s + d * (k - 1) + 1 + extra
        wanted = chosen["output_shape"][i] if "output_shape" in chosen else size * s
        zeros = max(0, reach - wanted)
        small, large = zeros // 2, zeros - zeros // 2
        ends.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return [before for before, _ in ends] + [after for _, after in ends]


@pytest.mark.parametrize(("fixed", "constant"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize(
    "options",
    [
        {"pads": [1, 0, 0, 1]},
        {"strides": [2, 3], "output_padding": [1, 2], "group": 2},
        {"auto_pad": "SAME_UPPER", "strides": [2, 1], "dilations": [1, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 1], "group": 3},
        {"auto_pad": "SAME_LOWER", "strides": [4, 3]},  # more than the taps reach over
        {"auto_pad": "VALID", "strides": [2, 2], "group": 6},
        {"output_shape": [10, 7], "strides": [2, 2]},
        {"output_shape": [8, 6], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"output_shape": [10, 7], "strides": [2, 2], "output_padding": [1, 0], "group": 2},
        {"output_shape": [13, 12], "strides": [2, 2]},  # more than the taps reach
    ],
)
def test_transposed_convolution_of_onnx(isa, options, fixed, constant):
    rng = np.random.default_rng(5)
    chosen = {"strides": [1, 1], "dilations": [1, 1], "output_padding": [0, 0], "group": 1}
    chosen |= options
    x = rng.standard_normal((2, 5, 4, 6)).astype(np.float32)
    weight = rng.standard_normal((6, 3, 2, 4)).astype(np.float32)
    bias = rng.standard_normal(4 * chosen["group"]).astype(np.float32)
    pads = chosen.get("pads", [0] * 4)
    if "output_shape" in chosen or chosen.get("auto_pad", "").startswith("SAME"):
        pads = transposed_pads((5, 4), (3, 2), chosen)
    exact = bias + transposed(
        x,
        weight,
        strides=chosen["strides"],
        dilations=chosen["dilations"],
        pads=pads,
        extra=chosen["output_padding"],
        group=chosen["group"],
    )
    if "output_shape" in chosen:  # outputs that no tap reaches are the bias
        missing = np.subtract(chosen["output_shape"], exact.shape[1:3])
        wide = np.broadcast_to(bias, (2, *chosen["output_shape"], len(bias))).copy()
        wide[:, : exact.shape[1], : exact.shape[2]] = exact
        assert missing.min() >= 0
        exact = wide
    arrays = first(x), first(weight), bias
    found = run_one("ConvTranspose", arrays, chosen, fixed=fixed, constant=constant)
    assert found.shape == first(exact).shape
    np.testing.assert_allclose(found, first(exact), rtol=0, atol=4 * 36 * 4 * EPS)
    if not constant:
        return
    empty = run_one(
        "ConvTranspose", (arrays[0][:0], *arrays[1:]), chosen, fixed=False, constant=False
    )
    assert empty.shape == (0, *found.shape[1:])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"output_shape": [0, 4]}, "output_shape holds 0"),
        ({"output_shape": [4]}, "output_shape has 1 numbers, expected 2"),
        ({"output_padding": [-1, 0]}, "output_padding holds -1"),
        ({"kernel_shape": [3, 3]}, "kernel_shape is not that of the weight"),
        ({"strides": [2**31, 1]}, "strides holds 2147483648"),
        ({"group": 4}, "does not fit C = 6 in 4 groups"),
        ({"pads": [9, 0, 9, 0]}, "reach over more"),
        ({"auto_pad": "OTHER"}, "auto_pad is 'OTHER'"),
    ],
)
def test_wrong_transposed_convolution(change, text):
    arrays = np.zeros((1, 6, 5, 4), np.float32), np.zeros((6, 4, 3, 2), np.float32)
    with pytest.raises(ValueError, match=text):
        run_one("ConvTranspose", arrays, change, fixed=False, constant=False)
