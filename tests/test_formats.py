"""Weights in bfloat16 and int8: products against their definition, layers against float32."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_formats as reference
import samples
import weft
from tolerance import EPS, assert_product, assert_same_bits
from weft import _formats

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
    return weft.functional.linear(x, w, bias, dtype=dtype)


def packed(w, dtype):
    return weft._core.Linear("f", _formats.encode(w, dtype), None, dtype)


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
    """The same bits in any batch and on any number of threads."""
    x, w = samples.normal(1, 130, 300), samples.normal(2, 90, 300)
    product = packed(w, dtype)
    y = product.run("f", x)
    assert_same_bits(
        y[::40], np.concatenate([product.run("f", x[i : i + 1]) for i in range(0, 130, 40)])
    )


# Layers.

RECURRENT = {
    "rnn": lambda: weft.RNN(20, 37, num_layers=2, nonlinearity="relu", seed=1),
    "lstm": lambda: weft.LSTM(20, 72, num_layers=2, bidirectional=True, seed=1),
    "lstm-projection": lambda: weft.LSTM(20, 36, proj_size=20, seed=1),
    "lstm-hard": lambda: weft.LSTM(20, 36, recurrent_activation="hard_sigmoid", seed=1),
    "gru": lambda: weft.GRU(20, 50, num_layers=2, seed=1),
    "gru-before": lambda: weft.GRU(20, 37, reset_after=False, seed=1),
    "gru-hard": lambda: weft.GRU(20, 37, recurrent_activation="hard_sigmoid", seed=1),
}
# Of outputs in [-1, 1]: bfloat16 keeps 8 bits of a factor, int8 those of a block's largest.
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
@pytest.mark.parametrize("cls", [weft.RNNCell, weft.LSTMCell, weft.GRUCell])
def test_cells(cls, dtype):
    m, x = cls(20, 33, seed=2), samples.normal(6, 5, 20)
    full, y = (c(x)[0] if cls is weft.LSTMCell else c(x) for c in (m, m.to(dtype)))
    assert 0 < np.abs(full - y).max() < ERRORS[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_encoder(isa, dtype, threads):
    layer = weft.TransformerEncoderLayer(48, 4, 96, batch_first=True, seed=3)
    m = weft.TransformerEncoder(layer, 2, norm=weft.LayerNorm(48))
    low, x = m.to(dtype), samples.normal(7, 9, 21, 48)
    full, y = m(x), low(x)
    assert 0 < np.abs(full - y).max() < 8 * ERRORS[dtype]  # of rows with variance 1
    assert_same_bits(low(x[3:4]), y[3:4])
    attention = weft.MultiheadAttention(48, 4, batch_first=True, seed=3)
    full, y = (a(x, x, x, need_weights=False)[0] for a in (attention, attention.to(dtype)))
    assert 0 < np.abs(full - y).max() < ERRORS[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_and_files(tmp_path, dtype):
    m, x = weft.LSTM(20, 33, seed=1).to(dtype), samples.normal(5, 30, 4, 20)
    assert repr(m) == f"LSTM(20, 33, dtype='{dtype}')"
    weft.save(m, tmp_path / "m.weft")
    for other in (pickle.loads(pickle.dumps(m)), copy.deepcopy(m), weft.load(tmp_path / "m.weft")):
        assert_same_bits(other(x)[0], m(x)[0])
    assert m._packed.native.weight_bytes < m.num_parameters * {"bfloat16": 2.5, "int8": 1.6}[dtype]


@pytest.mark.parametrize("dtype", ["float16", "int4", "", None, 8, "BFLOAT16", np.float64])
def test_refused(dtype):
    with pytest.raises(ValueError, match="dtype"):
        weft.GRU(3, 4, dtype=dtype)
    with pytest.raises(ValueError, match="dtype"):
        weft.GRU(3, 4).to(dtype)


def test_norms_stay_float32():
    with pytest.raises(ValueError, match="no products"):
        weft.LayerNorm(4, dtype="int8")
