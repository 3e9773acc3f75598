"""Memory in training programs of other people: what is saved for a backward pass, by whom it is
seen, when it is freed. Bytes are counted, never time."""

import copy
import gc
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import treadle
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


def resizes(tensor):
    """Grow, fill by ``out=`` and free the storage of a tensor, as programs with one buffer do."""
    size = tensor.numel()
    with torch.no_grad():
        tensor.resize_(2 * size + 1000)
        torch.mul(torch.ones(3 * size + 2000), 2, out=tensor.resize_(0))
        storage = tensor.untyped_storage()
        storage.resize_(0)
        storage.resize_(4 * size)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "MultiheadAttention"])
def test_storages_stay_resizable(kind, grad):
    """A call takes nothing away from the storages of its arguments and weights: a program may reuse
    its buffers by ``resize_`` and ``out=`` (torch.Tensor.numpy() forbids that for good)."""
    module, arguments = built(kind, size=16)
    given = [a.detach().clone().requires_grad_(grad) for a in arguments]
    module.requires_grad_(grad)
    with torch.set_grad_enabled(grad):
        results = flat(module(*given))
    if grad:
        sum(r.square().sum() for r in results).backward()
    state = torch.zeros(1, 16, 16)
    if kind in ("GRU", "RNN"):
        module(given[0], state)
    for tensor in (*(a.detach() for a in given), state, *(p.data for p in module.parameters())):
        resizes(tensor)


def test_storages_of_masks_and_lengths_stay_resizable():
    heads = torch.ones(2, 4, 8, 16, requires_grad=True)
    for kind in masks():
        options = {name: tensor.clone() for name, tensor in masks()[kind].items()}
        treadle.torch.scaled_dot_product_attention(heads, heads, heads, **options).sum().backward()
        next(iter(options.values())).resize_(5000)
    lengths = torch.tensor([5, 2])
    treadle.torch.GRU(5, 9)(torch.zeros(6, 2, 5), lengths=lengths)
    lengths.resize_(5000)


def test_arrays_of_numpy_layers_leave_storages_resizable():
    """treadle's own layers and functions take tensors, too."""
    for dtype in (torch.float32, torch.bfloat16):
        x, state = torch.zeros(6, 2, 5, dtype=dtype), torch.zeros(1, 2, 9, dtype=dtype)
        treadle.GRU(5, 9)(x, state, lengths=torch.tensor([5, 2]))
        q = torch.zeros(2, 4, 8, 16, dtype=dtype)
        treadle.functional.scaled_dot_product_attention(q, q, q)
        for tensor in (x, state, q):
            tensor.resize_(5000)


def test_a_buffer_that_grows_from_call_to_call():
    """The numbers are read from where they lie in each call."""
    module = treadle.torch.GRU(5, 9).requires_grad_(False)
    buffer, fresh = torch.empty(0), treadle.torch.GRU(5, 9).requires_grad_(False)
    fresh.load_state_dict(module.state_dict())
    for steps in (3, 40, 7, 400):
        x = torch.from_numpy(samples.normal(steps, steps, 2, 5))
        torch.mul(x, 1, out=buffer.resize_(0))
        assert torch.equal(module(buffer)[0], fresh(x)[0])


def test_weights_whose_storage_moves():
    """Weights are read where they lie, after their storage was freed and allocated anew."""
    module = treadle.torch.GRU(5, 9).requires_grad_(False)
    x, kept = torch.ones(4, 2, 5), []
    expected = module(x)[0]
    for _ in range(4):
        values = [p.clone() for p in module.parameters()]
        for parameter in module.parameters():
            parameter.untyped_storage().resize_(0)
        kept.append(torch.zeros(27 * 9))  # takes the memory that was freed
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.untyped_storage().resize_(value.nbytes)
            parameter.copy_(value)
        assert torch.equal(module(x)[0], expected)


@pytest.mark.filterwarnings("ignore:treadle.torch")
@pytest.mark.parametrize("size", [0, 4, 400])
def test_weights_whose_storage_is_too_small(size):
    """A call raises, and reads no memory beyond a storage."""
    module = treadle.torch.GRU(5, 9).requires_grad_(False)
    module(torch.ones(4, 2, 5))
    module.weight_hh_l0.untyped_storage().resize_(size)
    with pytest.raises((TypeError, RuntimeError), match="storage"):
        module(torch.ones(4, 2, 5))


class Impostor:
    is_cpu, dtype, layout, shape = True, torch.float32, torch.strided, (10**9,)
    stride, data_ptr, untyped_storage = (lambda self: (1,)), (lambda self: 8), (lambda self: self)


@pytest.mark.parametrize(
    "wrong",
    [
        None, 3, np.zeros(3), Impostor(), torch.float32, torch.zeros(3, device="meta"),
        torch.zeros(3).to_sparse(), torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(3, dtype=torch.complex64),
    ],
    ids=range(9),
)  # fmt: skip
def test_memory_is_taken_of_plain_tensors_alone(wrong):
    """The native function raises TypeError for all else, also for what looks like a tensor."""
    with pytest.raises(TypeError, match=r"^tensor_array: "):
        treadle._core.tensor_array(wrong)


SHARDED = """
import sys
import torch
from torch.distributed.fsdp import fully_shard
import treadle.torch

torch.distributed.init_process_group("gloo", f"file://{sys.argv[1]}", rank=0, world_size=1)
mesh = torch.distributed.init_device_mesh("cpu", (1,))
found = []
for accelerates in (False, True):
    torch.manual_seed(0)
    model = torch.nn.ModuleList(
        [torch.nn.LSTM(5, 16), torch.nn.GRU(16, 8), torch.nn.MultiheadAttention(8, 2)]
    )
    x = torch.randn(6, 3, 5)
    if accelerates:
        assert len(treadle.torch.accelerate(model).replaced) == 3
        model[0](x)[0].sum().backward()
        model.zero_grad()
    for module in model:
        fully_shard(module, mesh=mesh)
        assert isinstance(module, (torch.nn.LSTM, torch.nn.GRU, torch.nn.MultiheadAttention))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        y = model[1](model[0](x)[0])[0]
        loss = model[2](y, y, y, need_weights=False)[0].square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    found.append(losses)
print(found)
torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)
assert found[0][0] != found[0][-1]
torch.distributed.destroy_process_group()
"""


def test_fully_shard_after_accelerate(tmp_path):
    """FSDP2 frees the storages of weights after each pass, and makes a class of each module."""
    run = subprocess.run(
        [sys.executable, "-c", SHARDED, str(tmp_path / "store")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
