"""Views that claim more than there is memory are refused by their shape, before they are copied.

`np.broadcast_to(0, n)` takes no memory whatever n is, and a batch of data that was sliced or
transposed wrongly looks like it.
"""

import tracemalloc

import numpy as np
import pytest

import treadle
from treadle import functional

HUGE = 2**24  # elements of the views; a copy would take 16 MiB at least
MOST = 2**20  # bytes that a call may take before it refuses


def view(*shape, dtype=np.float32):
    return np.broadcast_to(dtype(0), shape)


def zeros(*shape):
    return np.zeros(shape, np.float32)


T, B, I, H, N, E = 3, 2, 4, 8, 2, 4
X, Q = zeros(T, B, I), zeros(B, N, T, E)
W, R = zeros(4 * H, I), zeros(4 * H, H)


def lstm(**options):
    return treadle.LSTM(I, H, **options)


def cache():
    return treadle.KVCache(B, N, E, capacity=8)


def state_dict_of(name, value):
    module = lstm()
    return lambda: module.load_state_dict({**module.state_dict(), name: value})


def with_state(value):
    stream = lstm().stream(B)
    stream.state = value


def saved():
    return functional.lstm_forward(X, W, R)[-1]


CALLS = {
    "x: last axis": lambda: lstm()(view(T, B, HUGE)),
    "x: axes": lambda: lstm()(view(HUGE)),
    "x: float64's neighbour": lambda: lstm()(view(T, B, HUGE, dtype=np.uint16)),
    "lengths": lambda: lstm()(X, lengths=view(HUGE, dtype=np.int64)),
    "lengths of one row": lambda: lstm()(X[:, 0], lengths=view(HUGE, dtype=np.int64)),
    "mask": lambda: lstm()(X, mask=view(B, HUGE, dtype=np.bool_)),
    "mask of one row": lambda: lstm()(X[:, 0], mask=view(HUGE, dtype=np.bool_)),
    "resets": lambda: lstm()(X, resets=view(HUGE, B, dtype=np.bool_)),
    "resets, batch first": lambda: lstm(batch_first=True)(X, resets=view(B, HUGE, dtype=np.bool_)),
    "h_0": lambda: treadle.GRU(I, H)(X, view(1, HUGE, H)),
    "c_0": lambda: lstm()(X, (zeros(1, B, H), view(1, B, HUGE))),
    "reset_state": lambda: treadle.GRU(I, H)(
        X, resets=np.zeros((T, B), bool), reset_state=view(1, HUGE, H)
    ),
    "cell x": lambda: treadle.GRUCell(I, H)(view(B, HUGE)),
    "cell h": lambda: treadle.GRUCell(I, H)(zeros(B, I), view(HUGE, H)),
    "stream step": lambda: lstm().stream(B).step(view(B, HUGE)),
    "stream run": lambda: lstm().stream(B).run(view(T, HUGE, I)[..., ::-1]),
    "stream state": lambda: with_state((view(1, HUGE, H), zeros(1, B, H))),
    "stream reset": lambda: lstm().stream(B).reset(view(HUGE, dtype=np.int64)),
    "stream reset state": lambda: treadle.GRU(I, H).stream(B).reset(None, view(1, HUGE, H)),
    "load_state_dict": state_dict_of("weight_ih_l0", view(HUGE, I)),
    "load_state_dict bias": state_dict_of("bias_ih_l0", view(HUGE)),
    "functional x": lambda: functional.lstm(view(T, B, HUGE), W, R),
    "functional weight_hh": lambda: functional.lstm(X, W, view(HUGE, H)),
    "functional bias": lambda: functional.lstm(X, W, R, view(HUGE)),
    "functional peepholes": lambda: functional.lstm(X, W, R, peepholes=view(HUGE)),
    "functional weight_hr": lambda: functional.lstm(X, W, R, weight_hr=view(H, HUGE)),
    "functional h_0": lambda: functional.gru(X, W[: 3 * H], R[: 3 * H], h_0=view(HUGE, H)),
    "backward dy": lambda: functional.lstm_backward(saved(), view(T, B, HUGE)),
    "backward dh_n": lambda: functional.lstm_backward(saved(), zeros(T, B, H), view(HUGE, H)),
    "query": lambda: functional.scaled_dot_product_attention(view(B, N, T, HUGE), Q, Q),
    "key": lambda: functional.scaled_dot_product_attention(Q, view(B, N, T, HUGE), Q),
    "value": lambda: functional.scaled_dot_product_attention(Q, Q, view(B, N, HUGE, E)[..., ::2]),
    "attn_mask": lambda: functional.scaled_dot_product_attention(Q, Q, Q, view(T, HUGE)),
    "attention lengths": lambda: functional.scaled_dot_product_attention(
        Q, Q, Q, lengths=view(HUGE, dtype=np.int64)
    ),
    "alibi_slopes": lambda: functional.scaled_dot_product_attention(
        Q, Q, Q, alibi_slopes=view(HUGE)
    ),
    "multihead query": lambda: treadle.MultiheadAttention(I, N)(view(T, B, HUGE), X, X),
    "multihead key": lambda: treadle.MultiheadAttention(I, N)(X, view(T, B, HUGE), X),
    "multihead padding": lambda: treadle.MultiheadAttention(I, N)(
        X, X, X, key_padding_mask=view(B, HUGE)
    ),
    "multihead mask": lambda: treadle.MultiheadAttention(I, N)(X, X, X, attn_mask=view(HUGE, T)),
    "encoder": lambda: treadle.TransformerEncoderLayer(I, N, 8)(view(T, B, HUGE)),
    "encoder padding": lambda: treadle.TransformerEncoderLayer(I, N, 8)(
        X, src_key_padding_mask=view(HUGE, T)
    ),
    "cache k": lambda: cache().append(view(B, N, 1, HUGE), Q[:, :, :1]),
    "cache lengths": lambda: cache().append(Q, Q, lengths=view(HUGE, dtype=np.int64)),
    "cache reorder": lambda: cache().reorder(view(HUGE, dtype=np.int64)),
    "cache truncate": lambda: cache().truncate(view(HUGE, dtype=np.int64)),
    "layer norm x": lambda: functional.layer_norm(view(T, HUGE), (I,)),
    "layer norm weight": lambda: functional.layer_norm(X, (I,), view(HUGE)),
    "layer norm residual": lambda: functional.layer_norm(X, (I,), residual=view(HUGE, I)),
    "embedding_sum": lambda: functional.embedding_sum([[0], [0]], [zeros(2, I), view(2, HUGE)]),
}


@pytest.mark.parametrize("name", CALLS)
def test_views_are_refused_before_they_are_copied(name):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected"):
            CALLS[name]()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST


def test_views_that_fit_are_read():
    """A view that fits is read as ever: strides of zero are strides like others."""
    y, _ = lstm(seed=1)(view(T, B, I), lengths=view(B, dtype=np.int64) + 2)
    np.testing.assert_array_equal(y, lstm(seed=1)(X, lengths=[2, 2])[0])
