"""Arrays in bfloat16 are taken wherever float32 is expected and widened exactly; nothing else
passes for them.
"""

import ml_dtypes
import numpy as np
import pytest
import torch

import treadle
from support import child, samples
from support.entries import ENTRIES
from support.tolerance import assert_same_bits
from treadle._inputs.arrays import to_bool, to_dense, to_float32, to_int64, to_mask, to_weight

KINDS = {
    "ml_dtypes": lambda bits: bits.view(ml_dtypes.bfloat16),
    "uint16": lambda bits: bits,
    "big-endian uint16": lambda bits: bits.astype(">u2"),
    "torch": lambda bits: torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16),
    "torch with a gradient": lambda bits: KINDS["torch"](bits).requires_grad_(),
    "jax": lambda bits: pytest.importorskip("jax.numpy").asarray(bits.view(ml_dtypes.bfloat16)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def rounded(array):
    """Return an array's numbers in bfloat16: their bits, and the same numbers in float32."""
    numbers = array.astype(ml_dtypes.bfloat16)
    return numbers.view(np.uint16), numbers.astype(np.float32)


@every_kind
def test_every_number(kind):
    bits = np.arange(2**16, dtype=np.uint16)
    found = to_float32("f", "x", KINDS[kind](bits))
    expected = bits.astype(np.uint32) << 16
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected)
    np.testing.assert_array_equal(to_weight("f", "w", KINDS[kind](bits)), bits)


@every_kind
def test_layouts(kind):
    """Arrays that are transposed, spread, reversed, empty or without axes give the numbers that
    they hold."""
    bits, numbers = rounded(samples.normal(0, 4, 6, 8))
    value = KINDS[kind](bits)
    for own in (
        np.s_[:],
        np.s_[1:3],
        np.s_[..., ::2],
        np.s_[:, ::3, 1:],
        np.s_[:0],
        np.s_[1, 2, 3],
    ):
        for convert in (to_float32, to_dense):
            assert_same_bits(convert("f", "x", value[own]), numbers[own])
    turned = value.T if kind != "torch" and "gradient" not in kind else value.permute(2, 1, 0)
    assert_same_bits(to_dense("f", "x", turned), np.ascontiguousarray(numbers.T))
    if kind in ("ml_dtypes", "uint16"):
        assert_same_bits(to_float32("f", "x", value[::-1, :, ::-1]), numbers[::-1, :, ::-1])


@every_kind
@pytest.mark.parametrize("name", [name for name in ENTRIES if "_backward" not in name])
def test_every_function(name, kind):
    """Each argument by itself gives what its numbers in float32 give."""
    function, arguments = ENTRIES[name]
    for culprit, value in arguments.items():
        bits, numbers = rounded(value)
        given = function(**arguments | {culprit: KINDS[kind](bits)})
        expected = function(**arguments | {culprit: numbers})
        assert_same_bits(arrays(given), arrays(expected))


def arrays(result):
    """Return the arrays of a result, without what the forward pass hands to the backward pass."""
    if isinstance(result, tuple):
        return [a for part in result for a in arrays(part)]
    return [result] if isinstance(result, np.ndarray) else []


@every_kind
def test_streams_and_attention(kind):
    bits, numbers = rounded(samples.normal(0, 5, 2, 8))
    value = KINDS[kind](bits)
    m = treadle.LSTM(8, 8, seed=0)
    streams = m.stream(2), m.stream(2)
    for own in (np.s_[0], np.s_[1]):
        assert_same_bits(streams[0].step(value[own]), streams[1].step(numbers[own]))
    assert_same_bits(streams[0].run(value), streams[1].run(numbers))
    for stream, given in zip(streams, (value, numbers), strict=True):
        stream.state = given[:1], given[1:2]
    assert_same_bits(streams[0].state, streams[1].state)
    q = numbers[None]
    attend = treadle.functional.scaled_dot_product_attention
    assert_same_bits(attend(value[None], q, value[None]), attend(q, q, q))
    mask = np.where(np.eye(2, dtype=bool), 0, -1e4).astype(np.float32)
    if kind not in ("uint16", "big-endian uint16"):
        assert_same_bits(
            attend(q, q, q, KINDS[kind](rounded(mask)[0])), attend(q, q, q, rounded(mask)[1])
        )


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_state_dicts(kind, dtype):
    """A matrix that is stored as bfloat16 keeps its bits."""
    m = treadle.GRU(3, 4, seed=0)
    pairs = {name: rounded(value) for name, value in m.state_dict().items()}
    found, expected = treadle.GRU(3, 4, dtype=dtype), treadle.GRU(3, 4, dtype=dtype)
    found.load_state_dict({name: KINDS[kind](bits) for name, (bits, _) in pairs.items()})
    expected.load_state_dict({name: numbers for name, (_, numbers) in pairs.items()})
    assert_same_bits(list(found.state_dict().values()), list(expected.state_dict().values()))
    if dtype == "bfloat16":
        stored = found._packed.parameters["weight_hh_l0"]
        np.testing.assert_array_equal(stored, pairs["weight_hh_l0"][0])


@every_kind
def test_it_is_no_integer_and_no_bool(kind):
    """An array of uint16 still holds integers, and one of bfloat16 is not taken for integers."""
    bits = np.arange(6, dtype=np.uint16)
    if kind in ("uint16", "big-endian uint16"):
        assert to_int64("f", "ids", KINDS[kind](bits)).tolist() == [0, 1, 2, 3, 4, 5]
    else:
        with pytest.raises(TypeError, match=r"^f: ids has dtype bfloat16, expected int64"):
            to_int64("f", "ids", KINDS[kind](bits))
        with pytest.raises(TypeError, match=r"lengths"):
            treadle.GRU(2, 2)(np.zeros((6, 1, 2), np.float32), lengths=KINDS[kind](bits[:1]))
    with pytest.raises(TypeError, match=r"^f: m "):
        to_bool("f", "m", KINDS[kind](bits))


def test_masks_of_uint16_are_refused():
    """A mask of uint16 more likely holds integers than bfloat16: as bits, its 1 would be 9e-41."""
    with pytest.raises(TypeError, match=r"^f: m has dtype uint16, expected bool or float32"):
        to_mask("f", "m", np.ones((2, 2), np.uint16))


WITHOUT = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np, treadle
m = treadle.RNN(2, 2, dtype="bfloat16", seed=0)
y = m(np.full((1, 1, 2), 0x3F80, np.uint16))[0]
print(np.array_equal(y, m(np.ones((1, 1, 2), np.float32))[0]))
"""


def test_without_ml_dtypes():
    assert child.succeed(WITHOUT) == "True"
