"""DecoderStack: what does not fit is refused at the border, and changes nothing."""

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import treadle
from support import child, memory, stacks
from support.stacks import LAYERS, H, V, joined
from support.tolerance import assert_same_bits
from treadle.layers.block_spec import BlockSpec
from treadle.layers.decoder_stack import DecoderStack


def made(family="gpt2", **changes):
    specs, weights = stacks.make(family, **changes)
    return DecoderStack(specs, weights, vocabulary=V)


def started(stack, rows=2, tokens=3, **options):
    state = stack.start(rows, **options)
    parts = [np.arange(tokens + r) for r in range(rows)]
    stack.extend(state, *joined(parts))
    return state


# -- weights and specs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("embed.weight", None, ValueError, "embed.weight"),
        ("embed.weight", np.zeros((V + 1, H), np.float32), ValueError, "shape"),
        ("embed.weight", np.zeros((V, H)), TypeError, "float32"),
        ("embed.weight", "abc", TypeError, "embed.weight"),
        ("layers.1.linear2.weight", None, ValueError, "layers.1.linear2.weight"),
        ("layers.0.linear1.weight", np.zeros((3, H), np.float32), ValueError, "linear1"),
        ("layers.0.norm_ff.weight", None, ValueError, "norm_ff"),
        ("layers.0.norm_ff.bias", np.zeros(H + 1, np.float32), ValueError, "norm_ff.bias"),
        (f"layers.{LAYERS}.linear1.weight", np.zeros(1), ValueError, "does not have"),
        ("layers.0.q_norm.weight", np.zeros(9, np.float32), ValueError, "does not have"),
        ("layers.0.cross_attn.in_proj.weight", np.zeros(1), ValueError, "does not have"),
        ("positions.weight", np.zeros((0, H), np.float32), ValueError, "P"),
        ("positions.weight", np.zeros((4, H + 1), np.float32), ValueError, "positions.weight"),
        ("head.weight", np.zeros((V, 3), np.float32), ValueError, "head.weight"),
        ("embed_scale", float("nan"), ValueError, "embed_scale"),
        ("logit_softcap", "x", TypeError, "logit_softcap"),
        (7, np.zeros(1), ValueError, "does not have"),
    ],
)
def test_weights_that_lie(name, value, error, text):
    specs, weights = stacks.make("gpt2")
    weights[name] = value
    if value is None:
        del weights[name]
    with pytest.raises(error, match=text):
        DecoderStack(specs, weights, vocabulary=V)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"specs": []}, ValueError, "0 layers"),
        ({"specs": [None]}, TypeError, "BlockSpecs"),
        ({"specs": 3}, TypeError, "BlockSpecs"),
        ({"weights": []}, TypeError, "mapping"),
        ({"vocabulary": 0}, ValueError, "vocabulary"),
        ({"vocabulary": V + 1}, ValueError, "embed.weight"),
        ({"vocabulary": 2**31 - 1}, ValueError, "embed.weight"),
        ({"dtype": "float16"}, ValueError, "dtype"),
    ],
)
def test_arguments_of_a_stack(changes, error, text):
    specs, weights = stacks.make("gpt2")
    arguments = {"specs": specs, "weights": weights, "vocabulary": V} | changes
    with pytest.raises(error, match=text):
        DecoderStack(arguments.pop("specs"), arguments.pop("weights"), **arguments)


def test_layers_of_other_sizes():
    specs, weights = stacks.make("gpt2")
    other = BlockSpec(**stacks.SIZES | {"feed_forward": 8})
    with pytest.raises(ValueError, match=r"specs\[1\] has feed_forward 8, expected 50"):
        DecoderStack([specs[0], other], weights, vocabulary=V)


@pytest.mark.parametrize("shape", [(7, 4), (8, 3)])
def test_wrong_relative_bias(shape):
    specs, weights = stacks.make("t5")
    weights["relative_bias"] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="relative_bias"):
        DecoderStack(specs, weights, vocabulary=V)


# -- calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "lengths", "error"),
    [
        ([V, 0], [1, 1], ValueError),
        ([-1, 0], [1, 1], ValueError),
        ([2**62, 0], [1, 1], ValueError),
        ([0.5, 1.0], [1, 1], TypeError),
        ([[1, 2]], [1, 1], ValueError),
        ([1, 2], [1], ValueError),
        ([1, 2], [1, 1, 0], ValueError),
        ([1, 2], [2, 1], ValueError),
        ([1, 2], [3, -1], ValueError),
        ([1, 2], [2**62, 2**62], ValueError),
        ([0] * 76, [38, 38], ValueError),  # 3 + 38 tokens for 40 positions
        ("ab", [1, 1], TypeError),
        (None, [1, 1], TypeError),
    ],
)
def test_wrong_tokens(tokens, lengths, error):
    stack = made()
    state = started(stack)
    expected = stack.step(state.copy(), [5, 6])
    with pytest.raises(error, match=r"DecoderStack\.extend"):
        stack.extend(state, tokens, lengths)
    assert state.lengths.tolist() == [3, 4]
    assert_same_bits(stack.step(state, [5, 6]), expected)


@pytest.mark.parametrize("tokens", [[1], [1, 2, 3], [], [V, 1], [1, -1], ["a", "b"]])
def test_wrong_steps(tokens):
    stack = made()
    state = started(stack)
    for call in (stack.step, lambda *a: stack.step_best(*a, 3)):
        with pytest.raises((ValueError, TypeError), match=r"DecoderStack\.step"):
            call(state, tokens)
    assert state.lengths.tolist() == [3, 4]


@pytest.mark.parametrize("k", [0, -1, V + 1, 2**40, 1.5, True])
def test_wrong_k(k):
    stack = made()
    with pytest.raises((ValueError, TypeError), match="k is"):
        stack.step_best(started(stack), [1, 2], k)


def test_positions_end():
    stack = made()  # of 40 positions
    state = stack.start(1)
    stack.extend(state, np.zeros(40, np.int64), [40])
    with pytest.raises(ValueError, match="41 tokens, expected at most 40"):
        stack.step(state, [1])
    with pytest.raises(ValueError, match="positions"):
        stack.encode(np.zeros(41, np.int64), [41])
    state.truncate([39])
    stack.step(state, [1])


@pytest.mark.parametrize("rows", [[2], [-1], [0, 2**62], [0.5], [[0]], "a"])
def test_wrong_rows(rows):
    stack = made()
    state = started(stack)
    with pytest.raises((ValueError, TypeError), match=r"DecoderState\.reorder"):
        state.reorder(rows)
    assert state.lengths.tolist() == [3, 4]


@pytest.mark.parametrize("lengths", [[4, 1], [1], [1, 1, 1], [-1, 1], [2**62, 0], [0.0, 1.0]])
def test_wrong_lengths(lengths):
    stack = made()
    state = started(stack)
    with pytest.raises((ValueError, TypeError), match=r"DecoderState\.truncate"):
        state.truncate(lengths)
    assert state.lengths.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("rows", "options", "error"),
    [
        (-1, {}, ValueError),
        (2**31, {}, ValueError),
        (1.0, {}, TypeError),
        (1, {"capacity": -1}, ValueError),
        (1, {"capacity": 2**40}, ValueError),
        (2**30, {"capacity": 2**31 - 1}, ValueError),
        (1, {"dtype": "float16"}, ValueError),
        (1, {"memory": (np.zeros((1, H), np.float32), [1])}, ValueError),
    ],
)
def test_wrong_starts(rows, options, error):
    with pytest.raises(error, match=r"DecoderStack\.start"):
        made().start(rows, **options)


@pytest.mark.parametrize(
    ("memory", "error"),
    [
        (None, ValueError),
        (3, TypeError),
        ((np.zeros((3, H), np.float32),), TypeError),
        ((np.zeros((3, H), np.float32), [3]), ValueError),
        ((np.zeros((3, H), np.float32), [1, 1]), ValueError),
        ((np.zeros((3, H), np.float32), [4, -1]), ValueError),
        ((np.zeros((3, H + 1), np.float32), [1, 2]), ValueError),
        ((np.zeros((3, H)), [1, 2]), TypeError),
    ],
)
def test_wrong_memory(memory, error):
    with pytest.raises(error, match=r"DecoderStack\.start"):
        made("bart").start(2, memory)


def test_states_belong_to_a_stack():
    one, other = made(), made()
    with pytest.raises(ValueError, match="another stack"):
        other.step(started(one), [1, 2])
    with pytest.raises(TypeError, match="DecoderState"):
        one.step(None, [1, 2])
    with pytest.raises(ValueError, match="not causal"):
        made("marian encoder").start(1)
    with pytest.raises(ValueError, match="cross attention"):
        made("bart").encode([1, 2], [2])


def test_memory_that_is_empty():
    """A row whose memory has no token attends to nothing."""
    stack = made("bart")
    state = stack.start(2, (np.ones((2, H), np.float32), [0, 2]))
    y = stack.step(state, [1, 1])
    alone = stack.start(1, (np.ones((0, H), np.float32), [0]))
    assert_same_bits(stack.step(alone, [1])[0], y[0])
    assert np.isfinite(y).all()


def test_numbers_that_are_not_finite():
    """NaN in one row's embedding stays in that row."""
    specs, weights = stacks.make("llama")
    clean = DecoderStack(specs, weights, vocabulary=V)
    weights["embed.weight"] = weights["embed.weight"].copy()
    weights["embed.weight"][7] = np.nan
    stack = DecoderStack(specs, weights, vocabulary=V)
    states = [s.start(2) for s in (stack, clean)]
    y, expected = (s.step(state, [1, 7]) for s, state in zip((stack, clean), states, strict=True))
    assert_same_bits(y[0], expected[0])
    assert np.isnan(y[1]).all()
    ids, _, lse = stack.step_best(states[0], [2, 3], V)
    assert sorted(ids[1].tolist()) == list(range(V))
    assert np.isnan(lse[1])


def test_growth_costs_no_bits():
    stack = made("llama")
    small, large = (stack.start(2, capacity=n) for n in (0, 100))
    for i in range(60):
        assert_same_bits(stack.step(small, [i % V, 3]), stack.step(large, [i % V, 3]))
    assert large.capacity == 100
    assert 60 <= small.capacity < 120
    assert copy.copy(small).lengths.tolist() == copy.deepcopy(large).lengths.tolist() == [60, 60]


def test_two_threads_and_one_state():
    """Steps of one state take turns; nothing is lost."""
    stack = made("llama")
    state = stack.start(1)

    def work(_):
        for _ in range(50):
            stack.step(state, [1])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert state.lengths.tolist() == [200]


def test_native_objects_have_no_empty_form():
    for cls in (treadle._core.Decoder, treadle._core.DecoderState):
        with pytest.raises(TypeError):
            cls()
        for base in cls.__mro__:
            with pytest.raises(TypeError):
                base.__new__(cls)


def test_memory_is_flat():
    """Generations leave nothing behind, errors in the middle of them included."""
    stack = made("bart")
    rows, lengths = np.ones((9, H), np.float32), np.array([5, 4])

    def generate():
        state = stack.start(2, (rows, lengths))
        stack.extend(state, np.arange(8), [3, 5])
        for _ in range(3):
            state.reorder([0, 0, 1, 1, 1])
            stack.step_best(state, [1, 2, 3, 4, 5], 4)
            with pytest.raises(ValueError, match="tokens"):
                stack.step(state.copy(), [V] * 5)
            state.reorder([4, 1])

    for _ in range(20):
        generate()
    before = memory.allocated()
    for _ in range(300):
        generate()
    # That is less than 64 bytes for each of them; their smallest array has more.
    assert memory.allocated() - before < 300 * 64


INTERRUPTED = """
import signal, time, numpy as np
from support import stacks
from treadle.layers.decoder_stack import DecoderStack
specs, weights = stacks.make("llama", hidden=stacks.H)
stack = DecoderStack(specs, weights, vocabulary=stacks.V)
state = stack.start(200)
tokens, lengths = np.zeros(200 * 500, np.int64), np.full(200, 500)
stack.extend(state, tokens[:200], np.ones(200, np.int64))
signal.setitimer(signal.ITIMER_REAL, 0.05)
def stop(*_): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, stop)
begun = time.perf_counter()
try:
    for _ in range(100):
        stack.extend(state, tokens, lengths)
except KeyboardInterrupt:
    waited = time.perf_counter() - begun
assert len(set(state.lengths.tolist())) == 1 and state.lengths[0] % 500 == 1, state.lengths
assert waited < 5, waited
stack.step(state, np.zeros(200, np.int64))
print("interrupted")
"""


def test_ctrl_c():
    tests = Path(__file__).resolve().parent.parent
    code = f"import sys; sys.path.insert(0, {str(tests)!r})" + INTERRUPTED
    assert "interrupted" in child.succeed(code)
