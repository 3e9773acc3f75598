"""The NumPy definition of a recurrent encoder and decoder with attention: the specification.

As in recurrent.py, the default `dtype` is float64, the truth the tests compare with; in float32 the
same functions give the error that an obvious implementation makes.

Letters: B batch, S positions of the encoder, T tokens of the decoder, H state, M size of a
position.
"""

from typing import NamedTuple

import numpy as np

from reference import recurrent as reference
from reference.attention import softmax


class Nets(NamedTuple):
    """The recurrent nets of an encoder and a decoder, each behind an Embedding, whose last layer is
    a Linear.
    """

    mode: str
    layers: int = 1
    directions: int = 1
    """Of the encoder."""
    decoder_mode: str | None = None


def seq2seq(
    parameters, x, tokens, nets, attention=None, *, lengths=None, bridge=False, dtype=np.float64
):
    """x [B, S], tokens [B, T] -> logits [B, T, V], probabilities [B, T, S]

    `parameters` have treadle's names. The size of the decoder's input weights says whether the
    context is an input. Without attention the probabilities are zero.
    """
    p = {name: value.astype(dtype) for name, value in parameters.items()}
    encoder, decoder = part(p, "encoder.1."), part(p, "decoder.1.")
    words = p["encoder.0.weight"][x].swapaxes(0, 1)
    memory, final = reference.module(
        nets.mode, encoder, words, num_layers=nets.layers, bidirectional=nets.directions == 2,
        lengths=lengths, dtype=dtype,
    )  # fmt: skip
    memory = memory.swapaxes(0, 1)
    mode = nets.decoder_mode or nets.mode
    state = first_state(p, final, nets, mode, bridge)
    embedded = p["decoder.0.weight"][tokens]
    feeds = decoder["weight_ih_l0"].shape[1] > embedded.shape[2]
    logits, looks = [], []
    for t in range(tokens.shape[1]):
        given = embedded[:, t]
        if feeds:
            context, look = attend(p, attention, memory, state[0][-1], lengths)
            given = np.concatenate([given, context], axis=1)
        y, end = reference.module(
            mode, decoder, given[None], state if mode == "lstm" else state[0],
            num_layers=nets.layers, dtype=dtype,
        )  # fmt: skip
        state, features = end if mode == "lstm" else (end,), y[0]
        if attention and not feeds:
            context, look = attend(p, attention, memory, features, lengths)
        if attention:
            features = np.concatenate([features, context], axis=1)
        else:
            look = np.zeros(x.shape, dtype)
        logits.append(features @ p["decoder.2.weight"].T + p["decoder.2.bias"])
        looks.append(look)
    return np.stack(logits, axis=1), np.stack(looks, axis=1)


def part(parameters, prefix):
    """The parameters of one module."""
    return {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}


def first_state(p, final, nets, mode, bridge):
    """The decoder's state (h,) or (h, c), each [L, B, H], from the encoder's, each [L D, B, H]."""
    final = final if isinstance(final, tuple) else (final,)
    if not bridge:
        return tuple(
            np.stack([beside(part[i * nets.directions :][: nets.directions])
                      for i in range(nets.layers)])
            for part in final[: 2 if mode == "lstm" else 1]
        )  # fmt: skip
    top = beside(final[0][-nets.directions :])
    numbers = np.tanh(top @ p["initial_state.weight"].T + p["initial_state.bias"])
    parts = np.split(numbers, nets.layers * (2 if mode == "lstm" else 1), axis=1)
    return tuple(np.stack(parts[i : i + nets.layers]) for i in range(0, len(parts), nets.layers))


def beside(directions):
    """[D, B, H] -> [B, D H]"""
    return np.concatenate(list(directions), axis=1)


def attend(p, attention, memory, query, lengths):
    """memory [B, S, M], query [B, H] -> context [B, M], probabilities [B, S]"""
    if attention == "additive":
        keys = memory @ p["attention_memory.weight"].T + p["attention_memory.bias"]
        sums = np.tanh(keys + (query @ p["attention_query.weight"].T)[:, None])
        scores = sums @ p["attention_score.weight"][0]
    else:
        keys = memory @ p["attention_memory.weight"].T if attention == "general" else memory
        scores = np.einsum("bsh,bh->bs", keys, query)
    if lengths is not None:
        missing = np.arange(memory.shape[1]) >= np.asarray(lengths)[:, None]
        scores = np.where(missing, scores.dtype.type(-np.inf), scores)
    probabilities = softmax(scores, dtype=scores.dtype.type)
    return np.einsum("bs,bsm->bm", probabilities, memory), probabilities
