"""This module says how fast the machine could run the encoder, and has the targets of single cases.

Each matrix is read once per call and multiplied with every token: the larger of (bytes / bandwidth
of what holds all the weights) and (FLOPs / FMA peak), matrix by matrix. Attention adds 4 S S H
FLOPs per layer and row. Padding costs nothing, nor do tokenisation, embeddings, norms and GELU. In
bfloat16 and int8 a weight has two bytes and one, and everything is multiplied at the peak of the
dtype, attention too, whatever it is computed in.
"""

from __future__ import annotations

from ...core.dtypes import BYTES
from ...core.limits import Limit, Pass, Rates, limit_of
from ...core.models.minilm.case import EncoderCase
from ...core.models.minilm.checkpoint import load
from ...core.models.minilm.text import token_lengths
from ...core.target import Target

BANDWIDTH_FACTOR = 1.3
INT8_QUERY = 0.8e-3  # seconds


def rows(case: EncoderCase) -> tuple[int, ...]:
    """Return the tokens of each row."""
    return token_lengths(case.B) if case.sentences else case.rows


def weights() -> int:
    """Return how many weights the matrices have, without the embeddings."""
    return sum(m.size for layer in load().layers for m in layer.matrices())


def weight_bytes(case: EncoderCase) -> int:
    """Return the bytes of these matrices."""
    return weights() * BYTES[case.dtype]


def _attention_flops(case: EncoderCase) -> int:
    model = load()
    return 4 * model.hidden * len(model.layers) * sum(n * n for n in rows(case))


def flops(case: EncoderCase) -> int:
    """Return the FLOPs of all products."""
    return 2 * weights() * sum(rows(case)) + _attention_flops(case)


def bytes_read(case: EncoderCase) -> int:
    """Return the bytes of the weights, which are read once."""
    return weight_bytes(case)


def buffer_sizes(case: EncoderCase) -> list[int]:
    """Return the size of all the weights, which are read again and again."""
    return [weight_bytes(case)]


def limit(case: EncoderCase, rates: Rates) -> Limit:
    """Return the limit."""
    size = weight_bytes(case)
    matrices = Pass(size, size, 2 * weights() * sum(rows(case)))
    return limit_of([matrices, Pass(0, 0, _attention_flops(case))], rates)


def target(case: EncoderCase, limit: Limit, rates: Rates) -> Target | None:
    """Hold a query against the time that reading the weights takes, in int8 against the clock."""
    if not case.bandwidth_target or case.dtype == "bfloat16":
        return None
    if case.dtype == "int8":
        return Target(f"{INT8_QUERY * 1e3:g} ms", INT8_QUERY)
    reading = weight_bytes(case) / rates.bandwidth(weight_bytes(case))
    return Target(f"{BANDWIDTH_FACTOR:g} x reading the weights", BANDWIDTH_FACTOR * reading)
