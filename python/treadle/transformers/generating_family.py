"""A family of checkpoints that generate is data: the names of its tensors and of its entries.

All families are stacks of `treadle.layers.block_spec.BlockSpec`, made of a config.json by
`stack_shapes`.
Those with an encoder and a decoder are in `seq2seq_families`, those with a decoder alone in
`causal_families`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Names(NamedTuple):
    """The names of a stack's tensors; a linear layer or a norm has a .weight, perhaps a .bias."""

    layer: str
    """The names of a layer begin with this; ``{}`` is its number."""
    parts: dict[str, tuple[str, ...]]
    """The checkpoint's names of each part of a native layer, in the order of their rows."""
    embed: tuple[str, ...]
    """The table of tokens has one of these names."""
    final_norm: str | None
    positions: str | None = None
    embed_norm: str | None = None
    relative: str | None = None
    """T5's table of buckets."""


class GeneratingFamily(NamedTuple):
    kind: str
    """The function of `stack_shapes` that reads the family's config.json."""
    prefix: str
    """Names may begin with it, and do not in a checkpoint of the stacks without a head."""
    encoder: Names | None
    decoder: Names
    heads: tuple[str, ...]
    """The matrix that makes logits has one of these names where it is not the table of tokens."""
    defaults: dict[str, Any]
    aliases: Mapping[str, str] = {}
    head_bias: str | None = None
    biases: Mapping[str, bool | str] = {}
    """A linear part of a layer has a bias if this, or the entry it names, says so; else none."""
    forms: Mapping[str, str] = {}
    """How the checkpoint has a part if not as rows: "transposed", "heads" or "plus_one"."""
    norm: str = "layer"
    norm_place: str = "before"
    head_norm: bool = False
    scaled_embedding: bool = False
    """True if the vectors of tokens are multiplied by the root of their size."""
    positions: str | None = None
    """The table of positions: "learned", "marian" or "fairseq"; None where there is none."""
    begins_with_last: bool = False
    """True if a text that the decoder reads begins with its own last token, and not with
    decoder_start_token_id."""
    windows: str | None = None
    """The layers with a window: "all", "late" (from max_window_layers on), or "2" and "6" for all
    but every second or sixth; layer_types says otherwise but for "all"."""


LINEAR = ("self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2")
"""The linear parts of a layer without cross attention."""
ALL_BIASES: dict[str, bool | str] = dict.fromkeys(
    (*LINEAR, "cross_attn.in_proj", "cross_attn.out_proj"), True
)
