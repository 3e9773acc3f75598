"""Traces of attention: the probabilities of each head, computed beside the call that is traced.

The plain call never stores them. Here a layer that is chosen runs twice: as it does in the plain
call, for its output, and once more for the probabilities, since a pass that writes them down may
round the output in another way.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.arrays import to_float32
from treadle.inspection.result import Trace

if TYPE_CHECKING:
    from treadle._inputs.ragged import Ragged
    from treadle._inputs.types import ArrayLike, Float
    from treadle.inspection.choice import Choice
    from treadle.layers.attention import MultiheadAttention
    from treadle.layers.transformer_base import TransformerBase

FUNCTION = "treadle.trace"
AXES = ("batch", "head", "query", "key")
PROBABILITIES = "self_attention.probabilities"


def multihead(
    module: MultiheadAttention,
    choice: Choice,
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *others: Any,
    **options: Any,
) -> Trace:
    """Trace a call of MultiheadAttention."""
    output = module(query, key, value, *others, **options)
    found = Trace(repr(module), output)
    names = ("key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal")
    call = dict(zip(names, others, strict=False)) | options
    call |= {"need_weights": True, "average_attn_weights": False}
    _, probabilities = module(query, key, value, **call)
    assert probabilities is not None
    batched = probabilities.ndim == 4
    kept = choice.of_heads(probabilities if batched else probabilities[None])
    found.add("attention.probabilities", kept if batched else kept[0], AXES[1 - batched :])
    return found


def encoder(
    module: TransformerBase,
    choice: Choice,
    src: ArrayLike,
    mask: ArrayLike | None = None,
    src_key_padding_mask: ArrayLike | None = None,
    is_causal: bool | None = None,
    *,
    src_mask: ArrayLike | None = None,
) -> Trace:
    """Trace a call of TransformerEncoder or TransformerEncoderLayer."""
    call: Any = module
    mask = src_mask if mask is None else mask
    output = call(src, mask, src_key_padding_mask, False if is_causal is None else is_causal)
    found = Trace(repr(module), output)
    x = to_float32(FUNCTION, "src", src)
    batched = x.ndim == 3
    rows = module._batch(x)
    places, scores = module._masks(rows, batched, "mask", mask, src_key_padding_mask)
    native, heads = module._packed.native, module._layer()["nhead"]
    choice.check(native.num_layers)
    flat = np.ascontiguousarray(places.gather(rows))
    for number in range(native.num_layers):
        run = partial(
            native.run,
            FUNCTION,
            flat,
            places.offsets,
            mask=scores,
            is_causal=bool(is_causal),
            layers=(number, number + 1),
        )
        flat = run()
        if choice.layer(number):
            probabilities = _room(places, heads)
            run(probabilities=probabilities)
            add_layer(found, choice, f"layer{number}", places, (probabilities, flat), batched)
    return found


def add_layer(
    found: Trace,
    choice: Choice,
    place: str,
    places: Ragged,
    arrays: tuple[Float, Float],
    batched: bool = True,
) -> None:
    """Record the attention [B, N, K, K] and the output [M, H] of the tokens of a layer."""
    probabilities, flat = arrays
    kept = choice.of_heads(places.scatter_square(probabilities))
    hidden = places.scatter(flat, fill=float("nan"))
    if batched:
        found.add(f"{place}.{PROBABILITIES}", kept, AXES)
        found.add(f"{place}.states.hidden", hidden.swapaxes(0, 1), ("time", "batch", "unit"))
    else:
        found.add(f"{place}.{PROBABILITIES}", kept[0], AXES[1:])
        found.add(f"{place}.states.hidden", hidden[0], ("time", "unit"))


def checkpoint(
    model: Any,
    choice: Choice,
    input_ids: ArrayLike,
    attention_mask: ArrayLike | None = None,
    token_type_ids: ArrayLike | None = None,
    position_ids: ArrayLike | None = None,
    *,
    task_type_ids: ArrayLike | None = None,
    **flags: Any,
) -> Trace:
    """Trace a call of a model with the encoder of a checkpoint, a layer at a time."""
    from treadle.transformers.inputs import check_tokens

    tokens = (input_ids, attention_mask, token_type_ids, position_ids)
    output = model(*tokens, task_type_ids=task_type_ids, **flags)
    found = Trace(repr(model), output)
    encoder, layers = model._encoder, model.config.num_hidden_layers
    choice.check(layers)
    places, rows = check_tokens(FUNCTION, encoder, *tokens, task_type_ids)
    flat = encoder.embed(FUNCTION, rows)
    embedded = places.scatter(flat, fill=float("nan")).swapaxes(0, 1)
    found.add("embedding.states.hidden", embedded, ("time", "batch", "unit"))
    for number in range(layers):
        run = partial(encoder.run_layer, FUNCTION, flat, places.offsets, number)
        flat = run(None)
        if choice.layer(number):
            probabilities = _room(places, model.config.num_attention_heads)
            run(probabilities)
            add_layer(found, choice, f"layer{number}", places, (probabilities, flat))
    return found


def pretrained(model: Any, choice: Choice, *args: Any, **options: Any) -> Trace:
    """Trace a call of a model of `treadle.transformers`: attention and hidden states by layer."""
    from treadle.transformers.model import PretrainedModel

    if isinstance(model, PretrainedModel):
        return checkpoint(model, choice, *args, **options)
    output = model(*args, **options)
    found = Trace(repr(model), output)
    asked = options | {
        "output_hidden_states": True,
        "output_attentions": True,
        "return_dict": True,
    }
    whole = model(*args, **asked)
    for part in ("", "encoder_", "decoder_"):
        place = part.replace("_", ".")
        _layers(found, choice, place, PROBABILITIES, getattr(whole, f"{part}attentions", None))
        if part == "decoder_":
            cross = getattr(whole, "cross_attentions", None)
            _layers(found, choice, place, "cross_attention.probabilities", cross)
        states = getattr(whole, f"{part}hidden_states", None)
        if states is not None:
            axes = ("time", "batch", "unit")
            found.add(f"{place}embedding.states.hidden", states[0].swapaxes(0, 1), axes)
            for number, state in enumerate(states[1:]):
                if choice.layer(number):
                    name = f"{place}layer{number}.states.hidden"
                    found.add(name, state.swapaxes(0, 1), axes)
    return found


def _layers(
    found: Trace, choice: Choice, place: str, name: str, attentions: tuple[Float, ...] | None
) -> None:
    """Record the attention [B, N, S, K] of the chosen layers."""
    if attentions is None:
        return
    choice.check(len(attentions))
    for number, probabilities in enumerate(attentions):
        if choice.layer(number):
            full = f"{place}layer{number}.{name}"
            found.add(full, choice.of_heads(probabilities), AXES)


def _room(places: Ragged, heads: int) -> Float:
    """Return memory for the attention of all tokens that exist, [B, N, K, K]."""
    return np.empty((places.batch, heads, places.longest, places.longest), np.float32)
