"""This room runs whole models: graphs of nodes in ONNX's vocabulary, made faster and executed.

`ir` defines the graph, `vocabulary` the operators beside those of ONNX. Readers (`treadle.onnx`,
`treadle.torch.capture`) make a graph. `optimise` runs the passes, `fold`, `simplify`, `fusions`
and `layout`, which ask `shapes` and look through a `view`.
"""

from treadle.graph.ir import Graph, Node, Value

__all__ = ["Graph", "Node", "Value"]
