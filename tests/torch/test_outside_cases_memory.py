"""Memory in training programs of other people: what is saved for a backward pass, by whom it is
seen, when it is freed. Bytes are counted, never time."""

import copy
import gc

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import treadle.torch
from support import samples
from support.memory import allocated
from support.torch_checks import CELLS, SEQUENCES, flat

pytestmark = pytest.mark.usefixtures("no_warnings_before")

MEBIBYTE = 2**20
SDPA = "scaled_dot_product_attention"
KINDS = [*SEQUENCES, "bidirectional", *CELLS, SDPA, "MultiheadAttention"]


def built(kind, size=128):
    """Return (module, the arguments of a call); those that are tensors want gradients."""
    torch.manual_seed(0)
    if kind in (SDPA, "MultiheadAttention"):
        query = torch.from_numpy(samples.normal(0, 4, 100, 4 * size)).requires_grad_()
        if kind == "MultiheadAttention":
            module = treadle.torch.MultiheadAttention(4 * size, 8, batch_first=True)
            return module, (query, query, query, None, False)
        heads = query.detach().unflatten(2, (8, -1)).transpose(1, 2).requires_grad_()
        return Attention(), (heads, heads, heads)
    steps = (16 * 50,) if kind in CELLS else (50, 16)
    x = torch.from_numpy(samples.normal(0, *steps, size)).requires_grad_()
    if kind == "bidirectional":
        return treadle.torch.GRU(size, size // 2, bidirectional=True), (x,)
    return getattr(treadle.torch, kind)(size, size), (x,)


class Attention(torch.nn.Module):
    def forward(self, *given):
        return treadle.torch.scaled_dot_product_attention(*given)


def loss_of(module, arguments):
    return sum(part.square().sum() for part in flat(module(*arguments)))


@pytest.mark.parametrize("kind", KINDS)
def test_kept_losses_keep_nothing_but_a_number(kind):
    """A training loop appends its losses to a list, and the list keeps every graph alive.

    What the graph saved is freed by backward() all the same, since PyTorch's engine saved it
    (pytorch/pytorch#3394, dmlc/dgl#1060).
    """
    module, arguments = built(kind)
    loss_of(module, arguments).backward()
    before, losses, most = allocated(), [], 0
    for _ in range(8):
        losses.append(loss_of(module, arguments))
        most = max(most, allocated() - before)
        losses[-1].backward()
    assert most > MEBIBYTE / 2  # so much belongs to one graph
    # A thread that joins late may allocate its buffers meanwhile, which are less than that.
    assert allocated() - before < most


@pytest.mark.parametrize("kind", [*SEQUENCES, *CELLS])
def test_kept_losses_keep_no_weights(kind):
    """A step of gradient descent lies between the losses: no graph keeps the weights of
    its step, packed or not."""
    module, (x,) = built(kind, size=256)
    x = x.detach()[..., :2, :].contiguous()
    losses, before = [], 0
    for _ in range(12):
        losses.append(loss_of(module, (x,)))
        losses[-1].backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.sub_(parameter.grad, alpha=1e-3)
        module.zero_grad()
        before = before or allocated()
    assert allocated() - before < sum(p.nbytes for p in module.parameters()) * len(losses) / 4


CHECKPOINTED = (lambda m, *a: m(*a), lambda m, *a: checkpoint(m, *a, use_reentrant=False))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_has_the_same_gradients(kind):
    """torch.utils.checkpoint runs the forward pass again (pytorch/pytorch#62654)."""
    module, arguments = built(kind, size=32)
    found = []
    for run in CHECKPOINTED:
        module.zero_grad()
        arguments[0].grad = None
        results = flat(run(module, *arguments))
        sum(r.square().sum() for r in results).backward()
        found.append([*results, arguments[0].grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != SDPA])
def test_a_checkpointed_graph_holds_no_more_than_its_results(kind):
    """Between the passes a checkpointed call holds its results, a plain one what it has saved."""
    module, arguments = built(kind)
    loss_of(module, arguments).backward()
    held = []
    for run in CHECKPOINTED:
        before = allocated()
        results = run(module, *arguments)
        held.append(allocated() - before)
        size = sum(r.nbytes for r in flat(results))
        del results
    assert held[0] > size + MEBIBYTE / 16
    assert held[1] < size + (held[0] - size) / 4


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_at_the_end_of_a_region_leaks_nothing(kind):
    """The last function of a checkpointed region is stopped early when it runs again
    (pytorch/pytorch#161186)."""
    module, arguments = built(kind)
    before = 0
    for _ in range(12):
        checkpoint(lambda *a: flat(module(*a))[0], *arguments, use_reentrant=False).sum().backward()
        before = before or allocated()
    assert allocated() - before < 2 * sum(a.nbytes for a in arguments[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tensors_hooks_see_all_that_is_saved(kind):
    """`saved_tensors_hooks` get everything that backward reads, and what they return is used, even
    in another layout; so does `save_on_cpu`."""
    module, arguments = built(kind, size=32)
    seen = []

    def pack(tensor):
        seen.append(tensor.nbytes)
        return tensor.detach().clone().numpy().copy()

    def unpack(array):
        back = torch.from_numpy(array)
        return back.t().contiguous().t() if back.dim() == 2 else spread(back)

    def spread(tensor):
        wide = torch.stack([tensor, tensor], -1)
        return wide[..., 0]

    found = []
    for hooks in (
        None,
        torch.autograd.graph.saved_tensors_hooks(pack, unpack),
        torch.autograd.graph.save_on_cpu(),
    ):
        module.zero_grad()
        arguments[0].grad = None
        if hooks is None:
            loss = loss_of(module, arguments)
        else:
            with hooks:
                loss = loss_of(module, arguments)
        loss.backward()
        found.append([arguments[0].grad, *(p.grad for p in module.parameters())])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)
    if kind not in ("MultiheadAttention", SDPA):
        rows = arguments[0].numel() // 32
        assert sum(seen) > 3 * 4 * 16 * rows  # x, y and at least one gate, of 16 units or more


@pytest.mark.parametrize("kind", KINDS)
def test_backward_twice(kind):
    """retain_graph=True keeps what is saved for any number of passes. After a pass without it the
    next raises PyTorch's own error, and calculates nothing from freed memory."""
    module, arguments = built(kind, size=32)
    loss = loss_of(module, arguments)
    found = []
    for retain in (True, True, False):
        module.zero_grad()
        arguments[0].grad = None
        loss.backward(retain_graph=retain)
        found.append([arguments[0].grad, *(p.grad.clone() for p in module.parameters())])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def masks():
    """Return every kind of argument that a backward pass of attention reads beside the heads."""
    generator = np.random.default_rng(3)
    whole = generator.random((2, 4, 8, 8)) < 0.6
    whole[..., 0] = True
    added = samples.normal(0, 2, 4, 8, 8)
    return {
        "bool": {"attn_mask": torch.from_numpy(whole)},
        "bool [S, K]": {"attn_mask": torch.from_numpy(whole[0, 0].copy())},
        "float": {"attn_mask": torch.from_numpy(added)},
        "float [S, K]": {"attn_mask": torch.from_numpy(added[0, 0].copy())},
        "lengths": {"lengths": torch.tensor([8, 3])},
    }


def change(tensor):
    if tensor.dtype is torch.bool:
        tensor.logical_not_()
    elif tensor.dtype.is_floating_point:
        tensor.mul_(-3)
    else:
        tensor.fill_(5)


INPLACE = "modified by an inplace operation"


@pytest.mark.parametrize("kind", masks())
def test_a_mask_that_changes_before_backward(kind):
    """A program fills one mask for all its batches, and does so before it goes backward: PyTorch's
    own error is raised, rather than gradients returned that belong to another mask."""
    options = masks()[kind]
    heads = torch.from_numpy(samples.normal(0, 2, 4, 8, 16)).requires_grad_()
    y = treadle.torch.scaled_dot_product_attention(heads, heads, heads, **options)
    change(next(iter(options.values())))
    with pytest.raises(RuntimeError, match=INPLACE):
        y.sum().backward()


@pytest.mark.parametrize("lengths", [[8, 3], np.array([8, 3]), np.array([8, 3], np.int32)])
def test_lengths_without_a_version_are_copied(lengths):
    """An array or a list does not tell PyTorch that it has changed. The gradients are those of the
    lengths that the call had."""
    found = []
    for changes in (False, True):
        heads = torch.from_numpy(samples.normal(0, 2, 4, 8, 16)).requires_grad_()
        own = copy.deepcopy(lengths)
        y = treadle.torch.scaled_dot_product_attention(heads, heads, heads, lengths=own)
        if changes:
            own[0] = 1
        y.sum().backward()
        found.append(heads.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_masks_of_multihead_attention_that_change_before_backward(name, dtype):
    """As with torch's module: either an error, or the gradients of the mask that the call had."""
    module = treadle.torch.MultiheadAttention(16, 4, batch_first=True)
    x = torch.from_numpy(samples.normal(0, 2, 5, 16)).requires_grad_()
    mask = torch.zeros((5, 5) if name == "attn_mask" else (2, 5), dtype=dtype)
    mask[:, 3:] = True if dtype is torch.bool else -1.5
    found = []
    for changes in (False, True):
        x.grad = None
        own = mask.clone()
        y, _ = module(x, x, x, need_weights=False, **{name: own})
        if changes:
            change(own)
        try:
            y.square().sum().backward()
        except RuntimeError as error:
            assert INPLACE in str(error)  # noqa: PT017 - an error is one of two right outcomes
        else:
            found.append(x.grad)
    assert found
    for other in found[1:]:
        assert torch.equal(found[0], other)


RECURRENT = ["x", "h_0", "c_0", "weight_hh_l0", "bias_ih_l0"]


@pytest.mark.parametrize("kind", [*SEQUENCES, "projection"])
@pytest.mark.parametrize("name", RECURRENT)
def test_arguments_of_recurrent_nets_that_change_before_backward(kind, name):
    """All that a recurrent net's backward pass reads is watched by the engine."""
    if kind == "projection":
        module, sizes = treadle.torch.LSTM(5, 9, proj_size=4), (4, 9)
    else:
        module, sizes = getattr(treadle.torch, kind)(5, 9), (9, 9)
    x = torch.from_numpy(samples.normal(0, 6, 3, 5))
    states = [torch.from_numpy(samples.normal(i, 1, 3, n)) for i, n in enumerate(sizes)]
    lstm = isinstance(module, treadle.torch.LSTM)
    if name == "c_0" and not lstm:
        pytest.skip("only an LSTM has c")
    y, _ = module(x, tuple(states) if lstm else states[0], lengths=[6, 2, 4])
    tensor = {"x": x, "h_0": states[0], "c_0": states[1]}.get(name)
    with torch.no_grad():
        change(getattr(module, name) if tensor is None else tensor)
    with pytest.raises(RuntimeError, match=INPLACE):
        y.sum().backward()


@pytest.mark.parametrize("make", [torch.tensor, np.array, list])
@pytest.mark.parametrize("kind", SEQUENCES)
def test_lengths_of_recurrent_nets_are_copied(kind, make):
    module = getattr(treadle.torch, kind)(5, 9)
    found = []
    for changes in (False, True):
        module.zero_grad()
        x = torch.from_numpy(samples.normal(0, 6, 3, 5)).requires_grad_()
        lengths = make([6, 2, 4])
        y, _ = module(x, lengths=lengths)
        if changes:
            lengths[0] = 1
        y.sum().backward()
        found.append([x.grad, *(p.grad.clone() for p in module.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", CELLS)
def test_arguments_of_cells_that_change_before_backward(kind):
    module = getattr(treadle.torch, kind)(5, 9)
    for place in (0, 1, 2)[: 2 + (kind == "LSTMCell")]:
        given = [torch.from_numpy(samples.normal(i, 3, n)) for i, n in enumerate((5, 9, 9))]
        end = flat(module(given[0], tuple(given[1:]) if kind == "LSTMCell" else given[1]))[0]
        change(given[place])
        with pytest.raises(RuntimeError, match=INPLACE):
            end.sum().backward()


def test_nothing_waits_for_the_garbage_collector():
    """A graph that is dropped without a backward pass is freed by counting references alone."""
    kept = [built(kind, size=32) for kind in KINDS]
    for module, arguments in kept:
        loss_of(module, arguments)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for module, arguments in kept:
            loss_of(module, arguments)
        assert gc.collect() == 0
    finally:
        gc.enable()
        gc.unfreeze()
