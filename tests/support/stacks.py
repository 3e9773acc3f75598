"""Random stacks of transformer layers of every kind of family, and ragged batches for them."""

import numpy as np

from reference import decoder as reference
from treadle.layers.block_spec import BlockSpec, Relative, Rotary
from treadle.layers.decoder_weights import layer_shapes

V, H, LAYERS = 53, 36, 2
SIZES = {
    "hidden": H,
    "heads": 4,
    "kv_heads": 4,
    "head_size": 9,
    "feed_forward": 50,
    "activation": "gelu",
}
TURNS = (1.0, 0.3, 0.1, 0.03)
# Each family changes these fields; "P" and "tied" are options of the stack.
FAMILIES = {
    "gpt2": {"P": 40},
    "llama": {
        "norm": "rms",
        "gated": True,
        "activation": "silu",
        "kv_heads": 2,
        "tied": False,
        "rotary": Rotary(TURNS, 1.2),
    },
    "qwen3": {
        "norm": "rms",
        "gated": True,
        "activation": "silu",
        "kv_heads": 1,
        "head_norm": True,
        "rotary": Rotary(TURNS),
    },
    "neox": {"parallel": True, "rotary": Rotary(TURNS[:2])},
    "gptj": {"parallel": True, "rotary": Rotary(TURNS[:3], interleaved=True)},
    "bart": {"norm_place": "after", "cross_attention": True, "P": 40, "embed_norm": True},
    "t5": {
        "norm": "rms",
        "gated": True,
        "activation": "gelu_tanh",
        "cross_attention": True,
        "relative": Relative(8, 20),
        "scale": 1.0,
        "logit_scale": H**-0.5,
    },
    "gemma": {
        "norm": "rms",
        "norm_place": "both",
        "gated": True,
        "activation": "gelu_tanh",
        "softcap": 5.0,
        "window": 4,
        "kv_heads": 2,
        "rotary": Rotary(TURNS),
        "scale": 0.4,
        "embed_scale": H**0.5,
        "logit_softcap": 3.0,
    },
    "mistral": {"norm": "rms", "gated": True, "activation": "relu", "window": 3, "kv_heads": 2},
}
ENCODERS = {
    "t5 encoder": {
        "norm": "rms",
        "activation": "relu",
        "scale": 1.0,
        "causal": False,
        "relative": Relative(8, 20, True),
    },
    "marian encoder": {"norm_place": "after", "P": 40, "causal": False, "activation": "silu"},
    "causal": {"P": 40},
}


def make(family, seed=0, **changes):
    """The specs and the weights of a family's stack."""
    options = {**(FAMILIES | ENCODERS)[family], **changes}
    positions, tied = options.pop("P", 0), options.pop("tied", True)
    embed_norm = options.pop("embed_norm", False)
    numbers = {
        name: options.pop(name)
        for name in ("embed_scale", "logit_scale", "logit_softcap")
        if name in options
    }
    specs = [BlockSpec(**{**SIZES, **options})] * LAYERS
    rng = np.random.default_rng([seed, 99])
    rms = specs[0].norm == "rms"

    def matrix(*shape):
        return (rng.normal(size=shape) / shape[1] ** 0.5).astype(np.float32)

    def vector(name, size):
        noise = 0.2 * rng.normal(size=size)
        return (noise + ("norm" in name and name.endswith("weight"))).astype(np.float32)

    weights = {"embed.weight": 4 * matrix(V, H)}
    for i, spec in enumerate(specs):
        needed, optional = layer_shapes(spec)
        for name, shape in (needed | ({} if rms else optional)).items():
            own = matrix(*shape) if len(shape) == 2 else vector(name, shape)
            weights[f"layers.{i}.{name}"] = own
    weights["final_norm.weight"] = vector("norm.weight", H)
    if not rms:
        weights["final_norm.bias"] = vector("norm.bias", H)
        weights["head.bias"] = vector("bias", V)
    if not tied:
        weights["head.weight"] = matrix(V, H)
    if positions:
        weights["positions.weight"] = matrix(positions, H)
    if embed_norm:
        weights["embed_norm.weight"] = vector("norm.weight", H)
        weights["embed_norm.bias"] = vector("norm.bias", H)
    if specs[0].relative is not None:
        weights["relative_bias"] = 3 * matrix(specs[0].relative.buckets, specs[0].heads)
    return specs, {**weights, **numbers}


class Batch:
    """Sequences of random tokens, each with its memory if there is one."""

    def __init__(self, specs, lengths=(7, 3, 12, 1), memory=(5, 9, 2, 1), seed=1):
        rng = np.random.default_rng([seed, 98])
        self.tokens = [rng.integers(0, V, n) for n in lengths]
        self.memory = None
        if specs[0].cross_attention:
            self.memory = [rng.normal(size=(n, H)).astype(np.float32) for n in memory]

    def start(self, stack, rows=None, **options):
        """A state of some of the sequences, without a token."""
        rows = range(len(self.tokens)) if rows is None else rows
        memory = None
        if self.memory is not None:
            seen = [self.memory[r] for r in rows]
            memory = (np.concatenate(seen), np.array([len(m) for m in seen]))
        return stack.start(len(rows), memory, **options)

    def exact(self, specs, weights, row, dtype=np.float64):
        """The hidden states and the logits of a sequence, by the definition."""
        memory = None if self.memory is None else self.memory[row]
        hidden = reference.stack(specs, weights, self.tokens[row], memory, dtype=dtype).hidden
        return hidden, reference.logits(weights, hidden, dtype=dtype)


def joined(parts):
    """Flat tokens and their lengths."""
    return np.concatenate(parts), np.array([len(part) for part in parts])
