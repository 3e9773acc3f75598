"""Models return Transformers' output classes, as dicts of NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from treadle._inputs.types import Float, Int


class ModelOutput(dict[str, Any]):
    """The arrays of a result, by attribute, key or number: ``o.logits``, ``o["logits"]``, ``o[0]``.

    What was not asked for is None as an attribute, and missing among keys and numbers.

    Examples
    --------
    >>> output = TokenClassifierOutput(logits=1.0, hidden_states=None)
    >>> output[0], output["logits"], output.logits, output.hidden_states, output.to_tuple()
    (1.0, 1.0, 1.0, None, (1.0,))
    """

    _names: ClassVar[tuple[str, ...]]
    hidden_states: tuple[Float, ...] | None
    attentions: tuple[Float, ...] | None

    def __init__(self, values: Iterable[tuple[str, Any]] = (), **named: Any) -> None:
        given = dict(values, **named)
        super().__init__((k, given[k]) for k in self._names if given.get(k) is not None)

    def __getattr__(self, name: str) -> Any:
        if name in type(self)._names:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self.items()),)

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the arrays that are not None, in order."""
        return tuple(self.values())


class BaseModelOutput(ModelOutput):
    """last_hidden_state [B, S, H]; on request L + 1 hidden_states and L attentions [B, N, S, S]."""

    _names = ("last_hidden_state", "hidden_states", "attentions")
    last_hidden_state: Float


class BaseModelOutputWithPooling(ModelOutput):
    """A BaseModelOutput with pooler_output [B, H], tanh of a linear function of the first token."""

    _names = ("last_hidden_state", "pooler_output", "hidden_states", "attentions")
    last_hidden_state: Float
    pooler_output: Float | None


class SequenceClassifierOutput(ModelOutput):
    """logits [B, num_labels]."""

    _names = ("logits", "hidden_states", "attentions")
    logits: Float


class TokenClassifierOutput(ModelOutput):
    """logits [B, S, num_labels]."""

    _names = ("logits", "hidden_states", "attentions")
    logits: Float


class MaskedLMOutput(ModelOutput):
    """logits [B, S, vocab_size]."""

    _names = ("logits", "hidden_states", "attentions")
    logits: Float


class CausalLMOutput(ModelOutput):
    """logits [B, S, vocab_size]; on request L + 1 hidden_states and L attentions."""

    _names = ("logits", "hidden_states", "attentions")
    logits: Float


class Seq2SeqLMOutput(ModelOutput):
    """logits [B, T, vocab_size], encoder_last_hidden_state [B, S, H]; more on request."""

    _names = (
        "logits",
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
        "encoder_last_hidden_state",
        "encoder_hidden_states",
        "encoder_attentions",
    )
    logits: Float
    decoder_hidden_states: tuple[Float, ...] | None
    decoder_attentions: tuple[Float, ...] | None
    cross_attentions: tuple[Float, ...] | None
    encoder_last_hidden_state: Float
    encoder_hidden_states: tuple[Float, ...] | None
    encoder_attentions: tuple[Float, ...] | None


class Seq2SeqSequenceClassifierOutput(ModelOutput):
    """logits [B, num_labels], encoder_last_hidden_state [B, S, H]; more on request."""

    _names = ("logits", *Seq2SeqLMOutput._names[1:])
    logits: Float
    decoder_hidden_states: tuple[Float, ...] | None
    decoder_attentions: tuple[Float, ...] | None
    cross_attentions: tuple[Float, ...] | None
    encoder_last_hidden_state: Float
    encoder_hidden_states: tuple[Float, ...] | None
    encoder_attentions: tuple[Float, ...] | None


class GenerateOutput(ModelOutput):
    """sequences [B N, T] of ``generate`` and, on request, their scores.

    sequences_scores [B N] of a beam search, scores and logits a tuple of arrays [R, vocab_size] for
    each new token, beam_indices [B N, T'], as in `treadle.generation.SearchResult`.
    """

    _names = ("sequences", "sequences_scores", "scores", "logits", "beam_indices")
    sequences: Int
    sequences_scores: Float | None
    scores: tuple[Float, ...] | None
    logits: tuple[Float, ...] | None
    beam_indices: Int | None


class QuestionAnsweringModelOutput(ModelOutput):
    """start_logits and end_logits [B, S]."""

    _names = ("start_logits", "end_logits", "hidden_states", "attentions")
    start_logits: Float
    end_logits: Float
