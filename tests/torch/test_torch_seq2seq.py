"""treadle.torch.Seq2Seq: the logits of treadle's own, PyTorch's gradients, and the way back."""

import copy

import numpy as np
import pytest
import torch

import treadle
import treadle.torch
from support import samples

WORDS, TOKENS, E, H = 30, 20, 8, 16
X = torch.tensor(np.random.default_rng(0).integers(0, WORDS, (4, 7)))
Y = torch.tensor(np.random.default_rng(1).integers(0, TOKENS, (4, 5)))
LENGTHS = [7, 3, 0, 5]
VARIANTS = [(None, False), ("dot", False), ("dot", True), ("general", False), ("additive", True)]


def pair(score=None, feeds=False, *, mode="GRU", kind="layer", bridge=False):
    net, layers = getattr(torch.nn, mode), 2 if kind == "layer" else 1
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(
        torch.nn.Embedding(WORDS, E),
        net(E, H // 2, layers, bidirectional=True, batch_first=True),
    )
    recurrent = net(E + H * feeds, H, layers, batch_first=True)
    if kind == "cell":
        recurrent = getattr(torch.nn, f"{mode}Cell")(E + H * feeds, H)
    decoder = torch.nn.Sequential(
        torch.nn.Embedding(TOKENS, E), recurrent, torch.nn.Dropout(0.0),
        torch.nn.Linear(H * (2 if score else 1), TOKENS),
    )  # fmt: skip
    return treadle.torch.Seq2Seq(encoder, decoder, score, bridge=bridge)


@pytest.mark.parametrize("mode", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("kind", ["layer", "cell"])
@pytest.mark.parametrize("bridge", [False, True])
@pytest.mark.parametrize(("score", "feeds"), VARIANTS)
def test_is_treadles(score, feeds, bridge, kind, mode):
    m = pair(score, feeds, mode=mode, kind=kind, bridge=bridge)
    ours = treadle.from_torch(m)
    assert type(ours) is treadle.Seq2Seq
    assert list(ours.state_dict()) == list(m.state_dict())
    found = m(X, Y, lengths=LENGTHS, output_attentions=score is not None)
    expected = ours(X, Y, lengths=LENGTHS, output_attentions=score is not None)
    for theirs, own in zip(*((r if score else (r,)) for r in (found, expected)), strict=True):
        np.testing.assert_allclose(theirs.detach().numpy(), own, rtol=0, atol=1e-5)
    np.testing.assert_allclose(m(X, Y).detach().numpy(), ours(X, Y), rtol=0, atol=1e-5)


class Plain(torch.nn.Module):
    """Luong's attention written with PyTorch alone, for one layer and one direction."""

    def __init__(self, m):
        super().__init__()
        words, gru = m.encoder
        tokens, net, _, last = m.decoder
        self.parts = torch.nn.ModuleList([words, gru, tokens, net, last])

    def forward(self, x, y):
        words, gru, tokens, net, last = self.parts
        memory, state = gru(words(x))
        outputs, _ = net(tokens(y), state)
        context = torch.nn.functional.scaled_dot_product_attention(
            outputs, memory, memory, scale=1.0
        )
        return last(torch.cat([outputs, context], 2))


def test_gradients_are_pytorchs():
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(
        torch.nn.Embedding(WORDS, E), torch.nn.GRU(E, H, batch_first=True)
    )
    decoder = torch.nn.Sequential(
        torch.nn.Embedding(TOKENS, E), torch.nn.GRU(E, H, batch_first=True), torch.nn.Identity(),
        torch.nn.Linear(2 * H, TOKENS),
    )  # fmt: skip
    m = treadle.torch.Seq2Seq(encoder, decoder, "dot")
    theirs = copy.deepcopy(Plain(m))
    treadle.torch.restore(theirs)
    assert isinstance(m.encoder[1], treadle.torch.GRU)
    assert type(theirs.parts[1]) is torch.nn.GRU
    for net in (m, theirs):
        logits = net(X, Y[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), Y[:, 1:].flatten()).backward()
    ours = dict(Plain(m).named_parameters())
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(ours[name].grad, parameter.grad, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("score", "feeds"), VARIANTS)
def test_every_parameter_learns_also_beside_a_row_without_positions(score, feeds):
    m = pair(score, feeds, bridge=True)
    m(X, Y, lengths=LENGTHS).square().mean().backward()
    for name, parameter in m.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_it_learns_to_repeat():
    """A few steps of training bring the loss down, and treadle writes what was learnt."""
    torch.manual_seed(0)
    m = pair("additive", True, bridge=True)
    optimizer = torch.optim.Adam(m.parameters(), lr=0.02)
    x = torch.tensor(np.random.default_rng(2).integers(3, TOKENS, (8, 4)))
    y = torch.cat([torch.full((8, 1), 1), x, torch.full((8, 1), 2)], 1)
    for _ in range(60):
        logits = m(x, y[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    options = {"decoder_start_token_id": 1, "eos_token_id": 2, "max_new_tokens": 6}
    assert np.array_equal(treadle.from_torch(m).generate(x, **options), y.numpy())


def test_pictures_and_kept_options():
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    decoder = torch.nn.Sequential(
        torch.nn.Embedding(TOKENS, E), torch.nn.LSTM(E + 6, H, batch_first=True),
        torch.nn.Linear(H + 6, TOKENS),
    )  # fmt: skip
    kept = {"decoder_start_token_id": 1, "bad_words_ids": [[3]]}
    m = treadle.torch.Seq2Seq(encoder, decoder, "general", bridge=True, generation=kept)
    x = samples.normal(0, 4, 3, 8, 6)
    ours = treadle.from_torch(m)
    assert ours.generation == {"decoder_start_token_id": 1, "bad_words_ids": ((3,),)}
    found, look = m(torch.from_numpy(x), Y, output_attentions=True)
    logits, probabilities = ours(x, Y, output_attentions=True)
    np.testing.assert_allclose(found.detach().numpy(), logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(look.detach().numpy(), probabilities, rtol=0, atol=1e-5)
    assert "attention='general', bridge=True" in repr(m)


def test_features_of_several_lengths():
    decoder = torch.nn.Sequential(
        torch.nn.Embedding(TOKENS, E), torch.nn.GRUCell(E, H), torch.nn.Linear(H + 6, TOKENS)
    )
    m = treadle.torch.Seq2Seq(None, decoder, "additive", memory_size=6, bridge=True)
    x = samples.normal(0, 4, 7, 6)
    found = m(torch.from_numpy(x), Y, lengths=LENGTHS)
    expected = treadle.from_torch(m)(x, Y, lengths=LENGTHS)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-5)


def test_refusals():
    m = pair()
    with pytest.raises(ValueError, match=r"^treadle\.Seq2Seq: decoder: 1 has input_size=24"):
        treadle.torch.Seq2Seq(m.encoder, pair("dot", True).decoder)
    with pytest.raises(TypeError, match=r"^treadle\.from_torch: module is of type"):
        treadle.torch.Seq2Seq(torch.nn.Bilinear(2, 2, 2), m.decoder)
    with pytest.raises(ValueError, match=r"^treadle\.torch\.Seq2Seq: output_attentions is True"):
        m(X, Y, output_attentions=True)
    with pytest.raises(ValueError, match=r"lengths has shape \(2,\), expected \[B\] with B = 4"):
        pair("dot")(X, Y, lengths=[1, 2])
    m.encoder[1].double()
    with pytest.raises(TypeError, match="float64"):
        treadle.from_torch(m)
