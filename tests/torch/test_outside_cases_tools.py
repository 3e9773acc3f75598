"""PyTorch's tools on accelerated models: each works, or says what to do.

The programs of these tests come from outside: torch.fx (pytorch/pytorch#84515), torch.jit.trace and
script, torch.onnx.export, dynamic quantization (pytorch/pytorch#32676), FLOP counters
(pytorch/pytorch#131041, facebookresearch/fvcore#98), copies and pickles.
"""

import copy
import io
import pickle

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import treadle.torch
from support import samples

# The tools are deprecated in PyTorch, and say so.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*(quantiz|ONNX|were assigned during export)"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.usefixtures("no_warnings_before"),
]


class Net(torch.nn.Module):
    """A net with every kind of module that accelerate replaces."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 5, bidirectional=True)
        self.gru = torch.nn.GRU(10, 6)
        self.cell = torch.nn.LSTMCell(6, 8)
        self.attention = torch.nn.MultiheadAttention(8, 2)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        z, _ = self.gru(y)
        h, c = self.cell(z[-1] + h[0].sum() + c[0].sum())
        h = h.unsqueeze(0)
        a, _ = self.attention(h, h, h, need_weights=False)
        return self.head(a)


def nets():
    """PyTorch's net, the same accelerated, and an input."""
    torch.manual_seed(0)
    theirs = Net().eval()
    ours = copy.deepcopy(theirs)
    assert len(treadle.torch.accelerate(ours).replaced) == 4
    return theirs, ours, torch.from_numpy(samples.normal(0, 3, 2, 4))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_fx_takes_modules_as_nodes():
    theirs, ours, x = nets()
    graph = torch.fx.symbolic_trace(ours)
    called = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert called == ["lstm", "gru", "cell", "attention", "head"]
    assert type(graph.lstm) is treadle.torch.LSTM
    close(graph(x), theirs(x))


def test_fx_takes_attention_as_a_function():
    attend = treadle.torch.scaled_dot_product_attention
    graph = torch.fx.symbolic_trace(lambda q: attend(q, q, q, is_causal=True))
    assert [n.target for n in graph.graph.nodes if n.op == "call_function"] == [attend]
    q = torch.from_numpy(samples.normal(0, 1, 2, 3, 4))
    assert torch.equal(graph(q), attend(q, q, q, is_causal=True))


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x)[0]


def test_script_compiles_pytorchs_modules():
    """torch.jit.script puts what it can compile into the model, with the same parameters."""
    theirs, x = Encoder(), torch.from_numpy(samples.normal(0, 3, 2, 4))
    ours = copy.deepcopy(theirs)
    treadle.torch.accelerate(ours)
    gru = ours.gru
    with pytest.warns(UserWarning, match=r"torch\.jit\.script cannot compile it"):
        scripted = torch.jit.script(ours)
    close(scripted(x), theirs(x))
    assert type(gru) is treadle.torch.GRU  # the module itself stays as it is
    assert scripted.gru.weight_ih_l0.data_ptr() == gru.weight_ih_l0.data_ptr()
    assert list(treadle.torch.accelerate(ours).replaced) == ["gru"]
    assert torch.equal(ours(x), gru(x)[0])


def test_trace():
    theirs, ours, x = nets()
    with pytest.warns(UserWarning, match=r"traced by torch\.jit"):
        traced = torch.jit.trace(ours, x)
    other = 2 * x - 1
    close(traced(other), theirs(other))
    assert "aten::lstm" in str(traced.inlined_graph)


def test_onnx_by_trace():
    onnx = pytest.importorskip("onnx")
    _, ours, x = nets()
    buffer = io.BytesIO()
    with pytest.warns(UserWarning, match=r"traced by torch\.jit"):
        torch.onnx.export(ours, (x,), buffer, dynamo=False)
    kinds = {node.op_type for node in onnx.load_from_string(buffer.getvalue()).graph.node}
    assert {"LSTM", "GRU"} <= kinds


def test_onnx_by_export():
    pytest.importorskip("onnxscript")
    _, ours, x = nets()
    del ours.attention
    ours.attention = lambda h, *_, **__: (h, None)
    program = torch.onnx.export(ours, (x,), dynamo=True, verbose=False)
    kinds = {node.op_type for node in program.model.graph}
    assert not any("recurrent" in kind for kind in kinds)


def test_quantization_says_what_it_passes_over():
    """It replaces PyTorch's own classes alone; after restore it does what it always did."""
    _, ours, x = nets()
    with pytest.warns(UserWarning, match=r"call treadle\.torch\.restore before it") as caught:
        quantized = torch.ao.quantization.quantize_dynamic(ours)
    named = {str(w.message).split(":")[0] for w in caught if "treadle.torch." in str(w.message)}
    assert {"treadle.torch.LSTM", "treadle.torch.GRU", "treadle.torch.LSTMCell"} <= named
    assert type(quantized.lstm) is treadle.torch.LSTM
    assert type(quantized.head) is not torch.nn.Linear
    assert not hasattr(ours.lstm, "qconfig")
    treadle.torch.restore(ours)
    quantized = torch.ao.quantization.quantize_dynamic(ours, {torch.nn.LSTM, torch.nn.GRU})
    assert "quantized" in type(quantized.lstm).__module__
    assert quantized(x).shape == (1, 2, 2)


def test_flop_counter():
    """The products of a GRU and of attention are as many as PyTorch's counter finds in its own."""
    theirs, ours, x = nets()

    def count(run):
        with FlopCounterMode(display=False) as mode:
            run()
        return mode.get_total_flops()

    y = torch.from_numpy(samples.normal(0, 3, 2, 10))
    assert count(lambda: ours.gru(y)) == count(lambda: theirs.gru(y)) > 0
    step = lambda net: net.gru(y)[0].sum().backward()
    assert count(lambda: step(ours)) == 3 * count(lambda: ours.gru(y))
    assert count(lambda: ours.lstm(x)) == 2 * 3 * 2 * 2 * 20 * (4 + 5)
    q = torch.ones(2, 3, 5, 8)
    ours_too, theirs_too = (
        module.scaled_dot_product_attention for module in (treadle.torch, torch.nn.functional)
    )
    with sdpa_kernel(SDPBackend.MATH):
        assert count(lambda: ours_too(q, q, q)) == count(lambda: theirs_too(q, q, q)) > 0


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "save": lambda net: _saved(net),
}


def _saved(net):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("way", COPIES)
def test_copies_run_on_treadle_too(way):
    _, ours, x = nets()
    found = COPIES[way](ours)
    assert torch.equal(found(x), ours(x))
    assert type(found.lstm) is treadle.torch.LSTM
    assert type(found.attention) is treadle.torch.MultiheadAttention
