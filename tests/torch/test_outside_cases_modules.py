"""Modules of treadle.torch in other people's programs: whatever they do with torch.nn's modules has
to work with treadle's in their place."""

import copy

import pytest
import torch

from support import samples
from support.torch_checks import CELLS, flat, inputs, pair

pytestmark = pytest.mark.usefixtures("no_warnings_before")

IN_PLACE = {
    "mul_": lambda y: y.mul_(torch.linspace(0, 2, y.shape[-1])),
    "relu_": lambda y: y.relu_(),
    "dropout": lambda y: torch.nn.functional.dropout(y, 0.3, inplace=True),
    "masked_fill_": lambda y: y.masked_fill_(y > 0.1, 0),
    "a row": lambda y: y[0].zero_(),
    "an element of a view": lambda y: y.transpose(0, -1)[0].add_(1),
    "silu": lambda y: torch.nn.SiLU(inplace=True)(y),
}
SHOWN = {
    "RNN": ("RNN", {}),
    "relu": ("RNN", {"nonlinearity": "relu", "num_layers": 2}),
    "GRU": ("GRU", {}),
    "GRU bidirectional": ("GRU", {"num_layers": 2, "bidirectional": True}),
    "GRU batch_first": ("GRU", {"batch_first": True}),
    "projection": ("LSTM", {"proj_size": 4}),
    "GRUCell": ("GRUCell", {}),
    "LSTMCell": ("LSTMCell", {}),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # PyTorch's own
@pytest.mark.parametrize(
    ("case", "operation"),
    [
        (case, operation)
        for case in SHOWN
        for operation in IN_PLACE
        # Dropout draws its numbers in the order of memory, which is not PyTorch's there.
        if (case, operation) != ("GRU batch_first", "dropout")
    ],
)
def test_outputs_are_changed_in_place(case, operation):
    """A program masks, activates or drops out the output in place, as PyTorch's GRU and RNN let it
    (CUNY-CL/yoyodyne#298). States may be changed, too."""
    kind, options = SHOWN[case]
    found = []
    for module in pair(kind, 5, 9, **options):
        x = torch.from_numpy(samples.normal(0, *((6, 5) if kind in CELLS else (6, 4, 5))))
        x.requires_grad_()
        results = flat(module(x))
        torch.manual_seed(0)
        for result in results:
            IN_PLACE[operation](result)
        sum(r.square().sum() + r.sum() for r in results).backward()
        found.append([*results, x.grad, *(p.grad for p in module.parameters())])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
@pytest.mark.parametrize("form", ["unbatched", "lengths", "packed"])
def test_outputs_of_other_forms_are_changed_in_place(kind, form):
    """An unbatched y is a view, that of a PackedSequence is a tensor of its own."""
    _, ours = pair(kind, 5, 9)
    x, _ = inputs(kind, ours)
    lengths, pack = [3, 7, 1, 7, 4], torch.nn.utils.rnn.pack_padded_sequence
    found = []
    for changes in (lambda y: y * 3, lambda y: y.mul_(3)):
        module = copy.deepcopy(ours)
        if form == "unbatched":
            y = module(x[:, 0])[0]
        elif form == "lengths":
            y = module(x, lengths=lengths)[0]
        else:
            y = module(pack(x, lengths, enforce_sorted=False))[0].data
        changes(y).square().sum().backward()
        found.append([p.grad for p in module.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_a_plain_lstm_keeps_pytorchs_rule():
    """PyTorch's LSTM refuses a change of its output in place, by the same error."""
    for module in pair("LSTM", 5, 9):
        y, _ = module(torch.ones(6, 4, 5))
        y.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
