"""Resets in a sequence: to zero or to given states, in both directions, with lengths and mask."""

import itertools

import numpy as np
import pytest
import torch

import treadle
from support import samples
from support.checks import check_functional, check_module, make_module
from support.sizes import SMALL_SHAPE_IDS, SMALL_SHAPES
from support.tolerance import assert_same_bits, flatten

CASES = {
    "rnn": ("rnn", {}),
    "lstm": ("lstm", {}),
    "lstm-P": ("lstm", {"proj_size": 5}),
    "gru": ("gru", {}),
    "gru-before": ("gru", {"reset_after": False}),
}
every_case = pytest.mark.parametrize("case", CASES)
zero_or_given = pytest.mark.parametrize("given", [False, True], ids=["zero", "given"])


def fresh_states(case, given, leading, batch, hidden):
    mode, options = CASES[case]
    if not given:
        return {}
    proj_size = options.get("proj_size", 0)
    state = samples.states(mode, leading, batch, hidden, proj_size=proj_size, seed=7)
    return {"reset_state": state}


@zero_or_given
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
@every_case
def test_functional(isa, case, shape, reverse, given):
    mode, options = CASES[case]
    fresh = fresh_states(case, given, [], shape[1], shape[3])
    resets = samples.resets(*shape[:2])
    check_functional(mode, shape, resets=resets, reverse=reverse, **fresh, **options)


@zero_or_given
@pytest.mark.parametrize("batch_first", [False, True], ids=["TB", "BT"])
@pytest.mark.parametrize("num_layers", [1, 3], ids=lambda n: f"L{n}")
@pytest.mark.parametrize("bidirectional", [False, True], ids=["D1", "D2"])
@every_case
def test_module(isa, case, bidirectional, num_layers, batch_first, given):
    mode, options = CASES[case]
    fresh = fresh_states(case, given, [num_layers * (1 + bidirectional)], 9, 11)
    check_module(
        mode, (8, 9, 5, 11), call={"resets": samples.resets(8, 9), **fresh},
        num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first, **options,
    )  # fmt: skip


@zero_or_given
@every_case
def test_with_lengths(isa, case, given):
    mode, options = CASES[case]
    call = {"resets": samples.resets(8, 9), "lengths": samples.lengths(8, 9)}
    call |= fresh_states(case, given, [4], 9, 11)
    check_module(mode, (8, 9, 5, 11), call=call, num_layers=2, bidirectional=True, **options)


@zero_or_given
@every_case
def test_with_a_mask(isa, case, given):
    """The state is reset before a masked step too, and the step then holds it."""
    mode, options = CASES[case]
    call = {"resets": samples.resets(8, 9), "mask": samples.mask(8, 9)}
    call |= fresh_states(case, given, [4], 9, 11)
    check_module(mode, (8, 9, 5, 11), call=call, num_layers=2, bidirectional=True, **options)


@every_case
def test_pieces_are_calls_of_their_own(isa, threads, case):
    """Bit for bit what a Python loop over the pieces between resets gives."""
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    resets, x = samples.resets(12, 7), samples.normal(3, 12, 7, 5)
    y, _ = module(x, resets=resets)
    for row in range(7):
        cuts = sorted({0, 12, *np.flatnonzero(resets[:, row]).tolist()})
        for begin, end in itertools.pairwise(cuts):
            alone, _ = module(x[begin:end, row : row + 1])
            assert_same_bits(y[begin:end, row : row + 1], alone)


@every_case
def test_sequence_is_a_stream_with_resets(isa, case):
    """A sequence with resets equals the steps that reinforcement-learning code takes one by one."""
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, **options)
    resets, x = samples.resets(12, 7), samples.normal(3, 12, 7, 5)
    stream = module.stream(7)
    steps = []
    for x_t, now in zip(x, resets, strict=True):
        stream.reset(now)
        steps.append(stream.step(x_t))
    y, final = module(x, resets=resets)
    assert_same_bits(y, np.stack(steps))
    assert_same_bits(final, stream.state)


@every_case
def test_no_reset_is_nothing(isa, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    x = samples.normal(3, 8, 9, 5)
    assert_same_bits(module(x, resets=np.zeros((8, 9), bool)), module(x))


@every_case
def test_all_resets_are_steps_from_zero(isa, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, bidirectional=True, **options)
    x = samples.normal(3, 8, 9, 5)
    y, _ = module(x, resets=np.ones((8, 9), bool))
    for t in range(8):
        assert_same_bits(y[t : t + 1], module(x[t : t + 1])[0])


@every_case
def test_a_reset_heals_a_nan(isa, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, **options)
    x = samples.normal(3, 8, 2, 5)
    expected, _ = module(x[4:])
    x[2, 0] = np.nan
    resets = np.zeros((8, 2), bool)
    resets[4] = True
    y, final = module(x, resets=resets)
    assert np.isnan(y[3, 0]).all()
    assert_same_bits(y[4:], expected)
    assert all(np.isfinite(part).all() for part in flatten(final))


def test_unbatched():
    module, _ = make_module("lstm", 5, 11, num_layers=2)
    x, resets = samples.normal(3, 8, 5), samples.resets(8, 1)[:, 0]
    fresh = samples.states("lstm", [2], 1, 11, seed=7)
    y, final = module(x, resets=resets, reset_state=tuple(part[:, 0] for part in fresh))
    batch, batch_final = module(x[:, None], resets=resets[:, None], reset_state=fresh)
    assert_same_bits(y, batch[:, 0])
    assert_same_bits(final, [part[:, 0] for part in batch_final])


GOOD = np.array([[1, 0], [0, 1], [0, 0], [1, 1]], bool)
KINDS = {
    "lists": GOOD.tolist(),
    "fortran": np.asfortranarray(GOOD),
    "strided": np.repeat(GOOD, 3, axis=0)[::3],
    "torch": torch.from_numpy(GOOD),
    "other bytes": (GOOD * np.uint8(6)).view(bool),
}


@pytest.mark.parametrize("resets", KINDS.values(), ids=KINDS)
def test_kinds_of_bools(resets):
    module, _ = make_module("gru", 5, 11)
    x = samples.normal(3, 4, 2, 5)
    assert_same_bits(module(x, resets=resets), module(x, resets=GOOD))


WRONG = {
    "batch first": GOOD.T,
    "short": GOOD[:3],
    "batch": GOOD[:, :1],
    "rank": GOOD[0],
    "integers": GOOD.astype(int),
    "floats": GOOD.astype(np.float32),
    "text": "1010",
    "object": object(),
}


@pytest.mark.parametrize("resets", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("mode", samples.MODES)
def test_wrong_resets(mode, resets):
    module, _ = make_module(mode, 5, 11)
    x = samples.normal(3, 4, 2, 5)
    with pytest.raises((ValueError, TypeError), match=rf"treadle\.{mode.upper()}: resets "):
        module(x, resets=resets)
    weights, _ = samples.layer(mode, 5, 11)
    with pytest.raises((ValueError, TypeError), match=rf"treadle\.functional\.{mode}: resets "):
        getattr(treadle.functional, mode)(x, *weights, resets=resets)


WRONG_STATES = {
    "batch": np.zeros((1, 3, 11), np.float32),
    "hidden": np.zeros((1, 2, 10), np.float32),
    "layers": np.zeros((2, 2, 11), np.float32),
    "rank": np.zeros((2, 11), np.float32),
    "dtype": np.zeros((1, 2, 11)),
    "pair": (np.zeros((1, 2, 11), np.float32),) * 2,
    "object": object(),
}


@pytest.mark.parametrize("state", WRONG_STATES.values(), ids=WRONG_STATES)
def test_wrong_reset_state(state):
    module, _ = make_module("gru", 5, 11)
    x = samples.normal(3, 4, 2, 5)
    with pytest.raises((ValueError, TypeError), match=r"treadle\.GRU: reset_state"):
        module(x, resets=GOOD, reset_state=state)


def test_reset_state_without_resets():
    """A state to return to and no return: a mistake of the caller's."""
    module, _ = make_module("gru", 5, 11)
    with pytest.raises(ValueError, match=r"treadle\.GRU: reset_state.*resets"):
        module(samples.normal(3, 4, 2, 5), reset_state=np.zeros((1, 2, 11), np.float32))
