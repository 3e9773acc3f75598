"""This module checks and packs the weights that a call of a recurrent function gets.

Packing costs more than a short sequence. The nets of read-only weights are therefore kept for the
next call with the same arrays. A read-only array can change all the same, through a base that is
not read-only or after its flag has been set back, and so the cache trusts no flag: it keeps a copy
of the weights that it has packed and compares all bits in every call, which takes a tenth of the
time of packing. Arrays that can be written to are packed in every call, for they usually have been
written to.
"""

from __future__ import annotations

import weakref
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle import _core
from treadle._inputs import checks, foreign
from treadle._inputs.arrays import to_dense
from treadle._inputs.sequence import Sizes
from treadle.layers.activation import canonical
from treadle.layers.recurrent_spec import GATES, RecurrentSpec

if TYPE_CHECKING:
    from collections.abc import Hashable

    from treadle._inputs.types import ArrayLike, Float


# The weights of a layer in the order of the functions' arguments.
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peepholes")


class PackedCall(NamedTuple):
    """One packed layer in one direction, with its sizes and its weights as arrays."""

    sizes: Sizes
    native: _core.RecurrentStack
    weights: dict[str, Float | None]
    """The weights by name as float32 arrays without gaps; None where there is none."""


class _Entry(NamedTuple):
    """A native net, the caller's arrays that it was packed from, and copies of them."""

    native: _core.RecurrentStack
    arrays: list[weakref.ref[Float]]
    copies: list[Float]


class PackingCache:
    """A cache of native nets, by the read-only arrays that they were packed from.

    An entry leaves when one of its arrays is freed. Beyond ``most_nets`` entries or ``most_bytes``
    of weights the oldest entries leave; an entry takes twice the memory of its weights. Each change
    of the table is a single operation of a dict whose keys are plain numbers and texts, so that
    threads need no lock: at worst two of them pack the same weights.
    """

    def __init__(self, most_nets: int = 8, most_bytes: int = 2**26) -> None:
        self._most_nets, self._most_bytes = most_nets, most_bytes
        self._entries: dict[Hashable, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(
        self, function: str, spec: RecurrentSpec, weights: dict[str, Float | None]
    ) -> _core.RecurrentStack:
        """Return the native net of these weights, each an array or None."""
        arrays = [array for array in weights.values() if array is not None]
        if (
            any(array.flags.writeable for array in arrays)
            or self._nbytes(arrays) > self._most_bytes
        ):
            return spec.pack(function, [weights])
        # A packed net belongs to the kernels of its ISA, and its errors to its function.
        places = tuple(None if array is None else id(array) for array in weights.values())
        key = function, spec, _core.isa(), places
        entry = self._entries.get(key)
        if (
            entry is not None
            and all(ref() is a for ref, a in zip(entry.arrays, arrays, strict=True))
            and _core.same_bits(arrays, entry.copies)
        ):
            return entry.native
        # The copies are packed, not the arrays: another thread may write to those meanwhile, and
        # write the old values again before the next call compares them.
        own = {name: None if array is None else array.copy() for name, array in weights.items()}
        copies = [array for array in own.values() if array is not None]
        native = spec.pack(function, [own])
        self._entries.pop(key, None)  # the new entry must be the youngest

        def forget(_: object, entries: dict[Hashable, _Entry] = self._entries) -> None:
            entries.pop(key, None)

        self._entries[key] = _Entry(native, [weakref.ref(a, forget) for a in arrays], copies)
        self._shrink()
        return native

    def _shrink(self) -> None:
        """Remove the oldest entries until the others are within the bounds."""
        held = list(self._entries.copy().items())
        total = sum(self._nbytes(entry.copies) for _, entry in held)
        for number, (key, entry) in enumerate(held):
            if len(held) - number <= self._most_nets and total <= self._most_bytes:
                break
            self._entries.pop(key, None)
            total -= self._nbytes(entry.copies)

    @staticmethod
    def _nbytes(arrays: list[Float]) -> int:
        return sum(array.nbytes for array in arrays)


CACHE = PackingCache()


def packed(
    name: str,
    mode: str,
    weights: tuple[ArrayLike | None, ...],
    *,
    reverse: bool = False,
    batch_first: bool = False,
    clip: float | None = None,
    **options: Any,
) -> PackedCall:
    """Pack a layer from weights, whose shapes tell its sizes.

    ``weights`` are weight_ih, weight_hh, bias_ih, bias_hh and, of an LSTM, weight_hr and peepholes.
    """
    function = f"treadle.functional.{name}"
    flags = {"reverse": reverse, "batch_first": batch_first}
    flags |= {k: options[k] for k in ("reset_after", "input_forget") if k in options}
    for argument, value in flags.items():
        checks.flag(function, argument, value)
    given = dict(zip_longest(_NAMES, weights))
    gates = GATES[mode]
    arrays: dict[str, Float | None] = dict.fromkeys(given)

    def convert(name: str, sizes: tuple[int | None, ...], *letters: str) -> None:
        if given[name] is not None:
            fits = checks.fits(function, name, sizes, letters)
            arrays[name] = to_dense(function, name, given[name], fits)

    if given["weight_ih"] is not None:
        arrays["weight_ih"] = to_dense(function, "weight_ih", given["weight_ih"])
    rows, inputs = _matrix(function, "weight_ih", arrays["weight_ih"], f"{gates}*H", "I", gates)
    hidden = rows // gates
    convert("weight_hr", (None, hidden), "P", "H")
    projection = 0
    if arrays["weight_hr"] is not None:
        projection, _ = _matrix(function, "weight_hr", arrays["weight_hr"], "P", "H")
    convert("weight_hh", (rows, projection or hidden), "G*H", "P" if projection else "H")
    convert("bias_ih", (rows,), "G*H")
    convert("bias_hh", (rows,), "G*H")
    convert("peepholes", (3 * hidden,), "3*H")
    if clip is not None:
        clip = checks.number(function, "clip", clip, above=0)
    for argument in ("activation", "recurrent_activation"):
        if argument in options:
            options[argument] = canonical(function, argument, options[argument])
    output = options.get("output_activation")
    if output is not None:  # None stands for the activation of the candidate
        options["output_activation"] = canonical(function, "output_activation", output)
    spec = RecurrentSpec(
        mode,
        inputs,
        hidden,
        projection,
        direction="reverse" if reverse else "forward",
        bias=arrays["bias_ih"] is not None or arrays["bias_hh"] is not None,
        peepholes=arrays["peepholes"] is not None,
        clip=clip,
        **options,
    )
    sizes = Sizes(function, inputs, spec.state_size, hidden, 0, batch_first)
    # No later call can pass an array that was made for this call, so it is not cached.
    lasting = all(arrays[k] is value for k, value in given.items())
    native = CACHE.get(function, spec, arrays) if lasting else spec.pack(function, [arrays])
    return PackedCall(sizes, native, arrays)


def _matrix(
    function: str, name: str, array: Float | None, rows: str, columns: str, multiple: int = 1
) -> tuple[int, int]:
    """Return the sizes of a matrix, which must not be empty and whose rows a number must divide."""
    if array is None:
        raise TypeError(f"{function}: {name} is None, expected an array [{rows}, {columns}]")
    if array.ndim != 2 or array.size == 0 or array.shape[0] % multiple:
        shape, end = array.shape, ""
        wanted = shape[::-1] if array.ndim == 2 else shape[1:]
        if array.size and len(wanted) == 2 and wanted[0] % multiple == 0:
            end = foreign.hint(shape, wanted)
        raise ValueError(
            f"{function}: {name} has shape {shape}, expected [{rows}, {columns}], not empty{end}"
        )
    return array.shape[0], array.shape[1]
