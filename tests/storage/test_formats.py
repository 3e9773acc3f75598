"""Weights in bfloat16 and int8: how they are stored, products against their definition, layers
against float32.
"""

import copy
import math
import pickle
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from reference import formats as reference
from support import samples
from support.ids import shown
from support.tolerance import EPS, assert_product, assert_same_bits
from treadle._storage import formats

DTYPES = ("bfloat16", "int8")
SHAPES = [
    (1, 5, 3),
    (1, 70, 300),
    (7, 70, 257),
    (64, 200, 513),
    (33, 64, 64),
    (2, 16, 1),
    (13, 1, 9),
]


def linear(x, w, bias, dtype):
    return treadle.functional.linear(x, w, bias, dtype=dtype)


def packed(w, dtype):
    return treadle._core.Linear("f", formats.encode(w, dtype), None, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16(isa, shape):
    """Both factors rounded, everything else float32."""
    M, N, K = shape
    x, w, b = samples.normal(1, M, K), samples.normal(2, N, K), samples.normal(3, N)
    y = linear(x, w, b, "bfloat16")
    assert_product(y, reference.bfloat16(x), reference.bfloat16(w), b)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_int8(isa, shape):
    """Integers exactly those of NumPy: what is left are the roundings of scales and of few sums."""
    M, N, K = shape
    x, w = samples.normal(1, M, K), samples.normal(2, N, K)
    check_int8(x, w)


def check_int8(x, w):
    y = linear(x, w, None, "int8")
    size = np.zeros(y.shape)
    for k in range(0, x.shape[1], reference.BLOCK):
        q, zero, scale = reference.quantized_rows(x[:, k : k + reference.BLOCK])
        p, other = reference.quantized_weights(w[:, k : k + reference.BLOCK])
        size += np.abs(np.outer(scale.astype(float), other) * ((q - zero[:, None]) @ p.T))
    # A rounding of half an eps for the block's scale, one for the fma, and one for each later sum.
    blocks = -(-x.shape[1] // reference.BLOCK)
    assert (np.abs(y - reference.product_int8(x, w)) <= (1 + blocks) * EPS * size + 1e-30).all()


@settings(max_examples=100)
@given(st.data())
def test_int8_of_any_range(data):
    draw = lambda strategy: data.draw(strategy)
    M, N, K = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 600))
    x = samples.normal(draw(st.integers(0, 99)), M, K) * np.float32(
        10.0 ** draw(st.integers(-20, 15))
    )
    x += np.float32(draw(st.sampled_from([0, 1e-3, -5.0, 1e4])))
    w = samples.normal(draw(st.integers(0, 99)), N, K) * np.float32(
        10.0 ** draw(st.integers(-10, 10))
    )
    if draw(st.booleans()):
        w[draw(st.integers(0, N - 1))] = 0
        x[draw(st.integers(0, M - 1))] = 0
    check_int8(x, w)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros(isa, dtype):
    x, w = samples.normal(1, 5, 300), samples.normal(2, 9, 300)
    x[2], w[4] = 0, 0
    y = linear(x, w, None, dtype)
    assert not y[2].any()
    assert not y[:, 4].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_stays_in_its_row_and_column(isa, dtype, value):
    """A row or a channel with NaN or infinity: NaN in int8; NaN or infinity in bfloat16."""
    x, w = samples.normal(1, 5, 300), samples.normal(2, 9, 300)
    clean = linear(x, w, None, dtype)
    dirty = x.copy()
    dirty[2, 270] = value
    y = linear(dirty, w, None, dtype)
    assert not np.isfinite(y[2]).any()
    assert_same_bits(np.delete(y, 2, axis=0), np.delete(clean, 2, axis=0))
    dirty = w.copy()
    dirty[4, 30] = value
    y = linear(x, dirty, None, dtype)
    assert not np.isfinite(y[:, 4]).any()
    assert_same_bits(np.delete(y, 4, axis=1), np.delete(clean, 4, axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_alone(isa, dtype, threads):
    """A row has the same bits in any batch and on any number of threads."""
    x, w = samples.normal(1, 130, 300), samples.normal(2, 90, 300)
    product = packed(w, dtype)
    y = product.run("f", x)
    assert_same_bits(
        y[::40], np.concatenate([product.run("f", x[i : i + 1]) for i in range(0, 130, 40)])
    )


def test_the_least_integer_is_exact(isa):
    """-128, which no weight is rounded to, in the largest sums that there are: below 2^23."""
    x = np.zeros((3, reference.BLOCK), np.float32)
    x[0], x[1], x[2, ::2], x[2, 1::2] = 255, -255, 200, -55
    integers = np.full((20, reference.BLOCK), -128, np.int8)
    integers[3:6, ::3] = 127
    scales = np.ones((20, 1), np.float32)
    y = treadle._core.Linear("f", (integers, scales), None, "int8").run("f", x)
    q, zero, scale = reference.quantized_rows(x)
    exact = (q - zero[:, None]) @ integers.T.astype(int)
    assert np.abs(exact).max() == 256 * 255 * 128
    assert_same_bits(y, exact.astype(np.float32) * scale[:, None])


# How a matrix is stored.


@settings(max_examples=200)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60))
def test_bfloat16_of_any_bits(bits):
    numbers = np.array([bits], np.uint32).view(np.float32)
    stored = formats.encode(numbers, "bfloat16")
    with np.errstate(all="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(formats.decode(stored), expected)
    np.testing.assert_array_equal(formats.decode(stored), reference.bfloat16(numbers))
    np.testing.assert_array_equal(formats.encode(formats.decode(stored), "bfloat16"), stored)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 9),
    st.one_of(st.integers(0, 600), st.sampled_from([2**16 - 1, 2**16 + 1, 2**17 + 300])),
    st.integers(-44, 38),
    st.integers(0, 99),
)
def test_int8_of_any_matrix(N, K, exponent, seed):
    """Integers and scales are those of NumPy's definition, block by block, denormal ones too."""
    with np.errstate(over="ignore", under="ignore"):
        w = np.clip(samples.normal(seed, N, K) * 10.0**exponent, -3e38, 3e38).astype(np.float32)
    w[:1, : K // 2] = 0
    integers, scales = formats.encode(w, "int8")
    assert (integers.dtype, integers.shape, scales.dtype) == (np.int8, (N, K), np.float32)
    assert scales.shape == (N, -(-K // reference.BLOCK))
    for block, k in enumerate(range(0, K, reference.BLOCK)):
        own = slice(k, k + reference.BLOCK)
        expected, scale = reference.quantized_weights(w[:, own])
        np.testing.assert_array_equal(integers[:, own], expected)
        np.testing.assert_array_equal(scales[:, block], scale)
        numbers = formats.decode(formats.Int8(integers, scales))[:, own]
        np.testing.assert_array_equal(numbers, expected.astype(np.float32) * scale[:, None])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_int8_of_what_is_not_finite(value):
    """The block is NaN, and no other."""
    w = samples.normal(0, 3, 700)
    w[1, 300] = value
    stored = formats.encode(w, "int8")
    assert np.isnan(stored.scales).tolist() == [[False] * 3, [False, True, False], [False] * 3]
    missing = np.zeros(w.shape, bool)
    missing[1, 256:512] = True
    np.testing.assert_array_equal(np.isnan(formats.decode(stored)), missing)


def test_int8_of_denormals():
    """Scales without a reciprocal are zero, and so is the block."""
    w = np.full((2, 256), 2.0**-126 * 127, np.float32)
    w[1] = np.nextafter(w[1], np.float32(0))
    integers, scales = formats.encode(w, "int8")
    assert scales.tolist() == [[2.0**-126], [0.0]]
    assert np.unique(integers[0]).tolist() == [127]
    assert not integers[1].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_second_matrix(dtype):
    """Neither encoding nor decoding, whatever the shape, takes room for more than a few pieces."""
    for shape in ((2000, 1100), (3, 2**19 + 5)):
        w = samples.normal(0, *shape)
        for step in (lambda v: formats.encode(v, dtype), formats.decode):
            tracemalloc.start()
            try:
                w = step(w)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            kept = sum(array.nbytes for array in formats.arrays("", w).values())
            assert peak < kept + 4_000_000


BAD_SCALES = [3e38, -1.0, -(0.5**130), 2.0**-127, 1e-45, np.inf, -np.inf]


@pytest.mark.parametrize("scale", BAD_SCALES)
def test_scales_that_are_none(scale):
    integers, scales = np.ones((4, 300), np.int8), np.ones((4, 2), np.float32)
    scales[3, 1] = scale
    with pytest.raises(ValueError, match=r"^f: weight\.scale holds .*expected 0, positive"):
        treadle._core.Linear("f", (integers, scales), None, "int8")


def test_scales_of_zero_and_nan(isa):
    x, integers = samples.normal(0, 2, 300), np.ones((4, 300), np.int8)
    scales = np.array([[1, 1], [0, 0], [np.nan, 1], [-0.0, np.nan]], np.float32)
    y = treadle._core.Linear("f", (integers, scales), None, "int8").run("f", x)
    assert np.isnan(y).tolist() == [[False, False, True, True]] * 2
    assert not y[:, 1].any()


# Layers.


def parameters(module):
    return list(module.state_dict().values())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_module_has_what_it_computes_with(dtype):
    """state_dict and attributes are the rounded matrices; vectors stay as they are."""
    m = treadle.LSTM(20, 300, proj_size=270, seed=1)
    low = m.to(dtype)
    for name, value in m.state_dict().items():
        stored = formats.encode(value, dtype) if value.ndim == 2 else value
        assert formats.dtype_of(low._packed.parameters[name]) == (
            dtype if value.ndim == 2 else "float32"
        )
        for found in (low.state_dict()[name], getattr(low, name)):
            assert_same_bits(found, formats.decode(stored))
            assert found.dtype == np.float32
        assert low.state_dict()[name].flags.writeable
        assert not getattr(low, name).flags.writeable
    assert low.num_parameters == m.num_parameters
    assert_same_bits(
        parameters(treadle.LSTM(20, 300, proj_size=270, seed=1, dtype=dtype)), parameters(low)
    )
    other = treadle.LSTM(20, 300, proj_size=270, dtype=dtype)
    other.load_state_dict(m.state_dict())
    assert_same_bits(parameters(other), parameters(low))
    other.load_state_dict(low.state_dict())  # rounding again changes nothing
    assert_same_bits(parameters(other), parameters(low))


@pytest.mark.parametrize("dtype", DTYPES)
def test_to_rounds_what_there_is(dtype):
    m = treadle.TransformerEncoder(treadle.TransformerEncoderLayer(24, 2, 300, seed=3), 2)
    low = m.to(dtype)
    assert (m.dtype, low.dtype) == ("float32", dtype)
    with pytest.raises(AttributeError, match="dtype"):
        low.dtype = "float32"
    assert low.to(dtype)._packed.parameters.keys() == low._packed.parameters.keys()
    for name, value in low.to(dtype)._packed.parameters.items():
        assert value is low._packed.parameters[name]  # read-only, and shared
    back = low.to("float32")
    assert_same_bits(parameters(back), parameters(low))
    other = DTYPES[1 - DTYPES.index(dtype)]
    assert_same_bits(parameters(low.to(other)), parameters(back.to(other)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_second_model(dtype):
    """Constructing, loading and changing the dtype need the stored model and a matrix or two."""
    given = treadle.GRU(512, 512, 6, seed=0).state_dict()
    whole = 4 * sum(value.size for value in given.values())
    stored = {"bfloat16": whole / 2, "int8": whole / 4 * (1 + 4 / 256)}[dtype]
    matrix = 4 * 3 * 512 * 512
    tracemalloc.start()
    try:
        m = treadle.GRU(512, 512, 6, dtype=dtype)
        assert tracemalloc.get_traced_memory()[1] < stored + 1.5 * matrix
        tracemalloc.reset_peak()
        m.load_state_dict(given)
        assert tracemalloc.get_traced_memory()[1] < 2 * stored + 1.5 * matrix
        tracemalloc.reset_peak()
        other = m.to(DTYPES[1 - DTYPES.index(dtype)])
        assert tracemalloc.get_traced_memory()[1] < 0.8 * whole + 1.5 * matrix
        assert other.num_parameters == m.num_parameters
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fingerprints(dtype):
    """A state goes to the same weights, and to no others."""
    m = treadle.GRU(5, 9, seed=1, dtype=dtype)
    state = m.stream().export_state()
    copy.deepcopy(m).stream().import_state(state)
    weights = m.state_dict()
    weights["weight_hh_l0"][0, 0] += 1
    other = treadle.GRU(5, 9, dtype=dtype)
    other.load_state_dict(weights)
    for wrong in (other, m.to("float32")):
        with pytest.raises(ValueError, match="weights"):
            wrong.stream().import_state(state)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_pickle(dtype):
    """As in test_pickle.py, of what is stored otherwise."""
    m = treadle.LSTM(3, 4, dtype=dtype, seed=0)
    name = "weight_hh_l0"
    right = m.__getstate__()["parameters"][name]
    wrong = [
        m.state_dict()[name],
        None,
        (),
        5,
        (right, right),
        treadle.LSTM(3, 5, dtype=dtype).weight_hh_l0,
    ]
    if dtype == "int8":
        integers, scales = right
        wrong += [integers, (integers,), (integers, scales, scales), (scales, integers)]
        wrong += [(integers[1:], scales), (integers, scales[1:]), (integers, scales.astype(float))]
        wrong += [(integers, -scales), (integers.view(np.uint8), scales), [integers, scales]]
    else:
        wrong += [right[1:], right.view(np.int16), right.astype(">u2"), (right,)]
    for value in wrong:
        state = m.__getstate__()
        state["parameters"][name] = value
        other = treadle.LSTM.__new__(treadle.LSTM)
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.LSTM: weight_hh"):
            other.__setstate__(state)


RECURRENT = {
    "rnn": lambda: treadle.RNN(20, 37, num_layers=2, nonlinearity="relu", seed=1),
    "lstm": lambda: treadle.LSTM(20, 72, num_layers=2, bidirectional=True, seed=1),
    "lstm-projection": lambda: treadle.LSTM(20, 36, proj_size=20, seed=1),
    "lstm-hard": lambda: treadle.LSTM(20, 36, recurrent_activation="hard_sigmoid", seed=1),
    "gru": lambda: treadle.GRU(20, 50, num_layers=2, seed=1),
    "gru-before": lambda: treadle.GRU(20, 37, reset_after=False, seed=1),
    "gru-hard": lambda: treadle.GRU(20, 37, recurrent_activation="hard_sigmoid", seed=1),
}
# Outputs in [-1, 1] have these errors: bfloat16 keeps 8 bits of a factor, int8 8 bits of the
# largest in a block.
ERRORS = {"bfloat16": 2.0**-6, "int8": 2.0**-4}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent(isa, kind, dtype, threads):
    """Close to float32, and not it; the same bits alone and in chunks."""
    m = RECURRENT[kind]()
    low, x = m.to(dtype), samples.normal(5, 30, 17, 20)
    full, y = m(x)[0], low(x)[0]
    assert 0 < np.abs(full - y).max() < ERRORS[dtype]
    assert_same_bits(low(np.ascontiguousarray(x[:, 4:5]))[0], y[:, 4:5])
    lengths = np.arange(17) % 30 + 1
    ragged = low(x, lengths=lengths)[0]
    for row in (0, 7, 16):
        alone = low(np.ascontiguousarray(x[: lengths[row], row : row + 1]))[0]
        assert_same_bits(ragged[: lengths[row], row], alone[:, 0])
    if not m._configuration["bidirectional"]:
        stream = low.stream(17)
        chunks = [stream.run(np.ascontiguousarray(part)) for part in np.split(x, [1, 9, 20])]
        assert_same_bits(np.concatenate(chunks), y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [treadle.RNNCell, treadle.LSTMCell, treadle.GRUCell])
def test_cells(cls, dtype):
    m, x = cls(20, 33, seed=2), samples.normal(6, 5, 20)
    full, y = (c(x)[0] if cls is treadle.LSTMCell else c(x) for c in (m, m.to(dtype)))
    assert 0 < np.abs(full - y).max() < ERRORS[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_encoder(isa, dtype, threads):
    layer = treadle.TransformerEncoderLayer(48, 4, 96, batch_first=True, seed=3)
    m = treadle.TransformerEncoder(layer, 2, norm=treadle.LayerNorm(48))
    low, x = m.to(dtype), samples.normal(7, 9, 21, 48)
    full, y = m(x), low(x)
    assert 0 < np.abs(full - y).max() < 8 * ERRORS[dtype]  # of rows with variance 1
    assert_same_bits(low(x[3:4]), y[3:4])
    attention = treadle.MultiheadAttention(48, 4, batch_first=True, seed=3)
    full, y = (a(x, x, x, need_weights=False)[0] for a in (attention, attention.to(dtype)))
    assert 0 < np.abs(full - y).max() < ERRORS[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_and_files(tmp_path, dtype):
    m, x = treadle.LSTM(20, 33, seed=1).to(dtype), samples.normal(5, 30, 4, 20)
    assert repr(m) == f"LSTM(20, 33, dtype='{dtype}')"
    treadle.save(m, tmp_path / "m.treadle")
    for other in (
        pickle.loads(pickle.dumps(m)),
        copy.deepcopy(m),
        treadle.load(tmp_path / "m.treadle"),
    ):
        assert_same_bits(other(x)[0], m(x)[0])
    assert m._packed.native.weight_bytes < m.num_parameters * {"bfloat16": 2.5, "int8": 1.6}[dtype]


@pytest.mark.parametrize("dtype", ["float16", "int4", "", None, 8, "BFLOAT16", np.float64])
def test_refused(dtype):
    with pytest.raises(ValueError, match="dtype"):
        treadle.GRU(3, 4, dtype=dtype)
    with pytest.raises(ValueError, match="dtype"):
        treadle.GRU(3, 4).to(dtype)


def test_norms_stay_float32():
    with pytest.raises(ValueError, match="no products"):
        treadle.LayerNorm(4, dtype="int8")


def test_large_numbers_times_small_weights(isa):
    """Large numbers do not overflow if their products with small weights stay in range."""
    x, w = np.full((3, 300), 1e36, np.float32), np.full((5, 300), 1e-3, np.float32)
    y = treadle.functional.linear(x, w, dtype="int8")
    np.testing.assert_allclose(y, 3e35, rtol=0.02)


class Named:
    __name__ = 5


@pytest.mark.parametrize("dtype", [Named(), 5, None, "", b"int8"], ids=shown)
def test_no_dtype(dtype):
    with pytest.raises(ValueError, match=r"treadle.GRU.to: dtype is .*, expected one of"):
        treadle.GRU(2, 3).to(dtype)


def test_a_norm_of_one_s_own_stays_float32():
    class Own(treadle.LayerNorm):
        pass

    assert Own(4).to("int8").dtype == "float32"


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


EXACT = {
    treadle.RNNCell: lambda a, h: [np.tanh(a[0])],
    treadle.LSTMCell: lambda a, h: [
        sigmoid(a[3]) * np.tanh(c := sigmoid(a[1]) * h + sigmoid(a[0]) * np.tanh(a[2])),
        c,
    ],
    treadle.GRUCell: lambda a, h: [
        (1 - (z := sigmoid(a[1]))) * np.tanh(a[2] + sigmoid(a[0]) * a[3]) + z * h
    ],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", EXACT)
def test_functions_of_cells(isa, cls, dtype):
    """Weights are zero: biases alone enter the gates, from 1e-3 to 1e4 and beyond, unrounded."""
    H = 4099
    m = cls(1, H)
    gates = m.bias_ih.size // H
    a = np.zeros((4, H), np.float32)
    for i in range(4):
        a[i] = np.random.default_rng(i).permutation(np.sinh(np.linspace(-10, 10, H)))
    if cls is treadle.GRUCell:
        a[3] = np.clip(a[3], -1, 1)  # multiplies the error of r
    for i in range(3 if cls is treadle.GRUCell else 4):
        a[i, 3 * i : 3 * i + 3] = np.nan, np.inf, -np.inf
    biases = np.zeros((2, gates, H), np.float32)
    biases[0] = a[:gates]
    biases[1, 2:3] = a[3] if cls is treadle.GRUCell else 0
    zeros = {"weight_ih": np.zeros((gates * H, 1)), "weight_hh": np.zeros((gates * H, H))}
    state = {name: value.astype(np.float32) for name, value in zeros.items()}
    m.load_state_dict(state | {"bias_ih": biases[0].ravel(), "bias_hh": biases[1].ravel()})
    h = np.random.default_rng(9).uniform(-2, 2, (1, H)).astype(np.float32)
    x = np.zeros((1, 1), np.float32)
    found = m.to(dtype)(x, (h, h) if cls is treadle.LSTMCell else h)
    found = found if cls is treadle.LSTMCell else [found]
    for got, want in zip(
        found, EXACT[cls](a.astype(np.float64), h[0].astype(np.float64)), strict=True
    ):
        np.testing.assert_allclose(got[0], want, rtol=0, atol=2.0**-20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu(isa, dtype):
    """The product is zero, so the call returns gelu of the bias."""
    x = np.sinh(np.linspace(-10, 10, 40001)).astype(np.float32)
    x[:3] = np.inf, -np.inf, np.nan
    y = treadle.functional.linear(
        np.zeros((1, 1), np.float32),
        np.zeros((x.size, 1), np.float32),
        x,
        activation="gelu",
        dtype=dtype,
    )[0]
    want = [max(v, 0) - abs(v) * math.erfc(abs(v) / math.sqrt(2)) / 2 for v in x[3:].tolist()]
    assert np.abs(y[3:] - want).max() < 2.0**-20
    assert_same_bits(np.abs(y[:3]), np.array([np.inf, 0, np.nan], np.float32))


@pytest.mark.parametrize("dtype", ["float32", *DTYPES])
@pytest.mark.parametrize("shape", [(1, 1), (5, 70), (300, 517), (70_000, 3), (0, 4), (4, 0)])
def test_turned_matrices(dtype, shape):
    """A matrix is turned and rounded in pieces, with the bits of the whole one."""
    matrix = samples.normal(0, *shape)
    expected = formats.encode(np.ascontiguousarray(matrix.T), dtype)
    found = formats.encode_turned(matrix, dtype, formats.empty(shape[::-1], dtype))
    one, other = (formats.arrays("w", value) for value in (found, expected))
    for name, array in other.items():
        assert (one[name].dtype, one[name].shape) == (array.dtype, array.shape)
        assert one[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_turning_makes_no_second_copy(dtype):
    matrix = samples.normal(0, 600, 2000)
    out = formats.empty((2000, 600), dtype)
    tracemalloc.start()
    formats.encode_turned(matrix, dtype, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < matrix.nbytes / 2
