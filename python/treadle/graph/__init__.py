"""This room runs whole models: graphs of nodes in ONNX's vocabulary, made faster and executed.

`ir` defines the graph, `vocabulary` the operators beside those of ONNX. Readers (`treadle.onnx`,
`treadle.torch.capture`) make a graph.
"""

from treadle.graph.ir import Graph, Node, Value

__all__ = ["Graph", "Node", "Value"]
