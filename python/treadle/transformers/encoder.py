"""Every model of the package runs these packed embeddings and encoder layers of a checkpoint.

    x = norm(word[id] (+ type[type_id]) + position[position_id] (+ task[task_id]))
    x = projection(x), in an ELECTRA whose embeddings are smaller than its layers
    for each layer:  x = norm1(x + attention(x));  x = norm2(x + linear2(act(linear1(x))))

x is [M, H], the tokens of all sequences one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle import _core
from treadle._inputs.ragged import starts
from treadle._storage import formats
from treadle.layers.transformer_weights import TransformerShape, layer_shapes, pack_layers
from treadle.transformers.families import ACTIVATIONS, FAMILIES, Family

if TYPE_CHECKING:
    from collections.abc import Iterator

    from treadle._inputs.types import Float, Int
    from treadle._storage.formats import Stored
    from treadle.transformers.checkpoint import Checkpoint
    from treadle.transformers.config import Config

Shapes = dict[str, tuple[int, ...]]

_WORDS = "embeddings.word_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_TASKS = "embeddings.task_type_embeddings.weight"
_NORM = "embeddings.LayerNorm"


class Rows(NamedTuple):
    """The rows of the tables that M tokens take, each [M]; None stands for zeros."""

    ids: Int
    types: Int | None
    positions: Int
    tasks: Int | None


class Norm(NamedTuple):
    weight: Float
    bias: Float


class Tables(NamedTuple):
    """The tables of the embeddings, each [V, E], the norm of their sum, and what follows it."""

    words: Float
    types: Float | None
    positions: Float
    tasks: Float | None
    norm: Norm
    projection: _core.Linear | None


# Each weight of a native layer is made of these tensors, one above the other: a field of
# families.Layer, which has the checkpoint's name for a part of a layer, and a tensor of that part.
_PARTS = {
    "self_attn.in_proj_weight": ("query.weight", "key.weight", "value.weight"),
    "self_attn.in_proj_bias": ("query.bias", "key.bias", "value.bias"),
    "self_attn.out_proj.weight": ("attention.weight",),
    "self_attn.out_proj.bias": ("attention.bias",),
    "linear1.weight": ("linear1.weight",),
    "linear1.bias": ("linear1.bias",),
    "linear2.weight": ("linear2.weight",),
    "linear2.bias": ("linear2.bias",),
    "norm1.weight": ("norm1.weight",),
    "norm1.bias": ("norm1.bias",),
    "norm2.weight": ("norm2.weight",),
    "norm2.bias": ("norm2.bias",),
}


class PretrainedEncoder:
    """The encoder of a checkpoint. It never changes, so that any number of threads may use it."""

    def __init__(
        self,
        function: str,
        config: Config,
        checkpoint: Checkpoint,
        more: Shapes,
        dtype: str,
    ) -> None:
        """Check all tensors that are needed, those of ``more`` too; then pack layer by layer."""
        self.config = config
        self.family = FAMILIES[config.model_type]
        self.prefix = find_prefix(checkpoint, self.family)
        shapes = self._embedding_shapes(checkpoint) | self._layer_shapes(checkpoint)
        checkpoint.check(shapes, f"it in a {config.model_type} model as config.json describes it")
        checkpoint.check(more, "it in a checkpoint that has this head")
        self.tables = self._read_tables(function, checkpoint)
        shape = TransformerShape(
            hidden=config.hidden_size,
            num_heads=config.num_attention_heads,
            feed_forward=config.intermediate_size,
            activation=(ACTIVATIONS[config.hidden_act], 0.0, 0.0),
            norm_first=False,
            eps=config.layer_norm_eps,
            dtype=dtype,
        )
        self._layers = pack_layers(function, shape, self._read_layers(checkpoint, dtype))

    @property
    def most_tokens(self) -> int:
        """The length of the longest sequence that has positions."""
        return self.config.max_position_embeddings - self._first_position

    @property
    def _first_position(self) -> int:
        return (self.config.pad_token_id or 0) + 1 if self.family.after_padding else 0

    def positions(self, ids: Int, offsets: Int) -> Int:
        """Return the positions of the tokens [M] of sequences that begin at ``offsets``."""
        if not self.family.after_padding:
            return np.arange(ids.size) - np.repeat(offsets[:-1], np.diff(offsets))
        # fairseq's rule: tokens are counted but for padding, which has the position pad_token_id.
        padding = self._first_position - 1
        counted = ids != padding
        sums = starts(counted)
        sums = sums[1:] - np.repeat(sums[offsets[:-1]], np.diff(offsets))
        return np.where(counted, sums + padding, padding)

    def embed(self, function: str, rows: Rows) -> Float:
        """Compute the input of the first layer, [M, H]; ids out of range raise ValueError."""
        tables = self.tables
        zeros = np.zeros(rows.ids.shape, np.int64)
        summands = [
            (tables.words, rows.ids),
            (tables.types, zeros if rows.types is None else rows.types),
            (tables.positions, rows.positions),
            (tables.tasks, zeros if rows.tasks is None else rows.tasks),
        ]
        existing = [(table, ids) for table, ids in summands if table is not None]
        x = _core.embedding_sum(function, [t for t, _ in existing], [i for _, i in existing])
        norm, eps = tables.norm, self.config.layer_norm_eps
        x = _core.layer_norm(function, x, norm.weight, norm.bias, eps, None)
        projection = tables.projection
        return x if projection is None else projection.run(function, x, None, None)

    def run(self, function: str, x: Float, offsets: Int) -> Float:
        """Run all layers on tokens x [M, H] of sequences that begin at ``offsets``."""
        return self._layers.run(function, x, offsets)

    def run_layer(
        self, function: str, x: Float, offsets: Int, number: int, probabilities: Float | None
    ) -> Float:
        """Run one layer, which writes its attention into ``probabilities`` [B, N, K, K]."""
        layers = (number, number + 1)
        return self._layers.run(function, x, offsets, layers=layers, probabilities=probabilities)

    def _embedding_shapes(self, checkpoint: Checkpoint) -> Shapes:
        config, size = self.config, self.config.embedding_size
        shapes: Shapes = {
            self.prefix + _WORDS: (config.vocab_size, size),
            self.prefix + _POSITIONS: (config.max_position_embeddings, size),
        }
        if self.family.token_types:
            shapes[self.prefix + _TYPES] = (config.type_vocab_size, size)
        if config.task_type_vocab_size:
            shapes[self.prefix + _TASKS] = (config.task_type_vocab_size, size)
        if size != config.hidden_size:
            shapes |= linear_shapes(
                f"{self.prefix}{self.family.projection}", config.hidden_size, size
            )
        return shapes | norm_shapes(checkpoint, self.prefix + _NORM, size)

    def _layer_shapes(self, checkpoint: Checkpoint) -> Shapes:
        """Return the shapes of the checkpoint's tensors, of all layers."""
        shapes: Shapes = {}
        for number in range(self.config.num_hidden_layers):
            first = self._tensor(checkpoint, number, "query.weight")
            # The check is here, so that an absurd number of layers fails at the first missing one.
            checkpoint.require(first, "it as num_hidden_layers says")
            for name, (rows, *columns) in self._packed_shapes().items():
                parts = _PARTS[name]
                for part in parts:
                    tensor = self._tensor(checkpoint, number, part)
                    shapes[tensor] = (rows // len(parts), *columns)
        return shapes

    def _packed_shapes(self) -> Shapes:
        """Return the shapes of the weights of one native layer."""
        return layer_shapes(self.config.hidden_size, self.config.intermediate_size)

    def _tensor(self, checkpoint: Checkpoint, number: int, part: str) -> str:
        """Return the checkpoint's name for a part of a layer, such as "query.weight"."""
        place, _, kind = part.partition(".")
        name = self.prefix + getattr(self.family.layer, place).format(number)
        if place.startswith("norm"):
            weight, bias = _norm_names(checkpoint, name)
            return weight if kind == "weight" else bias
        return f"{name}.{kind}"

    def _read_tables(self, function: str, checkpoint: Checkpoint) -> Tables:
        config, projection = self.config, f"{self.prefix}{self.family.projection}"
        projected = config.embedding_size != config.hidden_size
        return Tables(
            checkpoint.read(self.prefix + _WORDS),
            checkpoint.read(self.prefix + _TYPES) if self.family.token_types else None,
            checkpoint.read(self.prefix + _POSITIONS),
            checkpoint.read(self.prefix + _TASKS) if config.task_type_vocab_size else None,
            read_norm(checkpoint, self.prefix + _NORM),
            read_linear(function, checkpoint, projection) if projected else None,
        )

    def _read_layers(self, checkpoint: Checkpoint, dtype: str) -> Iterator[dict[str, Stored]]:
        """Yield the weights of each layer, read into the same memory, since packing copies them."""
        shapes = self._packed_shapes()
        weights = {n: formats.empty(s, formats.stored_as(s, dtype)) for n, s in shapes.items()}
        for number in range(self.config.num_hidden_layers):
            for name, value in weights.items():
                rows = shapes[name][0] // len(_PARTS[name])
                for i, part in enumerate(_PARTS[name]):
                    room = formats.rows(value, slice(i * rows, (i + 1) * rows))
                    checkpoint.read_into(self._tensor(checkpoint, number, part), room)
            yield weights


def linear_shapes(name: str, rows: int, columns: int) -> Shapes:
    """Return the shapes of a linear layer's two tensors."""
    return {name + ".weight": (rows, columns), name + ".bias": (rows,)}


def norm_shapes(checkpoint: Checkpoint, name: str, size: int) -> Shapes:
    """Return the shapes of a layer norm's two tensors."""
    return dict.fromkeys(_norm_names(checkpoint, name), (size,))


def read_norm(checkpoint: Checkpoint, name: str) -> Norm:
    """Read the weight and bias of a layer norm."""
    weight, bias = _norm_names(checkpoint, name)
    return Norm(checkpoint.read(weight), checkpoint.read(bias))


def _norm_names(checkpoint: Checkpoint, name: str) -> tuple[str, str]:
    """Return the names of a norm's tensors: gamma and beta in the first BERT checkpoints."""
    if name + ".gamma" in checkpoint and name + ".weight" not in checkpoint:
        return name + ".gamma", name + ".beta"
    return name + ".weight", name + ".bias"


def read_linear(
    function: str, checkpoint: Checkpoint, name: str, *, bias: bool = True
) -> _core.Linear:
    """Read and pack a linear layer."""
    weight = checkpoint.read(name + ".weight")
    return _core.Linear(function, weight, checkpoint.read(name + ".bias") if bias else None)


def find_prefix(checkpoint: Checkpoint, family: Family) -> str:
    """Find the prefix of the encoder's tensors: the family's in a model with a head, else none."""
    return family.prefix if family.prefix + _WORDS in checkpoint else ""
