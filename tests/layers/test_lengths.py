"""Per-row lengths: in any order, zero allowed, in both directions, whatever fills the padding."""

import numpy as np
import pytest
import torch

import treadle
from support import samples
from support.checks import check_functional, check_module, make_module, poison_beyond
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
    lengths = samples.lengths(*shape[:2])
    check_functional(mode, shape, lengths=lengths, reverse=reverse, **options)


@pytest.mark.parametrize("batch_first", [False, True], ids=["TB", "BT"])
@pytest.mark.parametrize("num_layers", [1, 3], ids=lambda n: f"L{n}")
@pytest.mark.parametrize("bidirectional", [False, True], ids=["D1", "D2"])
@every_case
def test_module(isa, case, bidirectional, num_layers, batch_first):
    mode, options = CASES[case]
    y, _ = check_module(
        mode, (8, 9, 5, 11), call={"lengths": samples.lengths(8, 9)}, num_layers=num_layers,
        bidirectional=bidirectional, batch_first=batch_first, **options,
    )  # fmt: skip
    assert y.shape[:2] == (8, 9)


@every_case
def test_padding_is_never_read(isa, case):
    """NaN in the padding: the same bits, and exact zeros (not -0.0) in the output beyond."""
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    lengths = samples.lengths(8, 9)
    x = samples.normal(3, 8, 9, 5)
    clean = module(x, lengths=lengths)
    assert_same_bits(module(poison_beyond(x, lengths), lengths=lengths), clean)
    beyond = clean[0][np.arange(8)[:, None] >= lengths]
    assert_same_bits(beyond, np.zeros_like(beyond))


@every_case
def test_a_row_is_the_row_alone(isa, threads, case):
    """Bit for bit what the row gives without its padding and its neighbours."""
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    proj_size = options.get("proj_size", 0)
    lengths, x = samples.lengths(8, 9), samples.normal(3, 8, 9, 5)
    state = samples.states(mode, [4], 9, 11, proj_size=proj_size)
    y, final = module(x, state, lengths=lengths)
    for row, length in enumerate(lengths):
        own = tuple(part[:, row : row + 1] for part in flatten(state))
        alone, alone_final = module(x[:length, row : row + 1], own if mode == "lstm" else own[0])
        assert_same_bits(y[:length, row : row + 1], alone)
        for part, expected in zip(flatten(final), flatten(alone_final), strict=True):
            assert_same_bits(part[:, row : row + 1], expected)


@every_case
def test_order_of_rows_does_not_matter(isa, threads, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    lengths, x = samples.lengths(12, 21), samples.normal(3, 12, 21, 5)
    y, final = module(x, lengths=lengths)
    for order in (np.argsort(lengths), np.argsort(-lengths)):
        y_sorted, final_sorted = module(x[:, order], lengths=lengths[order])
        assert_same_bits(y_sorted, y[:, order])
        for part, expected in zip(flatten(final_sorted), flatten(final), strict=True):
            assert_same_bits(part, expected[:, order])


@every_case
def test_full_lengths_are_no_lengths(isa, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, bidirectional=True, **options)
    x = samples.normal(3, 8, 9, 5)
    assert_same_bits(module(x, lengths=[8] * 9), module(x))


@every_case
def test_zero_lengths_keep_the_state(isa, case):
    mode, options = CASES[case]
    module, _ = make_module(mode, 5, 11, num_layers=2, bidirectional=True, **options)
    state = samples.states(mode, [4], 3, 11, proj_size=options.get("proj_size", 0))
    y, final = module(np.full((6, 3, 5), np.nan, np.float32), state, lengths=[0, 0, 0])
    assert_same_bits(y, np.zeros_like(y))
    assert_same_bits(final, state)


KINDS = {
    "list": [3, 0, 5],
    "tuple": (3, 0, 5),
    "int64": np.array([3, 0, 5]),
    "int32": np.array([3, 0, 5], np.int32),
    "uint8": np.array([3, 0, 5], np.uint8),
    "big-endian": np.array([3, 0, 5], ">i8"),
    "strided": np.array([3, 9, 0, 9, 5])[::2],
    "reversed": np.array([5, 0, 3])[::-1],
    "torch": torch.tensor([3, 0, 5]),
}


@pytest.mark.parametrize("lengths", KINDS.values(), ids=KINDS)
def test_kinds_of_integers(lengths):
    module, _ = make_module("gru", 5, 11)
    x = samples.normal(3, 5, 3, 5)
    assert_same_bits(module(x, lengths=lengths), module(x, lengths=np.array([3, 0, 5])))


WRONG = {
    "short": [3, 0],
    "long": [3, 0, 5, 1],
    "rank": [[3, 0, 5]],
    "scalar": 3,
    "negative": [3, -1, 5],
    "beyond": [3, 0, 6],
    "huge": [3, 0, 2**62],
    "unsigned": np.array([3, 0, 2**64 - 1], np.uint64),
    "too huge": [3, 0, 2**70],
    "floats": [3.0, 0.0, 5.0],
    "nan": np.array([3, 0, np.nan]),
    "bools": np.array([True, False, True]),
    "complex": np.array([3, 0, 5j]),
    "text": "305",
    "texts": ["3", "0", "5"],
    "objects": [None, 0, 5],
    "object": object(),
    "ragged": [[3], [0, 5]],
}


@pytest.mark.parametrize("lengths", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("mode", samples.MODES)
def test_wrong_lengths(mode, lengths):
    module, _ = make_module(mode, 5, 11)
    x = samples.normal(3, 5, 3, 5)
    with pytest.raises((ValueError, TypeError), match=rf"treadle\.{mode.upper()}: lengths\b"):
        module(x, lengths=lengths)
    weights, _ = samples.layer(mode, 5, 11)
    with pytest.raises((ValueError, TypeError), match=rf"treadle\.functional\.{mode}: lengths\b"):
        getattr(treadle.functional, mode)(x, *weights, lengths=lengths)


def test_lengths_with_a_mask():
    module, _ = make_module("gru", 5, 11)
    with pytest.raises(
        ValueError, match=r"treadle\.GRU: .*lengths.*mask|treadle\.GRU: .*mask.*lengths"
    ):
        module(samples.normal(3, 5, 3, 5), lengths=[5] * 3, mask=np.ones((3, 5), bool))


def test_unbatched_has_one_length_or_none():
    """A sequence without a batch is as long as it is; a length for it is a shape [B] too many."""
    module, _ = make_module("gru", 5, 11)
    with pytest.raises((ValueError, TypeError), match=r"treadle\.GRU: lengths"):
        module(samples.normal(3, 7, 5), lengths=[5, 7])
