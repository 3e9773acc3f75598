"""This module says how much work one call of a recurrent net is, and how fast the machine could do
it.

Weights have to be read and multiplied, and neither can be avoided: a product takes at least the
larger of (bytes of its weights / read bandwidth) and (FLOPs / FMA peak), once per pass over the
weights. A sequence passes once over the input weights, for all T*B rows together, and T times over
the recurrent weights. A single step passes once over everything.

The bandwidth is that of the level of the memory hierarchy that holds the weights. It is measured in
the same run on a buffer as large as the weights that are read again and again: in a sequence the
recurrent weights of one layer and direction, in a repeated step all weights. With several threads
each thread reads its share, at the same time.

A step needs the h of the step before: it is stored, loaded, multiplied into the gates, and goes
through their functions into the next h. That chain is measured for one vector of units, and a net
takes at least its time for each step that waits for another one: T steps of a layer, one more for
each layer above it, which follows a step behind, and T for each layer where both directions have to
end before the layer above begins. Projections and the rounding of h are not counted.

In bfloat16 and int8 a weight has two bytes and one, scales not counted, and the peak is that of the
format's multiply-adds: FMA stands for them, too.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ...dtypes import BYTES
from ...limits import Limit, Pass, Rates, limit_of
from .case import NetCase


class Product(NamedTuple):
    """A product of rows and one weight matrix, which a call may repeat."""

    nbytes: int  # of the weights
    resident: int  # bytes that have to stay in the cache between two passes
    row_flops: int
    passes: tuple[tuple[int, int], ...]  # (rows of a pass, number of passes with so many rows)


def products(case: NetCase) -> list[Product]:
    """List every product of one call."""
    outer = case.gates * case.H
    if case.lengths:
        live = Counter(sum(t < length for length in case.lengths) for t in range(case.T))
        live.pop(0, None)
        steps = tuple(sorted(live.items()))
    else:
        steps = ((case.B, case.T),)
    rows = sum(count * times for count, times in steps)
    width = BYTES[case.dtype]
    found = []
    for layer in range(case.L):
        fed, back = outer * case.input_size(layer), outer * case.output_size
        projection = case.P * case.H
        if case.carried:
            sizes = [(fed + back + projection, steps)]
        else:
            sizes = [(fed, ((rows, 1),)), (back + projection, steps)]
        for size, passes in sizes:
            found += [Product(size * width, size * width, 2 * size, passes)] * case.D
    if case.carried:
        total = sum(p.nbytes for p in found)
        found = [p._replace(resident=total) for p in found]
    return found


def flops(case: NetCase) -> int:
    """Count the floating-point operations of one call's products; gates are not counted."""
    return sum(p.row_flops * rows * times for p in products(case) for rows, times in p.passes)


def bytes_read(case: NetCase) -> int:
    """Count the bytes of weights that one call reads."""
    return sum(p.nbytes * times for p in products(case) for _, times in p.passes)


def weight_bytes(case: NetCase) -> int:
    """Count the bytes of all weight matrices."""
    return sum(p.nbytes for p in products(case))


def buffer_sizes(case: NetCase) -> list[int]:
    """List the sizes of buffers for which `limit` needs the read bandwidth."""
    return sorted({p.resident for p in products(case)})


def passes(case: NetCase) -> list[Pass]:
    """List every pass over the weights of a product."""
    return [
        Pass(p.nbytes, p.resident, p.row_flops * rows, times)
        for p in products(case)
        for rows, times in p.passes
    ]


def dependent_steps(case: NetCase) -> int:
    """Count the steps of which each waits for the one before."""
    steps = max(case.lengths, default=case.T)
    return steps * case.L if case.D > 1 else steps + case.L - 1


def chain(case: NetCase, rates: Rates) -> float:
    """Return the seconds of the chain of all dependent steps."""
    return dependent_steps(case) * rates.chain(case.cell, case.nonlinearity)


def limit(case: NetCase, rates: Rates) -> Limit:
    """Return the limit."""
    return limit_of(passes(case), rates, chain(case, rates))
