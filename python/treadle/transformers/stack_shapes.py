"""A config.json becomes the shapes of its stacks: every layer's BlockSpec, tables, and the head.

Everything is checked here, before any tensor is looked for, and nothing is allocated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._inputs.checks import MAX_LAYERS
from treadle.layers.block_spec import MAX_DISTANCE, MAX_HEAD_SIZE, BlockSpec, Relative
from treadle.transformers.causal_families import CAUSAL
from treadle.transformers.entries import Entries
from treadle.transformers.families import ACTIVATIONS
from treadle.transformers.rotary_scaling import parameters, rotary
from treadle.transformers.seq2seq_families import SEQ2SEQ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle.layers.block_spec import Rotary
    from treadle.transformers.generating_family import GeneratingFamily, Names

FAMILIES = SEQ2SEQ | CAUSAL
# BART's and fairseq's tables of positions have two rows before the first token's.
OFFSET = 2
# The most tokens of a table that is computed, not read, so that a number takes no memory.
_MAX_COMPUTED = 2**20
_KINDS = ("full_attention", "sliding_attention")


class Positions(NamedTuple):
    """A table of positions: "learned" (in the checkpoint), "marian" or "fairseq" (sinusoids)."""

    kind: str
    rows: int
    """The number of tokens that have a position."""
    first: int
    """The row of the first token."""


class StackShape(NamedTuple):
    names: Names
    specs: tuple[BlockSpec, ...]
    vocabulary: int
    biased: frozenset[str]
    """The linear parts of a layer that have a bias."""
    positions: Positions | None
    embed_scale: float = 1.0

    @property
    def most_tokens(self) -> int | None:
        """The number of tokens that have positions, None if there is no limit."""
        return None if self.positions is None else self.positions.rows


class HeadShape(NamedTuple):
    tied: bool
    """True if the table of tokens makes the logits unless the checkpoint has another matrix."""
    scale: float | None = None
    softcap: float | None = None


class Shapes(NamedTuple):
    encoder: StackShape | None
    decoder: StackShape
    head: HeadShape
    common: dict[str, Any]
    """The entries that all models have, under their common names, for `Config`."""


def read_shapes(where: str, family: GeneratingFamily, given: Mapping[str, Any]) -> Shapes:
    """Check the entries of a config.json and make the shapes of a model. Raises ValueError."""
    entries = Entries(where, given, family.aliases, family.defaults)
    makers = {"bart": _bart, "t5": _t5, "mt5": _t5, "gpt2": _gpt2, "gpt_neox": _gpt_neox}
    try:
        return makers.get(family.kind, _llama)(entries, family)
    except TypeError as error:  # every fault of a file is a ValueError, also a wrong type
        raise ValueError(f"{where}: {error}") from None


def _bart(entries: Entries, family: GeneratingFamily) -> Shapes:
    hidden, vocabulary = entries.size("hidden_size"), entries.size("vocab_size")
    others = vocabulary
    if not entries.flag("share_encoder_decoder_embeddings"):
        others = entries.size_or("decoder_vocab_size", vocabulary)
    scale = math.sqrt(hidden) if entries.flag("scale_embedding") else 1.0
    activation = _activation(entries, "activation_function")
    stacks = []
    for stack, names, tokens in (
        ("encoder", family.encoder, vocabulary),
        ("decoder", family.decoder, others),
    ):
        assert names is not None
        heads = entries.size(f"{stack}_attention_heads")
        spec = BlockSpec(
            hidden=hidden,
            heads=heads,
            kv_heads=heads,
            head_size=_head_size(entries, f"{stack}_attention_heads", hidden, heads),
            feed_forward=entries.size(f"{stack}_ffn_dim"),
            activation=activation,
            norm_place=family.norm_place,
            cross_attention=stack == "decoder",
            causal=stack == "decoder",
        )
        specs = (spec,) * entries.size(f"{stack}_layers", MAX_LAYERS)
        positions = _positions(entries, family)
        biased = _biased(entries, family)
        stacks.append(StackShape(names, specs, tokens, biased, positions, scale))
    encoder, decoder = stacks
    common = _common(entries, decoder) | {"num_hidden_layers": len(encoder.specs)}
    return Shapes(encoder, decoder, HeadShape(entries.flag("tie_word_embeddings")), common)


def _positions(entries: Entries, family: GeneratingFamily) -> Positions | None:
    if family.positions is None:
        return None
    if family.positions == "learned":
        first = OFFSET if family.kind == "bart" else 0
        return Positions("learned", entries.size("max_position_embeddings"), first)
    count = entries.size("max_position_embeddings", _MAX_COMPUTED)
    if family.positions == "marian":
        return Positions("marian", count, 0)
    return Positions("fairseq", count, entries.size("pad_token_id", _MAX_COMPUTED, 0) + 1)


def _t5(entries: Entries, family: GeneratingFamily) -> Shapes:
    hidden, heads = entries.size("hidden_size"), entries.size("num_attention_heads")
    layers = entries.size("num_hidden_layers", MAX_LAYERS)
    buckets = entries.size("relative_attention_num_buckets", MAX_DISTANCE, 4)
    if buckets % 2:
        raise entries.wrong("relative_attention_num_buckets", buckets, "an even number")
    furthest = entries.size("relative_attention_max_distance", MAX_DISTANCE, buckets // 2 + 1)
    activation, gated = _feed_forward(entries)
    stacks = []
    for stack, names in (("encoder", family.encoder), ("decoder", family.decoder)):
        assert names is not None
        spec = BlockSpec(
            hidden=hidden,
            heads=heads,
            kv_heads=heads,
            head_size=entries.size("head_dim", MAX_HEAD_SIZE),
            feed_forward=entries.size("intermediate_size"),
            activation=activation,
            gated=gated,
            norm="rms",
            eps=entries.number("layer_norm_epsilon", 0, 1),
            scale=1.0,
            relative=Relative(buckets, furthest, bidirectional=stack == "encoder"),
            cross_attention=stack == "decoder",
            causal=stack == "decoder",
        )
        if stack == "decoder":
            layers = entries.size_or("num_decoder_layers", layers, MAX_LAYERS)
        parts = dict(names.parts)
        other = parts.pop("linear1 gated")
        if gated:
            parts["linear1"] = other
        names = names._replace(parts=parts)
        vocabulary = entries.size("vocab_size")
        stacks.append(StackShape(names, (spec,) * layers, vocabulary, frozenset(), None))
    encoder, decoder = stacks
    # The first T5 multiplied the decoder's output, and version 1.1, which has a matrix of its own,
    # does not: tie_word_embeddings says which, and in later files scale_decoder_outputs.
    scaled = family.kind == "t5" and entries.get("tie_word_embeddings") is not False
    if scaled and entries.get("scale_decoder_outputs") is not None:
        scaled = entries.flag("scale_decoder_outputs")
    common = _common(entries, decoder) | {"num_hidden_layers": len(encoder.specs)}
    head = HeadShape(tied=True, scale=hidden**-0.5 if scaled else None)
    return Shapes(encoder, decoder, head, common | {"tie_word_embeddings": True})


def _feed_forward(entries: Entries) -> tuple[str, bool]:
    """Read feed_forward_proj: "relu", "gated-gelu", ..."""
    known = [*ACTIVATIONS, *(f"gated-{name}" for name in ACTIVATIONS)]
    value = entries.choice("feed_forward_proj", known)
    gated, name = value.startswith("gated-"), value.removeprefix("gated-")
    return ("gelu_tanh" if value == "gated-gelu" else ACTIVATIONS[name]), gated


def _gpt2(entries: Entries, family: GeneratingFamily) -> Shapes:
    hidden, heads = entries.size("hidden_size"), entries.size("num_attention_heads")
    head_size = _head_size(entries, "num_attention_heads", hidden, heads)
    scale = head_size**-0.5 if entries.flag("scale_attn_weights") else 1.0
    by_layer = entries.flag("scale_attn_by_inverse_layer_idx")
    if entries.get("add_cross_attention") not in (None, False):
        raise entries.wrong("add_cross_attention", entries.get("add_cross_attention"), "false")
    specs = tuple(
        BlockSpec(
            hidden=hidden,
            heads=heads,
            kv_heads=heads,
            head_size=head_size,
            feed_forward=entries.size_or("intermediate_size", 4 * hidden),
            activation=_activation(entries, "activation_function"),
            eps=entries.number("layer_norm_epsilon", 0, 1),
            scale=scale / (number + 1) if by_layer else scale,
        )
        for number in range(entries.size("num_hidden_layers", MAX_LAYERS))
    )
    return _alone(entries, family, specs)


def _gpt_neox(entries: Entries, family: GeneratingFamily) -> Shapes:
    hidden, heads = entries.size("hidden_size"), entries.size("num_attention_heads")
    head_size = _head_size(entries, "num_attention_heads", hidden, heads)
    given = parameters(entries)
    given.setdefault("rope_theta", entries.get("rotary_emb_base"))
    given.setdefault("partial_rotary_factor", entries.get("rotary_pct"))
    spec = BlockSpec(
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_size=head_size,
        feed_forward=entries.size("intermediate_size"),
        activation=_activation(entries, "hidden_act"),
        parallel=entries.flag("use_parallel_residual"),
        eps=entries.number("layer_norm_eps", 0, 1),
        rotary=_rotary(entries, given, head_size),
    )
    specs = (spec,) * entries.size("num_hidden_layers", MAX_LAYERS)
    return _alone(entries, family, specs)


def _llama(entries: Entries, family: GeneratingFamily) -> Shapes:
    hidden, heads = entries.size("hidden_size"), entries.size("num_attention_heads")
    if entries.get("head_dim") is None:
        head_size = _head_size(entries, "num_attention_heads", hidden, heads)
    else:
        head_size = entries.size("head_dim", MAX_HEAD_SIZE)
    kv_heads = entries.size_or("num_key_value_heads", heads)
    if heads % kv_heads:
        raise entries.wrong("num_key_value_heads", kv_heads, f"a divisor of {heads}")
    pre = entries.number_or_none("query_pre_attn_scalar", 1e-6, 1e6)
    if entries.get("use_bidirectional_attention") not in (None, False):
        value = entries.get("use_bidirectional_attention")
        raise entries.wrong("use_bidirectional_attention", value, "false")
    spec = BlockSpec(
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        feed_forward=entries.size("intermediate_size"),
        activation=_activation(entries, "hidden_act"),
        gated=True,
        norm="rms",
        norm_place=family.norm_place,
        eps=entries.number("rms_norm_eps", 0, 1),
        scale=None if pre is None else pre**-0.5,
        head_norm=family.head_norm,
        softcap=entries.number_or_none("attn_logit_softcapping", 1e-6, 1e6),
    )
    windows = _windows(entries, family, entries.size("num_hidden_layers", MAX_LAYERS))
    turns = {sliding: _turns(entries, sliding, head_size) for sliding in set(windows)}
    window = entries.size("sliding_window") if any(windows) else None
    specs = tuple(
        BlockSpec(
            **(vars(spec) | {"window": window if sliding else None, "rotary": turns[sliding]})
        )
        for sliding in windows
    )
    return _alone(entries, family, specs)


def _turns(entries: Entries, sliding: bool, head_size: int) -> Rotary:
    """Make the rotary positions of the layers with a window, or of the others."""
    given = parameters(entries, _KINDS[sliding])
    local = entries.get("rope_local_base_freq")
    if sliding and local is not None and not _nested(entries):
        given = {"rope_theta": local}  # Gemma 3's scaling concerns the layers without a window
    given.setdefault("rope_theta", local if sliding and local is not None else None)
    if given["rope_theta"] is None:
        given["rope_theta"] = entries.get("rope_theta")
    return _rotary(entries, given, head_size)


def _nested(entries: Entries) -> bool:
    value = entries.get("rope_parameters")
    return isinstance(value, dict) and any(isinstance(value.get(k), dict) for k in _KINDS)


def _rotary(entries: Entries, given: dict[str, Any], head_size: int) -> Rotary:
    length, share = (entries.get(n) for n in ("max_position_embeddings", "partial_rotary_factor"))
    original = entries.get("original_max_position_embeddings")
    if original is not None:
        given = given | {"original_max_position_embeddings": original}
    defaults = {
        "partial_rotary_factor": 1.0 if share is None else share,
        "original_max_position_embeddings": length,
    }
    return rotary(entries, given, head_size, defaults)


def _windows(entries: Entries, family: GeneratingFamily, layers: int) -> list[bool]:
    """Return for each layer whether it has a window."""
    if family.windows is None or entries.get("sliding_window") is None:
        return [False] * layers
    if family.windows == "all":
        return [True] * layers
    if family.windows == "late" and not entries.flag("use_sliding_window"):
        return [False] * layers
    kinds = entries.get("layer_types")
    if kinds is not None:
        known = isinstance(kinds, list) and len(kinds) == layers
        if not (known and all(isinstance(kind, str) and kind in _KINDS for kind in kinds)):
            raise entries.wrong("layer_types", kinds, f"{layers} names of {', '.join(_KINDS)}")
        return [kind == _KINDS[True] for kind in kinds]
    if family.windows == "late":
        first = entries.size("max_window_layers", least=0)
        return [number >= first for number in range(layers)]
    every = int(family.windows)
    if family.head_norm and entries.get("sliding_window_pattern") is not None:
        every = entries.size("sliding_window_pattern")
    return [(number + 1) % every != 0 for number in range(layers)]


def _alone(entries: Entries, family: GeneratingFamily, specs: tuple[BlockSpec, ...]) -> Shapes:
    """Complete the shapes of a model with a decoder alone."""
    scale = float(np.float32(math.sqrt(specs[0].hidden))) if family.scaled_embedding else 1.0
    stack = StackShape(
        family.decoder,
        specs,
        entries.size("vocab_size"),
        _biased(entries, family),
        _positions(entries, family),
        scale,
    )
    softcap = entries.number_or_none("final_logit_softcapping", 1e-6, 1e6)
    head = HeadShape(entries.flag("tie_word_embeddings"), softcap=softcap)
    return Shapes(None, stack, head, _common(entries, stack))


def _common(entries: Entries, decoder: StackShape) -> dict[str, Any]:
    """Return the entries that all configurations have."""
    spec = decoder.specs[0]
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    limit = entries.get("max_position_embeddings")
    if limit is not None:
        limit = entries.size("max_position_embeddings")
    return {
        "vocab_size": entries.size("vocab_size"),
        "hidden_size": spec.hidden,
        "num_hidden_layers": len(decoder.specs),
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.feed_forward,
        "max_position_embeddings": limit,
        "tie_word_embeddings": entries.get("tie_word_embeddings"),
        "is_encoder_decoder": any(spec.cross_attention for spec in decoder.specs),
        "forced_eos_token_id": entries.get("forced_eos_token_id"),
    } | {name: entries.get(name) for name in names}


def _biased(entries: Entries, family: GeneratingFamily) -> frozenset[str]:
    return frozenset(
        part
        for part, given in family.biases.items()
        if (entries.flag(given) if isinstance(given, str) else given)
    )


def _activation(entries: Entries, name: str) -> str:
    return ACTIVATIONS[entries.choice(name, ACTIVATIONS)]


def _head_size(entries: Entries, name: str, hidden: int, heads: int) -> int:
    if hidden % heads or hidden // heads > MAX_HEAD_SIZE:
        raise entries.wrong(
            name, heads, f"a divisor of {hidden} with heads of at most {MAX_HEAD_SIZE}"
        )
    return hidden // heads
