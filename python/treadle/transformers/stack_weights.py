"""The weights of a stack are read from a checkpoint under the names of a native stack, on demand.

A native weight is made of one or several tensors of the checkpoint, one above the other, in one of
these forms:

    rows        as it lies
    transposed  a matrix [in, out] of GPT-2
    heads       the rows of query, key and value of each head together, as in GPT-NeoX
    plus_one    the weights of a norm that the checkpoint has as differences from one, as in Gemma
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._storage import formats
from treadle.transformers.sinusoids import fairseq, marian

if TYPE_CHECKING:
    from collections.abc import Iterator

    from treadle._inputs.types import Float
    from treadle._storage.formats import Stored
    from treadle.layers.block_spec import BlockSpec
    from treadle.transformers.checkpoint import Checkpoint
    from treadle.transformers.generating_family import GeneratingFamily
    from treadle.transformers.stack_shapes import HeadShape, StackShape

Shape = tuple[int, ...]
# The matrices that are tables or small, which stay float32 whatever the dtype of the products.
_TABLES = ("embed.weight", "positions.weight", "relative_bias")


class Source(NamedTuple):
    """Where a native weight comes from."""

    shape: Shape
    tensors: tuple[tuple[str, Shape], ...]
    """The checkpoint's tensors and their shapes there."""
    form: str = "rows"
    skip: int = 0
    """The rows of a table that are left out at its beginning."""
    heads: int = 1


class StackSources:
    """The places of a stack's weights in a checkpoint, found before any is read."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        family: GeneratingFamily,
        shape: StackShape,
        prefix: str,
    ) -> None:
        """Find the tensors of all layers. A missing one raises ValueError."""
        self.shape = shape
        self.sources: dict[str, Source] = {}
        self.numbers: dict[str, float] = {}
        self._checkpoint, self._family, self._prefix = checkpoint, family, prefix
        self._tables()
        for number, spec in enumerate(shape.specs):
            self._layer(number, spec)

    def add_head(self, head: HeadShape) -> None:
        """Add what makes logits of the last layer's output."""
        checkpoint, size = self._checkpoint, (self.shape.vocabulary, self.shape.specs[0].hidden)
        names = [f"{name}.weight" for name in self._family.heads]
        own = next((name for name in names if name in checkpoint), None)
        if own is not None:
            checkpoint.check({own: size}, "it as the matrix of the logits")
            table = self.sources["embed.weight"].tensors[0][0]
            if table != own and not (head.tied and checkpoint.same(own, table)):
                self.sources["head.weight"] = Source(size, ((own, size),))
        elif not head.tied:
            checkpoint.require(names[-1], "it where tie_word_embeddings is false")
        if self._family.head_bias is not None and self._family.head_bias in checkpoint:
            bias = self._family.head_bias
            self.sources["head.bias"] = Source(size[:1], ((bias, (1, size[0])),))
        for name, value in (("logit_scale", head.scale), ("logit_softcap", head.softcap)):
            if value is not None:
                self.numbers[name] = value

    def checked(self) -> dict[str, Shape]:
        """Return the shapes that the checkpoint's tensors must have."""
        return {n: s for source in self.sources.values() for n, s in source.tensors}

    def _tables(self) -> None:
        names, shape = self.shape.names, self.shape
        hidden = shape.specs[0].hidden
        table = (shape.vocabulary, hidden)
        candidates = self._embeddings()
        found = next((name for name in candidates if name in self._checkpoint), candidates[-1])
        self.sources["embed.weight"] = Source(table, ((found, table),))
        if shape.embed_scale != 1:
            self.numbers["embed_scale"] = shape.embed_scale
        places = shape.positions
        if places is not None and places.kind == "learned":
            rows = (places.rows + places.first, hidden)
            name = f"{self._prefix}{names.positions}.weight"
            self.sources["positions.weight"] = Source(
                (places.rows, hidden), ((name, rows),), skip=places.first
            )
        if names.embed_norm is not None:
            self._norm("embed_norm", names.embed_norm, hidden, bias=True)
        if names.final_norm is not None:
            form = self._family.forms.get("final", "rows")
            norm = shape.specs[-1].norm
            self._norm("final_norm", names.final_norm, hidden, bias=norm == "layer", form=form)
        if names.relative is not None:
            relative = shape.specs[0].relative
            assert relative is not None
            buckets = (relative.buckets, shape.specs[0].heads)
            name = f"{self._prefix}{names.relative}.weight"
            self.sources["relative_bias"] = Source(buckets, ((name, buckets),))

    def _embeddings(self) -> list[str]:
        """Return the names that the table of tokens may have: its own, shared, the head's."""
        names = [f"{self._prefix}{name}.weight" for name in self.shape.names.embed]
        if "shared" in self.shape.names.embed:
            names += [
                f"{self._prefix}{stack}.embed_tokens.weight" for stack in ("encoder", "decoder")
            ]
        return [*names, *(f"{name}.weight" for name in self._family.heads), names[0]]

    def _norm(self, name: str, own: str, size: int, *, bias: bool, form: str = "rows") -> None:
        for kind in ("weight", "bias") if bias else ("weight",):
            tensor = f"{self._prefix}{own}.{kind}"
            form = form if kind == "weight" else "rows"
            self.sources[f"{name}.{kind}"] = Source((size,), ((tensor, (size,)),), form)

    def _layer(self, number: int, spec: BlockSpec) -> None:
        names = self.shape.names
        begin = self._prefix + names.layer.format(number)
        # An absurd number of layers ends here, at the first that is missing.
        self._checkpoint.require(f"{begin}{names.parts['linear2'][0]}.weight", "it in every layer")
        for part, own in names.parts.items():
            if part.startswith("norm") or part in ("q_norm", "k_norm"):
                size = spec.hidden if part.startswith("norm") else spec.head_size
                bias = part.startswith("norm") and spec.norm == "layer"
                form = self._family.forms.get(part, "rows")
                name, tensor = f"layers.{number}.{part}", f"{begin}{own[0]}"
                self._norm(name, tensor.removeprefix(self._prefix), size, bias=bias, form=form)
            else:
                self._linear(f"layers.{number}.{part}", part, [begin + name for name in own], spec)

    def _linear(self, name: str, part: str, own: list[str], spec: BlockSpec) -> None:
        rows, columns = linear_sizes(part, spec)
        if len(own) != len(rows):
            rows = (sum(rows),)
        form = self._family.forms.get(part, "rows")
        kinds = ("weight", "bias") if part in self.shape.biased else ("weight",)
        for kind in kinds:
            tensors = []
            for tensor, count in zip(own, rows, strict=True):
                shape: Shape = (count, columns) if kind == "weight" else (count,)
                if form == "transposed" and kind == "weight":
                    shape = shape[::-1]
                tensors.append((f"{tensor}.{kind}", shape))
            full: Shape = (sum(rows), columns) if kind == "weight" else (sum(rows),)
            own_form = "rows" if form == "transposed" and kind == "bias" else form
            self.sources[f"{name}.{kind}"] = Source(
                full, tuple(tensors), own_form, heads=spec.heads
            )


class StackWeights(Mapping[str, Any]):
    """The weights of a native stack by name, each read anew whenever it is asked for.

    Numbers, such as "embed_scale", are floats. ``shared`` keeps tables that two stacks have in
    common, by the checkpoint's name.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        stack: StackSources,
        dtype: str,
        shared: dict[str, Float],
    ) -> None:
        self._checkpoint, self._stack, self._dtype = checkpoint, stack, dtype
        self._shared = shared
        self.shape = stack.shape
        self.table = stack.sources["embed.weight"].tensors[0][0]
        """The checkpoint's name of the table of tokens."""
        places = stack.shape.positions
        self._computed = places is not None and places.kind != "learned"

    def __iter__(self) -> Iterator[str]:
        yield from self._stack.sources
        yield from self._stack.numbers
        if self._computed:
            yield "positions.weight"

    def __len__(self) -> int:
        return len(self._stack.sources) + len(self._stack.numbers) + self._computed

    def __contains__(self, name: object) -> bool:
        return (
            name in self._stack.sources
            or name in self._stack.numbers
            or (self._computed and name == "positions.weight")
        )

    def __getitem__(self, name: str) -> Any:
        if name in self._stack.numbers:
            return self._stack.numbers[name]
        if self._computed and name == "positions.weight":
            return self._positions()
        source = self._stack.sources[name]
        if name == "embed.weight":
            tensor = source.tensors[0][0]
            if tensor not in self._shared:
                self._shared[tensor] = self._checkpoint.read(tensor)
            return self._shared[tensor]
        table = name in _TABLES or len(source.shape) == 1
        return read(self._checkpoint, source, "float32" if table else self._dtype)

    def _positions(self) -> Float:
        places, hidden = self._stack.shape.positions, self._stack.shape.specs[0].hidden
        assert places is not None
        if places.kind == "marian":
            return marian(places.rows, hidden)
        return fairseq(places.rows, hidden, places.first)


def linear_sizes(part: str, spec: BlockSpec) -> tuple[tuple[int, ...], int]:
    """Return the rows of each matrix that a linear part of a layer consists of, and its columns."""
    inner, size = spec.heads * spec.head_size, spec.kv_heads * spec.head_size
    return {
        "self_attn.in_proj": ((inner, size, size), spec.hidden),
        "self_attn.out_proj": ((spec.hidden,), inner),
        "cross_attn.in_proj": ((inner,) * 3, spec.hidden),
        "cross_attn.out_proj": ((spec.hidden,), inner),
        "linear1": ((spec.feed_forward,) * (1 + spec.gated), spec.hidden),
        "linear2": ((spec.hidden,), spec.feed_forward),
    }[part]


def read(checkpoint: Checkpoint, source: Source, dtype: str) -> Stored:
    """Read a native weight whose tensors `Checkpoint.check` has checked."""
    value = formats.empty(source.shape, dtype)
    if source.form == "rows" and not source.skip:
        start = 0
        for name, shape in source.tensors:
            count = shape[0] if len(shape) == len(source.shape) else math.prod(shape)
            checkpoint.read_into(name, formats.rows(value, slice(start, start + count)))
            start += count
        return value
    array = checkpoint.read(source.tensors[0][0])
    if source.form == "transposed":
        return formats.encode_turned(array, dtype, value)
    if source.form == "heads":
        size = source.shape[0] // (3 * source.heads)
        parted = array.reshape(source.heads, 3, size, *array.shape[1:])
        array = np.ascontiguousarray(parted.swapaxes(0, 1)).reshape(source.shape)
    elif source.form == "plus_one":
        array += np.float32(1)
    return formats.encode(np.ascontiguousarray(array[source.skip :]), dtype, value)
