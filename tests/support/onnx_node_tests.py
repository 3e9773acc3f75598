"""The node tests of the package onnx, run by treadle: what passes, and what is skipped and why.

    python tests/support/onnx_node_tests.py          what fails, and why
    python tests/support/onnx_node_tests.py --write  makes the table of docs/internals/onnx.md again

A test is a model of one node, or of the nodes that the node's function consists of ("expanded"),
with inputs and the outputs that they must give. Tests that need what treadle has not are skipped,
each for a reason; a skipped one must raise an error, since it should leave this list when it
passes.
"""

import os
import pkgutil
import re
import sys
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from treadle.graph.model import Model
from treadle.graph.program import OPERATORS
from treadle.onnx import schemas
from treadle.onnx.load import read_graph

VERSION = "1.23.2"  # of the package, as pinned in the extra test
# Operators that nodes may have although no table lists them: they become others.
BECOME_OTHERS = ("Constant", "Dropout", "Scatter", "Upsample")
# What no model of treadle computes: these words in the error say so.
REASONS = {
    "needs operators that treadle has not": "is taken apart into operators that treadle has not",
    "has the dtype": "has values of a dtype that treadle has not",
    "makes the dtype": "makes values of a dtype that treadle has not",
    "expected a tensor": "has sequences or optional values",
    "training mode": "trains",
    "has dtype float64, expected float32": "computes in float64 what treadle has in float32",
}
# Tests that fail for reasons of their own, by a pattern of their names.
SKIPPED = {
    "test_attention_.*(qk_matmul|output_mode).*": "wants the scores, which treadle does not keep",
    "test_attention_.*(padded_kv|nonpad|ext_cache).*": "has lengths of the keys (opset 24)",
    "test_attention_.*(local|bidirectional)_window.*": "has a window (opset 25)",
    "test_scan_sum": "is a Scan of opset 8",
    "test_resize_.*(cubic|antialias|tf_crop_and_resize).*": "is cubic, antialiased or cropped",
    # treadle counts whole pixels of the output, as ONNX Runtime does.
    "test_resize_downsample_scales_linear_align_corners": "counts fractions of an output's pixel",
    "test_maxpool_2d_uint8": "pools bytes",
    "test_(averagepool|maxpool|convtranspose)_3d.*": "has three axes of pixels",
    "test_maxpool_with_argmax_2d.*": "wants the places of the largest",
}


def installed():
    """Whether the package onnx is there, with its tests."""
    try:
        import_module("onnx.backend.test.case.node")
    except ImportError:
        return False
    return True


@cache
def cases():
    """All node tests of the package, as a dict of lists by the operator they test."""
    base = import_module("onnx.backend.test.case.base")
    node = import_module("onnx.backend.test.case.node")
    base.process_snippet = lambda *_: ("", "")  # text for ONNX's documentation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(node.__path__, f"{node.__name__}."):
            import_module(module.name)
    found = {}
    for case in node._NodeTestCases:
        tested = node._existing_names[case.name.split("_expanded")[0]]
        found.setdefault(f"{tested.domain}{'.' * bool(tested.domain)}{tested.op_type}", []).append(
            case
        )
    return found


def known(op):
    """Whether treadle has an operator, or turns it into others."""
    native = op in OPERATORS or f"treadle.{op}" in OPERATORS
    return (native and op in schemas.SCHEMAS) or op in BECOME_OTHERS


def numbers(array):
    """An expected or given value as NumPy knows it, bfloat16 as float32."""
    onnx = import_module("onnx")
    if isinstance(array, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(array)
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def run(case):
    """Run a test. Raises AssertionError for wrong outputs, whatever treadle raises otherwise."""
    model = case.model
    if model.opset_import[0].version < schemas.OLDEST_OPSET:  # of an operator that never changed
        model = type(model)()
        model.CopyFrom(case.model)
        model.opset_import[0].version = schemas.OLDEST_OPSET
    graph, _ = read_graph(model.SerializeToString(), case.name, None)
    model = Model(graph)
    for inputs, outputs in case.data_sets:
        results = model(*map(numbers, inputs))
        assert len(results) == len(outputs)
        for value, expected in zip(graph.outputs, outputs, strict=True):
            found, wanted = results[value.name], numbers(expected)
            assert found.shape == wanted.shape, (value.name, found.shape, wanted.shape)
            assert found.dtype == wanted.dtype, (value.name, found.dtype, wanted.dtype)
            if found.dtype.kind == "f":
                rtol = 2.0**-6 if value.dtype == "bfloat16" else case.rtol
                np.testing.assert_allclose(found, wanted, rtol, case.atol, err_msg=value.name)
            else:
                np.testing.assert_array_equal(found, wanted, err_msg=value.name)


def outcome(case):
    """None for a test that passes, and else what was raised."""
    try:
        run(case)
    except (AssertionError, ValueError, TypeError, MemoryError) as error:
        return error
    return None


def listed(name):
    """Why a test is skipped by its name, or None. One of a function's nodes is another test."""
    patterns = [] if "_expanded" in name else SKIPPED
    return next((SKIPPED[p] for p in patterns if re.fullmatch(p, name)), None)


def reason(case, error):
    """Why a test that raised this is skipped, or None for one that fails."""
    if listed(case.name):
        return listed(case.name)
    if isinstance(error, ValueError | TypeError):
        for words, text in REASONS.items():
            if words in str(error):
                return text
    return None


def table():
    """The lines of the table in the documentation."""
    rows = ["| operator | tests passed | skipped |", "| --- | ---: | --- |"]
    passed = skipped = 0
    for op, tests in sorted(cases().items()):
        if not known(op):
            continue
        reasons, good = {}, 0
        for case in tests:
            error = outcome(case)
            if error is None:
                good += 1
            else:
                text = reason(case, error) or "FAILS"
                reasons[text] = reasons.get(text, 0) + 1
        passed, skipped = passed + good, skipped + sum(reasons.values())
        rows.append(f"| {op} | {good} | {'; '.join(f'{n}: {t}' for t, n in reasons.items())} |")
    others = sum(len(tests) for op, tests in cases().items() if not known(op))
    names = ", ".join(sorted(op for op in cases() if not known(op)))
    head = f"{passed} tests pass and {skipped} are skipped. {others} tests are of operators that "
    return [f"{head}treadle has not: {names}.", "", *rows]


def main():
    if "--write" in sys.argv:
        path = Path(__file__).parents[2] / "docs/internals/onnx.md"
        text = path.read_text()
        start, end = "<!-- node tests:start -->\n", "<!-- node tests:end -->"
        before, rest = text.split(start)
        _, after = rest.split(end)
        path.write_text(before + start + "\n".join(table()) + "\n" + end + after)
        return
    counts = {"passed": 0, "skipped": 0, "failed": 0}
    chosen = os.environ.get("OPS", "").split()
    for op, tests in sorted(cases().items()):
        if not known(op) or (chosen and op not in chosen):
            continue
        for case in tests:
            error = outcome(case)
            why = None if error is None else reason(case, error)
            counts["passed" if error is None else "skipped" if why else "failed"] += 1
            if error is not None and not why:
                print(f"{op:20} {case.name}: {type(error).__name__} {str(error)[:300]!r}")
    print(counts)


if __name__ == "__main__":
    main()
