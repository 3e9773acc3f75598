"""Single nodes of a graph, run natively."""

from treadle.graph.ir import Node
from treadle.graph.program import run_node

DTYPES = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float32", "float64"),
)


def run(op, *arrays, outputs=1, **attributes):
    """Return the output of a node, or a list of its outputs."""
    node = Node(op, [""] * len(arrays), [f"y{i}" for i in range(outputs)], attributes, "the_node")
    results = run_node(node, arrays)
    return results[0] if outputs == 1 else results


def numbers(rng, shape, dtype):
    """Draw numbers from -9 to 9, none below 0 where the dtype has none."""
    least = 0 if dtype in ("bool", "uint8", "uint16", "uint32", "uint64") else -9
    return rng.integers(least, 10, shape).astype(dtype)
