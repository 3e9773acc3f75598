"""The families with a decoder alone, which continue a text.

GPT-2: Radford et al. 2019; GPT-NeoX: Black et al. 2022, arXiv:2204.06745; LLaMA: Touvron et al.
2023, arXiv:2302.13971; Mistral: Jiang et al. 2023, arXiv:2310.06825; Qwen2: arXiv:2407.10671;
Qwen3: arXiv:2505.09388; Gemma 2: arXiv:2408.00118; Gemma 3: arXiv:2503.19786. The names and
defaults are those of Transformers' checkpoints and configuration classes.
"""

from __future__ import annotations

from treadle.transformers.generating_family import ALL_BIASES, LINEAR, GeneratingFamily, Names

_GPT2 = GeneratingFamily(
    kind="gpt2",
    prefix="transformer.",
    encoder=None,
    decoder=Names(
        layer="h.{}.",
        parts={
            "self_attn.in_proj": ("attn.c_attn",),
            "self_attn.out_proj": ("attn.c_proj",),
            "norm_attn": ("ln_1",),
            "linear1": ("mlp.c_fc",),
            "linear2": ("mlp.c_proj",),
            "norm_ff": ("ln_2",),
        },
        embed=("wte",),
        final_norm="ln_f",
        positions="wpe",
    ),
    heads=("lm_head",),
    biases=ALL_BIASES,
    forms=dict.fromkeys(LINEAR, "transposed"),
    positions="learned",
    aliases={
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "intermediate_size": "n_inner",
    },
    defaults={
        "vocab_size": 50257,
        "max_position_embeddings": 1024,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
        "tie_word_embeddings": True,
    },
)
_GPT_NEOX = GeneratingFamily(
    kind="gpt_neox",
    prefix="gpt_neox.",
    encoder=None,
    decoder=Names(
        layer="layers.{}.",
        parts={
            "self_attn.in_proj": ("attention.query_key_value",),
            "self_attn.out_proj": ("attention.dense",),
            "norm_attn": ("input_layernorm",),
            "linear1": ("mlp.dense_h_to_4h",),
            "linear2": ("mlp.dense_4h_to_h",),
            "norm_ff": ("post_attention_layernorm",),
        },
        embed=("embed_in",),
        final_norm="final_layer_norm",
    ),
    heads=("embed_out", "lm_head"),
    biases=ALL_BIASES | dict.fromkeys(LINEAR[:2], "attention_bias"),
    forms={"self_attn.in_proj": "heads"},
    defaults={
        "vocab_size": 50432,
        "hidden_size": 6144,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "intermediate_size": 24576,
        "hidden_act": "gelu",
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "use_parallel_residual": True,
        "attention_bias": True,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000.0,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    },
)
_LLAMA_LAYER: dict[str, tuple[str, ...]] = {
    "self_attn.in_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.out_proj": ("self_attn.o_proj",),
    "norm_attn": ("input_layernorm",),
    "linear1": ("mlp.gate_proj", "mlp.up_proj"),
    "linear2": ("mlp.down_proj",),
    "norm_ff": ("post_attention_layernorm",),
}
_HEAD_NORMS: dict[str, tuple[str, ...]] = {
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
}
_LLAMA_NAMES = Names("layers.{}.", _LLAMA_LAYER, ("embed_tokens",), "norm")
_LLAMA = GeneratingFamily(
    kind="llama",
    prefix="model.",
    encoder=None,
    decoder=_LLAMA_NAMES,
    heads=("lm_head",),
    biases=dict.fromkeys(LINEAR[:2], "attention_bias") | dict.fromkeys(LINEAR[2:], "mlp_bias"),
    norm="rms",
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "mlp_bias": False,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    },
)
_MISTRAL = _LLAMA._replace(
    biases={},
    windows="all",
    defaults=_LLAMA.defaults
    | {"intermediate_size": 14336, "num_key_value_heads": 8, "sliding_window": 4096}
    | {"max_position_embeddings": 131072},
)
_QWEN2 = _LLAMA._replace(
    biases={"self_attn.in_proj": True},
    windows="late",
    defaults=_LLAMA.defaults
    | {"vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32}
    | {"max_position_embeddings": 32768, "use_sliding_window": False, "sliding_window": 4096}
    | {"max_window_layers": 28, "bos_token_id": None, "eos_token_id": None},
)
_QWEN3 = _QWEN2._replace(
    decoder=_LLAMA_NAMES._replace(parts=_LLAMA_LAYER | _HEAD_NORMS),
    biases=dict.fromkeys(LINEAR[:2], "attention_bias"),
    head_norm=True,
    defaults=_QWEN2.defaults | {"head_dim": 128},
)
_GEMMA_LAYER = _LLAMA_LAYER | {
    "norm_attn_after": ("post_attention_layernorm",),
    "norm_ff": ("pre_feedforward_layernorm",),
    "norm_ff_after": ("post_feedforward_layernorm",),
}
_GEMMA2 = _LLAMA._replace(
    decoder=_LLAMA_NAMES._replace(parts=_GEMMA_LAYER),
    biases=dict.fromkeys(LINEAR[:2], "attention_bias"),
    forms=dict.fromkeys(
        ("norm_attn", "norm_attn_after", "norm_ff", "norm_ff_after", "q_norm", "k_norm", "final"),
        "plus_one",
    ),
    norm_place="both",
    scaled_embedding=True,
    windows="2",
    aliases={"hidden_act": "hidden_activation"},
    defaults={
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
        "rope_theta": 10000.0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "tie_word_embeddings": True,
    },
)
_GEMMA3 = _GEMMA2._replace(
    decoder=_LLAMA_NAMES._replace(parts=_GEMMA_LAYER | _HEAD_NORMS),
    head_norm=True,
    windows="6",
    defaults=_GEMMA2.defaults
    | {"vocab_size": 262208, "max_position_embeddings": 131072, "rope_theta": 1000000.0}
    | {"rope_local_base_freq": 10000.0}
    | {"final_logit_softcapping": None, "attn_logit_softcapping": None},
)

CAUSAL = {
    "gpt2": _GPT2,
    "gpt_neox": _GPT_NEOX,
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA3,
}
