"""The node tests of the package onnx, for every operator that treadle has, on every ISA.

docs/internals/onnx.md lists what passes, and what is skipped and why.
"""

import pytest

from support import onnx_node_tests
from treadle.onnx.schemas import SCHEMAS

onnx = pytest.importorskip("onnx")
OPERATORS = [
    op for op in sorted({*SCHEMAS, *onnx_node_tests.BECOME_OTHERS}) if onnx_node_tests.known(op)
]


@pytest.mark.parametrize("op", OPERATORS)
def test_nodes(op, isa):
    """Every test passes or is skipped for a listed reason; none that is skipped would pass."""
    failed, needless = [], []
    for case in onnx_node_tests.cases().get(op, []):
        error = onnx_node_tests.outcome(case)
        if error is None:
            needless += [case.name] * (onnx_node_tests.listed(case.name) is not None)
        elif onnx_node_tests.reason(case, error) is None:
            failed.append((case.name, type(error).__name__, str(error)[:300]))
    assert failed == []
    assert needless == []


def test_table(source):
    """The documentation says what passes; support/onnx_node_tests.py --write makes it again."""
    if onnx.__version__ != onnx_node_tests.VERSION:
        pytest.skip(f"the table is of onnx {onnx_node_tests.VERSION}")
    text = (source / "docs/internals/onnx.md").read_text()
    assert "\n".join(onnx_node_tests.table()) in text
