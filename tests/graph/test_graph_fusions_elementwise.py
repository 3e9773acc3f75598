"""Fusions of elementwise nodes: activations and norms that exporters take apart."""

import math

import numpy as np
import pytest

from reference.graph import graph_of
from support.graphs import fused, only_fused, operators
from treadle.graph import Node

X = [("x", ("n", 3, 8))]
HALF, ROOT2 = np.float32(0.5), np.float32(math.sqrt(2))
CONSTANTS = {
    "half": HALF,
    "one": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "six": np.float32([6]),
    "sixth": np.float32(1 / 6),
    "zero": np.float32(0),
    "root": ROOT2,
    "back": np.float32(1) / ROOT2,
    "cube": np.float32(0.044715),
    "spread": np.float32(math.sqrt(2 / math.pi)),
    "eps": np.float32(1e-5),
    "axes": np.array([-1]),
    "scale": np.linspace(0.5, 2, 8).astype("f"),
    "bias": np.linspace(-1, 1, 8).astype("f"),
}


def nodes_of(text):
    """Nodes from lines such as "Mul x half -> a"."""
    nodes = []
    for line in text.strip().splitlines():
        left, right = line.split("->")
        op, *inputs = left.split()
        nodes.append(Node(op, inputs, right.split()))
    return nodes


def ops(text, *names, outputs=("y",), inputs=X, factor=8.0):
    return only_fused(nodes_of(text), inputs, list(outputs), CONSTANTS, names, factor)


ERF = "Div x root -> a\nErf a -> b\nAdd b one -> c\n"
CUBED = (
    "Pow x three -> a\nMul a cube -> b\nAdd x b -> c\n"
    "Mul spread c -> d\nTanh d -> e\nAdd e one -> f\n"
)


SQUARED = (
    "Mul cube x -> s\nMul s x -> a\nAdd a one -> b\nMul spread x -> p\nMul p b -> d\n"
    "Tanh d -> e\nAdd e one -> f\nMul half x -> g\nMul g f -> y"
)


@pytest.mark.parametrize(
    "text",
    [
        ERF + "Mul x c -> d\nMul d half -> y",
        ERF + "Mul x half -> d\nMul d c -> y",
        ERF + "Mul c half -> d\nMul x d -> y",
        ERF + "Mul c x -> d\nDiv d two -> y",
        "Mul x back -> a\nErf a -> b\nAdd one b -> c\nMul half x -> d\nMul c d -> y",
        CUBED + "Mul x half -> g\nMul g f -> y",
        CUBED + "Mul f x -> g\nMul g half -> y",
        "Mul x x -> s\nMul s x -> a\n" + CUBED.split("\n", 1)[1] + "Mul f x -> g\nMul g half -> y",
        SQUARED,
    ],
)
def test_gelu(text):
    assert ops(text, "gelu") == ["Gelu"]


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        (ERF + "Mul x c -> d\nMul d one -> y", ["y"]),  # not halved
        (ERF.replace("root", "two") + "Mul x c -> d\nMul d half -> y", ["y"]),
        (ERF.replace("one", "two") + "Mul x c -> d\nMul d half -> y", ["y"]),
        (ERF + "Mul x c -> d\nMul d half -> y", ["y", "b"]),
        (ERF + "Exp x -> z\nMul z c -> d\nMul d half -> y", ["y"]),  # of another value
        (CUBED.replace("three", "two") + "Mul f x -> g\nMul g half -> y", ["y"]),
        (CUBED.replace("spread", "half") + "Mul f x -> g\nMul g half -> y", ["y"]),
        (CUBED.replace("cube", "half") + "Mul f x -> g\nMul g half -> y", ["y"]),
    ],
)
def test_no_gelu(text, outputs):
    assert "Gelu" not in ops(text, "gelu", outputs=outputs)


@pytest.mark.parametrize("text", ["Sigmoid x -> a\nMul x a -> y", "Sigmoid x -> a\nMul a x -> y"])
def test_silu(text):
    assert ops(text, "silu") == ["treadle.Silu"]


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("Sigmoid x -> a\nMul x a -> y", ["y", "a"]),
        ("Sigmoid x -> a\nMul a a -> y", ["y"]),
        ("Exp x -> z\nSigmoid x -> a\nMul z a -> y", ["y"]),
    ],
)
def test_no_silu(text, outputs):
    assert "treadle.Silu" not in ops(text, "silu", outputs=outputs)


CLIP = "Add x three -> a\nClip a zero six -> b\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CLIP + "Mul x b -> c\nDiv c six -> y", "treadle.HardSwish"),
        (CLIP + "Mul b x -> c\nMul c sixth -> y", "treadle.HardSwish"),
        (CLIP + "Div b six -> c\nMul x c -> y", "treadle.HardSwish"),
        ("HardSigmoid x -> a\nMul x a -> y", "treadle.HardSwish"),
        ("HardSwish x -> y", "treadle.HardSwish"),
        (CLIP + "Div b six -> y", "HardSigmoid"),
        ("Add three x -> a\nClip a zero six -> b\nMul sixth b -> y", "HardSigmoid"),
    ],
)
def test_hard_swish(text, expected):
    assert ops(text, "hard swish") == [expected]


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        (CLIP + "Mul x b -> c\nDiv c three -> y", ["y"]),
        (CLIP + "Mul x b -> y", ["y"]),
        (CLIP.replace("zero", "one") + "Mul x b -> c\nDiv c six -> y", ["y"]),
        (CLIP + "Mul x b -> c\nDiv c six -> y", ["y", "b"]),
        (CLIP + "Exp x -> z\nMul z b -> c\nDiv c six -> y", ["y"]),
        ("Sub three x -> a\nClip a zero six -> b\nMul x b -> c\nDiv c six -> y", ["y"]),
        (CLIP + "Mul x b -> c\nDiv six c -> y", ["y"]),
        ("HardSigmoid x -> y", ["y"]),
    ],
)
def test_no_hard_swish(text, outputs):
    found = ops(text, "hard swish", outputs=outputs)
    assert "treadle.HardSwish" not in found
    assert ("Clip" in found) == ("Clip" in text)


def test_a_scale_behind_a_hard_swish_stays_behind_it():
    """The recogniser of an OCR has one behind each."""
    assert ops(CLIP + "Mul x b -> c\nDiv c six -> d\nMul d two -> y", "hard swish") == [
        "treadle.HardSwish",
        "Mul",
    ]


NORM = (
    "ReduceMean x axes -> m\nSub x m -> d\nPow d two -> s\nReduceMean s axes -> v\n"
    "Add v eps -> e\nSqrt e -> r\nDiv d r -> n\n"
)


@pytest.mark.parametrize(
    "text",
    [
        NORM + "Mul n scale -> p\nAdd p bias -> y",
        NORM + "Mul scale n -> p\nAdd bias p -> y",
        NORM + "Mul n scale -> y",
        NORM.replace("-> n", "-> y"),
        NORM.replace("Pow d two", "Mul d d") + "Mul n scale -> p\nAdd p bias -> y",
        NORM.replace("Sub x m -> d", "Sub x m -> d\nSub x m -> q").replace("Pow d", "Pow q")
        + "Mul n scale -> p\nAdd p bias -> y",
        NORM.replace("Div d r -> n", "Reciprocal r -> i\nMul d i -> n")
        + "Mul n scale -> p\nAdd p bias -> y",
    ],
)
def test_layer_norm(text):
    assert ops(text, "layer norm") == ["LayerNormalization"]


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        (NORM + "Mul n scale -> y", ["y", "m"]),
        (NORM + "Mul n scale -> y", ["y", "r"]),
        (NORM.replace("Pow d two", "Pow d three") + "Mul n scale -> y", ["y"]),
        (NORM.replace("Sub x m -> d", "Exp x -> u\nSub u m -> d") + "Mul n scale -> y", ["y"]),
    ],
)
def test_no_layer_norm(text, outputs):
    graph = graph_of(nodes_of(text), X, list(outputs), CONSTANTS)
    assert "LayerNormalization" not in operators(fused(graph, "layer norm")[0])


@pytest.mark.parametrize("axes", [[0], [1], [-1, 0], [1, 2]])
def test_layer_norm_over_other_axes(axes):
    """Only the last axes are those of a layer norm."""
    constants = {**CONSTANTS, "axes": np.array(axes)}
    inputs = [("x", (2, 3, 8))]
    found = only_fused(
        nodes_of(NORM + "Mul n scale -> y"), inputs, ["y"], constants, ["layer norm"], 8
    )
    assert ("LayerNormalization" in found) == (axes == [1, 2])


def test_layer_norm_with_a_scale_of_other_axes_keeps_it():
    constants = {**CONSTANTS, "scale": np.ones((3, 1), "f")}
    found = only_fused(nodes_of(NORM + "Mul n scale -> y"), X, ["y"], constants, ["layer norm"], 8)
    assert found == ["LayerNormalization", "Mul"]


def test_old_softmax():
    """Softmax before opset 13, over the last axis, and over more than that."""
    text = "Flatten x -> f\nSoftmax f -> s\nShape x -> z\nReshape s z -> y"
    for axis, expected in ((2, ["Softmax"]), (1, ["Flatten", "Softmax", "Shape", "Reshape"])):
        nodes = nodes_of(text)
        nodes[0].attributes["axis"] = axis
        nodes[1].attributes["axis"] = -1
        found = only_fused(nodes, [("x", (2, 3, 8))], ["y"], {}, ["softmax"])
        assert found == expected


def test_computed_shapes_become_constants():
    text = """
        Shape x -> s
        Gather s first -> t
        Concat t rest -> w
        Reshape x w -> y
    """
    nodes = nodes_of(text)
    nodes[2].attributes["axis"] = 0
    constants = {"first": np.array([1]), "rest": np.array([-1, 2, 2])}
    graph = graph_of(nodes, [("x", ("n", "t", 4))], ["y"], constants)
    result, _ = fused(graph, "reshape")
    assert operators(result)[-1] == "Reshape"
    inputs = [("x", ("n", "t", 4))]
    kept = only_fused(nodes, inputs, ["y"], constants, ["reshape"])
    assert kept.count("Shape") == 1  # both sizes of the output are symbols elsewhere
    constants["rest"] = np.array([2, 2])
    text = nodes_of("Shape x -> s\nGather s zero -> b\nConcat b hole rest -> w\nReshape x w -> y")
    text[2].attributes["axis"] = 0
    constants |= {"zero": np.array([0]), "hole": np.array([-1])}
    assert only_fused(text, inputs, ["y"], constants, ["reshape"]) == ["Reshape"]
