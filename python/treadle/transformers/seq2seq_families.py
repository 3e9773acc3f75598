"""The families with an encoder and a decoder, which read a text and write another.

BART: Lewis et al. 2020, arXiv:1910.13461; mBART: Liu et al. 2020, arXiv:2001.08210; M2M-100: Fan et
al. 2020, arXiv:2010.11125, and NLLB: arXiv:2207.04672; Marian: Junczys-Dowmunt et al. 2018,
arXiv:1804.00344; T5: Raffel et al. 2020, arXiv:1910.10683; mT5: Xue et al. 2021, arXiv:2010.11934.
The names and defaults are those of Transformers' checkpoints and configuration classes.
"""

from __future__ import annotations

from treadle.transformers.generating_family import ALL_BIASES, GeneratingFamily, Names

# BART and its relatives.
_BART_LAYER: dict[str, tuple[str, ...]] = {
    "self_attn.in_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.out_proj": ("self_attn.out_proj",),
    "norm_attn": ("self_attn_layer_norm",),
    "linear1": ("fc1",),
    "linear2": ("fc2",),
    "norm_ff": ("final_layer_norm",),
}
_BART_CROSS: dict[str, tuple[str, ...]] = {
    "cross_attn.in_proj": ("encoder_attn.q_proj", "encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_attn.out_proj": ("encoder_attn.out_proj",),
    "norm_cross": ("encoder_attn_layer_norm",),
}


def _bart_names(stack: str, *, embed_norm: bool, final_norm: bool, learned: bool) -> Names:
    cross = _BART_CROSS if stack == "decoder" else {}
    return Names(
        layer=f"{stack}.layers.{{}}.",
        parts=_BART_LAYER | cross,
        embed=(f"{stack}.embed_tokens", "shared"),
        final_norm=f"{stack}.layer_norm" if final_norm else None,
        positions=f"{stack}.embed_positions" if learned else None,
        embed_norm=f"{stack}.layernorm_embedding" if embed_norm else None,
    )


_BART = GeneratingFamily(
    kind="bart",
    prefix="model.",
    encoder=_bart_names("encoder", embed_norm=True, final_norm=False, learned=True),
    decoder=_bart_names("decoder", embed_norm=True, final_norm=False, learned=True),
    heads=("lm_head",),
    head_bias="final_logits_bias",
    biases=ALL_BIASES,
    norm_place="after",
    positions="learned",
    aliases={"hidden_size": "d_model"},
    defaults={
        "vocab_size": 50265,
        "hidden_size": 1024,
        "max_position_embeddings": 1024,
        "encoder_layers": 12,
        "encoder_ffn_dim": 4096,
        "encoder_attention_heads": 16,
        "decoder_layers": 12,
        "decoder_ffn_dim": 4096,
        "decoder_attention_heads": 16,
        "activation_function": "gelu",
        "scale_embedding": False,
        "share_encoder_decoder_embeddings": True,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
        "tie_word_embeddings": True,
    },
)
_MARIAN = _BART._replace(
    encoder=_bart_names("encoder", embed_norm=False, final_norm=False, learned=False),
    decoder=_bart_names("decoder", embed_norm=False, final_norm=False, learned=False),
    positions="marian",
    defaults=_BART.defaults
    | {"vocab_size": 58101, "pad_token_id": 58100, "decoder_start_token_id": 58100}
    | {"bos_token_id": None, "eos_token_id": 0, "forced_eos_token_id": 0},
)
_MBART = _BART._replace(
    encoder=_bart_names("encoder", embed_norm=True, final_norm=True, learned=True),
    decoder=_bart_names("decoder", embed_norm=True, final_norm=True, learned=True),
    norm_place="before",
    begins_with_last=True,
    defaults=_BART.defaults | {"decoder_start_token_id": None},
)
_M2M_100 = _MBART._replace(
    encoder=_bart_names("encoder", embed_norm=False, final_norm=True, learned=False),
    decoder=_bart_names("decoder", embed_norm=False, final_norm=True, learned=False),
    head_bias=None,
    begins_with_last=False,
    positions="fairseq",
    defaults=_BART.defaults
    | {"vocab_size": 128112, "activation_function": "relu", "scale_embedding": True}
    | {"forced_eos_token_id": None},
)


# T5 and mT5.
def _t5_names(stack: str) -> Names:
    parts: dict[str, tuple[str, ...]] = {
        "self_attn.in_proj": tuple(f"layer.0.SelfAttention.{x}" for x in "qkv"),
        "self_attn.out_proj": ("layer.0.SelfAttention.o",),
        "norm_attn": ("layer.0.layer_norm",),
    }
    if stack == "decoder":
        parts |= {
            "cross_attn.in_proj": tuple(f"layer.1.EncDecAttention.{x}" for x in "qkv"),
            "cross_attn.out_proj": ("layer.1.EncDecAttention.o",),
            "norm_cross": ("layer.1.layer_norm",),
        }
    place = "layer.2" if stack == "decoder" else "layer.1"
    parts |= {
        "linear1": (f"{place}.DenseReluDense.wi",),
        "linear1 gated": (f"{place}.DenseReluDense.wi_0", f"{place}.DenseReluDense.wi_1"),
        "linear2": (f"{place}.DenseReluDense.wo",),
        "norm_ff": (f"{place}.layer_norm",),
    }
    return Names(
        layer=f"{stack}.block.{{}}.",
        parts=parts,
        embed=(f"{stack}.embed_tokens", "shared"),
        final_norm=f"{stack}.final_layer_norm",
        relative=f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias",
    )


_T5 = GeneratingFamily(
    kind="t5",
    prefix="",
    encoder=_t5_names("encoder"),
    decoder=_t5_names("decoder"),
    heads=("lm_head",),
    norm="rms",
    aliases={
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "head_dim": "d_kv",
        "intermediate_size": "d_ff",
        "num_hidden_layers": "num_layers",
    },
    defaults={
        "vocab_size": 32128,
        "hidden_size": 512,
        "head_dim": 64,
        "intermediate_size": 2048,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "pad_token_id": 0,
        "eos_token_id": 1,
    },
)
_MT5 = _T5._replace(
    kind="mt5",
    defaults=_T5.defaults
    | {"vocab_size": 250112, "intermediate_size": 1024, "num_hidden_layers": 8}
    | {"num_attention_heads": 6, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0},
)

SEQ2SEQ = {
    "marian": _MARIAN,
    "bart": _BART,
    "mbart": _MBART,
    "m2m_100": _M2M_100,
    "t5": _T5,
    "mt5": _MT5,
}
# The families whose models may have a head that classifies texts.
CLASSIFIERS = {"bart": _BART, "mbart": _MBART}
# The families whose encoder AutoModel reads alone.
TEXT_ENCODERS = {"t5": _T5, "mt5": _MT5}
