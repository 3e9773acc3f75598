"""Seq2Seq against its definition, and the promise that a row's bits depend on nothing around it."""

import copy
import pickle

import numpy as np
import pytest

import treadle
from reference import seq2seq as reference
from support import samples
from support.checks import CELLS, MODULES
from support.tolerance import assert_close, assert_same_bits

WORDS, TOKENS, E = 30, 20, 8
SCORES = [None, "dot", "general", "additive"]
X = np.random.default_rng(0).integers(0, WORDS, (4, 9))
Y = np.random.default_rng(1).integers(0, TOKENS, (4, 5))
LENGTHS = [9, 3, 0, 7]


def pair(score, *, mode="gru", size=32, layers=2, feeds=False, bridge=False, decoder_mode=None):
    """A bidirectional encoder and a decoder of `size` numbers."""
    cls, other = MODULES[mode], MODULES[decoder_mode or mode]
    encoder = treadle.Sequential(
        treadle.Embedding(WORDS, E, seed=0),
        cls(E, size // 2, layers, bidirectional=True, batch_first=True, seed=0),
    )
    decoder = treadle.Sequential(
        treadle.Embedding(TOKENS, E, seed=1),
        other(E + feeds * size, size, layers, batch_first=True, seed=1),
        treadle.Linear(size * (2 if score else 1), TOKENS, seed=1),
    )
    return treadle.Seq2Seq(encoder, decoder, score, bridge=bridge, seed=2)


def said(m, x=X, tokens=Y, lengths=LENGTHS):
    """The logits and, with attention, the probabilities."""
    if m.attention is None:
        return (m(x, tokens, lengths=lengths),)
    return m(x, tokens, lengths=lengths, output_attentions=True)


VARIANTS = [
    (score, feeds, bridge)
    for score in SCORES
    for feeds in (False, True)
    for bridge in (False, True)
    if score or not feeds
]


@pytest.mark.parametrize("mode", samples.MODES)
@pytest.mark.parametrize(("score", "feeds", "bridge"), VARIANTS)
def test_is_what_the_definition_says(isa, mode, score, feeds, bridge):
    m = pair(score, mode=mode, feeds=feeds, bridge=bridge)
    nets = reference.Nets(mode, 2, 2)
    arguments = (m.state_dict(), X, Y, nets, score)
    exact, rounded = (
        reference.seq2seq(*arguments, lengths=LENGTHS, bridge=bridge, dtype=dtype)
        for dtype in (np.float64, np.float32)
    )
    found = said(m)
    assert_close(found, exact[: len(found)], rounded[: len(found)])


@pytest.mark.parametrize("score", ["dot", "general", "additive"])
@pytest.mark.parametrize("size", [254, 256, 258, 600])
def test_sizes_beyond_a_head_of_the_kernel(isa, score, size):
    m = pair(score, size=size, layers=1)
    arguments = (m.state_dict(), X, Y, reference.Nets("gru", 1, 2), score)
    exact, rounded = (
        reference.seq2seq(*arguments, lengths=LENGTHS, dtype=dtype)
        for dtype in (np.float64, np.float32)
    )
    assert_close(said(m), exact, rounded)
    assert_same_bits(m(X[1:2, :3], Y[1:2]), m(X, Y, lengths=LENGTHS)[1:2])


def test_other_nets_behind_a_bridge():
    """A state without c, or of another size, is no obstacle there; an LSTM's h serves a GRU."""
    m = pair("general", mode="gru", decoder_mode="lstm", bridge=True)
    nets = reference.Nets("gru", 2, 2, "lstm")
    exact, rounded = (
        reference.seq2seq(m.state_dict(), X, Y, nets, "general", bridge=True, dtype=dtype)
        for dtype in (np.float64, np.float32)
    )
    assert_close(said(m, lengths=None), exact, rounded)
    m = pair(None, mode="lstm", decoder_mode="gru")
    nets = reference.Nets("lstm", 2, 2, "gru")
    exact, rounded = (
        reference.seq2seq(m.state_dict(), X, Y, nets, dtype=dtype)[:1]
        for dtype in (np.float64, np.float32)
    )
    assert_close(said(m, lengths=None), exact, rounded)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("score", "feeds", "bridge"), VARIANTS)
def test_a_row_is_the_same_alone_in_a_batch_and_step_by_step(
    isa, threads, score, feeds, bridge, dtype
):
    m = pair(score, mode="lstm", feeds=feeds, bridge=bridge).to(dtype)
    logits, *looks = said(m)
    for row, length in enumerate(LENGTHS):
        alone = said(m, X[row : row + 1, :length], Y[row : row + 1], None)
        assert_same_bits(alone[0], logits[row : row + 1])
        if looks:
            assert_same_bits(alone[1], looks[0][row : row + 1, :, :length])
            assert not looks[0][row, :, length:].any()
    order = np.array([3, 1, 0, 2])
    assert_same_bits(said(m, X[order], Y[order], np.array(LENGTHS)[order])[0], logits[order])
    decoding, first = m.decoding(X, Y[:, :2], lengths=LENGTHS)
    assert_same_bits(first, logits[:, 1])
    assert_same_bits(decoding.step(Y[:, 2]), logits[:, 2])
    rows = np.array([1, 1, 3])  # a beam of two, a row that stays alone, two that have ended
    decoding.reorder(rows)
    assert_same_bits(decoding.step(Y[rows, 3]), logits[rows, 3])
    decoding.reorder(np.array([2, 0]))
    assert_same_bits(decoding.step(Y[[3, 1], 4]), logits[[3, 1], 4])


@pytest.mark.parametrize("mode", samples.MODES)
def test_a_cell_is_a_layer(mode):
    m = pair("additive", mode=mode, layers=1, feeds=True)
    cell = CELLS[mode](E + 32, 32)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in m.decoder[1].state_dict().items()})
    decoder = treadle.Sequential(m.decoder[0], cell, m.decoder[2])
    other = treadle.Seq2Seq(m.encoder, decoder, "additive", seed=2)
    for ours, theirs in zip(said(other), said(m), strict=True):
        assert_same_bits(ours, theirs)
    decoding, _ = other.decoding(X, Y[:, :1])
    decoding.reorder(np.array([2, 0]))
    assert_same_bits(decoding.step(Y[[2, 0], 1]), m(X, Y)[[2, 0], 1])


def test_output_layers_may_be_several():
    """Luong's attentional state: tanh(W [h, context])."""
    m = pair("general")
    first = treadle.Linear(64, 12, activation="tanh", seed=3)
    last = treadle.Linear(12, TOKENS, seed=4)
    inner = treadle.Sequential(m.decoder[1], treadle.Sequential(first, treadle.Identity()))
    other = treadle.Seq2Seq(m.encoder, treadle.Sequential(m.decoder[0], inner, last), "general")
    other.attention_memory.load_state_dict(m.attention_memory.state_dict())
    memory, final = m.encoder[1](m.encoder[0](X))
    h = final.reshape(2, 2, 4, 16).transpose(0, 2, 1, 3).reshape(2, 4, 32)
    y, _ = m.decoder[1](m.decoder[0](Y), np.ascontiguousarray(h))
    keys = m.attention_memory(memory)
    context = treadle.functional.scaled_dot_product_attention(y, keys, memory, scale=1.0)
    expected = last(first(np.concatenate([y, context], axis=2)))
    assert_same_bits(other(X, Y), expected)


def captioner(attention, bridge, encoder=None, **options):
    decoder = treadle.Sequential(
        treadle.Embedding(TOKENS, E, seed=1),
        treadle.LSTM(E + 6 * (attention is not None), 10, batch_first=True, seed=1),
        treadle.Linear(10 + 6 * (attention is not None), TOKENS, seed=1),
    )
    return treadle.Seq2Seq(encoder, decoder, attention, bridge=bridge, seed=2, **options)


def test_pictures_are_positions(isa):
    """A convolution's output [B, C, H, W] is a memory of H W positions of C numbers."""
    images = samples.normal(0, 4, 3, 8, 6)
    encoder = treadle.Sequential(
        treadle.Conv2d(3, 6, 3, padding=1, seed=0), treadle.ReLU(), treadle.MaxPool2d(2)
    )
    m = captioner("additive", True, encoder)
    features = encoder(images).reshape(4, 6, 12).transpose(0, 2, 1)
    other = captioner("additive", True, memory_size=6)
    assert_same_bits(said(m, images, lengths=None), said(other, features, lengths=None))
    assert said(m, images, lengths=None)[1].shape == (4, 5, 12)
    assert_same_bits(m(images[2:3], Y[2:3]), m(images, Y)[2:3])
    for row, length in enumerate(LENGTHS):  # of features there may be fewer in some rows
        alone = other(features[row : row + 1, :length], Y[row : row + 1])
        assert_same_bits(alone, other(features, Y, lengths=LENGTHS)[row : row + 1])
    with pytest.raises(ValueError, match=r"lengths are given and the encoder has a Conv2d, which"):
        m(images, Y, lengths=LENGTHS)


def test_a_vector_is_an_initial_state():
    """Show and Tell: a vector or the mean of the positions is all that the decoder is told."""
    x = samples.normal(0, 4, 7, 6)
    m = captioner(None, True, memory_size=6)
    mean = np.stack([np.add.reduce(row, axis=0) / np.float32(7) for row in x])
    assert_same_bits(m(x, Y), m(mean, Y))
    state = np.tanh(mean @ m.initial_state.weight.T + m.initial_state.bias)
    h, c = (np.ascontiguousarray(part)[None] for part in np.split(state, 2, axis=1))
    y, _ = m.decoder[1](m.decoder[0](Y), (h, c))
    np.testing.assert_allclose(m(mean, Y), m.decoder[2](y), rtol=1e-4, atol=1e-5)


def test_without_a_bridge_the_first_state_of_features_is_zero():
    x = samples.normal(0, 4, 7, 6)
    m = captioner("additive", False, memory_size=6)
    zeros = {k: np.zeros_like(v) for k, v in captioner("additive", True, memory_size=6)
             .initial_state.state_dict().items()}  # fmt: skip
    other = captioner("additive", True, memory_size=6)
    other.initial_state.load_state_dict(zeros)
    assert_same_bits(m(x, Y), other(x, Y))


WAYS = {
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "to": lambda m: m.to("float32"),
}


@pytest.mark.parametrize("way", [*WAYS.values(), None], ids=[*WAYS, "file"])
@pytest.mark.parametrize("score", SCORES)
def test_copies_and_files(way, score, tmp_path):
    m = pair(score, bridge=True)
    m = m if way is not WAYS["to"] else m.to({"encoder": "float32"})
    if way is None:
        treadle.save(m, tmp_path / "model.safetensors")
        other = treadle.load(tmp_path / "model.safetensors")
    else:
        other = way(m)
    assert repr(other) == repr(m)
    assert_same_bits(said(other), said(m))
    before = said(m)
    other.load_state_dict({k: -v for k, v in other.state_dict().items()})
    assert_same_bits(said(m), before)
    assert not np.array_equal(said(other)[0], before[0])


def test_parameters_are_named_after_their_modules():
    m = pair("additive", bridge=True)
    assert m.initial_state.weight.shape == (64, 32)
    own = [n for n in m.state_dict() if not n.startswith(("encoder.", "decoder."))]
    assert own == [
        *("attention_query.weight", "attention_memory.weight", "attention_memory.bias"),
        *("attention_score.weight", "initial_state.weight", "initial_state.bias"),
    ]
    assert "encoder.1.weight_hh_l1_reverse" in m.state_dict()
    assert m.encoder[0] is m.encoder["0"]
    assert m.num_parameters == sum(v.size for v in m.state_dict().values())
    for name in ("encoder", "attention_query", "bridge"):
        with pytest.raises(AttributeError, match=f"{name} belongs to the configuration"):
            setattr(m, name, None)


def test_dtypes_by_name():
    m = pair("additive", bridge=True)
    mixed = m.to({"default": "int8", "encoder": "bfloat16"}, keep="initial_state")
    assert mixed.dtype == {
        "encoder": "bfloat16", "decoder": "int8", "attention_query": "int8",
        "attention_memory": "int8", "attention_score": "int8", "initial_state": "float32",
    }  # fmt: skip
    assert treadle.Seq2Seq(m.encoder, m.decoder, "additive", dtype="int8").dtype["encoder"] == (
        "float32"
    )
    assert m.to("int8", keep=["decoder"]).decoder.dtype == "float32"
    with pytest.raises(ValueError, match=r"Seq2Seq\.to: dtype has the name 'nosuch'"):
        m.to({"nosuch": "int8"})
