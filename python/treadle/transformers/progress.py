"""Long work shows a progress bar of tqdm, which is imported only if there is something to show."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

# Fewer batches are done before anybody could read a bar.
_FEW_BATCHES = 8
# A bar that the caller did not ask for appears after so many seconds.
_DELAY = 2.0


class _NoBar:
    def update(self, n: int) -> None:
        """Show nothing."""


def progress_bar(
    function: str,
    show: bool | None,
    total: int | None,
    batch_size: int,
    words: tuple[str, str] = ("encode", " sentences"),
) -> AbstractContextManager[Any]:
    """Return a context with ``update(n)``; ``show`` None shows only long work on a terminal.

    ``words`` says what the bar counts: its title and its unit.
    """
    few = total is not None and total <= _FEW_BATCHES * batch_size
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if show is False or (show is None and (few or not terminal)):
        return nullcontext(_NoBar())
    try:
        tqdm = import_module("tqdm").tqdm
    except ImportError as error:
        if show is None:
            return nullcontext(_NoBar())
        raise ImportError(
            f"{function}: show_progress_bar is True, but tqdm cannot be imported ({error}); "
            "pip install treadle[transformers]"
        ) from error
    bar: AbstractContextManager[Any] = tqdm(
        total=total, desc=words[0], unit=words[1], delay=0.0 if show else _DELAY
    )
    return bar
