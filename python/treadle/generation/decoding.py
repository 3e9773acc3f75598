"""A decoding is all that a search knows of a model: a step, and an order of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from treadle._inputs.arrays import to_float32, to_int64
from treadle._public import published

if TYPE_CHECKING:
    from treadle._inputs.types import Float, Int

LogitsHook: TypeAlias = "Callable[[Int, Float], Float]"


@published("treadle.generation")
class Decoding(Protocol):
    """A model in the middle of decoding: R rows are live, each with the tokens it has seen.

    Anything with these two methods can be searched: a transformer with its cache, a recurrent net
    with its state, a table.

    A decoding may have a third, ``step_best(tokens, k)``, which extends the rows as `step` does and
    returns ``ids, values, lse``: the k largest logits [R, k] of each row, the best first and of
    equal ones the lower id, their ids, and the logarithms [R] of the sums of all e^logit. A greedy
    or beam search calls it instead of `step` if nothing has to see all logits: no hook, no
    output_scores or output_logits, and of the options that change scores only those that forbid or
    force up to 256 tokens (bad_words_ids, suppress_tokens, forced_eos_token_id, min_length,
    no_repeat_ngram_size from 2 on, ...). The search then asks for as many more as may be forbidden.

    Examples
    --------
    A model that only knows which token follows which:

    >>> import numpy as np, treadle.generation
    >>> class Table:
    ...     following = np.float32([[0, 5, 1], [0, 1, 5], [5, 0, 0]])
    ...     def step(self, tokens):
    ...         return self.following[tokens]
    ...     def reorder(self, rows):
    ...         pass
    >>> config = treadle.generation.GenerationConfig(max_new_tokens=4)
    >>> found = treadle.generation.search(Table(), Table().step([0]), [[0]], config)
    >>> found.sequences
    array([[0, 1, 2, 0, 1]])
    """

    def step(self, tokens: Int) -> Float:
        """Extend the R live rows by ``tokens`` [R], and return the logits [R, V] that follow.

        The logits are float32, and the search may overwrite them.
        """
        ...

    def reorder(self, rows: Int) -> None:
        """Make live row r what live row ``rows[r]`` was, for all r; ``len(rows)`` rows are live.

        A row may occur several times, as when a hypothesis has several continuations, or not at
        all, as when a sentence has ended.
        """
        ...


def checked_step(decoding: Decoding, tokens: Int, vocabulary: int) -> Float:
    """Return the logits [R, V] of a step, writable.

    Raises
    ------
    TypeError, ValueError
        For another dtype or shape.
    """
    return checked_logits("decoding.step(tokens)", decoding.step(tokens), len(tokens), vocabulary)


def checked_best(
    decoding: Decoding, tokens: Int, k: int, vocabulary: int
) -> tuple[Int, Float, Float]:
    """Return the k best tokens of a step, as ``step_best`` does.

    Raises
    ------
    TypeError, ValueError
        For other dtypes, shapes and token ids.
    """
    function, name = "treadle.generation.search", "decoding.step_best(tokens, k)"
    ids, values, lse = decoding.step_best(tokens, k)  # type: ignore[attr-defined]
    ids = to_int64(function, f"ids of {name}", ids)
    values = to_float32(function, f"values of {name}", values)
    lse = to_float32(function, f"lse of {name}", lse)
    shapes = (ids.shape, values.shape, lse.shape)
    if shapes != ((len(tokens), k), (len(tokens), k), (len(tokens),)):
        raise ValueError(
            f"{function}: {name} returned shapes {shapes}, expected [R, k], [R, k] and [R] with "
            f"R = {len(tokens)}, k = {k}"
        )
    if ids.size and not 0 <= ids.min() <= ids.max() < vocabulary:
        raise ValueError(
            f"{function}: {name} returned ids in {ids.min()}..{ids.max()}, expected them in "
            f"0..{vocabulary - 1}"
        )
    return ids, values, lse


def checked_logits(name: str, logits: Float, rows: int, vocabulary: int | None) -> Float:
    """Return logits [R, V] as a contiguous float32 array that can be written to."""
    function = "treadle.generation.search"
    array = to_float32(function, name, logits)
    expected = (rows, array.shape[-1] if array.ndim == 2 and vocabulary is None else vocabulary)
    if array.ndim != 2 or array.shape != expected or array.shape[1] == 0:
        size = "V" if vocabulary is None else vocabulary
        raise ValueError(
            f"{function}: {name} has shape {array.shape}, expected ({rows}, {size}): a row of "
            "logits for every live row"
        )
    if not (array.flags.writeable and array.flags.c_contiguous):
        array = np.array(array)
    return array
