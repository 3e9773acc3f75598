"""Embeddings and encoder layers of a checkpoint, packed; what every model of the package runs.

    x = norm(word[id] (+ type[type_id]) + position[position_id])
    for each layer:  x = norm1(x + attention(x));  x = norm2(x + linear2(act(linear1(x))))

x is [M, H], the tokens of all sequences one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle import _core
from treadle._inputs.arrays import starts
from treadle._storage import formats
from treadle.transformers.families import ACTIVATIONS, FAMILIES, Family

if TYPE_CHECKING:
    from treadle._inputs.types import Float, Int
    from treadle._storage.formats import Stored
    from treadle.transformers.checkpoint import Checkpoint
    from treadle.transformers.config import Config

Shapes = dict[str, tuple[int, ...]]

_WORDS = "embeddings.word_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_NORM = "embeddings.LayerNorm"


class Norm(NamedTuple):
    weight: Float
    bias: Float


class Tables(NamedTuple):
    """The embeddings, each [V, H]."""

    words: Float
    types: Float | None
    positions: Float
    norm: Norm


class Encoder:
    """Immutable once it is loaded, so that any number of threads may use it."""

    def __init__(
        self,
        function: str,
        config: Config,
        checkpoint: Checkpoint,
        more: Shapes,
        dtype: str,
    ) -> None:
        """Check all that is needed, ``more`` included, then read and pack it layer by layer."""
        self.config = config
        self.family = FAMILIES[config.model_type]
        self.prefix = find_prefix(checkpoint, self.family)
        shapes = self._embedding_shapes(checkpoint) | self._layer_shapes(checkpoint)
        checkpoint.check(shapes, f"it in a {config.model_type} model as config.json describes it")
        checkpoint.check(more, "it in a checkpoint that has this head")
        self.tables = self._read_tables(checkpoint)
        self._layers = _core.Encoder(
            function,
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            (ACTIVATIONS[config.hidden_act], 0.0, 0.0),
            False,
            config.layer_norm_eps,
            dtype,
        )
        scratch = _Scratch(checkpoint, dtype)
        for number in range(config.num_hidden_layers):
            self._add_layer(scratch, number)

    @property
    def most_tokens(self) -> int:
        """The length of the longest sequence that has positions."""
        return self.config.max_position_embeddings - self._first_position

    @property
    def _first_position(self) -> int:
        return (self.config.pad_token_id or 0) + 1 if self.family.after_padding else 0

    def positions(self, ids: Int, offsets: Int) -> Int:
        """The positions of the tokens [M] of sequences that begin at ``offsets``."""
        if not self.family.after_padding:
            return np.arange(ids.size) - np.repeat(offsets[:-1], np.diff(offsets))
        # fairseq's rule: tokens are counted but for padding, which has the position pad_token_id.
        padding = self._first_position - 1
        counted = ids != padding
        sums = starts(counted)
        sums = sums[1:] - np.repeat(sums[offsets[:-1]], np.diff(offsets))
        return np.where(counted, sums + padding, padding)

    def embed(self, function: str, ids: Int, types: Int | None, positions: Int) -> Float:
        """The input of the first layer, [M, H]; ids out of range raise ValueError."""
        tables, norm = self.tables, self.tables.norm
        if tables.types is None:
            x = _core.embedding_sum(function, [tables.words, tables.positions], [ids, positions])
        else:
            types = np.zeros(ids.shape, np.int64) if types is None else types
            x = _core.embedding_sum(
                function, [tables.words, tables.types, tables.positions], [ids, types, positions]
            )
        return _core.layer_norm(
            function, x, norm.weight, norm.bias, self.config.layer_norm_eps, None
        )

    def run(self, function: str, x: Float, offsets: Int) -> Float:
        """All layers."""
        return self._layers.run(
            function, x, offsets, None, False, 0, self.config.num_hidden_layers, None
        )

    def run_layer(
        self, function: str, x: Float, offsets: Int, number: int, weights: Float | None
    ) -> Float:
        """One layer; ``weights`` [B, N, K, K] is filled with those of its attention."""
        return self._layers.run(function, x, offsets, None, False, number, number + 1, weights)

    def _embedding_shapes(self, checkpoint: Checkpoint) -> Shapes:
        config, hidden = self.config, self.config.hidden_size
        shapes: Shapes = {
            self.prefix + _WORDS: (config.vocab_size, hidden),
            self.prefix + _POSITIONS: (config.max_position_embeddings, hidden),
        }
        if self.family.token_types:
            shapes[self.prefix + _TYPES] = (config.type_vocab_size, hidden)
        return shapes | norm_shapes(checkpoint, self.prefix + _NORM, hidden)

    def _layer_shapes(self, checkpoint: Checkpoint) -> Shapes:
        hidden, inner = self.config.hidden_size, self.config.intermediate_size
        shapes: Shapes = {}
        for number in range(self.config.num_hidden_layers):
            names = self._names(number)
            # Here, so that a number of layers beyond reason fails at the first that is missing.
            checkpoint.require(names["query"] + ".weight", "it as num_hidden_layers says")
            for name in ("query", "key", "value", "attention"):
                shapes |= linear_shapes(names[name], hidden, hidden)
            shapes |= linear_shapes(names["linear1"], inner, hidden)
            shapes |= linear_shapes(names["linear2"], hidden, inner)
            for name in ("norm1", "norm2"):
                shapes |= norm_shapes(checkpoint, names[name], hidden)
        return shapes

    def _names(self, number: int) -> dict[str, str]:
        layer = self.family.layer._asdict().items()
        return {key: self.prefix + name.format(number) for key, name in layer}

    def _read_tables(self, checkpoint: Checkpoint) -> Tables:
        return Tables(
            checkpoint.read(self.prefix + _WORDS),
            checkpoint.read(self.prefix + _TYPES) if self.family.token_types else None,
            checkpoint.read(self.prefix + _POSITIONS),
            read_norm(checkpoint, self.prefix + _NORM),
        )

    def _add_layer(self, scratch: _Scratch, number: int) -> None:
        names = self._names(number)
        parts = [names["query"], names["key"], names["value"]]
        hidden, inner = self.config.hidden_size, self.config.intermediate_size
        norm1, norm2 = (read_norm(scratch.checkpoint, names[n]) for n in ("norm1", "norm2"))
        self._layers.add_layer(
            scratch.read([f"{part}.weight" for part in parts], (3 * hidden, hidden)),
            scratch.read([f"{part}.bias" for part in parts], (3 * hidden,)),
            scratch.read([names["attention"] + ".weight"], (hidden, hidden)),
            scratch.read([names["attention"] + ".bias"], (hidden,)),
            norm1.weight,
            norm1.bias,
            scratch.read([names["linear1"] + ".weight"], (inner, hidden)),
            scratch.read([names["linear1"] + ".bias"], (inner,)),
            scratch.read([names["linear2"] + ".weight"], (hidden, inner)),
            scratch.read([names["linear2"] + ".bias"], (hidden,)),
            norm2.weight,
            norm2.bias,
        )
        scratch.rewind()


class _Scratch:
    """Room for the tensors of one layer, used again for the next: packing copies them."""

    def __init__(self, checkpoint: Checkpoint, dtype: str) -> None:
        self.checkpoint = checkpoint
        self._dtype = dtype
        self._values: list[Stored] = []
        self._next = 0

    def rewind(self) -> None:
        self._next = 0

    def read(self, names: list[str], shape: tuple[int, ...]) -> Any:
        """Tensors one above the other, as the native encoder takes them; the same shapes are asked
        for in each layer.
        """
        if self._next == len(self._values):
            dtype = formats.stored_as(shape, self._dtype)
            self._values.append(formats.empty(shape, dtype))
        value = self._values[self._next]
        self._next += 1
        size = shape[0] // len(names)
        for i, name in enumerate(names):
            self.checkpoint.read_into(name, formats.rows(value, slice(i * size, (i + 1) * size)))
        return value


def linear_shapes(name: str, rows: int, columns: int) -> Shapes:
    """Of a linear layer's two tensors."""
    return {name + ".weight": (rows, columns), name + ".bias": (rows,)}


def norm_shapes(checkpoint: Checkpoint, name: str, size: int) -> Shapes:
    """Of a layer norm's two tensors."""
    return dict.fromkeys(_norm_names(checkpoint, name), (size,))


def read_norm(checkpoint: Checkpoint, name: str) -> Norm:
    """The weight and bias of a layer norm."""
    weight, bias = _norm_names(checkpoint, name)
    return Norm(checkpoint.read(weight), checkpoint.read(bias))


def _norm_names(checkpoint: Checkpoint, name: str) -> tuple[str, str]:
    """The first BERT checkpoints, converted from TensorFlow, say gamma and beta."""
    if name + ".gamma" in checkpoint and name + ".weight" not in checkpoint:
        return name + ".gamma", name + ".beta"
    return name + ".weight", name + ".bias"


def read_linear(
    function: str, checkpoint: Checkpoint, name: str, *, bias: bool = True
) -> _core.Linear:
    """A linear layer, packed."""
    weight = checkpoint.read(name + ".weight")
    return _core.Linear(function, weight, checkpoint.read(name + ".bias") if bias else None)


def find_prefix(checkpoint: Checkpoint, family: Family) -> str:
    """Of the encoder's tensors: the family's in a model with a head, none in one without."""
    return family.prefix if family.prefix + _WORDS in checkpoint else ""
