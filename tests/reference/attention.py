"""NumPy definitions of attention, transformer layers and what lies between: the specification.

As in recurrent.py, the default `dtype` is float64, the truth the tests compare with; in float32 the
same functions give the error that an obvious implementation makes.

Letters: B batch, S queries, K keys, N heads, E head size, F value head size, H hidden.
"""

import numpy as np

from reference import recurrent as reference


def softmax(x, *, dtype=np.float64):
    """Over the last axis; a row of -inf alone gives zeros."""
    x = x.astype(dtype)
    with np.errstate(all="ignore"):
        top = x.max(axis=-1, keepdims=True, initial=-np.inf)
        e = np.exp(x - np.where(top == -np.inf, dtype(0), top))
        total = e.sum(axis=-1, keepdims=True, dtype=dtype)
        return e / np.where(total == 0, dtype(1), total)


def attention(
    q, k, v, mask=None, *, is_causal=False, scale=None, query_lengths=None, key_lengths=None,
    window=(None, None), softcap=None, alibi_slopes=None, query_offset=None, keep=None,
    weights=False, dtype=np.float64,
):  # fmt: skip
    """q [B, N, S, E], k [B, Nk, K, E], v [B, Nk, K, F] -> [B, N, S, F] (and weights [B, N, S, K]).

    A bool mask is True where a query attends. Query i stands at position i + query_offset[b]. The
    values are weighted by w keep [B, N, S, K], that of dropout.
    """
    q, k, v = (x.astype(dtype) for x in (q, k, v))
    batch, heads, queries, size = q.shape
    keys = k.shape[2]
    k, v = (np.repeat(x, heads // x.shape[1], axis=1) if x.shape[1] else x for x in (k, v))
    offset = np.zeros(batch, int) if query_offset is None else np.asarray(query_offset)
    i = (np.arange(queries) + offset[:, None])[:, None, :, None]
    j = np.arange(keys)
    out = np.zeros((batch, heads, queries, keys), bool)  # what is ruled out
    if is_causal:
        out |= j > i
    left, right = window
    if left is not None:
        out |= j < i - left
    if right is not None:
        out |= j > i + right
    if key_lengths is not None:
        out |= j >= np.asarray(key_lengths)[:, None, None, None]
    if query_lengths is not None:
        out |= np.arange(queries)[:, None] >= np.asarray(query_lengths)[:, None, None, None]
    with np.errstate(all="ignore"):
        s = (q @ k.swapaxes(2, 3)) * dtype(size**-0.5 if scale is None else scale)
        if softcap is not None:
            s = dtype(softcap) * np.tanh(s / dtype(softcap))
        if alibi_slopes is not None:
            s = s - alibi_slopes.astype(dtype)[:, None, None] * np.abs(i - j)
        if mask is not None:
            s = s + (np.where(mask, 0, -np.inf) if mask.dtype == bool else mask).astype(dtype)
        w = softmax(np.where(out, -np.inf, s), dtype=dtype)
        y = (w if keep is None else w * keep.astype(dtype)) @ v
    return (y, w) if weights else y


def attention_gradients(q, k, v, dy, mask=None, *, softcap=None, scale=None, keep=1.0, **options):
    """(of q, of k, of v) of sum(y * dy) in float64, by the formulas."""
    _, w = attention(q, k, v, mask, softcap=softcap, scale=scale, weights=True, **options)
    heads = k.shape[1]
    group = q.shape[1] // heads if heads else 1
    q, k, v, dy = (x.astype(np.float64) for x in (q, k, v, dy))
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    dw = dy @ v.swapaxes(2, 3)
    dw = keep * dw
    ds = w * (dw - (w * dw).sum(axis=-1, keepdims=True))
    if softcap is not None:
        ds = ds * (1 - np.tanh(q @ k.swapaxes(2, 3) * scale / softcap) ** 2)
    shared = lambda x: x.reshape(x.shape[0], heads, group, *x.shape[2:]).sum(axis=2)
    dk, dv = ds.swapaxes(2, 3) @ q * scale, (w * keep).swapaxes(2, 3) @ dy
    return ds @ k * scale, shared(dk), shared(dv)


def philox(counter, key, rounds):
    """Philox4x32 of Salmon et al. (SC11): counter [..., 4] and key [2] of uint32 -> [..., 4]."""
    x = [counter[..., i].astype(np.uint64) for i in range(4)]
    key = [int(k) for k in key]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(rounds):
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        high_a, high_b = a >> np.uint64(32), b >> np.uint64(32)
        x = [high_b ^ x[1] ^ np.uint64(key[0]), b & low, high_a ^ x[3] ^ np.uint64(key[1]), a & low]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return np.stack(x, axis=-1).astype(np.uint32)


def dropout(p, seed, batch, heads, queries, keys):
    """[B, N, S, K]: 0 where the weight is dropped, else 1 / (1 - p)."""
    row = np.arange(batch * heads * queries, dtype=np.uint64)[:, None]
    j = np.arange(keys, dtype=np.uint64)
    at = j // np.uint64(64) * np.uint64(16) + j % np.uint64(16)
    halves = [x for number in (at + 0 * row, row + 0 * at)
              for x in (number & np.uint64(2**32 - 1), number >> np.uint64(32))]  # fmt: skip
    words = philox(np.stack(halves, axis=-1), (seed % 2**32, seed >> 32), 7)
    word = (j % np.uint64(64) // np.uint64(16)).astype(int)
    random = np.take_along_axis(words, word[None, :, None].repeat(len(row), 0), axis=2)[..., 0]
    keep = np.where(random >= int(min(p * 2**32, 2**32 - 1)), 1 / (1 - p) if p < 1 else 0.0, 0.0)
    return keep.reshape(batch, heads, queries, keys)


def layer_norm(x, weight=None, bias=None, eps=1e-5, residual=None, *, dtype=np.float64):
    """Over the last axis of x [M, N] (+ residual [M, N])."""
    x = x.astype(dtype) if residual is None else x.astype(dtype) + residual.astype(dtype)
    mean = x.mean(axis=-1, keepdims=True, dtype=dtype)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True, dtype=dtype)
    y = (x - mean) / np.sqrt(variance + dtype(eps))
    y = y if weight is None else y * weight.astype(dtype)
    return y if bias is None else y + bias.astype(dtype)


def multihead_attention(
    parameters, heads, query, key, value, mask=None, *, is_causal=False, key_lengths=None,
    add_zero_attn=False, dtype=np.float64,
):  # fmt: skip
    """(y [B, S, H], weights [B, N, S, K]) of query [B, S, H], key and value [B, K, ..].

    The mask is the kernel's: True, or 0, where a query attends; over the appended keys, too.
    """
    hidden = query.shape[-1]
    p = {name: array.astype(dtype) for name, array in parameters.items()}
    if "in_proj_weight" in p:
        matrices = np.split(p["in_proj_weight"], 3)
    else:
        matrices = [p[f"{letter}_proj_weight"] for letter in "qkv"]
    biases = np.split(p.get("in_proj_bias", np.zeros(3 * hidden, dtype)), 3)
    q, k, v = (
        x.astype(dtype) @ w.T + b
        for x, w, b in zip((query, key, value), matrices, biases, strict=True)
    )
    if "bias_k" in p:
        k, v = (
            np.concatenate([x, np.broadcast_to(p[name], (len(x), 1, hidden))], axis=1)
            for x, name in ((k, "bias_k"), (v, "bias_v"))
        )
    if add_zero_attn:
        k, v = (np.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (k, v))
    split = lambda x: x.reshape(*x.shape[:2], heads, hidden // heads).swapaxes(1, 2)
    y, weights = attention(
        split(q), split(k), split(v), mask, is_causal=is_causal, key_lengths=key_lengths,
        weights=True, dtype=dtype,
    )  # fmt: skip
    y = y.swapaxes(1, 2).reshape(query.shape) @ p["out_proj.weight"].T
    return y + p.get("out_proj.bias", dtype(0)), weights


def encoder_layer(
    parameters, heads, x, mask=None, *, act="relu", norm_first=False, eps=1e-5, is_causal=False,
    key_lengths=None, dtype=np.float64,
):  # fmt: skip
    """x [B, S, H] -> [B, S, H]; what lies beyond a length has no meaning."""
    layer = _Layer(parameters, heads, act, norm_first, eps, dtype)
    own = {"is_causal": is_causal, "key_lengths": key_lengths}
    x = x.astype(dtype)
    x = layer.add(x, "norm1", lambda x: layer.attend("self_attn", x, x, mask, **own))
    return layer.add(x, "norm2", layer.feed_forward)


def decoder_layer(
    parameters, heads, x, memory, mask=None, memory_mask=None, *, act="relu", norm_first=False,
    eps=1e-5, is_causal=False, dtype=np.float64,
):  # fmt: skip
    """x [B, S, H] and the memory [B, K, H] that cross attention sees -> [B, S, H]."""
    layer = _Layer(parameters, heads, act, norm_first, eps, dtype)
    x, memory = x.astype(dtype), memory.astype(dtype)
    own = {"is_causal": is_causal}
    x = layer.add(x, "norm1", lambda x: layer.attend("self_attn", x, x, mask, **own))
    x = layer.add(x, "norm2", lambda x: layer.attend("multihead_attn", x, memory, memory_mask))
    return layer.add(x, "norm3", layer.feed_forward)


class _Layer:
    """The parts of a transformer's layer."""

    def __init__(self, parameters, heads, act, norm_first, eps, dtype):
        self.parameters, self.heads, self.act = parameters, heads, act
        self.norm_first, self.eps, self.dtype = norm_first, eps, dtype

    def add(self, x, norm, function):
        """x + f(norm(x)), or norm(x + f(x))."""
        p, dtype = self.parameters, self.dtype
        normal = lambda x: layer_norm(
            x, p[f"{norm}.weight"], p.get(f"{norm}.bias"), self.eps, dtype=dtype
        )
        return x + function(normal(x)) if self.norm_first else normal(x + function(x))

    def attend(self, name, x, memory, mask, **options):
        """Attention from x to the memory, which is x itself in self attention."""
        begin = f"{name}."
        own = {k.removeprefix(begin): v for k, v in self.parameters.items() if k.startswith(begin)}
        return multihead_attention(
            own, self.heads, x, memory, memory, mask, dtype=self.dtype, **options
        )[0]

    def feed_forward(self, x):
        return self.linear(reference.activation(self.act, self.linear(x, "linear1")), "linear2")

    def linear(self, x, name):
        p, dtype = self.parameters, self.dtype
        y = x @ p[f"{name}.weight"].astype(dtype).T
        return y + p[f"{name}.bias"].astype(dtype) if f"{name}.bias" in p else y


def encoder(
    parameters, heads, num_layers, x, mask=None, *, act="relu", norm_first=False, eps=1e-5,
    norm_eps=1e-5, is_causal=False, key_lengths=None, dtype=np.float64,
):  # fmt: skip
    """The layers one after the other, then `norm` where there is one."""
    for i in range(num_layers):
        begin = f"layers.{i}."
        own = {k.removeprefix(begin): v for k, v in parameters.items() if k.startswith(begin)}
        x = encoder_layer(
            own, heads, x, mask, act=act, norm_first=norm_first, eps=eps, is_causal=is_causal,
            key_lengths=key_lengths, dtype=dtype,
        )  # fmt: skip
    if "norm.weight" in parameters:
        x = layer_norm(
            x, parameters["norm.weight"], parameters.get("norm.bias"), norm_eps, dtype=dtype
        )
    return x
