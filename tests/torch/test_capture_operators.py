"""The operators that `treadle.torch.capture` knows give PyTorch's numbers, for all batch sizes."""

import pytest

torch = pytest.importorskip("torch")

import treadle.torch
from support import captured


@pytest.fixture(scope="module", params=captured.GROUPS)
def group(request):
    """A module of many operators, its model, and the shapes of its inputs."""
    functions, shapes, weights = captured.GROUPS[request.param]
    module = captured.Group(functions, weights)
    model = treadle.torch.capture(module, captured.inputs_of(shapes))
    return module, model, shapes


@pytest.mark.parametrize(("B", "T"), [(2, 5), (1, 7), (5, 6)])
def test_operators(group, B, T):
    module, model, shapes = group
    captured.assert_same(model, module, captured.inputs_of(shapes, 1, B, T))
