"""NumPy definition of a stack of transformer layers that decodes or encodes: the specification.

The default `dtype` is float64, the truth that tests compare with; in float32 the same functions
give the error that an obvious implementation makes. One sequence is computed at a time, all its
tokens at once: no cache, no padding, no batch. A step of decoding is the last row of a longer one.

A layer (`spec` has the fields of treadle.layers.block_spec.BlockSpec, `w` its weights) is, by
spec.norm_place, with the attention A, the feed forward F and norms n:

    before    x = x + A(n_attn(x));              x = x + F(n_ff(x))
    after     x = n_attn(x + A(x));              x = n_ff(x + F(x))
    both      x = x + n'_attn(A(n_attn(x)));     x = x + n'_ff(F(n_ff(x)))
    parallel  x = x + A(n_attn(x)) + F(n_ff(x))

and with cross attention C a third such line between the two.

Sources: Vaswani et al. 2017, arXiv:1706.03762 (after, sinusoidal positions); Radford et al. 2019
(GPT-2: before); Raffel et al. 2020, arXiv:1910.10683 (T5: buckets of distances, scores that are not
scaled); Zhang and Sennrich 2019, arXiv:1910.07467 (RMS norm); Shazeer 2020, arXiv:2002.05202 (gated
feed forward); Su et al. 2021, arXiv:2104.09864 (rotary positions); Ainslie et al. 2023,
arXiv:2305.13245 (grouped heads); Black et al. 2022, arXiv:2204.06745 (GPT-NeoX: parallel); Beltagy
et al. 2020, arXiv:2004.05150 (windows); Gemma Team 2024, arXiv:2408.00118 (both, soft caps).

Letters: S tokens, K tokens of the memory, H hidden, N heads, G heads of keys, E size of a head, F
feed forward, V vocabulary.
"""

from typing import Any, NamedTuple

import numpy as np

from reference import recurrent
from reference.attention import attention, layer_norm


class Result(NamedTuple):
    """The arrays of one sequence."""

    hidden: Any
    """[S, H], after the final norm."""
    states: list
    """L + 1 arrays [S, H]: the input of the first layer and the output of each."""
    attentions: list
    """The probabilities of self attention of each layer, [N, S, S]."""
    cross: list
    """The probabilities of cross attention of each layer that has it, [N, S, K]."""


def stack(specs, weights, tokens, memory=None, *, dtype=np.float64):
    """Run all layers on the tokens [S] of a sequence, whose memory [K, H'] cross attention sees."""
    x = embed(weights, tokens, specs[0].eps, dtype)
    states, attentions, cross = [x], [], []
    for i, spec in enumerate(specs):
        begin = f"layers.{i}."
        own = {k.removeprefix(begin): v for k, v in weights.items() if k.startswith(begin)}
        layer = _Layer(spec, own, weights.get("relative_bias"), dtype)
        x = layer.run(x, memory)
        states.append(x)
        attentions.append(layer.probabilities["self_attn"])
        if spec.cross_attention:
            cross.append(layer.probabilities["cross_attn"])
    if "final_norm.weight" in weights:
        x = norm(x, weights, "final_norm", specs[-1].norm, specs[-1].eps, dtype)
    return Result(x, states, attentions, cross)


def embed(weights, tokens, eps=1e-5, dtype=np.float64):
    """Return norm(embed_scale * embedding[token] + position[0, 1, ...]), [S, H]."""
    tokens = np.asarray(tokens)
    x = weights["embed.weight"][tokens].astype(dtype) * dtype(weights.get("embed_scale", 1.0))
    if "positions.weight" in weights:
        x = x + weights["positions.weight"][: len(tokens)].astype(dtype)
    if "embed_norm.weight" in weights:
        x = norm(x, weights, "embed_norm", "layer", eps, dtype)
    return x


def logits(weights, hidden, *, dtype=np.float64):
    """Return cap(logit_scale * hidden head^T + bias), [S, V], where cap(x) = c tanh(x / c)."""
    head = weights.get("head.weight", weights["embed.weight"]).astype(dtype)
    x = (hidden.astype(dtype) * dtype(weights.get("logit_scale", 1.0))) @ head.T
    if "head.bias" in weights:
        x = x + weights["head.bias"].astype(dtype)
    cap = weights.get("logit_softcap")
    return x if cap is None else dtype(cap) * np.tanh(x / dtype(cap))


def norm(x, weights, name, kind, eps, dtype=np.float64):
    """Apply the layer norm, or x / sqrt(mean x^2 + eps) w, whose weights have the name."""
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    if kind == "layer":
        return layer_norm(x, weight, bias, eps, dtype=dtype)
    x = x.astype(dtype)
    mean = (x * x).mean(axis=-1, keepdims=True, dtype=dtype)
    return x / np.sqrt(mean + dtype(eps)) * weight.astype(dtype)


def rotate(x, rotary, positions, dtype=np.float64):
    """Turn pairs of numbers of x [N, S, E] by the angles position * frequency.

    A pair is (x[i], x[i + R / 2]) of the first R numbers of a head, or (x[2 i], x[2 i + 1]) if the
    rotary is interleaved. The angle is rounded to float32, as in all implementations that models
    are trained with: what counts is its remainder, which is not the exact one at large positions.
    """
    frequencies = np.asarray(rotary.frequencies, np.float32)
    angles = np.asarray(positions, np.float32)[:, None] * frequencies
    cos, sin = (f(angles.astype(dtype)) * dtype(rotary.factor) for f in (np.cos, np.sin))
    half = len(frequencies)
    turned = x.astype(dtype).copy()
    if rotary.interleaved:
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    else:
        first, second = slice(0, half), slice(half, 2 * half)
    a, b = x[..., first].astype(dtype), x[..., second].astype(dtype)
    turned[..., first], turned[..., second] = a * cos - b * sin, b * cos + a * sin
    return turned


def bucket(distance, relative):
    """Return T5's bucket of the distances from queries to keys, key position - query position.

    With n buckets for a direction, distances below n / 2 have one each, and those up to
    max_distance share the rest on a logarithmic scale. The logarithm is rounded to float32, as in
    all implementations: where the scale meets an integer, that decides.
    """
    distance = np.asarray(distance)
    count, first = relative.buckets, np.zeros_like(distance)
    if relative.bidirectional:
        count //= 2
        first, distance = np.where(distance > 0, count, 0), np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = count // 2
    ratio = np.maximum(distance, 1).astype(np.float32) / np.float32(exact)
    scale = np.log(ratio) / np.float32(np.log(relative.max_distance / exact))
    large = exact + (scale * np.float32(count - exact)).astype(np.int64)
    return first + np.where(distance < exact, distance, np.minimum(large, count - 1))


class _Layer:
    """The parts of a layer."""

    def __init__(self, spec, weights, relative_bias, dtype):
        self.spec, self.weights, self.relative_bias = spec, weights, relative_bias
        self.dtype = dtype
        self.probabilities = {}

    def run(self, x, memory):
        """x [S, H] -> [S, H]."""
        if self.spec.parallel:
            attended = self.self_attention(self.norm(x, "norm_attn"))
            return x + attended + self.feed_forward(self.norm(x, "norm_ff"))
        x = self.add(x, "norm_attn", self.self_attention)
        if self.spec.cross_attention:
            x = self.add(x, "norm_cross", lambda x: self.cross_attention(x, memory))
        return self.add(x, "norm_ff", self.feed_forward)

    def add(self, x, name, function):
        """Add f(x) to x, with its norm at spec.norm_place."""
        if self.spec.norm_place == "after":
            return self.norm(x + function(x), name)
        y = function(self.norm(x, name))
        return x + (self.norm(y, f"{name}_after") if self.spec.norm_place == "both" else y)

    def norm(self, x, name):
        return norm(x, self.weights, name, self.spec.norm, self.spec.eps, self.dtype)

    def linear(self, x, name, rows=slice(None)):
        """Apply some rows of a linear layer."""
        w, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        y = x.astype(self.dtype) @ w[rows].astype(self.dtype).T
        return y if bias is None else y + bias[rows].astype(self.dtype)

    def feed_forward(self, x):
        """W_2 act(W_1 x), or W_2 (act(W_1 x) * W_3 x) where it is gated."""
        y, size = self.linear(x, "linear1"), self.spec.feed_forward
        hidden = recurrent.activation(self.spec.activation, y[:, :size])
        return self.linear(hidden * y[:, size:] if self.spec.gated else hidden, "linear2")

    def self_attention(self, x):
        """Attend to the tokens themselves, to earlier ones only if the layer is causal."""
        spec, size = self.spec, self.spec.head_size
        parts = np.cumsum([spec.heads, spec.kv_heads]) * size
        q, k, v = (self.heads(y) for y in np.split(self.linear(x, "self_attn.in_proj"), parts, 1))
        if spec.head_norm:
            q = norm(q, self.weights, "q_norm", "rms", spec.eps, self.dtype)
            k = norm(k, self.weights, "k_norm", "rms", spec.eps, self.dtype)
        places = np.arange(len(x))
        if spec.rotary is not None:
            q, k = (rotate(y, spec.rotary, places, self.dtype) for y in (q, k))
        bias = None
        if spec.relative is not None:
            buckets = bucket(places - places[:, None], spec.relative)
            bias = self.relative_bias[buckets].transpose(2, 0, 1)[None]
        left = None if spec.window is None else spec.window - 1
        return self.attend(
            "self_attn", q, k, v, bias, is_causal=spec.causal, window=(left, None),
            softcap=spec.softcap,
        )  # fmt: skip

    def cross_attention(self, x, memory):
        """Attend to the memory [K, H']."""
        inner = self.spec.heads * self.spec.head_size
        q = self.heads(self.linear(x, "cross_attn.in_proj", slice(0, inner)))
        k, v = (
            self.heads(self.linear(memory, "cross_attn.in_proj", slice(i * inner, (i + 1) * inner)))
            for i in (1, 2)
        )
        return self.attend("cross_attn", q, k, v)

    def attend(self, name, q, k, v, bias=None, **options):
        """q [N, S, E], k and v [G, K, E] -> [S, H]."""
        scale = self.spec.head_size**-0.5 if self.spec.scale is None else self.spec.scale
        y, weights = attention(
            q[None], k[None], v[None], bias, scale=scale, weights=True, dtype=self.dtype, **options
        )
        self.probabilities[name] = weights[0]
        return self.linear(y[0].swapaxes(0, 1).reshape(q.shape[1], -1), f"{name}.out_proj")

    def heads(self, x):
        """[S, N E] -> [N, S, E]"""
        return x.reshape(len(x), -1, self.spec.head_size).swapaxes(0, 1)
