"""A streamer receives tokens as soon as it is certain that they belong to the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from treadle._public import published

if TYPE_CHECKING:
    from treadle._inputs.types import Int


@published("treadle.generation")
class Streamer(Protocol):
    """An object that receives tokens during a search; those of Transformers are such objects.

    `put` is called with the prompts first, [B, P], left-padded. Without beams it is then called
    with the next token of every sentence, [B], which is ``pad_token_id`` for a sentence that has
    ended. A beam search of one sentence puts the tokens [n] on which all hypotheses that can still
    win agree, as soon as they do; with several sentences [B, n], where -1 stands behind the tokens
    of a sentence that has fewer. No token is put twice or taken back, and all of them together are
    the best sequence of each sentence. `end` is called once, also when the search raises, unless it
    is the streamer that raises.

    Examples
    --------
    >>> import numpy as np, treadle.generation
    >>> class Printer:
    ...     def put(self, tokens):
    ...         print(tokens.tolist())
    ...     def end(self):
    ...         print("end")
    >>> class Table:
    ...     def step(self, tokens):
    ...         return np.eye(4, dtype=np.float32)[(tokens + 1) % 4]
    ...     def reorder(self, rows):
    ...         pass
    >>> config = treadle.generation.GenerationConfig(max_new_tokens=2)
    >>> found = treadle.generation.search(
    ...     Table(), Table().step(np.array([0])), [[0]], config, streamer=Printer()
    ... )
    [[0]]
    [1]
    [2]
    end
    """

    def put(self, value: Int) -> Any:
        """Receive tokens."""
        ...

    def end(self) -> Any:
        """Learn that no more tokens will come."""
        ...


class Stream:
    """A streamer, or none. One that has raised is not called again."""

    def __init__(self, streamer: Streamer | None) -> None:
        self._streamer = streamer
        self._broken = False

    @property
    def wanted(self) -> bool:
        """True if anybody receives tokens."""
        return self._streamer is not None

    def put(self, tokens: Int) -> None:
        """Hand over tokens, in an array that nobody else holds."""
        if self._streamer is not None:
            self._broken = True
            self._streamer.put(tokens)
            self._broken = False

    def close(self) -> None:
        """End the stream, so that who waits for tokens in another thread does not wait forever."""
        if self._streamer is not None and not self._broken:
            self._streamer.end()
