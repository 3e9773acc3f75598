"""DecoderStack: prompts and steps are the definition; a row's bits do not depend on its company."""

import numpy as np
import pytest

import treadle
from reference import decoder as reference
from reference.formats import bfloat16, product_int8
from support import stacks
from support.stacks import Batch, H, V, joined
from support.tolerance import assert_close, assert_same_bits
from treadle.layers.decoder_stack import DecoderStack

FAMILIES = tuple(stacks.FAMILIES)


def made(family, dtype="float32", **changes):
    specs, weights = stacks.make(family, **changes)
    return DecoderStack(specs, weights, vocabulary=V, dtype=dtype), specs, weights


def prompted(stack, batch, new, rows=None, **options):
    """A state after all but the last ``new`` tokens, and the hidden states of each sequence."""
    rows = range(len(batch.tokens)) if rows is None else rows
    state = batch.start(stack, rows, **options)
    tokens, lengths = joined([batch.tokens[r][: len(batch.tokens[r]) - new] for r in rows])
    hidden = stack.extend(state, tokens, lengths)
    return state, np.split(hidden, np.cumsum(lengths)[:-1])


def stepped(stack, batch, new, rows=None, **options):
    """The hidden states of the prompts, and the logits [R, V] of each step after them."""
    rows = range(len(batch.tokens)) if rows is None else rows
    state, hidden = prompted(stack, batch, new, rows, **options)
    logits = [
        stack.step(state, np.array([batch.tokens[r][i - new] for r in rows])) for i in range(new)
    ]
    return hidden, logits


def assert_defined(stack, specs, weights, batch, new=4, rounded=None, **options):
    hidden, logits = stepped(stack, batch, new, **options)
    for row, tokens in enumerate(batch.tokens):
        first = len(tokens) - new
        actual = [hidden[row], np.array([step[row] for step in logits]).reshape(new, V)]

        def part(run, first=first):
            return [run[0][:first], run[1][first:]]

        exact = part(batch.exact(specs, weights, row))
        near = part((rounded or batch.exact)(specs, weights, row, np.float32))
        assert_close(actual, exact, near, cell=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_and_steps(isa, threads, family):
    stack, specs, weights = made(family)
    assert_defined(stack, specs, weights, Batch(specs, (11, 7, 16, 5)))


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_sizes_of_whole_vectors(isa, family):
    stack, specs, weights = made(family, head_size=16, feed_forward=64)
    assert_defined(stack, specs, weights, Batch(specs, (11, 7, 16, 5)))


@pytest.mark.parametrize("family", ["gemma", "qwen3", "bart", "t5"])
def test_many_tokens(threads, family):
    """Groups of sequences, chunks of keys and tables grow with the tokens."""
    stack, specs, weights = made(family, **({"P": 400} if family == "bart" else {}))
    assert_defined(stack, specs, weights, Batch(specs, (300, 40, 150, 6), (300, 1, 20, 5)), 3)


@pytest.mark.parametrize("family", tuple(stacks.ENCODERS))
def test_encode(isa, threads, family):
    stack, specs, weights = made(family)
    batch = Batch(specs, (7, 1, 33, 3))
    tokens, lengths = joined(batch.tokens)
    y = np.split(stack.encode(tokens, lengths), np.cumsum(lengths)[:-1])
    for row, found in enumerate(y):
        exact = batch.exact(specs, weights, row)
        near = batch.exact(specs, weights, row, np.float32)
        assert_close([found, stack.logits(found)], exact, near, cell=True)
        assert_same_bits(stack.encode(batch.tokens[row], [len(found)]), found)
    assert stack.encode(np.zeros(0, np.int64), [0, 0]).shape == (0, H)


@pytest.mark.parametrize("family", ["gpt2", "bart", "gemma", "t5 encoder"])
def test_states(isa, threads, family):
    """The hidden states before and after each layer, before the final norm."""
    stack, specs, weights = made(family)
    batch = Batch(specs, (11, 7))
    tokens, lengths = joined(batch.tokens)
    found = []
    if specs[0].causal:
        hidden = stack.extend(batch.start(stack), tokens, lengths, states=found)
    else:
        hidden = stack.encode(tokens, lengths, states=found)
    assert len(found) == len(specs) + 1
    for row, own in enumerate((slice(0, 11), slice(11, 18))):
        memory = None if batch.memory is None else batch.memory[row]
        exact, near = (
            reference.stack(specs, weights, batch.tokens[row], memory, dtype=dtype)
            for dtype in (np.float64, np.float32)
        )
        for ours, truth, theirs in zip(
            [*found, hidden],
            [*exact.states, exact.hidden],
            [*near.states, near.hidden],
            strict=True,
        ):
            assert_close([ours[own]], [truth], [theirs], cell=True)


@pytest.mark.parametrize("family", ["gpt2", "bart", "gemma", "t5", "t5 encoder"])
def test_attentions(isa, threads, family):
    """The probabilities of each layer, zero where a sequence has no token."""
    stack, specs, weights = made(family, **({"P": 150} if family in ("gpt2", "bart") else {}))
    batch, sizes = Batch(specs, (150, 7, 9)), (150, 7, 9)
    tokens, lengths = joined(batch.tokens)
    found, cross = [], []
    if specs[0].causal:
        state = batch.start(stack)
        hidden = stack.extend(state, tokens, lengths, attentions=found, cross_attentions=cross)
        assert_same_bits(hidden, stack.extend(batch.start(stack), tokens, lengths))
    else:
        stack.encode(tokens, lengths, attentions=found)
    assert len(found) == len(specs)
    assert len(cross) == (len(specs) if specs[0].cross_attention else 0)
    compared = [], [], []  # ours, exact, in float32
    for row, size in enumerate(sizes):
        memory = None if batch.memory is None else batch.memory[row]
        exact, near = (
            reference.stack(specs, weights, batch.tokens[row], memory, dtype=dtype)
            for dtype in (np.float64, np.float32)
        )
        for ours, truth, theirs in zip(found, exact.attentions, near.attentions, strict=True):
            assert ours.shape == (3, 4, 150, 150)
            for list_, y in zip(compared, (ours[row, :, :size, :size], truth, theirs), strict=True):
                list_.append(y.ravel())
            assert not ours[row, :, size:].any()
            assert not ours[row, :, :, size:].any()
        for ours, truth, theirs in zip(cross, exact.cross, near.cross, strict=True):
            keys = len(memory)
            for list_, y in zip(compared, (ours[row, :, :size, :keys], truth, theirs), strict=True):
                list_.append(y.ravel())
            assert not ours[row, :, :, keys:].any()
    assert_close(*([np.concatenate(parts)] for parts in compared), cell=True)
    if not specs[0].causal:
        return
    state.truncate([149, 6, 8])
    last, of_memory = [], []
    final = [t[-1] for t in batch.tokens]
    stack.extend(state, final, [1, 1, 1], attentions=last, cross_attentions=of_memory)
    for ours, whole in zip([*last, *of_memory], [*found, *cross], strict=True):
        for row, size in enumerate(sizes):
            assert_same_bits(ours[row, :, 0], whole[row, :, size - 1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_shared_embedding(isa, dtype):
    """An encoder reads the embedding that its decoder has packed, head bias and all."""
    decoder, _, shared = made("bart", dtype)
    specs, weights = stacks.make("marian encoder")
    weights["embed.weight"] = shared["embed.weight"]
    own = DecoderStack(specs, weights, vocabulary=V, dtype=dtype)
    del weights["embed.weight"]
    other = DecoderStack(specs, weights, vocabulary=V, dtype=dtype, embedding=decoder)
    tokens, lengths = joined(Batch(specs).tokens)
    assert_same_bits(other.encode(tokens, lengths), own.encode(tokens, lengths))
    with pytest.raises(ValueError, match=r"head\.weight"):
        other.logits(np.zeros((1, H), np.float32))
    for wrong in ({"vocabulary": V + 1}, {"dtype": "bfloat16" if dtype == "int8" else "int8"}):
        options = {"vocabulary": V, "dtype": dtype, "embedding": decoder} | wrong
        weights.pop("head.bias", None)
        with pytest.raises(ValueError, match="embedding"):
            DecoderStack(specs, weights, **options)
    with pytest.raises(TypeError, match="embedding"):
        DecoderStack(specs, weights, vocabulary=V, embedding=weights)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_beams_of_one_memory(isa, threads, family, dtype):
    """Rows that see the same memory have the bits that they have alone."""
    stack, specs, _ = made(family)
    batch = Batch(specs, (6, 4, 5), (40, 300, 7))
    state, _ = prompted(stack, batch, 0, dtype=dtype)
    rows, tokens = [0] * 3 + [1] * 9 + [2] + [0] * 2, np.arange(15)
    expected = []
    for row, token in zip(rows, tokens, strict=True):
        alone, _ = prompted(stack, batch, 0, [row], dtype=dtype)
        expected.append(stack.step(alone, [token])[0])
    state.reorder(rows)
    assert_same_bits(stack.step(state, tokens), np.array(expected))


# -- low precision -------------------------------------------------------------------------------


def rounded_by(dtype, monkeypatch):
    """The definition whose products round their rows and weights as ``dtype`` does."""

    def product(x, w):
        if dtype == "int8":
            return product_int8(x.astype(np.float32), w).astype(np.float32)
        return bfloat16(x).astype(np.float32) @ bfloat16(w).T

    def linear(layer, x, name, rows=slice(None)):
        w, bias = layer.weights[f"{name}.weight"], layer.weights.get(f"{name}.bias")
        return product(x, w[rows]) + (0 if bias is None else bias[rows])

    def run(batch, specs, weights, row, _):
        memory = None if batch.memory is None else batch.memory[row]
        with monkeypatch.context() as patch:
            patch.setattr(reference._Layer, "linear", linear)
            hidden = reference.stack(
                specs, weights, batch.tokens[row], memory, dtype=np.float32
            ).hidden
        logits = product(hidden, weights.get("head.weight", weights["embed.weight"]))
        return hidden.astype(np.float32), (logits + weights.get("head.bias", 0)).astype(np.float32)

    return run


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bart", "mistral"])
def test_low_precision(isa, threads, family, dtype, monkeypatch):
    stack, specs, weights = made(family, dtype)
    batch, run = Batch(specs, (11, 7, 16, 5)), rounded_by(dtype, monkeypatch)
    assert_defined(stack, specs, weights, batch, rounded=lambda *arguments: run(batch, *arguments))
    assert stack.weight_bytes < made(family)[0].weight_bytes * 0.8


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_stored_weights_are_taken_as_they_are(dtype):
    """Weights that come in the dtype have the bits of those that are rounded here."""
    from treadle._storage.formats import encode

    stack, specs, weights = made("llama", dtype)
    stored = {
        name: encode(value, dtype) if getattr(value, "ndim", 0) == 2 else value
        for name, value in weights.items()
    }
    other = DecoderStack(specs, stored, vocabulary=V, dtype=dtype)
    batch = Batch(specs, (9, 6))
    assert_same_bits(stepped(other, batch, 2), stepped(stack, batch, 2))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("family", ["llama", "bart"])
def test_caches_of_low_precision(isa, threads, family, dtype):
    """Keys and values are rounded: at most a unit of the dtype's, in units of the largest."""
    stack, specs, _ = made(family)
    batch = Batch(specs, (11, 7, 16, 5))
    (_, exact), (_, found) = (stepped(stack, batch, 3, dtype=d) for d in ("float32", dtype))
    error = np.abs(np.array(exact) - np.array(found)).max() / np.abs(exact).max()
    assert 0 < error < 2 * len(specs) * (2.0**-8 if dtype == "bfloat16" else 1 / 127)
    for row in range(4):
        _, alone = stepped(stack, batch, 3, [row], dtype=dtype)
        assert_same_bits([step[0] for step in alone], [step[row] for step in found])


# -- bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bits_of_a_row(family, dtype):
    """Alone, in a batch, at any place, with one thread and with two."""
    stack, specs, _ = made(family, dtype)
    batch = Batch(specs, (11, 7, 16, 5))
    before = treadle.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            treadle.set_num_threads(threads)
            for rows in ([0, 1, 2, 3], [3, 1, 0, 2], [0], [1], [2], [3], [2, 2, 0, 1, 3, 1, 0]):
                results.append((rows, *stepped(stack, batch, 3, rows)))
    finally:
        treadle.set_num_threads(before)
    _, hidden, logits = results[0]
    for rows, other, steps in results[1:]:
        for place, row in enumerate(rows):
            assert_same_bits(other[place], hidden[row])
            assert_same_bits([s[place] for s in steps], [s[row] for s in logits])


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_in_pieces(family):
    """Pieces of five tokens and more are one prompt; so are pieces of at most four."""
    stack, specs, _ = made(family)
    batch = Batch(specs, (20,), (6,))

    def run(pieces):
        state, at, found = batch.start(stack), 0, []
        for n in pieces:
            found.append(stack.extend(state, batch.tokens[0][at : at + n], [n]))
            at += n
        return np.concatenate(found)

    whole = run([20])
    assert_same_bits(run([5, 6, 9]), whole)
    assert_same_bits(run([15, 5]), whole)
    one_by_one = run([1] * 20)
    assert_same_bits(run([4, 3, 1, 2, 4, 4, 2]), one_by_one)
    state = batch.start(stack)
    steps = [stack.step(state, batch.tokens[0][i : i + 1])[0] for i in range(20)]
    assert_same_bits(np.array(steps), stack.logits(one_by_one))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_reorder_truncate_copy(threads, family, dtype):
    stack, specs, _ = made(family)
    batch = Batch(specs, (11, 7, 16, 5))
    state, _ = prompted(stack, batch, 2, dtype=dtype)
    tokens = np.arange(10, 17)

    def alone(row, token, length=None):
        own, _ = prompted(stack, batch, 2, [row], dtype=dtype)
        if length is not None:
            own.truncate([length])
        return stack.step(own, [token])[0]

    for rows in ([0, 0, 1, 3, 3, 3, 2], [2, 1, 0, 3], [1, 0, 3, 2], [3], [1, 2, 2], [0, 1, 2, 3]):
        moved = state.copy()
        moved.reorder(rows)
        assert moved.lengths.tolist() == [state.lengths[r] for r in rows]
        y = stack.step(moved, tokens[: len(rows)])
        for place, row in enumerate(rows):
            assert_same_bits(y[place], alone(row, tokens[place]))
    chain = state.copy()
    chain.reorder([0, 1, 2, 3, 0, 1, 2, 3])
    chain.reorder([7, 6, 4, 4])
    chain.reorder([1, 3, 0])
    for place, row in enumerate([2, 0, 3]):
        assert_same_bits(stack.step(chain.copy(), tokens[:3])[place], alone(row, tokens[place]))
    cut = state.copy()
    cut.truncate([4, 1, 10, 0])
    y = stack.step(cut, tokens[:4])
    for row, length in enumerate([4, 1, 10, 0]):
        assert_same_bits(y[row], alone(row, tokens[row], length))
    state.reorder([])
    assert stack.step(state, np.zeros(0, np.int64)).shape == (0, V)


def test_step_best(isa, threads):
    stack, specs, _ = made("gpt2")
    batch = Batch(specs, (6, 5, 9))
    state, _ = prompted(stack, batch, 1)
    tokens = [1, 2, 3]
    logits = stack.step(state.copy(), tokens)
    for k in (1, 2, 7, V):
        ids, values, lse = stack.step_best(state.copy(), tokens, k)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        assert ids.dtype == np.int64
        np.testing.assert_array_equal(ids, order)
        assert_same_bits(values, np.take_along_axis(logits, order, 1))
        exact = np.log(np.exp(logits.astype(np.float64)).sum(axis=1))
        np.testing.assert_allclose(lse, exact, rtol=(V + 4) * np.finfo(np.float32).eps)
    ids, values, _ = stack.step_best(state.copy(), tokens, 4)
    assert_same_bits(stack.step_best(state, tokens, 4)[1], values)
    assert state.lengths.tolist() == [6, 5, 9]
