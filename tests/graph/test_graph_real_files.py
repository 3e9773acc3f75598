"""The passes leave few nodes of real trained files, where these are (support.model_files).

tests/onnx compares the results of the same files with ONNX Runtime.
"""

from collections import Counter

import pytest

from support import model_files
from treadle.graph.ir import subgraphs
from treadle.graph.optimise import count, optimise
from treadle.onnx.load import read_graph

FILES = model_files.found(".onnx")
# By the beginning of a file's name: the most nodes, the most Transposes, and how many nodes of some
# operators there are.
EXPECTED = {
    "silero_vad.onnx": (140, 4, {"treadle.Recurrent": 2, "LSTM": 0, "treadle.Magnitude": 2}),
    "silero_vad_op18": (60, 0, {"treadle.Recurrent": 2, "treadle.Magnitude": 2, "Split": 0}),
    "silero_vad_half": (70, 2, {"treadle.Recurrent": 1, "treadle.Magnitude": 1}),
    "silero_vad_16k_op15": (70, 2, {"treadle.Recurrent": 1, "treadle.Magnitude": 1}),
    "silero_vad_openvino": (24, 0, {"treadle.Recurrent": 1, "If": 0}),
    "silero_vad_16k_sequence": (16, 0, {"treadle.Conv": 6, "treadle.Recurrent": 1}),
    "silero_vad_v6": (16, 0, {"treadle.Conv": 6, "treadle.Recurrent": 1}),
    "model_1.onnx": (20, 0, {"treadle.Recurrent": 2, "treadle.Linear": 1, "Sigmoid": 0}),
    "model_2.onnx": (28, 0, {"treadle.Recurrent": 2, "LayerNormalization": 1, "Tanh": 0}),
    "nsnet2-20ms-48k": (6, 0, {"treadle.Recurrent": 1, "treadle.Linear": 4}),
    "nsnet2-20ms-baseline": (5, 0, {"treadle.Recurrent": 1, "treadle.Linear": 4}),
    "ch_PP-OCRv4_rec": (100, 1, {"treadle.Conv": 38, "treadle.Attention": 2, "Clip": 0}),
    "ch_PP-OCRv4_det": (120, 2, {"treadle.Conv": 62, "Clip": 0, "BatchNormalization": 0}),
    "ch_ppocr_mobile_v2.0_cls": (78, 1, {"treadle.Conv": 53, "HardSigmoid": 0, "Relu": 0}),
}


def operators(graph):
    """The operators of a graph and its subgraphs, counted."""
    found = Counter(node.op for node in graph.nodes)
    for node in graph.nodes:
        for sub in subgraphs(node):
            found += operators(sub)
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_left(name):
    path = next((path for file, path in FILES.items() if file.startswith(name)), None)
    if path is None:
        pytest.skip("the file is not installed")
    graph, _ = read_graph(path.read_bytes(), name, None)
    result, report = optimise(graph)
    most, transposes, wanted = EXPECTED[name]
    found = operators(result)
    assert {op: found[op] for op in wanted} == wanted
    assert found["Transpose"] <= transposes
    assert count(result) == report.nodes_after <= most
    assert found["Conv"] == 0  # all of them work channels last
