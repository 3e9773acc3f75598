"""Stacks of transformer layers that go on from token to token, and encoders that read tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_float32, to_int64
from treadle.layers import decoder_weights as names
from treadle.layers.block_spec import BlockSpec
from treadle.layers.decoder_state import DecoderState

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle.layers.build import Shapes

_STACK_NORMS = ("embed_norm", "final_norm")


def _append(lists: Sequence[list[Float] | None], found: Sequence[Float | None]) -> None:
    """Append the arrays of all layers to the lists that were asked for."""
    for wanted, arrays in zip(lists, found, strict=True):
        if wanted is not None and arrays is not None:
            wanted.extend(arrays)


class DecoderStack:
    """Embedding, transformer layers and vocabulary, whose weights are packed once.

    With the layers as `BlockSpec` says, for the tokens t at the positions 0, 1, ... of a sequence::

        x = embed_norm(embed_scale * embed[t] + positions[position]);  layers;  final_norm
        logits = cap(head (logit_scale * x) + head bias),    cap(y) = c tanh(y / c)

    A step takes one token of each live row through everything in one native call. Shapes, in the
    letters H hidden, N heads, G heads of keys, E size of a head, F feed forward, V vocabulary,
    B sequences, R live rows, M tokens of all sequences one behind the other::

        embed.weight [V, H]   positions.weight [P, H]   head.weight [V, H]   head.bias [V]
        embed_norm.weight, embed_norm.bias, final_norm.weight, final_norm.bias [H]
        embed_scale, logit_scale, logit_softcap (numbers)     relative_bias [buckets, N]
        layers.i.self_attn.in_proj.weight [(N + 2 G) E, H]    layers.i.self_attn.out_proj.weight
        layers.i.cross_attn.in_proj.weight [3 N E, H]         [H, N E]
        layers.i.linear1.weight [F, H], gated [2 F, H]        layers.i.linear2.weight [H, F]
        layers.i.norm_attn, norm_cross, norm_ff, each .weight and .bias [H]

    All but the weights of embedding, layers and norms of layers may be left out; without
    head.weight the vocabulary has the embedding's. Matrices may be float32, or stored in
    ``dtype`` already.

    A row's numbers have the same bits alone and in any batch, at any place in it, for any number of
    threads. A prompt in one chunk and the same prompt in pieces have the same bits if all pieces
    have at least five tokens, or all have at most four (with all query heads that share keys, at
    most 16 together): few queries are multiplied where keys lie, many after packing, and the two
    differ by rounding.

    Parameters
    ----------
    specs
        The layers; their sizes are the same.
    weights
        A mapping, which is asked once for each name, one layer after the other.
    vocabulary
        V
    dtype
        That of the matrices: "float32", "bfloat16" or "int8".
    embedding
        Another stack, of the same vocabulary and dtype, whose packed embedding this one reads in
        place of embed.weight, as an encoder shares that of its decoder. Without a head.weight of
        its own this stack then has no logits.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value, a weight that is missing, has another shape, or
        that no layer has.
    MemoryError
        For sizes beyond the machine.

    References
    ----------
    Vaswani et al., Attention is all you need, arXiv:1706.03762.
    """

    def __init__(
        self,
        specs: Sequence[BlockSpec],
        weights: Mapping[str, Any],
        *,
        vocabulary: int,
        dtype: Any = "float32",
        embedding: DecoderStack | None = None,
    ) -> None:
        function = self._function = "DecoderStack"
        given: object = specs
        if not isinstance(given, Sequence) or not all(isinstance(s, BlockSpec) for s in given):
            raise TypeError(f"{function}: specs is {checks.shown(specs)}, expected BlockSpecs")
        if not 1 <= len(specs) <= checks.MAX_LAYERS:
            raise ValueError(
                f"{function}: specs has {len(specs)} layers, expected 1 to {checks.MAX_LAYERS}"
            )
        if not isinstance(weights, Mapping):
            raise TypeError(f"{function}: weights is {checks.shown(weights)}, expected a mapping")
        other: object = embedding
        if other is not None and not isinstance(other, DecoderStack):
            raise TypeError(
                f"{function}: embedding is {checks.shown(other)}, expected a DecoderStack"
            )
        names.check_alike(function, specs)
        self.specs = tuple(specs)
        self.vocabulary = checks.integer(function, "vocabulary", vocabulary)
        self.hidden = specs[0].hidden
        self._dtype = checks.dtype(function, "dtype", dtype)
        self._weights: Mapping[str, Any] = weights
        names.check_names(function, weights, self._known())
        self._scores = embedding is None or "head.weight" in weights
        self._native: _core.Decoder = self._packed(None if embedding is None else embedding._native)
        del self._weights

    @property
    def dtype(self) -> str:
        """The dtype of the matrices."""
        return self._dtype

    @property
    def weight_bytes(self) -> int:
        """The bytes of the packed matrices."""
        return self._native.weight_bytes

    def start(
        self,
        rows: int,
        memory: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        capacity: int = 0,
        dtype: Any = "float32",
    ) -> DecoderState:
        """Return a state of ``rows`` sequences that have no token yet.

        ``memory`` [M, H] with its lengths [B], one for each row, is what cross attention sees. Its
        keys and values are computed here, once. A state grows as it must; ``capacity`` tokens have
        room from the beginning. Keys and values are kept in ``dtype``: "float32", "bfloat16" or
        "int8".

        Raises
        ------
        TypeError, ValueError
            For an argument of the wrong kind or value, a layer that is not causal, or a memory
            where there is no cross attention.
        """
        function = "DecoderStack.start"
        rows = checks.integer(function, "rows", rows, least=0)
        capacity = checks.integer(function, "capacity", capacity, least=0)
        seen = None
        if memory is not None:
            pair: object = memory
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TypeError(f"{function}: memory is {checks.shown(memory)}, expected a pair")
            seen = (self._rows(function, "memory", memory[0]), self._integers(
                function, "memory's lengths", memory[1]
            ))  # fmt: skip
        native = self._native.start(
            function,
            rows,
            capacity=capacity,
            dtype=checks.dtype(function, "dtype", dtype),
            memory=seen,
        )
        return DecoderState(self, native)

    def extend(
        self,
        state: DecoderState,
        tokens: ArrayLike,
        lengths: ArrayLike,
        *,
        states: list[Float] | None = None,
        attentions: list[Float] | None = None,
        cross_attentions: list[Float] | None = None,
    ) -> Float:
        """Add ``lengths[r]`` of the tokens [M] to each row r: hidden states [M, H], normed.

        To a list ``states`` it appends the hidden states [M, H] before the first layer and after
        each one, which no final norm has seen; to a list ``attentions`` the probabilities
        [B, N, S, K] of each layer, zero where a sequence has no token, and to ``cross_attentions``
        those over the memory. With probabilities, up to four tokens of a row take the way of more.

        Raises
        ------
        TypeError, ValueError
            For tokens outside the vocabulary, lengths that do not sum up to M, or a sequence longer
            than the table of positions. Nothing has changed then.
        """
        function = "DecoderStack.extend"
        native = self._own(function, state)
        hidden, *found = native.extend(
            function,
            self._integers(function, "tokens", tokens),
            self._integers(function, "lengths", lengths),
            states=states is not None,
            attentions=attentions is not None or cross_attentions is not None,
        )
        _append((states, attentions, cross_attentions), found)
        return hidden

    def step(self, state: DecoderState, tokens: ArrayLike) -> Float:
        """Add a token to each live row, and return the logits [R, V] of the next one.

        Raises
        ------
        TypeError, ValueError
            As `extend` does.
        """
        function = "DecoderStack.step"
        self._check_scores(function)
        return self._own(function, state).step(function, self._integers(function, "tokens", tokens))

    def step_best(self, state: DecoderState, tokens: ArrayLike, k: int) -> tuple[Int, Float, Float]:
        """Add a token to each live row, and return what is best of the logits of the next one.

        Returns
        -------
        ids, values, lse
            The k largest logits [R, k] in falling order, of equal ones the first, their ids, and
            the logarithms [R] of the sums of all e^logit: ``values - lse[:, None]`` are
            logarithms of probabilities.

        Raises
        ------
        TypeError, ValueError
            As `extend` does, and for a k that is not 1 to V.
        """
        function = "DecoderStack.step_best"
        self._check_scores(function)
        native = self._own(function, state)
        k = checks.integer(function, "k", k, most=self.vocabulary)
        return native.step_best(function, self._integers(function, "tokens", tokens), k)

    def logits(self, hidden: ArrayLike) -> Float:
        """Return the logits [R, V] of hidden states [R, H] that `extend` or `encode` returned."""
        function = "DecoderStack.logits"
        self._check_scores(function)
        return self._native.logits(function, self._rows(function, "hidden", hidden))

    def encode(
        self,
        tokens: ArrayLike,
        lengths: ArrayLike,
        *,
        states: list[Float] | None = None,
        attentions: list[Float] | None = None,
    ) -> Float:
        """Run sequences by themselves, without a state: hidden states [M, H], normed.

        ``states`` and ``attentions`` are as in `extend`.

        Raises
        ------
        TypeError, ValueError
            As `extend` does, and where layers have cross attention.
        """
        function = "DecoderStack.encode"
        hidden, *found = self._native.encode(
            function,
            self._integers(function, "tokens", tokens),
            self._integers(function, "lengths", lengths),
            states=states is not None,
            attentions=attentions is not None,
        )
        _append((states, attentions, None), found)
        return hidden

    # -- inside -----------------------------------------------------------------------------------

    def _own(self, function: str, state: object) -> _core.DecoderState:
        """Return the native state, if it is one of this stack."""
        if not isinstance(state, DecoderState):
            raise TypeError(f"{function}: state is {checks.shown(state)}, expected a DecoderState")
        if state.stack is not self:
            raise ValueError(f"{function}: state belongs to another stack, expected one of this")
        return state.native

    def _check_scores(self, function: str) -> None:
        if not self._scores:
            raise ValueError(
                f"{function}: the stack has another's embedding and no head.weight, expected a "
                "head.weight for logits"
            )

    @staticmethod
    def _integers(function: str, name: str, value: ArrayLike) -> Int:
        if type(value) is np.ndarray and value.dtype == np.int64 and value.flags.c_contiguous:
            return value
        return np.ascontiguousarray(to_int64(function, name, value))

    def _rows(self, function: str, name: str, value: ArrayLike) -> Float:
        fits = checks.fits(function, name, (None, self.hidden), "MH")
        return np.ascontiguousarray(to_float32(function, name, value, fits))

    def _stack_shapes(self) -> Shapes:
        """Return the shapes of the stack's own weights but the positions and relative_bias."""
        shapes: Shapes = {f"{n}.{part}": (self.hidden,) for n in _STACK_NORMS for part in (
            "weight", "bias"
        )}  # fmt: skip
        shapes |= {"head.weight": (self.vocabulary, self.hidden), "head.bias": (self.vocabulary,)}
        return {"embed.weight": (self.vocabulary, self.hidden)} | shapes

    def _known(self) -> set[str]:
        """Return the names of all weights that the stack can have."""
        known = {*self._stack_shapes(), *names.NUMBERS, "positions.weight", "relative_bias"}
        for i, spec in enumerate(self.specs):
            for part in names.layer_shapes(spec):
                known |= {f"layers.{i}.{name}" for name in part}
        return known

    def _weight(self, name: str) -> Any:
        """Return a weight, or raise where it is missing."""
        try:
            return self._weights[name]
        except KeyError:
            raise ValueError(
                f"{self._function}: weights has no {name!r}, expected a weight for it"
            ) from None

    def _packed(self, embedding: _core.Decoder | None) -> _core.Decoder:
        """Pack all weights."""
        own = self._function
        options: dict[str, Any] = {
            name: checks.number(own, name, self._weights.get(name, default))
            for name, default in names.NUMBERS.items()
        }
        first, last = self.specs[0], self.specs[-1]
        options |= {"vocabulary": self.vocabulary, "hidden": self.hidden, "embed_eps": first.eps}
        options |= {"final_norm": last.norm, "final_eps": last.eps}
        stack: dict[str, Any] = {}
        for name, shape in self._stack_shapes().items():
            if name == "embed.weight" and embedding is not None:
                continue
            if name == "embed.weight" or name in self._weights:
                stack[name] = names.converted(own, name, self._weight(name), shape, self._dtype)
        if "positions.weight" in self._weights:
            value = self._rows(own, "positions.weight", self._weights["positions.weight"])
            stack["positions.weight"] = value
        stack["distances"] = names.distances(own, self.specs, self._weight)
        native = _core.Decoder(own, options, stack, dtype=self._dtype, embedding=embedding)
        del stack
        for i, spec in enumerate(self.specs):
            native.add_layer(names.layer_options(own, spec), self._layer(i, spec))
        return native

    def _layer(self, i: int, spec: BlockSpec) -> dict[str, Any]:
        """Return the weights of a layer in the form that the core takes."""
        needed, optional = names.layer_shapes(spec)
        layer = {}
        for name, shape in (needed | optional).items():
            full = f"layers.{i}.{name}"
            if name in optional and full not in self._weights:
                continue
            value = names.untwisted(spec, name, self._weight(full))
            layer[name] = names.converted(self._function, full, value, shape, self._dtype)
        return layer

    def __repr__(self) -> str:
        more = "" if self._dtype == "float32" else f", dtype={self._dtype!r}"
        return (
            f"DecoderStack({len(self.specs)} layers, hidden={self.hidden}, "
            f"vocabulary={self.vocabulary}{more})"
        )
