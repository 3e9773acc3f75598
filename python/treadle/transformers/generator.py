"""The base of the models that generate: loading, and `generate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from treadle._inputs import arrays, checks
from treadle._inputs.checks import flag, shown
from treadle.generation import GenerationConfig, search
from treadle.layers.decoder_stack import DecoderStack
from treadle.transformers.checkpoint import Checkpoint
from treadle.transformers.directory import resolve
from treadle.transformers.generating import (
    open_weights,
    read_description,
    read_generation_config,
)
from treadle.transformers.loaded import LoadedModel
from treadle.transformers.outputs import GenerateOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from treadle._inputs.ragged import Ragged
    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle._storage.files import Path
    from treadle.generation import SearchResult, Streamer
    from treadle.generation.decoding import LogitsHook
    from treadle.transformers.generating import Description
    from treadle.transformers.generating_family import GeneratingFamily
    from treadle.transformers.sequences import Sequences
    from treadle.transformers.stack_shapes import Shapes
    from treadle.transformers.stack_weights import StackWeights

# Transformers' number of new tokens where nothing says another.
_NEW_TOKENS = 20


class Begun(NamedTuple):
    """A batch whose prompts the decoder has read."""

    state: Any
    logits: Float
    """[B, V], of the first new tokens."""
    prompts: Sequences


class StackDecoding:
    """A stack and its state, as a search sees them."""

    def __init__(self, stack: DecoderStack, state: Any) -> None:
        self._stack, self._state = stack, state

    def step(self, tokens: Int) -> Float:
        """Extend the live rows by a token each and return the logits that follow."""
        return self._stack.step(self._state, tokens)

    def step_best(self, tokens: Int, k: int) -> tuple[Int, Float, Float]:
        """Extend the live rows; return the k best ids and logits, and the log-sum-exp of all."""
        return self._stack.step_best(self._state, tokens, k)

    def reorder(self, rows: Int) -> None:
        """Make live row r what live row rows[r] was."""
        self._state.reorder(rows)


class GeneratingModel(LoadedModel):
    """The base of the models that generate."""

    generation_config: GenerationConfig
    """The options of `generate` that the files have; a program may assign others."""
    _families: ClassVar[Mapping[str, GeneratingFamily]]
    _shapes: Shapes
    _encoder: DecoderStack | None
    _decoder: DecoderStack

    @classmethod
    def from_pretrained(cls, directory: Path, *, dtype: Any = "float32") -> Self:
        """Load a model from a local directory: config.json and model.safetensors, or its shards.

        Nothing is downloaded, unpickled or run. Everything is checked before memory is taken, and
        one matrix at a time is read and packed. Weights in float16 and bfloat16 become float32,
        without loss, and then ``dtype``.

        Parameters
        ----------
        directory
            A directory in the layout of the Hugging Face hub. generation_config.json is read where
            it is there.
        dtype
            The dtype of the packed weights, the table of tokens included: float32, bfloat16 or
            int8. Norms, softmax and positions stay float32.

        Raises
        ------
        FileNotFoundError
            For missing files.
        ValueError
            For a directory that is damaged, or of another family.
        """
        function = f"{cls._name()}.from_pretrained"
        path = resolve(function, directory)
        model = cls.__new__(cls)
        model._dtype = checks.dtype(function, "dtype", dtype)
        model._directory = path
        description = read_description(function, path, cls._families)
        model.config, model._shapes = description.config, description.shapes
        model.generation_config = read_generation_config(function, path, model.config)
        with Checkpoint(function, path) as checkpoint:
            model._encoder, model._decoder = open_stacks(
                function, checkpoint, description, model._dtype
            )
        return model

    def generate(
        self,
        input_ids: ArrayLike | None = None,
        attention_mask: ArrayLike | None = None,
        *,
        generation_config: GenerationConfig | None = None,
        logits_hook: LogitsHook | None = None,
        streamer: Streamer | None = None,
        **options: Any,
    ) -> Any:
        """Continue prompts, or write the translation or summary of texts, as Transformers does.

        Parameters
        ----------
        input_ids
            [B, S], the tokens of B texts.
        attention_mask
            [B, S], 1 for tokens and 0 for padding, which may lie anywhere. Without it, padding
            tokens are padding unless they are end tokens, too.
        generation_config
            The options, instead of the model's.
        logits_hook
            A function of token ids [R, T] and scores [R, V] that returns other scores, see
            `treadle.generation.search`.
        streamer
            An object with ``put`` and ``end`` that receives tokens as soon as they are certain.
        options
            Options by name, which win: num_beams, max_new_tokens, do_sample, top_k, seed, ... of
            `treadle.generation.GenerationConfig`; and ``uniform``, the numbers for sampling. An
            encoder-decoder takes ``decoder_input_ids`` and ``decoder_attention_mask``, with which
            the results begin, too.

        Returns
        -------
        Int
            [B num_return_sequences, T], int64: of a causal model the prompts as they were given and
            the new tokens, of an encoder-decoder its start token and the new tokens. Behind an
            end, pad_token_id. With ``return_dict_in_generate`` a `GenerateOutput`.

        Raises
        ------
        TypeError, ValueError
            For arguments and options that do not fit, and for lengths beyond the positions that the
            model has.

        Notes
        -----
        A text gets the same tokens and scores, bit for bit, alone and in any batch. A limit of
        lengths (max_length, min_length) counts a text's own tokens, where Transformers counts the
        padding of its batch, too.
        """
        function = f"{self._name()}.generate"
        uniform = options.pop("uniform", None)
        own = {name: options.pop(name) for name in self._arguments() if name in options}
        config = self.generation_config if generation_config is None else generation_config
        if not isinstance(config, GenerationConfig):
            raise TypeError(
                f"{function}: generation_config is {shown(config)}, expected a GenerationConfig"
            )
        config = config.merged(**options)
        begun = self._begin(function, config, input_ids, attention_mask, **own)
        lengths = begun.prompts.lengths
        result = search(
            StackDecoding(self._decoder, begun.state),
            begun.logits,
            begun.prompts.rows(),
            self._limited(function, config, lengths),
            logits_hook=logits_hook,
            streamer=streamer,
            uniform=uniform,
        )
        sequences = self._sequences(config, begun.prompts, result)
        if not config.return_dict_in_generate:
            return sequences
        return GenerateOutput(
            sequences=sequences,
            sequences_scores=result.sequences_scores,
            scores=result.scores,
            logits=result.logits,
            beam_indices=result.beam_indices,
        )

    def _arguments(self) -> tuple[str, ...]:
        """Return the names of further arguments of `generate`."""
        return ()

    def _begin(
        self,
        function: str,
        config: GenerationConfig,
        input_ids: ArrayLike | None,
        attention_mask: ArrayLike | None,
        **own: Any,
    ) -> Begun:
        raise NotImplementedError

    def _sequences(self, config: GenerationConfig, prompts: Sequences, result: SearchResult) -> Int:
        """Return the sequences with the prompts as they were given, padding included."""
        if prompts.places.exists is None:
            return result.sequences
        each = len(result.sequences) // max(len(prompts.padded), 1)
        begins = np.repeat(prompts.lengths, each)
        new = result.lengths - begins
        tail = np.full((len(new), int(new.max(initial=0))), _filler(config), np.int64)
        for row, sequence, begin, count in zip(tail, result.sequences, begins, new, strict=True):
            row[:count] = sequence[begin : begin + count]
        return np.concatenate([np.repeat(prompts.padded, each, axis=0), tail], axis=1)

    def _limited(self, function: str, config: GenerationConfig, lengths: Int) -> GenerationConfig:
        """Return options that keep to the positions; those that ask for more are refused."""
        longest = int(lengths.max(initial=0))
        most = self._shapes.decoder.most_tokens
        limit = self.config.to_dict()["max_position_embeddings"]
        if config.max_new_tokens is None and config.max_length is None:
            if limit is None or longest + _NEW_TOKENS <= limit or longest >= limit:
                return config
            return config.merged(max_length=limit)
        # The last token is returned, but not fed to the model.
        if most is not None and max(config.limits(lengths.tolist()), default=0) > most + 1:
            raise ValueError(
                f"{function}: max_new_tokens is {config.max_new_tokens} and max_length "
                f"{config.max_length} for a prompt of {longest} tokens, and the model has {most} "
                f"positions: expected max_new_tokens of at most {max(most + 1 - longest, 1)}"
            )
        return config


def open_stacks(
    function: str,
    checkpoint: Checkpoint,
    description: Description,
    dtype: str,
    *,
    with_head: bool = True,
) -> tuple[DecoderStack | None, DecoderStack]:
    """Read and pack the encoder, if there is one, and the decoder, with the matrix of its logits
    or without."""
    family, shapes = description.family, description.shapes
    encoder, decoder = open_weights(checkpoint, family, shapes, dtype, with_head=with_head)
    packed = make_stack(function, decoder, dtype)
    if encoder is None:
        return None, packed
    shared = packed if decoder.table == encoder.table else None
    return make_stack(function, encoder, dtype, shared), packed


def make_stack(
    function: str, weights: StackWeights, dtype: str, embedding: DecoderStack | None = None
) -> DecoderStack:
    """Pack a native stack, which may have the packed table of tokens of another."""
    shape = weights.shape
    try:
        return DecoderStack(
            shape.specs, weights, vocabulary=shape.vocabulary, dtype=dtype, embedding=embedding
        )
    except ValueError as error:
        raise ValueError(f"{function}: {error}") from None


def inferred_mask(function: str, config: GenerationConfig, ids: ArrayLike | None) -> Any:
    """Return which tokens are no padding, None for all: what `generate` does without a mask."""
    padding = config.pad_token_id
    if padding is None or padding in config.end_tokens or ids is None:
        return None
    kept = arrays.to_int64(function, "input_ids", ids) != padding
    return None if kept.all() else kept


def check_begun(function: str, prompts: Sequences, name: str) -> None:
    """Raise ValueError for a row without tokens, which cannot be continued."""
    if prompts.lengths.size and prompts.lengths.min() == 0:
        row = int(prompts.lengths.argmin())
        raise ValueError(
            f"{function}: row {row} of {name} has no tokens, expected one or more to continue"
        )


class Requested(NamedTuple):
    """The results that a call asks for; a list is filled layer by layer, None is not wanted."""

    states: list[Float] | None
    attentions: list[Float] | None
    as_dict: bool

    def more(self) -> Requested:
        """Return the same request with lists of its own."""
        return self._replace(
            states=None if self.states is None else [],
            attentions=None if self.attentions is None else [],
        )

    def hidden_states(self, places: Ragged, last: Float) -> tuple[Float, ...] | None:
        """Return the hidden states with their padding, the last one after its final norm."""
        if self.states is None:
            return None
        return tuple(places.scatter(x) for x in [*self.states[:-1], last])

    def probabilities(self, places: Ragged) -> tuple[Float, ...] | None:
        """Return the probabilities of self attention with their padding, [B, N, S, S] each."""
        if self.attentions is None:
            return None
        return tuple(scattered(places, places, x) for x in self.attentions)


def requested(
    function: str, config: Any, states: bool | None, attentions: bool | None, as_dict: bool | None
) -> Requested:
    """Check the flags of a call, which are those of config.json where they are None."""
    values = {
        "output_hidden_states": states,
        "output_attentions": attentions,
        "return_dict": as_dict,
    }
    with_states, with_attentions, result = (
        flag(function, name, getattr(config, name) if value is None else value)
        for name, value in values.items()
    )
    return Requested([] if with_states else None, [] if with_attentions else None, result)


def scattered(queries: Ragged, keys: Ragged, probabilities: Float) -> Float:
    """Pad the probabilities [B, N, S', K'] of the tokens that exist: [B, N, S, K]."""
    batch, heads = probabilities.shape[:2]
    padded = np.zeros((batch, heads, queries.length, keys.length), np.float32)
    for b in range(batch):
        rows, columns = (
            np.arange(of.length) if of.exists is None else np.flatnonzero(of.exists[b])
            for of in (queries, keys)
        )
        own = probabilities[b, :, : rows.size, : columns.size]
        padded[b][:, rows[:, None], columns] = own
    return padded


def _filler(config: GenerationConfig) -> int:
    """Return the token behind the ends of sequences, the one that a search puts there."""
    ends = config.end_tokens
    if config.num_beams > 1 and not config.pad_token_id and ends:
        return ends[0]
    if config.pad_token_id is not None:
        return config.pad_token_id
    return ends[0] if ends else -1
