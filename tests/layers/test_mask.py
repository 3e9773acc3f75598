"""Keras' mask: a masked step holds the state, the output repeats, in any pattern of steps."""

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


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
@every_case
def test_functional(isa, case, shape, reverse):
    mode, options = CASES[case]
    check_functional(mode, shape, mask=samples.mask(*shape[:2]), reverse=reverse, **options)


@pytest.mark.parametrize("batch_first", [False, True], ids=["TB", "BT"])
@pytest.mark.parametrize("num_layers", [1, 3], ids=lambda n: f"L{n}")
@pytest.mark.parametrize("bidirectional", [False, True], ids=["D1", "D2"])
@every_case
def test_module(isa, case, bidirectional, num_layers, batch_first):
    mode, options = CASES[case]
    check_module(
        mode, (8, 9, 5, 11), call={"mask": samples.mask(8, 9)}, num_layers=num_layers,
        bidirectional=bidirectional, batch_first=batch_first, **options,
    )  # fmt: skip


@every_case
def test_masked_input_is_never_read(isa, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    mask, x = samples.mask(8, 9), samples.normal(3, 8, 9, 5)
    clean = module(x, mask=mask)
    x[~mask.T] = np.nan
    assert_same_bits(module(x, mask=mask), clean)


@every_case
def test_unmasked_steps_are_the_shorter_sequence(isa, threads, case):
    """Bit for bit what the row gives when its masked steps are cut out."""
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    mask, x = samples.mask(8, 9), samples.normal(3, 8, 9, 5)
    y, final = module(x, mask=mask)
    for row in range(9):
        short, short_final = module(x[mask[row], row][:, None])
        assert_same_bits(y[mask[row], row], short[:, 0])
        for part, expected in zip(flatten(final), flatten(short_final), strict=True):
            assert_same_bits(part[:, row], expected[:, 0])


@every_case
def test_nothing_masked_is_no_mask(isa, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    x = samples.normal(3, 8, 9, 5)
    assert_same_bits(module(x, mask=np.ones((9, 8), bool)), module(x))


@every_case
def test_all_masked_gives_zeros_and_the_state(isa, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    state = samples.states(mode, [4], 3, 11, proj_size=options.get("proj_size", 0))
    x = np.full((6, 3, 5), np.nan, np.float32)
    y, final = module(x, state, mask=np.zeros((3, 6), bool))
    assert_same_bits(y, np.zeros_like(y))
    assert_same_bits(final, state)


GOOD = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 1]], bool)
KINDS = {
    "lists": GOOD.tolist(),
    "fortran": np.asfortranarray(GOOD),
    "strided": np.repeat(GOOD, 2, axis=1)[:, ::2],
    "negative": GOOD[::-1, ::-1].copy()[::-1, ::-1],
    "torch": torch.from_numpy(GOOD),
    "other bytes": (GOOD * np.uint8(6)).view(bool),
}


@pytest.mark.parametrize("mask", KINDS.values(), ids=KINDS)
def test_kinds_of_bools(mask):
    module, _ = make_module("gru", 5, 11)
    x = samples.normal(3, 5, 3, 5)
    assert_same_bits(module(x, mask=mask), module(x, mask=GOOD))


WRONG = {
    "time first": GOOD.T,
    "short": GOOD[:, :4],
    "batch": GOOD[:2],
    "rank": GOOD[0],
    "integers": GOOD.astype(int),
    "floats": GOOD.astype(np.float32),
    "bytes": GOOD.astype(np.uint8),
    "text": "10101",
    "lists of integers": GOOD.astype(int).tolist(),
    "object": object(),
    "scalar": True,
}


@pytest.mark.parametrize("mask", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("mode", samples.MODES)
def test_wrong_mask(mode, mask):
    module, _ = make_module(mode, 5, 11)
    x = samples.normal(3, 5, 3, 5)
    with pytest.raises((ValueError, TypeError), match=rf"treadle\.{mode.upper()}: mask "):
        module(x, mask=mask)
    weights, _ = samples.layer(mode, 5, 11)
    with pytest.raises((ValueError, TypeError), match=rf"treadle\.functional\.{mode}: mask "):
        getattr(treadle.functional, mode)(x, *weights, mask=mask)
