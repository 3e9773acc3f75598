"""Bit for bit: results do not depend on batch, position, chunks, threads or layout in memory."""

import numpy as np
import pytest

import treadle
from support import samples
from support.checks import make_module
from support.sizes import around_powers
from support.tolerance import assert_same_bits, flatten

CASES = {
    "rnn": ("rnn", {}),
    "lstm": ("lstm", {}),
    "lstm-P": ("lstm", {"proj_size": 9}),
    "gru": ("gru", {}),
    "gru-before": ("gru", {"reset_after": False}),
    "lstm-D2-L2": ("lstm", {"bidirectional": True, "num_layers": 2}),
    "gru-D2-L2": ("gru", {"bidirectional": True, "num_layers": 2}),
}
FORWARD = [case for case in CASES if "D2" not in case]
every_case = pytest.mark.parametrize("case", CASES)
forward_cases = pytest.mark.parametrize("case", FORWARD)

# Small, around the vector width; larger, so that work is shared between threads and the input part
# of a chunk no longer fits where a small one does.
SIZES = pytest.mark.parametrize(
    ("i", "h"), [(5, 7), (33, 31), (70, 130)], ids=["I5-H7", "I33-H31", "I70-H130"]
)


def make(case, i, h):
    mode, options = CASES[case]
    if options.get("proj_size", 0) >= h:
        options = options | {"proj_size": 3}
    module, _ = make_module(mode, i, h, **options)
    leading = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    return module, lambda b, seed=1: samples.states(
        mode, [leading], b, h, proj_size=options.get("proj_size", 0), seed=seed
    )


def rows(state, index):
    """Some rows of a state [L*D, B, H], or of a pair of them."""
    if isinstance(state, tuple):
        return tuple(part[:, index] for part in state)
    return state[:, index]


@SIZES
@every_case
def test_batch_slices_and_positions(isa, threads, case, i, h):
    module, states = make(case, i, h)
    x, state = samples.normal(3, 9, 37, i), states(37)
    y, final = module(x, state)
    slices = [slice(r, r + 1) for r in (0, 1, 17, 36)]
    slices += [slice(0, 2), slice(3, 8), slice(5, 29), slice(20, 37), slice(None, None, -1)]
    slices += [np.array([30, 2, 2, 11])]
    for part in slices:
        y_part, final_part = module(x[:, part], rows(state, part))
        assert_same_bits(y_part, y[:, part])
        assert_same_bits(final_part, rows(final, part))


@pytest.mark.parametrize("batch", [b for b in around_powers(48) if b], ids=lambda b: f"B{b}")
@forward_cases
def test_every_batch_size(isa, case, batch):
    """A row alone and the same row repeated."""
    module, states = make(case, 20, 24)
    x, state = samples.normal(3, 3, 1, 20), states(1)
    y, final = module(x, state)
    many = np.zeros(batch, int)
    y_many, final_many = module(x[:, many], rows(state, many))
    assert_same_bits(y_many, y[:, many])
    assert_same_bits(final_many, rows(final, many))


@pytest.mark.parametrize("batch", [1, 2, 19], ids=lambda b: f"B{b}")
@SIZES
@forward_cases
def test_chunks_of_time(isa, threads, case, i, h, batch):
    """The state carried from chunk to chunk, whatever their lengths."""
    module, states = make(case, i, h)
    x, state = samples.normal(3, 70, batch, i), states(batch)
    y, final = module(x, state)
    for cuts in ([1, 2, 3, 70], [35, 70], [64, 70], [0, 69, 70], [17, 18, 50, 50, 70]):
        at, carried, parts = 0, state, []
        for cut in cuts:
            part, carried = module(x[at:cut], carried)
            parts.append(part)
            at = cut
        assert_same_bits(np.concatenate(parts), y)
        assert_same_bits(carried, final)


@pytest.mark.parametrize("batch", [1, 5, 33], ids=lambda b: f"B{b}")
@SIZES
@every_case
def test_threads(isa, case, i, h, batch):
    module, states = make(case, i, h)
    x, state = samples.normal(3, 40, batch, i), states(batch)
    lengths = samples.lengths(40, batch)
    before = treadle.get_num_threads()
    treadle.set_num_threads(1)
    one = module(x, state), module(x, state, lengths=lengths)
    treadle.set_num_threads(2)
    two = module(x, state), module(x, state, lengths=lengths)
    treadle.set_num_threads(5)  # more than there are CPUs
    five = module(x, state), module(x, state, lengths=lengths)
    treadle.set_num_threads(before)
    assert_same_bits(two, one)
    assert_same_bits(five, one)


@pytest.mark.parametrize("batch", [127, 128, 129, 300], ids=lambda b: f"B{b}")
@every_case
def test_more_rows_than_a_block_holds(isa, threads, case, batch):
    """Ragged and even: rows on both sides of each border, alone and in the whole."""
    module, states = make(case, 9, 20)
    x, state = samples.normal(3, 5, batch, 9), states(batch)
    lengths = samples.lengths(5, batch)
    whole, ragged = module(x, state), module(x, state, lengths=lengths)
    for row in (0, 63, 64, 126, batch - 1):
        part = slice(row, row + 1)
        y, final = module(x[:, part], rows(state, part))
        assert_same_bits(y, whole[0][:, part])
        assert_same_bits(final, rows(whole[1], part))
        y, final = module(x[:, part], rows(state, part), lengths=lengths[part])
        assert_same_bits(y, ragged[0][:, part])
        assert_same_bits(final, rows(ragged[1], part))


@pytest.mark.parametrize("batch", [7, 20, 63, 64, 129], ids=lambda b: f"B{b}")
@pytest.mark.parametrize(("mode", "hidden"), [("rnn", 1024), ("gru", 352), ("lstm", 256)])
def test_input_weights_beyond_the_caches(threads, mode, hidden, batch):
    """From 8 MB on, the input part of several steps is computed at once for more rows, too."""
    assert_rows_and_steps_keep_their_bits(mode, 2100, hidden, batch)


@pytest.mark.parametrize("batch", [7, 20, 63, 64, 129], ids=lambda b: f"B{b}")
@pytest.mark.parametrize("hidden", [1, 5, 8])
def test_wide_inputs_of_few_units(isa, threads, hidden, batch):
    """From 128 numbers on, the input part of an RNN's step is a product by itself."""
    assert_rows_and_steps_keep_their_bits("rnn", 300, hidden, batch)


def assert_rows_and_steps_keep_their_bits(mode, inputs, hidden, batch):
    module, _ = make_module(mode, inputs, hidden)
    x, lengths = samples.normal(3, 12, batch, inputs), samples.lengths(12, batch)
    y, final = module(x)
    stream = module.stream(batch)
    assert_same_bits(np.stack([stream.step(x_t) for x_t in x]), y)
    assert_same_bits(stream.state, final)
    ragged, _ = module(x, lengths=lengths)
    row = int(np.argmax(lengths))
    alone, _ = module(x[:, row : row + 1], lengths=lengths[row : row + 1])
    assert_same_bits(ragged[:, row : row + 1], alone)


@forward_cases
def test_long_sequences(isa, threads, case):
    """Longer than every chunk: at once, in pieces, step by step."""
    module, states = make(case, 24, 40)
    x, state = samples.normal(3, 1100, 1, 24), states(1)
    y, final = module(x, state)
    stream = module.stream()
    stream.state = state
    assert_same_bits(np.stack([stream.step(x_t) for x_t in x]), y)
    assert_same_bits(stream.state, final)
    stream.state = state
    assert_same_bits(np.concatenate([stream.run(x[:777]), stream.run(x[777:])]), y)


@pytest.mark.parametrize("hidden", [256, 512], ids=lambda h: f"H{h}")
@pytest.mark.parametrize("mode", samples.MODES)
def test_threads_at_sizes_that_are_shared_out(isa, mode, hidden):
    module, _ = make_module(mode, 64, hidden, num_layers=2, bidirectional=True)
    before, x = treadle.get_num_threads(), samples.normal(3, 12, 9, 64)
    treadle.set_num_threads(1)
    one, alone = module(x), module(x[:, 4:5])
    treadle.set_num_threads(2)
    two, alone_two = module(x), module(x[:, 4:5])
    treadle.set_num_threads(before)
    assert_same_bits(two, one)
    assert_same_bits(alone_two, alone)
    assert_same_bits(one[0][:, 4:5], alone[0])


@SIZES
@every_case
def test_batch_first(isa, threads, case, i, h):
    module, states = make(case, i, h)
    turned = type(module)(**(module._configuration | {"batch_first": True}))
    turned.load_state_dict(module.state_dict())
    x, state = samples.normal(3, 9, 7, i), states(7)
    lengths = samples.lengths(9, 7)
    y, final = module(x, state, lengths=lengths)
    for given in (x.swapaxes(0, 1), np.ascontiguousarray(x.swapaxes(0, 1))):
        y_turned, final_turned = turned(given, state, lengths=lengths)
        assert_same_bits(y_turned.swapaxes(0, 1), y)
        assert_same_bits(final_turned, final)


@every_case
def test_layout_in_memory(isa, case):
    """Fortran order, gaps, steps backwards, broadcast rows, odd addresses, read-only: the same."""
    module, states = make(case, 12, 17)
    x, state = samples.normal(3, 9, 7, 12), states(7)
    expected = module(x, state)
    gaps = np.full((18, 9, 24), np.nan, np.float32)
    gaps[::2, 1:8, ::2] = x
    reverse = np.ascontiguousarray(x[::-1, ::-1, ::-1])
    raw = np.zeros(x.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(np.float32).reshape(x.shape)
    misaligned[:] = x
    swapped = x.astype(x.dtype.newbyteorder())
    frozen = x.copy()
    frozen.flags.writeable = False
    odd = np.zeros(x.size + 1, np.float32)[1:].reshape(x.shape)
    odd[:] = x
    layouts = {
        "fortran": np.asfortranarray(x),
        "gaps": gaps[::2, 1:8, ::2],
        "backwards": reverse[::-1, ::-1, ::-1],
        "misaligned": misaligned,
        "swapped": swapped,
        "frozen": frozen,
        "odd": odd,
    }
    for name, layout in layouts.items():
        np.testing.assert_array_equal(layout, x, err_msg=name)
        assert_same_bits(module(layout, state), expected)
    one = x[:, :1]
    broadcast = np.broadcast_to(one, x.shape)
    assert_same_bits(module(broadcast, state), module(np.ascontiguousarray(broadcast), state))
    still = np.broadcast_to(x[:1], x.shape)
    assert_same_bits(module(still, state), module(np.ascontiguousarray(still), state))


@every_case
def test_layout_of_states(isa, case):
    module, states = make(case, 12, 17)
    x, state = samples.normal(3, 9, 7, 12), states(7)
    expected = module(x, state)

    def as_fortran(part):
        return np.asfortranarray(part)

    def backwards(part):
        return np.ascontiguousarray(part[::-1, ::-1])[::-1, ::-1]

    for change in (as_fortran, backwards):
        parts = tuple(change(part) for part in flatten(state))
        assert_same_bits(module(x, parts if isinstance(state, tuple) else parts[0]), expected)


@every_case
def test_arguments_are_only_read_and_results_are_new(case):
    module, states = make(case, 12, 17)
    x, state = samples.normal(3, 9, 7, 12), states(7)
    before = x.copy(), [part.copy() for part in flatten(state)]
    first = module(x, state)
    kept = [part.copy() for part in flatten(first)]
    assert_same_bits(module(x, state), first)
    for part in flatten(first):
        part[:] = 5
    assert_same_bits(module(x, state), kept)
    assert_same_bits((x, state), before)


@every_case
def test_the_same_call_again(isa, threads, case):
    """Run to run, however the threads fall."""
    module, states = make(case, 70, 130)
    x, state = samples.normal(3, 30, 5, 70), states(5)
    first = module(x, state)
    for _ in range(10):
        assert_same_bits(module(x, state), first)


@forward_cases
def test_unbatched(isa, case):
    module, states = make(case, 12, 17)
    x, state = samples.normal(3, 9, 1, 12), states(1)
    y, final = module(x, state)
    y_single, final_single = module(x[:, 0], rows(state, 0))
    assert_same_bits(y_single, y[:, 0])
    assert_same_bits(final_single, rows(final, 0))
