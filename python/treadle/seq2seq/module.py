"""Seq2Seq: a recurrent decoder writes what an encoder has read."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_float32, to_int64
from treadle.layers import build
from treadle.layers.composite import Composite
from treadle.layers.configuration import Flag, Integer
from treadle.layers.linear import Linear
from treadle.layers.module import layer
from treadle.layers.parts import Dtypes, chosen
from treadle.seq2seq.decoding import Decoding
from treadle.seq2seq.entries import Part, Score
from treadle.seq2seq.memory import MemoryAttention
from treadle.seq2seq.sizes import Connection, connected
from treadle.seq2seq.state import blank, bridged, carried, summary
from treadle.seq2seq.structure import DecoderLayers, EncoderLayers, positions

if TYPE_CHECKING:
    from typing_extensions import Self

    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle.layers.composite import Children
    from treadle.layers.configuration import Entries
    from treadle.layers.module import Module
    from treadle.layers.recurrent_stack import Recurrent
    from treadle.layers.sequential import Sequential
    from treadle.seq2seq.state import State


class _OwnDtypes(Dtypes):
    """The dtypes of the products that connect encoder and decoder, by name or one for all."""

    __slots__ = ()

    def retyped(self, value: Any, dtype: Any) -> Any:
        if isinstance(dtype, str):
            return dtype
        names = {k: v for k, v in dtype.items() if k not in ("encoder", "decoder")}
        return {k: v for k, v in names.items() if v is not None} if names else value

    def recorded(self, value: Any) -> Any:
        return value


@layer
class Seq2Seq(Composite):
    """An encoder reads a sequence, or features; a recurrent decoder writes another, token by token.

    The encoder is a `treadle.Sequential`, often of an `Embedding` and an `LSTM`, or a recurrent
    layer; None if x already has the features, of a picture for instance. Its output are the
    *positions* m_s [B, S, M] of the memory (those of a picture [B, C, H, W] are H W positions of C
    numbers). The decoder is a `treadle.Sequential` of an `Embedding`, further layers of single
    positions, one recurrent layer or cell, and output layers, which return logits. ``batch_first``
    is True in all recurrent layers, and the decoder's reads forwards.

    Without attention, the encoder's final state is all that the decoder knows (Sutskever et al.,
    Cho et al.). ``attention`` names the score by which a query of the decoder looks at the
    positions; the softmax of the scores weights them into a context::

        score_s = q . m_s                            "dot"       (H = M)
        score_s = q . (W m_s)                        "general"   attention_memory.weight [H, M]
        score_s = v . tanh(W_q q + W_m m_s + b)      "additive"  attention_query.weight [A, H],
            attention_memory.weight [A, M], attention_memory.bias [A], attention_score.weight [1, A]
        context_t = sum_s softmax(score)_s m_s

    The size of the recurrent layer's input says where the context goes. Where it is the embedding's
    E, the query is h_t, and the context serves the output layers (Luong et al.)::

        h_t = rnn(embedding_t, h_{t-1})              logits_t = output([h_t, context_t])

    Where it is E + M, the query is h_{t-1} of the top layer, and the context is read as well
    (Bahdanau et al.; Show, Attend and Tell)::

        h_t = rnn([embedding_t, context_t], h_{t-1})   logits_t = output([h_t, context_t])

    so that output layers take H + M numbers. Luong's attentional state is a first output layer
    ``Linear(H + M, A, activation="tanh")``.

    The decoder begins with the final state of the encoder's last recurrent layer, both directions
    side by side, layer for layer; with ``bridge``, with tanh(W s + b) of the final h of its top
    layer, or, without a recurrent layer, of the mean of the positions (initial_state.weight,
    initial_state.bias); else with zeros.

    Parameters
    ----------
    encoder
        A `treadle.Sequential`, `treadle.RNN`, `treadle.LSTM` or `treadle.GRU`, or None.
    decoder
        A `treadle.Sequential`.
    attention
        None, "dot", "general" or "additive".
    attention_size
        A of "additive"; the decoder's H when None.
    memory_size
        M, where the encoder is None or its last layers do not tell.
    bridge
        Whether the decoder's first state is learned.
    dtype
        The dtype of the products of attention and bridge; the other layers have their own, and
        ``to`` changes all. Scores, softmax and context are float32.
    seed
        Makes the initial parameters of attention and bridge repeatable.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value, and for layers and sizes that do not fit.

    References
    ----------
    Sutskever et al., arXiv:1409.3215; Cho et al., arXiv:1406.1078; Bahdanau et al.,
    arXiv:1409.0473; Luong et al., arXiv:1508.04025; Vinyals et al., Show and Tell,
    arXiv:1411.4555; Xu et al., Show, Attend and Tell, arXiv:1502.03044.

    Examples
    --------
    >>> import treadle
    >>> encoder = treadle.Sequential(
    ...     treadle.Embedding(30, 8, seed=0),
    ...     treadle.GRU(8, 16, bidirectional=True, batch_first=True, seed=0))
    >>> decoder = treadle.Sequential(
    ...     treadle.Embedding(20, 8, seed=1),
    ...     treadle.GRU(8, 32, batch_first=True, seed=1),
    ...     treadle.Linear(32 + 32, 20, seed=1))
    >>> model = treadle.Seq2Seq(encoder, decoder, "general", seed=2)
    >>> model([[5, 6, 7, 0], [8, 9, 0, 0]], [[1, 4], [1, 3]], lengths=[3, 2]).shape
    (2, 2, 20)
    """

    _takes = "x and tokens"
    _own: tuple[tuple[str, Linear], ...]
    _encoder: EncoderLayers | None
    _decoder: DecoderLayers
    _connection: Connection
    _derived = Composite._derived | {"_connection", "_decoder", "_encoder", "_own"}
    _entries: ClassVar[Entries] = {
        "encoder": Part("encoder", recurrent=True, optional=True),
        "decoder": Part("decoder"),
        "attention": Score(),
        "attention_size": Integer(optional=True),
        "memory_size": Integer(optional=True),
        "bridge": Flag(),
        "dtype": _OwnDtypes(),
    }

    def __init__(
        self,
        encoder: Sequential | Recurrent | None,
        decoder: Sequential,
        attention: str | None = None,
        *,
        attention_size: int | None = None,
        memory_size: int | None = None,
        bridge: bool = False,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "seed", "__class__")}
        self._configure(given)
        for number, (_, product) in enumerate(self._own):
            build.fill(product, build.draw(product, seed if seed is None else [seed, number]))

    def _check_configuration(self) -> None:
        own, function = self._configuration, self._function
        encoder = own["encoder"]
        layers = None if encoder is None else EncoderLayers(function, encoder)
        decoder = DecoderLayers(function, own["decoder"])
        connection = connected(function, own, layers, decoder)
        names = list(connection.products)
        dtypes = chosen(function, own["dtype"], names, ["float32"] * len(names))
        dtypes = [checks.dtype(function, "dtype", one) for one in dtypes]
        if len(set(dtypes)) > 1:
            own["dtype"] = dict(zip(names, dtypes, strict=True))
        elif dtypes:
            own["dtype"] = dtypes[0]
        elif not isinstance(own["dtype"], str):
            own["dtype"] = "float32"
        self.__dict__.update(
            _encoder=layers,
            _decoder=decoder,
            _connection=connection,
            _own=tuple(
                (name, build.blueprint(Linear, arguments | {"dtype": dtype}))
                for (name, arguments), dtype in zip(
                    connection.products.items(), dtypes, strict=True
                )
            ),
        )
        super()._check_configuration()

    @property
    def _children(self) -> Children:
        own = self._configuration
        encoder, decoder = own.get("encoder"), own.get("decoder")
        parts: list[tuple[str, Module]] = [] if encoder is None else [("encoder", encoder)]
        parts += [] if decoder is None else [("decoder", decoder)]
        return (*parts, *self.__dict__.get("_own", ()))

    def _choice(self, function: str, dtype: Any, keep: Any) -> dict[str, Any]:
        choices = dict(zip(self._parts(), super()._choice(function, dtype, keep), strict=True))
        return {
            name: child.dtype if choices[name] is None else choices[name]
            for name, child in self._own
        } | {name: choices.get(name) for name in ("encoder", "decoder")}

    # -- calls ------------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike,
        tokens: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        output_attentions: bool = False,
    ) -> Any:
        """Return the logits [B, T, V] of what follows each of the tokens [B, T].

        With the right tokens this is teacher forcing: tokens begin with the token that starts a
        sequence, and logits[:, t] are those of tokens[:, t + 1].

        Parameters
        ----------
        x
            What the encoder takes, B first: ids [B, S], float32 [B, S, I] or pictures [B, C, H, W].
        tokens
            Integers [B, T], T at least 1.
        lengths
            Integers [B] in 0..S, in any order: how many positions of each row of x exist. The
            encoder then has recurrent layers and layers of single positions alone.
        output_attentions
            Return (logits, the attention probabilities [B, T, S]).

        Raises
        ------
        ValueError
            For a shape or value that does not fit, such as an id that an embedding does not have.
        TypeError
            For another dtype or kind of object.

        Examples
        --------
        >>> import numpy as np, treadle
        >>> decoder = treadle.Sequential(
        ...     treadle.Embedding(9, 4, seed=0), treadle.LSTMCell(4 + 5, 6, seed=0),
        ...     treadle.Linear(6 + 5, 9, seed=0))
        >>> model = treadle.Seq2Seq(None, decoder, "additive", memory_size=5, bridge=True, seed=0)
        >>> pictures = np.ones((2, 3, 5), np.float32)
        >>> logits, attention = model(pictures, [[1, 4], [1, 3]], output_attentions=True)
        >>> logits.shape, attention.shape
        ((2, 2, 9), (2, 2, 3))
        """
        checks.flag(self._function, "output_attentions", output_attentions)
        if output_attentions and self._configuration["attention"] is None:
            raise ValueError(
                f"{self._function}: output_attentions is True, expected False: the model has no "
                "attention"
            )
        logits, probabilities = self._begun(x, lengths).read(self._tokens(tokens))
        return (logits, probabilities) if output_attentions else logits

    def decoding(
        self, x: ArrayLike, tokens: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> tuple[Decoding, Float]:
        """Read x and the first tokens [B, T]; return a `Decoding` and the next logits [B, V].

        A Decoding has ``step(tokens [R])``, which returns the logits [R, V] of what follows, and
        ``reorder(rows)``: it is all that `treadle.generation` asks of a model. Arguments and errors
        are those of a call.

        Examples
        --------
        >>> import numpy as np, treadle
        >>> decoder = treadle.Sequential(
        ...     treadle.Embedding(9, 4, seed=0), treadle.GRUCell(4, 6, seed=0),
        ...     treadle.Linear(6, 9, seed=0))
        >>> model = treadle.Seq2Seq(treadle.GRU(5, 6, batch_first=True, seed=0), decoder)
        >>> decoding, logits = model.decoding(np.ones((2, 3, 5), np.float32), [[1], [1]])
        >>> decoding.step(logits.argmax(1)).shape
        (2, 9)
        """
        decoding = self._begun(x, lengths)
        logits, _ = decoding.read(self._tokens(tokens))
        return decoding, np.ascontiguousarray(logits[:, -1])

    def _tokens(self, tokens: ArrayLike) -> Int:
        def fits(array: Any) -> None:
            checks.shape(self._function, "tokens", array, (None, None), "BT")
            if array.shape[1] == 0:
                raise ValueError(
                    f"{self._function}: tokens has shape {array.shape}, expected T > 0"
                )

        return to_int64(self._function, "tokens", tokens, fits)

    def _begun(self, x: ArrayLike, lengths: ArrayLike | None) -> Decoding:
        """Let the encoder read x, and return the decoding that begins with it."""
        function, own = self._function, self._configuration
        ends = None if lengths is None else to_int64(function, "lengths", lengths)
        if self._encoder is None:
            memory, final = positions(to_float32(function, "x", x)), None
        else:
            memory, final = self._encoder.run(x, ends)
        self._check_memory(memory)
        B, S = memory.shape[0], memory.shape[1] if memory.ndim == 3 else 1
        if ends is None:
            ends = np.full(B, S, np.int64)
        elif ends.shape != (B,) or (ends < 0).any() or (ends > S).any():
            raise ValueError(
                f"{function}: lengths are {checks.shown(ends.tolist())}, expected [B] of 0 to S "
                f"with B = {B}, S = {S}"
            )
        look = None
        if own["attention"] is not None:
            size = self._connection.memory or 0
            attention = MemoryAttention(function, own["attention"], size, dict(self._own))
            look = attention, attention.remember(memory, ends)
        return Decoding(
            self._decoder, self._first(memory, ends, final), look, self._connection.feeds
        )

    def _first(self, memory: Float, lengths: Int, final: Any) -> State:
        """Return the decoder's first state."""
        recurrent, last = self._decoder.recurrent, self._encoder and self._encoder.last
        directions = last._spec.directions if last else 1
        if self._configuration["bridge"]:
            initial: Any = dict(self._own)["initial_state"]
            return bridged(recurrent, initial(summary(memory, lengths, final, directions)))
        if final is None:
            return blank(recurrent, len(memory))
        return carried(recurrent, final, directions)

    def _check_memory(self, memory: Float) -> None:
        """Check the shape of what the encoder has read."""
        size = self._connection.memory
        plain = self._encoder is None or self._encoder.last is None
        axes = (2, 3) if plain and self._configuration["attention"] is None else (3,)
        if memory.ndim not in axes or size not in (None, memory.shape[-1]):
            of = "x" if self._encoder is None else "the encoder's output"
            letters = "[B, S, M] or [B, M]" if 2 in axes else "[B, S, M]"
            known = "" if size is None else f" with M = {size}"
            raise ValueError(
                f"{self._function}: {of} has shape {memory.shape}, expected {letters}{known}"
            )

    # -- copies -----------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        state = self.__getstate__()
        configuration = {
            k: copy.copy(v) if k in ("encoder", "decoder") else v
            for k, v in state["configuration"].items()
        }
        own = {name: copy.copy(product) for name, product in state["own"].items()}
        other.__setstate__(state | {"configuration": configuration, "own": own})
        return other

    def __getstate__(self) -> dict[str, Any]:
        attributes = {k: v for k, v in self.__dict__.items() if k not in self._derived}
        return {
            "configuration": self._configuration,
            "own": dict(self._own),
            "attributes": attributes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._configure(state["configuration"])
        given = state["own"]
        if {k: repr(v) for k, v in given.items()} != {k: repr(v) for k, v in self._own}:
            raise ValueError(
                f"{self._function}: a copy has the products {checks.shown(given)}, "
                f"expected {dict(self._own)}"
            )
        self.__dict__["_own"] = tuple(given.items())
        self.__dict__.update(state["attributes"])
