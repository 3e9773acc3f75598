"""treadle.torch's recurrent modules under torch.compile and torch.export."""

import pytest
import torch

import treadle.torch
from support import samples
from support.torch_checks import flat

pytestmark = pytest.mark.usefixtures("no_warnings_before")

COMPILED = {
    "lstm": ("LSTM", {"num_layers": 2, "bidirectional": True}),
    "lstm-P": ("LSTM", {"proj_size": 3, "batch_first": True}),
    "gru": ("GRU", {"batch_first": True}),
    "gru-no-bias": ("GRU", {"bias": False, "bidirectional": True}),
    "rnn": ("RNN", {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("case", COMPILED)
def test_compile_keeps_one_graph(case):
    """The graph has no break and gives the same bits as eager mode, forward and backward, with
    lengths, too."""
    kind, options = COMPILED[case]
    module = getattr(treadle.torch, kind)(5, 9, **options)
    x = torch.from_numpy(samples.normal(0, 6, 6, 5))
    lengths = torch.tensor([6, 2, 5, 1, 6, 3])

    def outputs(function, **rows):
        module.zero_grad()
        own = x.clone().requires_grad_()
        result = flat(function(own, **rows))
        sum((r * r).sum() for r in result).backward()
        return [*result, own.grad, *(p.grad.clone() for p in module.parameters())]

    torch.compiler.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for rows in ({}, {"lengths": lengths}):
        for a, b in zip(outputs(compiled, **rows), outputs(module, **rows), strict=True):
            assert torch.equal(a, b)
    with torch.no_grad():
        assert torch.equal(compiled(x)[0], module(x)[0])


def test_export():
    module = treadle.torch.GRU(5, 9)
    x = torch.from_numpy(samples.normal(0, 6, 3, 5))
    program = torch.export.export(module, (x,))
    assert any("treadle.recurrent" in str(node.target) for node in program.graph.nodes)
    assert torch.equal(program.module()(x)[0], module(x)[0])


@pytest.mark.parametrize("case", COMPILED)
def test_operators(case):
    """The operators pass PyTorch's own check of schema, autograd and fake tensors."""
    kind, options = COMPILED[case]
    options = {k: v for k, v in options.items() if k != "num_layers"}
    module = getattr(treadle.torch, kind)(5, 9, **options)
    x = torch.from_numpy(samples.normal(0, 6, 3, 5)).requires_grad_()
    weights = list(module.parameters())
    layer = (
        kind.lower(), 9, module.proj_size, module.bias, 1 + module.bidirectional,
        options.get("nonlinearity", "tanh"), "sigmoid", True, module.batch_first, True,
    )  # fmt: skip
    lengths = torch.tensor([3] * (6 if module.batch_first else 3))
    for rows in (None, lengths):
        call = (x, None, None, weights, rows, None, *layer)
        torch.library.opcheck(torch.ops.treadle.recurrent.default, call)
