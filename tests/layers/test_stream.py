"""Stream: carried state, by steps and in chunks, against the reference and the whole sequence."""

import numpy as np
import pytest

import treadle
from reference import recurrent as reference
from support import samples
from support.checks import make_module
from support.tolerance import assert_same_bits, assert_sequence, flatten

CASES = {
    "rnn": ("rnn", {}),
    "rnn-relu-L2": ("rnn", {"num_layers": 2, "nonlinearity": "relu"}),
    "lstm": ("lstm", {}),
    "lstm-L3": ("lstm", {"num_layers": 3}),
    "lstm-P": ("lstm", {"num_layers": 2, "proj_size": 5}),
    "lstm-nobias": ("lstm", {"bias": False, "activation": "softsign"}),
    "gru": ("gru", {}),
    "gru-L3": ("gru", {"num_layers": 3}),
    "gru-before": ("gru", {"num_layers": 2, "reset_after": False}),
}
every_case = pytest.mark.parametrize("case", CASES)


def make_stream(case, batch=3, hidden=20, **more):
    mode, options = CASES[case]
    module, parameters = make_module(mode, 6, hidden, **options, **more)
    return mode, module, parameters, module.stream(batch)


def state_for(case, batch=3, hidden=20, seed=5):
    mode, options = CASES[case]
    return samples.states(
        mode, [options.get("num_layers", 1)], batch, hidden,
        proj_size=options.get("proj_size", 0), seed=seed,
    )  # fmt: skip


@every_case
@pytest.mark.parametrize("batch", [1, 2, 7, 17], ids=lambda b: f"B{b}")
def test_steps_are_the_reference(isa, case, batch):
    mode, _, parameters, stream = make_stream(case, batch)
    x = samples.normal(3, 9, batch, 6)
    y = np.stack([stream.step(x_t) for x_t in x])
    options = {k: v for k, v in CASES[case][1].items() if k not in ("bias", "proj_size")}
    assert_sequence((y, stream.state), reference.module, mode, parameters, x, **options)


@every_case
@pytest.mark.parametrize("batch", [1, 3, 19], ids=lambda b: f"B{b}")
def test_steps_and_chunks_are_the_sequence(isa, threads, case, batch):
    """Bit for bit, in any mixture of step and run."""
    _, module, _, stream = make_stream(case, batch)
    x = samples.normal(3, 40, batch, 6)
    y, final = module(x)
    parts, at = [], 0
    for length in (1, 1, 7, 1, 16, 2, 0, 12):
        chunk = x[at : at + length]
        parts.append(stream.step(chunk[0])[None] if length == 1 else stream.run(chunk))
        at += length
    assert at == 40
    assert_same_bits(np.concatenate(parts), y)
    assert_same_bits(stream.state, final)


@every_case
def test_a_new_stream_is_at_zero(case):
    *_, stream = make_stream(case)
    for part in flatten(stream.state):
        assert_same_bits(part, np.zeros_like(part))


@every_case
def test_set_state(isa, case):
    _, module, _, stream = make_stream(case)
    x, state = samples.normal(3, 5, 3, 6), state_for(case)
    stream.state = state
    assert_same_bits(stream.state, state)
    assert_same_bits(stream.run(x), module(x, state)[0])


def test_state_is_a_copy(isa):
    for case in CASES:
        *_, stream = make_stream(case)
        state = state_for(case)
        stream.state = state
        before = [part.copy() for part in flatten(stream.state)]
        for part in flatten(state):
            part[:] = 99
        for part in flatten(stream.state):
            part[:] = 99
        assert_same_bits(stream.state, before)


@every_case
def test_out(isa, case):
    """The result lands in the caller's array, which is returned; the bits are the same."""
    _, module, _, stream = make_stream(case)
    twin = module.stream(3)
    x = samples.normal(3, 4, 3, 6)
    out = np.empty_like(stream.step(x[0]))
    twin.step(x[0])
    for x_t in x[1:]:
        assert stream.step(x_t, out=out) is out
        assert_same_bits(out, twin.step(x_t))


@every_case
def test_results_are_not_reused(case):
    *_, stream = make_stream(case)
    x = samples.normal(3, 2, 3, 6)
    first = stream.step(x[0])
    kept = first.copy()
    stream.step(x[1])
    assert_same_bits(first, kept)


ROWS = {
    "numbers": [0, 2],
    "array": np.array([2, 0]),
    "int32": np.array([0, 2], np.int32),
    "bools": [True, False, True],
    "bool-array": np.array([True, False, True]),
    "other-bytes": np.array([2, 0, 255], np.uint8).view(bool),
    "strided": np.array([True, True, False, True, True])[::2],
    "integer": np.array([0, 1, 2, 1])[::2],
}


@every_case
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_reset_rows(case, rows):
    """Only the named rows return to zero; the others keep their bits."""
    *_, stream = make_stream(case)
    stream.run(samples.normal(3, 5, 3, 6))
    before = [part.copy() for part in flatten(stream.state)]
    stream.reset(rows)
    for part, kept in zip(flatten(stream.state), before, strict=True):
        assert_same_bits(part[:, [0, 2]], np.zeros_like(part[:, [0, 2]]))
        assert_same_bits(part[:, 1], kept[:, 1])


@every_case
def test_reset_all(case):
    *_, stream = make_stream(case)
    x = samples.normal(3, 5, 3, 6)
    first = stream.run(x)
    stream.reset()
    assert_same_bits(stream.run(x), first)


@every_case
def test_reset_to_a_state(case):
    *_, stream = make_stream(case)
    stream.run(samples.normal(3, 5, 3, 6))
    before = [part.copy() for part in flatten(stream.state)]
    state = state_for(case)
    stream.reset([1], state)
    for part, kept, given in zip(flatten(stream.state), before, flatten(state), strict=True):
        assert_same_bits(part[:, 1], given[:, 1])
        assert_same_bits(part[:, [0, 2]], kept[:, [0, 2]])
    stream.reset(state=state)
    assert_same_bits(stream.state, state)


@every_case
def test_reset_of_no_row(case):
    *_, stream = make_stream(case)
    stream.run(samples.normal(3, 5, 3, 6))
    before = [part.copy() for part in flatten(stream.state)]
    stream.reset([])
    stream.reset([False, False, False])
    assert_same_bits(stream.state, before)


@every_case
def test_streams_of_a_module_are_independent(case):
    _, module, _, stream = make_stream(case)
    x = samples.normal(3, 8, 3, 6)
    other = module.stream(3)
    expected = stream.run(x)
    stream.reset()
    interleaved = []
    for x_t in x:
        interleaved.append(stream.step(x_t))
        other.step(-x_t)
    assert_same_bits(np.stack(interleaved), expected)


@every_case
def test_a_stream_keeps_the_weights_it_began_with(case):
    _, module, parameters, stream = make_stream(case)
    x = samples.normal(3, 4, 3, 6)
    expected = module(x)[0]
    module.load_state_dict({name: weight * 0 for name, weight in parameters.items()})
    assert_same_bits(stream.run(x), expected)
    assert_same_bits(module.stream(3).run(x), module(x)[0])
    assert not np.array_equal(module(x)[0], expected)


@every_case
def test_a_stream_outlives_its_module(case):
    _, module, _, stream = make_stream(case)
    x = samples.normal(3, 4, 3, 6)
    expected = module(x)[0]
    del module
    assert_same_bits(stream.run(x), expected)


def test_a_batch_of_rows_is_the_rows_alone(isa):
    for case in CASES:
        _, module, _, stream = make_stream(case, batch=7)
        x = samples.normal(3, 5, 7, 6)
        together = stream.run(x)
        for row in (0, 3, 6):
            alone = module.stream()
            assert_same_bits(together[:, row : row + 1], alone.run(x[:, row : row + 1]))


@pytest.mark.parametrize("mode", samples.MODES)
def test_batch_first_does_not_concern_streams(mode):
    """A chunk is [T, B, I] whatever the module's layout: a step has no time to put second."""
    module, _ = make_module(mode, 6, 20, batch_first=True)
    x = samples.normal(3, 5, 3, 6)
    assert_same_bits(module.stream(3).run(x), module(x.swapaxes(0, 1))[0].swapaxes(0, 1))


@pytest.mark.parametrize("mode", samples.MODES)
def test_bidirectional_has_no_stream(mode):
    module, _ = make_module(mode, 6, 20, bidirectional=True)
    with pytest.raises(ValueError, match=r"stream.*bidirectional"):
        module.stream()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_row_stays_alone_and_can_be_reset(isa, value):
    for case in CASES:
        _, module, _, stream = make_stream(case)
        twin = module.stream(3)
        x = samples.normal(3, 6, 3, 6)
        bad = x.copy()
        bad[1, 1, 2] = value
        expected, actual = twin.run(x[:3]), stream.run(bad[:3])
        assert_same_bits(actual[:, [0, 2]], expected[:, [0, 2]])
        stream.reset([1])
        twin.reset([1])
        assert_same_bits(stream.run(x[3:]), twin.run(x[3:]))


def test_input_is_only_read():
    for case in CASES:
        *_, stream = make_stream(case)
        x = samples.normal(3, 4, 3, 6)
        x.flags.writeable = False
        stream.run(x)
        stream.step(x[0])


WRONG = {
    "rank": np.zeros((3, 6, 1, 1), np.float32),
    "batch": np.zeros((2, 6), np.float32),
    "input": np.zeros((3, 7), np.float32),
    "dtype": np.zeros((3, 6)),
    "integers": np.zeros((3, 6), int),
    "none": None,
    "text": "abc",
    "object": object(),
}


@pytest.mark.parametrize("method", ["step", "run"])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_input_leaves_the_stream_as_it_was(wrong, method):
    for case in CASES:
        *_, stream = make_stream(case)
        stream.run(samples.normal(3, 5, 3, 6))
        before = [part.copy() for part in flatten(stream.state)]
        given = wrong
        if method == "run" and isinstance(wrong, np.ndarray) and wrong.ndim == 2:
            given = wrong[None]
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.(RNN|LSTM|GRU)\.[\w.]+: x "):
            getattr(stream, method)(given)
        assert_same_bits(stream.state, before)


def good_out():
    return np.zeros((3, 20), np.float32)


def read_only():
    out = good_out()
    out.flags.writeable = False
    return out


WRONG_OUT = {
    "shape": np.zeros((3, 21), np.float32),
    "rank": np.zeros((1, 3, 20), np.float32),
    "dtype": np.zeros((3, 20)),
    "read-only": read_only(),
    "list": [[0.0] * 20] * 3,
    "fortran": np.zeros((20, 3), np.float32).T,
    "gaps": np.zeros((3, 40), np.float32)[:, ::2],
    "misaligned": np.zeros(241, np.uint8)[1:].view(np.float32).reshape(3, 20),
    "one row": np.broadcast_to(np.zeros(20, np.float32), (3, 20)),
    "byte-swapped": good_out().astype(">f4"),
}


@pytest.mark.parametrize("out", WRONG_OUT.values(), ids=WRONG_OUT)
def test_wrong_out_leaves_the_stream_as_it_was(out):
    *_, stream = make_stream("lstm")
    stream.run(samples.normal(3, 5, 3, 6))
    before = stream.state
    with pytest.raises((ValueError, TypeError), match=r"^treadle\.LSTM\.[\w.]+: out "):
        stream.step(np.zeros((3, 6), np.float32), out=out)
    assert_same_bits(stream.state, before)


@pytest.mark.parametrize("shift", [0, 4, 59], ids=lambda n: f"shift{n}")
def test_out_must_not_overlap_the_input(shift):
    """I = H: an output that is written while the input is still being read."""
    for mode in samples.MODES:
        module, _ = make_module(mode, 20, 20)
        stream, memory = module.stream(3), samples.normal(3, 120)
        x, out = memory[:60].reshape(3, 20), memory[shift : shift + 60].reshape(3, 20)
        kept = memory.copy()
        with pytest.raises(ValueError, match=r"^treadle\.\w+\.stream: out overlaps x"):
            stream.step(x, out=out)
        assert_same_bits(memory, kept)
        assert_same_bits(stream.state, module.stream(3).state)
        stream.step(x, out=memory[60:].reshape(3, 20))


WRONG_ROWS = {
    "beyond": [3],
    "negative": [-1],
    "far": [2**62],
    "floats": [0.5],
    "bools": [True, False],
    "rank": np.zeros((1, 3), bool),
    "text": "ab",
    "nan": np.array([np.nan]),
}


@pytest.mark.parametrize("rows", WRONG_ROWS.values(), ids=WRONG_ROWS)
def test_wrong_rows(rows):
    *_, stream = make_stream("lstm")
    stream.run(samples.normal(3, 5, 3, 6))
    before = stream.state
    with pytest.raises((ValueError, TypeError), match=r"^treadle\.LSTM\.[\w.]+: rows "):
        stream.reset(rows)
    assert_same_bits(stream.state, before)


H_GOOD = np.zeros((1, 3, 20), np.float32)
WRONG_STATES = {
    "none": None,
    "alone": H_GOOD,
    "three": (H_GOOD, H_GOOD, H_GOOD),
    "layers": (np.zeros((2, 3, 20), np.float32), H_GOOD),
    "batch": (H_GOOD, np.zeros((1, 2, 20), np.float32)),
    "hidden": (np.zeros((1, 3, 19), np.float32), H_GOOD),
    "rank": (H_GOOD[0], H_GOOD[0]),
    "dtype": (H_GOOD.astype(float), H_GOOD),
    "half": (H_GOOD, None),
}


@pytest.mark.parametrize("state", WRONG_STATES.values(), ids=WRONG_STATES)
def test_wrong_state(state):
    *_, stream = make_stream("lstm")
    stream.run(samples.normal(3, 5, 3, 6))
    before = stream.state
    with pytest.raises((ValueError, TypeError), match=r"^treadle\.LSTM\.[\w.]+: (state|h|c) "):
        stream.state = state
    assert_same_bits(stream.state, before)
    if state is not None:
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.LSTM\.[\w.]+: (state|h|c) "):
            stream.reset([0], state)
        assert_same_bits(stream.state, before)


@pytest.mark.parametrize("batch", [0, -1, 2**40, 2**63, 1.5, "1", None, True])
def test_wrong_batch_size(batch):
    module, _ = make_module("gru", 6, 20)
    with pytest.raises((ValueError, TypeError, MemoryError), match=r"treadle.*batch_size"):
        module.stream(batch)


def test_stream_of_something_else():
    with pytest.raises(TypeError, match=r"^treadle\.Stream: module"):
        treadle.Stream(object())
