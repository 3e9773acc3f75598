"""This module says how fast the machine could generate.

The encoder, or the reading of a prompt, multiplies its matrices with every token, at the FMA peak
or at the bandwidth of what holds them. After that each step reads the decoder's matrices, the
output's among them, once for all its rows, or multiplies them with all rows if that takes longer.
Attention, keys and values, embeddings, norms and the search cost nothing here.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ...core.dtypes import BYTES
from ...core.limits import Limit, Pass, Rates, limit_of
from ...core.target import Target
from .cases import SEQ2SEQ, GenerationCase
from .files import configuration


class Weights(NamedTuple):
    """How many weights the matrices have that a token of each kind is multiplied with."""

    source: int
    """A token of the text: of the encoder and of the keys and values made of its outputs."""
    new: int
    """A new token: of the decoder, without the output's matrix."""
    output: int


@cache
def weights(model: str) -> Weights:
    """Count the weights of a model's matrices."""
    c: Any = configuration(model)
    if c.model_type in ("marian", "m2m_100"):
        sizes = (4 * c.d_model**2, 2 * c.d_model * c.decoder_ffn_dim)
        return _seq2seq(c.decoder_layers, *sizes, c.d_model * c.vocab_size)
    if c.model_type == "t5":
        sizes = (4 * c.d_model * c.num_heads * c.d_kv, 2 * c.d_model * c.d_ff)
        return _seq2seq(c.num_layers, *sizes, c.d_model * c.vocab_size)
    if c.model_type == "gpt2":
        layers = c.n_layer * 12 * c.n_embd**2
        return Weights(layers, layers, c.n_embd * c.vocab_size)
    share = c.num_key_value_heads / c.num_attention_heads
    layer = round(c.hidden_size**2 * (2 + 2 * share)) + 3 * c.hidden_size * c.intermediate_size
    layers = c.num_hidden_layers * layer
    return Weights(layers, layers, c.hidden_size * c.vocab_size)


def _seq2seq(layers: int, attention: int, feed_forward: int, output: int) -> Weights:
    """Count where the encoder has the sizes of the decoder.

    Half of cross attention, its keys and values, is multiplied with the text.
    """
    each = layers * (attention + feed_forward + attention // 2)
    return Weights(each, each, output)


def _parts(case: GenerationCase) -> tuple[tuple[int, int, int], ...]:
    """Return (weights, rows that they are multiplied with at a time, times)."""
    found = weights(case.model)
    source = (found.source, sum(case.rows), 1)
    # The first new token of a causal model follows from the prompt, of the others from a start.
    begun = 0 if case.group == SEQ2SEQ else 1
    first = (found.output + (found.new if begun == 0 else 0), case.B, 1)
    steps = (found.new + found.output, case.B * case.beams, case.T - 1)
    return source, first, steps


def flops(case: GenerationCase) -> int:
    """Return the FLOPs of all products."""
    return sum(2 * size * rows * times for size, rows, times in _parts(case))


def bytes_read(case: GenerationCase) -> int:
    """Return the bytes of the weights of all steps."""
    return sum(size * times for size, _, times in _parts(case)) * BYTES[case.dtype]


def buffer_sizes(case: GenerationCase) -> list[int]:
    """Return the size of the decoder's weights, which are read again and again."""
    found = weights(case.model)
    return [(found.new + found.output) * BYTES[case.dtype]]


def limit(case: GenerationCase, rates: Rates) -> Limit:
    """Return the limit."""
    (resident,) = buffer_sizes(case)
    width = BYTES[case.dtype]
    passes = [
        Pass(size * width, resident, 2 * size * rows, times) for size, rows, times in _parts(case)
    ]
    return limit_of(passes, rates)


def target(case: GenerationCase, limit: Limit, rates: Rates) -> Target | None:
    """Hold one row against the time that reading the weights takes."""
    if case.B * case.beams > 1 or case.S > 128:
        return None
    return Target("80 % of the limit", limit.seconds / 0.8)
