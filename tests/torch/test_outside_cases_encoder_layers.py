"""PyTorch's encoders, accelerated, run on treadle's attention in eval, too, where PyTorch's fast
path would go around it, and their results are PyTorch's.

Programs of PyTorch's tutorials: a TransformerEncoder with batch_first in eval under no_grad.
"""

import copy
import pickle
import warnings

import pytest
import torch

import treadle.torch
from treadle.torch import multihead

pytestmark = pytest.mark.filterwarnings("ignore:.*nested tensor")


@pytest.fixture
def calls(monkeypatch):
    """Collect the patterns of all calls of treadle's attention."""
    found = []
    theirs = multihead.attend

    def attend(query, key, value, mask, lengths, options, recorded):
        found.append((mask, lengths, options.is_causal))
        return theirs(query, key, value, mask, lengths, options, recorded)

    monkeypatch.setattr(multihead, "attend", attend)
    return found


def layer(**options):
    torch.manual_seed(0)
    given = {"batch_first": True, "dim_feedforward": 32, **options}
    return torch.nn.TransformerEncoderLayer(16, 4, **given).eval()


def encoder(nested=True, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # norm_first and nested tensors
        return torch.nn.TransformerEncoder(layer(**options), 2, enable_nested_tensor=nested).eval()


def batch(left=False):
    x = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[1, 4:] = True
    padding[2, 2:] = True
    return x, padding.flip(1) if left else padding


def both(model):
    """Return the model on treadle and on PyTorch."""
    theirs = copy.deepcopy(model)
    assert treadle.torch.accelerate(model).replaced
    return model, theirs


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_layer(context, activation, norm_first, calls):
    ours, theirs = both(layer(activation=activation, norm_first=norm_first))
    x, padding = batch()
    causal = torch.nn.Transformer.generate_square_subsequent_mask(7)
    windows = torch.ones(7, 7, dtype=torch.bool).tril(-3)
    with context():
        for given in (
            {},
            {"src_key_padding_mask": padding},
            {"src_mask": causal, "is_causal": True},
            {"src_mask": causal},
            {"src_mask": windows},
        ):
            calls.clear()
            y, expected = ours(x, **given), theirs(x, **given)
            assert len(calls) == 1
            exists = ~padding if "src_key_padding_mask" in given else torch.ones(3, 7).bool()
            torch.testing.assert_close(y[exists], expected[exists], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder(nested, left, norm_first, calls):
    """The padding, too, is what PyTorch makes of it: zeros where it has made a nested tensor."""
    ours, theirs = both(encoder(nested, norm_first=norm_first))
    x, padding = batch(left)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("error", "treadle")
        for given in ({}, {"src_key_padding_mask": padding}):
            calls.clear()
            y, expected = ours(x, **given), theirs(x, **given)
            assert len(calls) == 2
            same = torch.ones(3, 7).bool() if nested or not given else ~padding
            torch.testing.assert_close(y[same], expected[same], rtol=1e-4, atol=1e-5)


def test_lengths_are_recognised(calls):
    """Padding on the right and the causal mask are not read for every query."""
    ours, _ = both(encoder(nested=False))
    x, padding = batch()
    causal = torch.nn.Transformer.generate_square_subsequent_mask(7)
    with torch.no_grad():
        ours(x, src_key_padding_mask=padding)
        ours(x, mask=causal, is_causal=False)
    assert [(mask, is_causal) for mask, _, is_causal in calls] == [(None, False)] * 2 + [
        (None, True)
    ] * 2
    assert [list(lengths) for _, lengths, _ in calls[:2]] == [[7, 4, 2]] * 2


def test_a_layer_takes_a_nested_tensor(calls):
    ours, theirs = both(layer())
    rows = [torch.randn(n, 16, generator=torch.Generator().manual_seed(n)) for n in (5, 1, 9)]
    x = torch.nested.nested_tensor(rows)
    with torch.no_grad():
        y, expected = ours(x), theirs(x)
    assert y.is_nested
    assert len(calls) == 1
    for a, b in zip(y.unbind(), expected.unbind(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_subclass_of_the_layer(calls):
    class Own(torch.nn.TransformerEncoderLayer):
        def forward(self, src, **more):
            return super().forward(2 * src, **more)

    torch.manual_seed(0)
    ours, theirs = both(Own(16, 4, 32, batch_first=True).eval())
    x, _ = batch()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert len(calls) == 1


def test_attention_alone(calls):
    ours, theirs = both(torch.nn.MultiheadAttention(16, 4, batch_first=True).eval())
    x, padding = batch()
    with torch.no_grad():
        given = {"key_padding_mask": padding, "need_weights": False}
        y, expected = ours(x, x, x, **given)[0], theirs(x, x, x, **given)[0]
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == 1


def test_restored(calls):
    """The fast path is back after restore, and a copy or a pickle before it has treadle's way."""
    ours, theirs = both(encoder())
    before = [m.activation_relu_or_gelu for m in theirs.layers]
    x, padding = batch()
    with torch.no_grad():
        for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            calls.clear()
            copied(x, src_key_padding_mask=padding)
            assert len(calls) == 2
        treadle.torch.restore(ours)
        assert [m.activation_relu_or_gelu for m in ours.layers] == before
        calls.clear()
        y, expected = (m(x, src_key_padding_mask=padding) for m in (ours, theirs))
    assert torch.equal(y, expected)
    assert not calls


def test_compiled(calls):
    ours, theirs = both(encoder(nested=False))
    compiled = torch.compile(ours, backend="aot_eager")
    x, padding = batch()
    with torch.no_grad():
        y, expected = (m(x, src_key_padding_mask=padding) for m in (compiled, theirs))
    torch.testing.assert_close(y[~padding], expected[~padding], rtol=1e-4, atol=1e-5)
    assert calls
