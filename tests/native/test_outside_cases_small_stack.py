"""Every native entry point runs on a thread whose stack has 64 KiB.

Servers with thousands of threads give each of them a small stack (`threading.stack_size`); musl
gives 128 KiB to every thread. A kernel with large local arrays ends such a process.
"""

from support import child

CODE = """
import sys
import threading

import numpy as np

import treadle

F = treadle.functional
rng = np.random.default_rng(0)
errors = []


def draw(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


def attention(calls):
    q, k, v, dy = (draw(1, 2, n, 256) for n in (60, 600, 600, 60))
    mask = rng.random((60, 600)) < 0.5
    k[:, :, 3] = v[:, :, 3] = dy[:, :, 9] = np.nan
    mask[::2, 3] = False
    calls["many"] = lambda: F.scaled_dot_product_attention(q, k, v, mask)
    calls["bfloat16"] = lambda: F.scaled_dot_product_attention(q, k, v, mask, dtype="bfloat16")
    calls["few"] = lambda: F.scaled_dot_product_attention(q[:, :, :4], k, v, mask[:4])
    _, saved = F.scaled_dot_product_attention_forward(
        q, k, v, mask, softcap=3.0, dropout_p=0.1, seed=1
    )
    calls["attention backward"] = lambda: F.scaled_dot_product_attention_backward(saved, dy)
    m, x = treadle.MultiheadAttention(64, 4, batch_first=True), draw(2, 20, 64)
    calls["multihead"] = lambda: m(x, x, x)


def recurrent(calls):
    for name, sizes in {"rnn": 1, "lstm": 4, "gru": 3}.items():
        weights = {
            "weight_ih": draw(sizes * 70, 20) / 8, "weight_hh": draw(sizes * 70, 70) / 8,
            "bias_ih": draw(sizes * 70), "bias_hh": draw(sizes * 70),
        }
        x, dy = draw(30, 3, 20), draw(30, 3, 70)

        def both(name=name, weights=weights, x=x, dy=dy):
            for recompute in (False, True):
                saved = getattr(F, name + "_forward")(x, **weights, recompute=recompute)[-1]
                getattr(F, name + "_backward")(saved, dy)

        calls[name + " backward"] = both


def products(calls):
    x, w = draw(70, 300), draw(200, 300)
    calls["linear"] = lambda: F.linear(x, w, activation="gelu")
    calls["rows"] = lambda: (F.layer_norm(x, 300), F.softmax(x), F.gelu(x), F.silu(x))
    calls["conv1d"] = lambda: F.conv1d(draw(2, 7, 50), draw(9, 7, 3))


def in_dtype(calls, dtype):
    cache = treadle.KVCache(2, 2, 64, dtype=dtype)
    k, v = draw(2, 2, 300, 64), draw(2, 2, 300, 64)
    cache.append(k, v)
    for s in (1, 4, 9):
        q = draw(2, 16, s, 64)
        calls[f"cache {s} {dtype}"] = lambda q=q: cache.attend(q, window=100)
    calls["step " + dtype] = lambda: cache.append(k[:, :, :1], v[:, :, :1])
    layer = treadle.TransformerEncoderLayer(64, 4, 128, batch_first=True, activation="gelu")
    encoder, x = treadle.TransformerEncoder(layer, 2).to(dtype), draw(2, 20, 64)
    calls["encoder " + dtype] = lambda: encoder(x)
    for cls in (treadle.RNN, treadle.LSTM, treadle.GRU):
        for B, T, I, H in ((1, 30, 20, 70), (40, 5, 300, 33)):
            net = cls(I, H, num_layers=2, bidirectional=True).to(dtype)
            calls[f"{cls.__name__} {B} {dtype}"] = lambda net=net, x=draw(T, B, I): net(x)
        stream = cls(20, 70).to(dtype).stream(batch_size=3)
        x1, x2 = draw(3, 20), draw(40, 3, 20)
        calls[f"{cls.__name__} stream {dtype}"] = lambda stream=stream, x1=x1, x2=x2: (
            stream.step(x1), stream.run(x2), stream.reset()
        )


def guarded(name, call):
    try:
        call()
    except BaseException as error:
        errors.append((name, error))


for isa in treadle.available_isas():
    treadle._core.set_isa(isa)
    calls = {}
    attention(calls)
    recurrent(calls)
    products(calls)
    for dtype in ("float32", "bfloat16", "int8"):
        in_dtype(calls, dtype)
    for name, call in calls.items():
        call()  # imports and first calls belong to Python, which may need a larger stack
        for threads in (1, 2):
            treadle.set_num_threads(threads)
            print(isa, name, threads, file=sys.stdout, flush=True)
            threading.stack_size(64 * 1024)
            thread = threading.Thread(target=guarded, args=(name, call))
            thread.start()
            thread.join()
            threading.stack_size(0)
assert not errors, errors
print("all")
"""


def test_a_thread_with_a_stack_of_64_kib():
    assert child.succeed(CODE).endswith("\nall")
