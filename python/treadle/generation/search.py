"""The search for sequences: greedy, by beams or by sampling, over any decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle._inputs.arrays import to_int64
from treadle._inputs.checks import shown
from treadle.generation.beam import candidates_of, search_beams
from treadle.generation.config import GenerationConfig, as_tuple
from treadle.generation.constraints import constraints
from treadle.generation.decoding import checked_logits
from treadle.generation.sampling import Uniform
from treadle.generation.single import search_single
from treadle.generation.streaming import Stream
from treadle.generation.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle.generation.decoding import Decoding, LogitsHook
    from treadle.generation.results import SearchResult
    from treadle.generation.streaming import Streamer

_NAME = "treadle.generation.search"


def search(
    decoding: Decoding,
    logits: Float,
    prompts: Sequence[ArrayLike],
    config: GenerationConfig | None = None,
    *,
    logits_hook: LogitsHook | None = None,
    streamer: Streamer | None = None,
    uniform: ArrayLike | None = None,
) -> SearchResult:
    """Continue B prompts, which a model has read, until they end.

    The tokens are those of Transformers' ``generate`` with the same options, in float32. A sentence
    gets the same tokens and scores, bit for bit, alone and in any batch, if the decoding gives it
    the same logits; that holds for what is drawn from a seed, too. Rows that have ended leave the
    decoding. Among equal scores, the lower token id is taken, and the better beam before that.

    Parameters
    ----------
    decoding
        The model, with B live rows that have seen the prompts.
    logits
        [B, V], float32: what it says about the first new token.
    prompts
        B arrays of token ids, which may differ in length: what the model has seen.
        They count for lengths and for repetition, and the sequences begin with them.
    config
        The options; their defaults when None.
    logits_hook
        A function of the token ids [R, T] and scores [R, V] of the live rows that returns new
        scores [R, V]. It runs behind the options' own rules and before those of sampling. -1 stands
        before the tokens of a row that is shorter than others. In a beam search the scores are
        log-probabilities.
    streamer
        An object with ``put`` and ``end``, see `Streamer`.
    uniform
        The numbers in [0, 1) for sampling, instead of those of ``config.seed``: [B N, steps], N =
        num_return_sequences. A number u picks the first token, in the order of ids, up to which
        the probabilities sum to more than u. In a beam search, [B, steps, K]: K = (1 + the number
        of end tokens, at least 1) num_beams continuations are drawn one after the other, each from
        those that are left of num_beams V.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, for token ids of the options that V has no place for, for a
        hook or a decoding that returns another shape, another dtype or NaN, and where the options
        forbid every token. What the decoding, the hook or the streamer raise goes through, as does
        Ctrl-C; nothing is kept of the call.

    References
    ----------
    Transformers 5, generation/utils.py.

    Examples
    --------
    A model that counts modulo 5 and ends with 4:

    >>> import numpy as np, treadle.generation
    >>> class Count:
    ...     def step(self, tokens):
    ...         return np.eye(5, dtype=np.float32)[(tokens + 1) % 5]
    ...     def reorder(self, rows):
    ...         pass
    >>> config = treadle.generation.GenerationConfig(eos_token_id=4, pad_token_id=0)
    >>> logits = Count().step(np.array([1, 3]))
    >>> found = treadle.generation.search(Count(), logits, [[0, 1], [3]], config)
    >>> found.sequences
    array([[0, 1, 2, 3, 4],
           [3, 4, 0, 0, 0]])
    >>> found.lengths
    array([5, 2])
    """
    config = GenerationConfig() if config is None else config
    if not isinstance(config, GenerationConfig):
        raise TypeError(f"{_NAME}: config is {shown(config)}, expected a GenerationConfig")
    if logits_hook is not None and not callable(logits_hook):
        raise TypeError(f"{_NAME}: logits_hook is {shown(logits_hook)}, expected a function")
    sentences = [_prompt(i, prompt) for i, prompt in enumerate(prompts)]
    logits = checked_logits("logits", logits, len(sentences), None)
    _check_tokens(config, logits.shape[1])
    limits = config.limits([len(sentence) for sentence in sentences])
    stream = Stream(streamer)
    task = Task(
        decoding=decoding,
        config=config,
        prompts=sentences,
        limits=limits,
        vocabulary=logits.shape[1],
        rules=constraints(config),
        hook=logits_hook,
        stream=stream,
        uniform=_uniform(config, sentences, limits, uniform),
    )
    try:
        return (search_beams if config.num_beams > 1 else search_single)(task, logits)
    finally:
        stream.close()


def _prompt(i: int, prompt: ArrayLike) -> Int:
    tokens = to_int64(_NAME, f"prompts[{i}]", prompt)
    if tokens.ndim != 1 or (tokens < 0).any():
        raise ValueError(
            f"{_NAME}: prompts[{i}] is {shown(prompt)}, expected a list of token ids that are at "
            "least 0"
        )
    return tokens


def _check_tokens(config: GenerationConfig, vocabulary: int) -> None:
    """Raise ValueError for a token id of the options that the logits have no place for."""
    tokens = {
        "eos_token_id": config.end_tokens,
        "forced_bos_token_id": as_tuple(config.forced_bos_token_id),
        "forced_eos_token_id": as_tuple(config.forced_eos_token_id),
        "suppress_tokens": config.suppress_tokens or (),
        "begin_suppress_tokens": config.begin_suppress_tokens or (),
        "bad_words_ids": tuple(token for word in config.bad_words_ids or () for token in word),
    }
    for name, ids in tokens.items():
        largest = max(ids, default=0)
        if largest >= vocabulary:
            raise ValueError(
                f"{_NAME}: {name} has {largest}, but there are logits for {vocabulary} tokens; "
                f"expected ids below {vocabulary}, or None"
            )


def _uniform(
    config: GenerationConfig,
    prompts: Sequence[Int],
    limits: Sequence[int],
    given: ArrayLike | None,
) -> Uniform | None:
    """Return where the numbers for sampling come from, or None if nothing is drawn."""
    if not config.do_sample:
        if given is not None:
            raise ValueError(f"{_NAME}: uniform has numbers for do_sample=True, which is False")
        return None
    if config.num_beams > 1:
        numbers = Uniform(config, len(prompts), 1, candidates_of(config))
    else:
        numbers = Uniform(config, len(prompts), config.num_return_sequences)
    if given is not None:
        steps = max((n - len(p) for n, p in zip(limits, prompts, strict=True)), default=0)
        numbers.give(given, steps)
    return numbers
