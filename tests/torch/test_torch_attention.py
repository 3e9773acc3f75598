"""treadle.torch's attention: the function, the module, Transformers' models, against PyTorch's."""

import copy
import warnings

import numpy as np
import pytest
import torch

import treadle.torch
from reference import attention as reference
from treadle.torch import fallback

attend = torch.nn.functional.scaled_dot_product_attention


@pytest.fixture(autouse=True)
def _nothing_warned(monkeypatch):
    monkeypatch.setattr(fallback, "_WARNED", set())
    torch.manual_seed(0)


def inputs(*shapes):
    return [torch.randn(*shape, requires_grad=True) for shape in shapes]


def both(ours, theirs, tensors):
    """Return pairs (ours, PyTorch's): the results, then the gradient of every tensor."""
    y, z = ours(), theirs()
    dy = torch.randn_like(z)
    return [(y, z), *zip(*(torch.autograd.grad(r, tensors, dy) for r in (y, z)), strict=True)]


def assert_alike(pairs):
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


QKV = (2, 4, 9, 16), (2, 4, 7, 16), (2, 4, 7, 8)
CALLS = {
    "plain": (QKV, {}),
    "causal": (QKV, {"is_causal": True}),
    "scale": (QKV, {"scale": 0.3}),
    "three-axes": (((3, 9, 16), (3, 7, 16), (3, 7, 8)), {}),
    "grouped": (((2, 4, 9, 16), (2, 2, 7, 16), (2, 2, 7, 16)), {"enable_gqa": True}),
    "bool": (QKV, {"attn_mask": torch.arange(63).view(9, 7) % 3 != 1}),
    "float": (QKV, {"attn_mask": torch.arange(63.0).view(9, 7).sin()}),
}


@pytest.mark.parametrize("case", CALLS)
def test_function(case):
    shapes, options = CALLS[case]
    given = inputs(*shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = both(
            lambda: treadle.torch.scaled_dot_product_attention(*given, **options),
            lambda: attend(*given, **options),
            given,
        )
        with torch.no_grad():
            assert torch.equal(
                treadle.torch.scaled_dot_product_attention(*given, **options), pairs[0][0]
            )
    assert_alike(pairs)


def test_views():
    """Views of a transposed [B, S, N, E], as models have them, need no copy, and their gradient has
    the right layout."""
    x = torch.randn(2, 9, 3, 4, 16, requires_grad=True)
    q, k, v = x.permute(2, 0, 3, 1, 4).unbind()
    call = lambda f: lambda: f(q, k, v).transpose(1, 2)
    assert_alike(both(call(treadle.torch.scaled_dot_product_attention), call(attend), [x]))
    assert treadle.torch.scaled_dot_product_attention(q, k, v).transpose(1, 2).is_contiguous()


def test_lengths_and_softcap():
    q, k, v = inputs(*QKV)
    seen = (torch.arange(7) < torch.tensor([7, 3])[:, None])[:, None, None]
    assert_alike(
        both(
            lambda: treadle.torch.scaled_dot_product_attention(q, k, v, lengths=[7, 3]),
            lambda: attend(q, k, v, attn_mask=seen),
            [q, k, v],
        )
    )
    s = 2.0 * torch.tanh(q @ k.mT / 4 / 2.0)
    ours = treadle.torch.scaled_dot_product_attention(q, k, v, softcap=2.0)
    torch.testing.assert_close(ours, s.softmax(-1) @ v, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("wants a gradient", {"attn_mask": torch.zeros(9, 7, requires_grad=True)}),
        ("torch.float64", {"dtype": torch.float64}),
        ("256", {"size": 257}),
    ],
)
def test_fallback(reason, options):
    options = dict(options)
    shapes = [(*shape[:3], options.get("size", shape[3])) for shape in QKV]
    options.pop("size", None)
    given = [x.to(options.get("dtype", torch.float32)) for x in inputs(*shapes)]
    options.pop("dtype", None)
    with pytest.warns(UserWarning, match=reason) as caught:
        y, _ = (treadle.torch.scaled_dot_product_attention(*given, **options) for _ in range(2))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    torch.testing.assert_close(y, attend(*given, **options))
    with pytest.raises(RuntimeError, match=reason):
        treadle.torch.scaled_dot_product_attention(*given, **options, lengths=[7, 3])


def dropped(seed, p, given, **options):
    """Return attention by PyTorch's softmax and the definition of what dropout keeps."""
    torch.manual_seed(seed)
    own = int(torch.randint(2**62, (1,)))
    q, k, v = given
    keep = reference.dropout(p, own, *q.shape[:3], k.shape[2])
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    return (weights * torch.from_numpy(keep.astype(np.float32))) @ v


@pytest.mark.parametrize("compiled", [False, True])
def test_dropout(compiled):
    given = inputs(*QKV)
    call = lambda *x: treadle.torch.scaled_dot_product_attention(*x, None, 0.4)
    call = torch.compile(call, fullgraph=True, backend="eager") if compiled else call

    def ours():
        torch.manual_seed(7)
        return call(*given)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "treadle")
        assert_alike(both(ours, lambda: dropped(7, 0.4, given), given))
        with torch.no_grad():
            assert torch.equal(ours(), ours())
            assert not torch.equal(call(*given), call(*given))


def test_dropout_and_checkpoints():
    """A block that is computed again drops the same attention probabilities."""
    given = inputs(*QKV)
    call = lambda *x: treadle.torch.scaled_dot_product_attention(*x, dropout_p=0.4).square().sum()
    results = []
    for run in (call, lambda *x: torch.utils.checkpoint.checkpoint(call, *x, use_reentrant=False)):
        torch.manual_seed(3)
        results.append(torch.autograd.grad(run(*given), given))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_dropout_refuses(p):
    with pytest.raises(ValueError, match="dropout_p"):
        treadle.torch.scaled_dot_product_attention(*inputs(*QKV), dropout_p=p)


def test_arguments_changed_before_the_backward_pass():
    q, k, v = inputs(*QKV)
    y = treadle.torch.scaled_dot_product_attention(q, k, v)
    with torch.no_grad():
        k.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_threads():
    given, before = (
        inputs((1, 3, 300, 32), (1, 3, 300, 32), (1, 3, 300, 32)),
        treadle.get_num_threads(),
    )
    results = []
    try:
        for n in (1, 2):
            treadle.set_num_threads(n)
            y = treadle.torch.scaled_dot_product_attention(*given)
            results.append([y, *torch.autograd.grad(y.square().sum(), given)])
    finally:
        treadle.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        (None, None, None, False, None, False, None, 0.0),
        (
            torch.arange(63).view(9, 7) % 3 != 1,
            torch.tensor([7, 3]),
            torch.tensor([5]),
            False,
            0.2,
            False,
            2.0,
            0.3,
        ),
        (None, None, None, True, None, False, None, 0.0),
    ],
    ids=["plain", "everything", "causal"],
)
def test_operator(options):
    torch.library.opcheck(torch.ops.treadle.attention.default, (*inputs(*QKV), *options))


def test_compile_and_export():
    given = inputs(*QKV)
    call = lambda q, k, v: treadle.torch.scaled_dot_product_attention(q, k, v, is_causal=True) * 2
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert_alike(both(lambda: compiled(*given), lambda: attend(*given, is_causal=True) * 2, given))

    class Model(torch.nn.Module):
        def forward(self, q, k, v):
            return call(q, k, v)

    exported = torch.export.export(Model(), tuple(x.detach() for x in given))
    assert "treadle.attention" in str(exported.graph)
    torch.testing.assert_close(exported.module()(*given), call(*given))


# The module.

MODULES = {
    "plain": {},
    "batch-first": {"batch_first": True},
    "no-bias": {"bias": False},
    "sizes": {"kdim": 10, "vdim": 12},
}


def pair(**options):
    theirs = torch.nn.MultiheadAttention(16, 4, **options)
    ours = treadle.torch.MultiheadAttention(16, 4, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("masks", ["none", "padding", "mask", "both", "floats", "mixed", "causal"])
@pytest.mark.parametrize("case", MODULES)
def test_module(case, masks):
    ours, theirs = pair(**MODULES[case])
    queries = 7 if masks == "causal" else 5
    rows = lambda n, size: (3, n, size) if theirs.batch_first else (n, 3, size)
    q, k, v = inputs(rows(queries, 16), rows(7, theirs.kdim), rows(7, theirs.vdim))
    padding, mask = torch.zeros(3, 7, dtype=torch.bool), torch.rand(queries, 7) > 0.7
    padding[1, 4:], mask[:, 0] = True, False
    floats = torch.randn(12, queries, 7)
    options = {
        "none": {},
        "padding": {"key_padding_mask": padding},
        "mask": {"attn_mask": mask},
        "both": {"key_padding_mask": padding, "attn_mask": mask},
        "floats": {"key_padding_mask": -3 * padding.float(), "attn_mask": floats},
        "mixed": {"key_padding_mask": padding, "attn_mask": floats},
        "causal": {"attn_mask": ~torch.ones(7, 7).tril().bool(), "is_causal": True},
    }[masks]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Support for mismatched")  # PyTorch's, of its own masks
        warnings.filterwarnings("error", "treadle")
        run = lambda m: m(q, k, v, need_weights=False, **options)[0]
        pairs = both(lambda: run(ours), lambda: run(theirs), [q, k, v])
        assert_alike(pairs)
        grads = [
            torch.autograd.grad(run(m).square().sum(), list(m.parameters()))
            for m in pair_of(ours, theirs)
        ]
    assert_alike(zip(*grads, strict=True))


def pair_of(ours, theirs):
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def test_module_without_a_batch():
    ours, theirs = pair()
    (x,) = inputs((5, 16))
    run = lambda m: m(x, x, x, need_weights=False)[0]
    assert_alike(both(lambda: run(ours), lambda: run(theirs), [x]))


def test_module_of_a_real_size():
    """Twelve heads of 64 make 768 floats: only a single head has a largest size."""
    theirs = torch.nn.MultiheadAttention(768, 12, batch_first=True)
    ours = treadle.torch.MultiheadAttention(768, 12, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 9, 768)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, _ = ours(x, x, x, need_weights=False)
    torch.testing.assert_close(y, theirs(x, x, x, need_weights=False)[0], rtol=1e-5, atol=2e-5)
    wide = treadle.torch.MultiheadAttention(514, 2)
    x = torch.randn(3, 1, 514)
    with pytest.warns(UserWarning, match="more than 256"):
        wide(x, x, x, need_weights=False)


@pytest.mark.parametrize(
    ("reason", "module", "call"),
    [
        ("need_weights", {}, {"need_weights": True}),
        ("add_bias_kv", {"add_bias_kv": True}, {}),
        ("add_bias_kv", {"add_zero_attn": True}, {}),
    ],
)
def test_module_falls_back(reason, module, call):
    ours, theirs = pair(**module)
    (x,) = inputs((5, 3, 16))
    call = {"need_weights": False} | call
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match=reason):
        y, weights = ours(x, x, x, **call)
    torch.manual_seed(1)
    z, others = theirs(x, x, x, **call)
    torch.testing.assert_close(y, z)
    assert (weights is None) == (others is None)


def test_module_refuses_as_torch_does():
    ours, _ = pair()
    x = torch.zeros(5, 3, 16)
    for wrong in (torch.zeros(5, 3, 17), torch.zeros(5, 2, 16), torch.zeros(5)):
        with (
            warnings.catch_warnings(action="ignore"),
            pytest.raises((AssertionError, RuntimeError)),
        ):
            ours(x, wrong, wrong, need_weights=False)


def test_accelerate_an_encoder():
    """PyTorch's encoder has the same losses in training when it is accelerated, and can be turned
    back."""
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    other = copy.deepcopy(model)
    report = treadle.torch.accelerate(model)
    assert list(report.replaced.values()) == ["MultiheadAttention"] * 2
    assert type(model.layers[0].self_attn) is treadle.torch.MultiheadAttention
    x, padding = torch.randn(3, 9, 16), torch.zeros(3, 9, dtype=torch.bool)
    padding[1, 5:] = True
    losses = []
    for m in (model, other):
        optimizer = torch.optim.SGD(m.parameters(), 0.1)
        for _ in range(10):
            optimizer.zero_grad()
            loss = m(x, src_key_padding_mask=padding)[~padding].square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:10] == pytest.approx(losses[10:], rel=1e-4)
    treadle.torch.restore(model)
    assert type(model.layers[0].self_attn) is torch.nn.MultiheadAttention


def test_from_torch_takes_the_module():
    ours, _ = pair(batch_first=True)
    x = torch.randn(3, 5, 16)
    y, _ = treadle.from_torch(ours)(x.numpy(), x.numpy(), x.numpy(), need_weights=False)
    torch.testing.assert_close(torch.from_numpy(y), ours(x, x, x, need_weights=False)[0])


# Transformers' models.

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
SMALL |= {"intermediate_size": 48}
CONFIGURATIONS = {
    "BertConfig": {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0},
    "LlamaConfig": {"num_key_value_heads": 2},
    "MistralConfig": {"num_key_value_heads": 2, "sliding_window": 6, "head_dim": 8},
    "Gemma2Config": {"num_key_value_heads": 2, "sliding_window": 6, "head_dim": 8},
}


@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_models_of_transformers(kind, padding):
    """Padding, causality, windows, grouped heads and caps give what Transformers' own code
    gives."""
    transformers = pytest.importorskip("transformers")
    treadle.torch.register_attention()
    configuration = getattr(transformers, kind)(**SMALL, **CONFIGURATIONS[kind])
    models = [
        transformers.AutoModel.from_config(copy.deepcopy(configuration), attn_implementation=name)
        for name in ("treadle", "eager")
    ]
    models[0].load_state_dict(models[1].state_dict())
    ids, mask = torch.randint(0, 50, (3, 17)), torch.ones(3, 17, dtype=torch.long)
    if padding == "right":
        mask[1, 9:] = 0
    if padding == "left":
        mask[1, :5] = 0
    given = {"input_ids": ids, "attention_mask": None if padding == "none" else mask}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "treadle")
        results = [m.train()(**given).last_hidden_state * mask[..., None] for m in models]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    dy = torch.randn_like(results[0])
    gradients = []
    for model, y in zip(models, results, strict=True):
        (y * dy).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for ours, theirs in zip(*gradients, strict=True):
        size = max(1.0, theirs.abs().max().item())
        torch.testing.assert_close(ours / size, theirs / size, rtol=1e-4, atol=2e-5)


def test_models_with_dropout():
    """BERT with the dropout of its configuration trains on treadle's kernel and drops other
    probabilities in every step."""
    transformers = pytest.importorskip("transformers")
    treadle.torch.register_attention()
    configuration = transformers.BertConfig(**SMALL, hidden_dropout_prob=0.0)
    model = transformers.AutoModel.from_config(configuration, attn_implementation="treadle")
    ids = torch.randint(0, 50, (3, 17))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "treadle")
        first, second = (model.train()(input_ids=ids).last_hidden_state for _ in range(2))
        first.sum().backward()
    assert not torch.equal(first, second)
    assert torch.equal(*(model.eval()(input_ids=ids).last_hidden_state for _ in range(2)))


def test_module_with_dropout():
    """The module drops only in training, by torch's seed."""
    ours, theirs = pair(dropout=0.5)
    (x,) = inputs((5, 3, 16))

    def run(seed):
        torch.manual_seed(seed)
        return ours(x, x, x, need_weights=False)[0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(run(1), run(1))
        assert not torch.equal(run(1), run(2))
        ours.eval()
        y = run(1)
    torch.testing.assert_close(y, theirs.eval()(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("name", ["flash_treadle", "", None, 3])
def test_names_that_mean_something_else(name):
    with pytest.raises(ValueError, match="flash"):
        treadle.torch.register_attention(name)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "operator"])
def test_hidden_keys_hold_anything(compiled):
    """NaN behind a mask reaches neither results nor gradients (pytorch/pytorch#101967, #41508)."""
    q, k, v = inputs(*QKV)
    mask = torch.ones(9, 7, dtype=torch.bool)
    mask[:, 4] = False
    mask[:5, 2] = False
    clean = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    with torch.no_grad():
        k[:, :, 4], v[:, :, 4] = torch.nan, torch.inf

    def run(q, k, v):
        return treadle.torch.scaled_dot_product_attention(q, k, v, mask)

    call = torch.compile(run, backend="aot_eager") if compiled else run
    expected, y = run(*clean), call(q, k, v)
    assert torch.equal(y, expected)
    dy = torch.randn_like(y)
    for actual, right in zip(
        torch.autograd.grad(y, (q, k, v), dy), torch.autograd.grad(expected, clean, dy), strict=True
    ):
        assert torch.equal(actual, right)
