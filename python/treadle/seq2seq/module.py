"""Seq2Seq: a recurrent decoder writes what an encoder has read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_int64
from treadle._public import published
from treadle.layers import build
from treadle.layers.configuration import Flag, Integer
from treadle.layers.module import layer
from treadle.seq2seq.connected import Connected
from treadle.seq2seq.entries import Options, OwnDtypes, Part, Score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle.layers.configuration import Entries
    from treadle.layers.recurrent_stack import Recurrent
    from treadle.layers.sequential import Sequential
    from treadle.seq2seq.decoding import Decoding


@published("treadle")
@layer
class Seq2Seq(Connected):
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
    generation
        The options of `generate` that the model keeps, in files too: those of
        `treadle.generation.GenerationConfig` by their names, such as decoder_start_token_id,
        eos_token_id and pad_token_id.
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
    >>> tokens = {"decoder_start_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    >>> model = treadle.Seq2Seq(encoder, decoder, "general", generation=tokens, seed=2)
    >>> x = [[5, 6, 7, 0], [8, 9, 0, 0]]
    >>> model(x, [[1, 4], [1, 3]], lengths=[3, 2]).shape
    (2, 2, 20)
    >>> model.generate(x, lengths=[3, 2], max_new_tokens=5, min_new_tokens=5).shape
    (2, 6)
    """

    _takes = "x and tokens"
    _entries: ClassVar[Entries] = {
        "encoder": Part("encoder", recurrent=True, optional=True),
        "decoder": Part("decoder"),
        "attention": Score(),
        "attention_size": Integer(optional=True),
        "memory_size": Integer(optional=True),
        "bridge": Flag(),
        "generation": Options(),
        "dtype": OwnDtypes(),
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
        generation: Mapping[str, Any] | None = None,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "seed", "__class__")}
        self._configure(given)
        for number, (_, product) in enumerate(self._own):
            build.fill(product, build.draw(product, seed if seed is None else [seed, number]))

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

    def generate(
        self,
        x: ArrayLike,
        tokens: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        logits_hook: Any = None,
        streamer: Any = None,
        uniform: ArrayLike | None = None,
        **options: Any,
    ) -> Any:
        """Write a sequence for each row of x: token ids [B num_return_sequences, T].

        Parameters
        ----------
        x, lengths
            Those of a call.
        tokens
            Integers [B, P] that the sequences begin with; when None, one decoder_start_token_id
            (or bos_token_id) each.
        logits_hook, streamer, uniform
            Those of `treadle.generation.search`.
        options
            Options of `treadle.generation.GenerationConfig`, which count before those that the
            model keeps: num_beams, max_new_tokens, do_sample, ...

        Returns
        -------
        int64 array or `treadle.generation.SearchResult`
            The sequences, the first tokens included, with pad_token_id behind their ends; with
            return_dict_in_generate all that the search has found.

        Raises
        ------
        TypeError, ValueError
            For what does not fit, and where nothing says which token a sequence begins with.

        Notes
        -----
        The attention to x that wrote a sequence is, bit for bit,
        ``model(x, sequences[:, :-1], lengths=lengths, output_attentions=True)[1]``.

        Examples
        --------
        >>> import numpy as np, treadle
        >>> decoder = treadle.Sequential(
        ...     treadle.Embedding(9, 4, seed=0), treadle.GRUCell(4, 6, seed=0),
        ...     treadle.Linear(6, 9, seed=0))
        >>> model = treadle.Seq2Seq(treadle.GRU(5, 6, batch_first=True, seed=0), decoder)
        >>> model.generate(np.ones((2, 3, 5), np.float32), [[1], [2]], max_new_tokens=3).shape
        (2, 4)
        """
        from treadle.generation import GenerationConfig, search

        function = f"{self._function}.generate"
        kept = self._configuration["generation"] or {}
        config = GenerationConfig().merged(**(kept | options))
        if tokens is None:
            first = config.decoder_start_token_id
            first = config.bos_token_id if first is None else first
            if first is None:
                raise ValueError(
                    f"{function}: neither tokens nor decoder_start_token_id is given, expected one "
                    "of them, or generation= of the model"
                )
            decoding = self._begun(x, lengths)
            prompts = np.full((decoding.rows, 1), first, np.int64)
        else:
            prompts = self._tokens(tokens)
            decoding = self._begun(x, lengths)
        logits, _ = decoding.read(prompts)
        found = search(
            decoding,
            np.ascontiguousarray(logits[:, -1]),
            list(prompts),
            config,
            logits_hook=logits_hook,
            streamer=streamer,
            uniform=uniform,
        )
        return found if config.return_dict_in_generate else found.sequences

    def _tokens(self, tokens: ArrayLike) -> Int:
        def fits(array: Any) -> None:
            checks.shape(self._function, "tokens", array, (None, None), "BT")
            if array.shape[1] == 0:
                raise ValueError(
                    f"{self._function}: tokens has shape {array.shape}, expected T > 0"
                )

        return to_int64(self._function, "tokens", tokens, fits)
