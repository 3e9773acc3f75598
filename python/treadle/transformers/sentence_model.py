"""SentenceTransformer and CrossEncoder load a directory and choose a prompt in the same way."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypedDict

from treadle._inputs.checks import dtype as check_dtype
from treadle._inputs.checks import integer, shown
from treadle.transformers import tokenizer_files
from treadle.transformers.directory import exists, read_flag, read_json
from treadle.transformers.encoding import check_text
from treadle.transformers.settings import (
    DOWNLOADS,
    MODEL_OPTIONS,
    Table,
    check_entries,
    options,
    processing_length,
)
from treadle.transformers.tokenizer import AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from treadle._storage.files import Path
    from treadle.transformers.encoder import PretrainedEncoder

# One of these files has the settings of a Transformer; its name has depended on the kind of model.
_ENCODER_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_MODEL_FILE = "config_sentence_transformers.json"


class LoadOptions(TypedDict, total=False):
    """The options of the constructors of SentenceTransformer and CrossEncoder."""

    dtype: Any
    device: Any
    prompts: dict[str, str] | None
    default_prompt_name: str | None
    tokenizer_kwargs: dict[str, Any] | None
    processor_kwargs: dict[str, Any] | None
    model_kwargs: dict[str, Any] | None
    config_kwargs: dict[str, Any] | None
    cache_folder: Path | None
    revision: str | None
    local_files_only: bool
    token: bool | str | None
    use_auth_token: bool | str | None
    trust_remote_code: bool
    backend: str
    modules: None
    model_card_data: None


# These options have no effect here: each has the values that it may have, and the reason.
_REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "trust_remote_code": ((False, None), "treadle runs no code of a directory"),
    "backend": (("torch", None), "treadle computes by itself"),
    "modules": ((None,), "a model is read from a directory"),
    "model_card_data": ((None,), "treadle writes no model cards"),
}


class Settings(NamedTuple):
    """This class joins the settings in a directory's files with a constructor's options."""

    dtype: str
    config: dict[str, Any]
    """Entries that replace those of config.json."""
    tokenizer: dict[str, Any]
    """Entries that replace those of tokenizer_config.json."""
    lower_case: bool
    lengths: dict[str, object]
    """max_seq_length, query_length, document_length, where they are set."""
    model: dict[str, Any]
    """The entries of config_sentence_transformers.json."""


class SentenceModel:
    """The base of the classes that are called as in sentence-transformers.

    Attributes: ``prompts``, the texts that may be put before a sentence, by their names;
    ``default_prompt_name``; ``tokenizer``; ``max_seq_length``; ``device``, always "cpu".
    """

    _NAME: ClassVar[str]
    _PROMPTS: ClassVar[tuple[str, ...]]
    """The names of prompts that every model has; they are empty where no file says more."""

    prompts: dict[str, str]
    default_prompt_name: str | None
    tokenizer: AutoTokenizer
    _directory: str
    _arguments: dict[str, Any]
    _lengths: dict[str, object]

    @property
    def device(self) -> str:
        """The device of the model, "cpu"."""
        return "cpu"

    def to(self, device: Any) -> Self:
        """Return the model itself for "cpu"; treadle has no other device."""
        check_device(f"{self._NAME}.to", device)
        return self

    def eval(self) -> Self:
        """Return the model itself, which has no state of training."""
        return self

    @property
    def max_seq_length(self) -> int:
        """The number of tokens, special ones included, after which sentences are cut off."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        least = self.tokenizer.num_special_tokens_to_add(self._pairs)
        most = self._native_encoder.most_tokens
        self._max_seq_length = integer(self._NAME, "max_seq_length", value, least, most)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the directory and the arguments, so that worker processes load the model."""
        return partial(type(self), **self._arguments), (self._directory,)

    # Subclasses define these attributes.

    _pairs: ClassVar[bool]

    @property
    def _native_encoder(self) -> PretrainedEncoder:
        raise NotImplementedError

    # Loading.

    def _settings(
        self, directory: str, encoder: str | None, tables: tuple[Table, Table], given: LoadOptions
    ) -> Settings:
        """Check the options, then read the settings of the encoder and of the model by ``tables``.

        ``encoder`` is the directory of the encoder's settings; None if there are none to read.
        """
        _check_options(self._NAME, given)
        entries, where = {}, self._NAME
        model: dict[str, Any] = {}
        if encoder is not None:
            name = next((name for name in _ENCODER_FILES if exists(encoder, name)), None)
            entries = read_json(self._NAME, encoder, name) if name else {}
            where = f"{self._NAME}: {encoder}/{name}"
            check_entries(where, entries, tables[0])
            model = self._read_model_file(directory, tables[1])
        joined = {
            new: {
                **options(where, new, entries.get(old, entries.get(new)), table),
                **options(self._NAME, new, _given(self._NAME, given, old, new), table),
            }
            for old, new, table in (
                ("model_args", "model_kwargs", MODEL_OPTIONS),
                ("tokenizer_args", "processor_kwargs", None),
                ("config_args", "config_kwargs", None),
            )
        }
        without = {
            name: {k: v for k, v in value.items() if k not in DOWNLOADS}
            for name, value in joined.items()
        }
        lengths = {
            name: entries[name]
            for name in ("max_seq_length", "query_length", "document_length")
            if entries.get(name) is not None
        }
        processing = processing_length(where, entries.get("processing_kwargs"))
        if processing is not None:
            lengths["processing"] = processing
        return Settings(
            _dtype(self._NAME, given.get("dtype"), joined["model_kwargs"]),
            without["config_kwargs"],
            without["processor_kwargs"],
            read_flag(where, entries, "do_lower_case", default=False),
            lengths,
            model,
        )

    def _read_model_file(self, directory: str, table: Table) -> dict[str, Any]:
        if not exists(directory, _MODEL_FILE):
            return {}
        model = read_json(self._NAME, directory, _MODEL_FILE)
        check_entries(f"{self._NAME}: {directory}/{_MODEL_FILE}", model, table)
        return model

    def _load_tokenizer(self, encoder: str, settings: Settings) -> None:
        """Load the tokenizer, and set the lengths after which texts are cut off."""
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(encoder, **settings.tokenizer)
        except TypeError as error:  # an unknown name, perhaps in a file
            raise ValueError(f"{self._NAME}: processor_kwargs: {error}") from None
        most = self._native_encoder.most_tokens
        length: object = settings.lengths.get("max_seq_length")
        if length is None or "model_max_length" in settings.tokenizer:
            length = min(self.tokenizer.model_max_length, most)
        # A limit above the number of positions would fail at the first long sentence.
        self.max_seq_length = min(integer(self._NAME, "max_seq_length", length), most)
        self._lengths = {
            name: min(integer(self._NAME, name, length), most)
            for name, length in settings.lengths.items()
            if name != "max_seq_length"
        }
        if settings.lower_case:
            tokenizer_files.add_lowercase(self.tokenizer._native)

    def _length(self, function: str, task: object, processing: object) -> int:
        """Return the most tokens of a text in a call: of the call, the task or the model."""
        if task not in (None, "query", "document"):
            raise ValueError(f'{function}: task is {shown(task)}, expected "query" or "document"')
        called = processing_length(function, processing)
        if called is not None:
            least = self.tokenizer.num_special_tokens_to_add(self._pairs)
            most = self._native_encoder.most_tokens
            return integer(function, "max_length of processing_kwargs", called, least, most)
        for name in ("processing", f"{task}_length"):
            if name in self._lengths:
                return int(self._lengths[name])  # type: ignore[call-overload, no-any-return]
        return self._max_seq_length

    # Prompts.

    def _read_prompts(self, directory: str, given: LoadOptions, model: Mapping[str, Any]) -> None:
        """Join the prompts of the constructor, which win, and those of the file."""
        named: dict[str, str | None] = dict.fromkeys(self._PROMPTS)
        named |= check_prompts(self._NAME, given.get("prompts"))
        where = f"{self._NAME}: {directory}/{_MODEL_FILE}"
        for name, prompt in check_prompts(where, model.get("prompts")).items():
            if named.get(name) is None:
                named[name] = prompt
        self.prompts = {name: prompt or "" for name, prompt in named.items()}
        default: object = given.get("default_prompt_name")
        if default is None:
            default = model.get("default_prompt_name")
        else:
            where = self._NAME
        if not (default is None or (isinstance(default, str) and default in self.prompts)):
            raise ValueError(
                f"{where}: default_prompt_name is {shown(default)}, expected one of "
                f"{[*self.prompts]}"
            )
        self.default_prompt_name = None if default is None else str(default)

    def _prompt(self, function: str, name: str | None, prompt: str | None) -> str:
        """Return the text to put before a sentence; ``prompt`` wins over ``name``."""
        if prompt is not None:
            if not isinstance(prompt, str):
                raise TypeError(f"{function}: prompt is {shown(prompt)}, expected a text")
            check_text(function, "prompt", prompt)
            return prompt
        chosen: object = self.default_prompt_name if name is None else name
        if chosen is None:
            return ""
        if isinstance(chosen, str) and chosen in self.prompts:
            # A program may have set the dict, or an entry of it.
            return check_prompts(function, {chosen: self.prompts[chosen]})[chosen] or ""
        raise ValueError(
            f"{function}: prompt_name is {shown(chosen)}, expected one of {[*self.prompts]}"
        )


def check_prompts(where: str, prompts: object) -> dict[str, str | None]:
    """Check names with texts; None stands for no prompts, and in a file for a text of length 0."""
    if prompts is None:
        return {}
    if not isinstance(prompts, dict) or not all(
        isinstance(k, str) and isinstance(v, str | None) for k, v in prompts.items()
    ):
        raise ValueError(f"{where}: prompts is {shown(prompts)}, expected names with texts")
    for prompt in prompts.values():
        check_text(where, "prompts", prompt or "")
    return dict(prompts)


def check_device(function: str, device: object) -> None:
    """Raise ValueError for another device than "cpu", which may be a torch.device."""
    if device is None:
        return
    name = device if isinstance(device, str) else getattr(device, "type", None)
    if name not in ("cpu", "cpu:0"):
        raise ValueError(
            f"{function}: device is {shown(device)}, expected 'cpu': treadle computes on the CPU, "
            "with the threads of treadle.set_num_threads"
        )


def refuse_pool(function: str, pool: object, chunk_size: object) -> None:
    """Raise ValueError for the arguments of several processes, of which there are none here."""
    for name, value in (("pool", pool), ("chunk_size", chunk_size)):
        if value is not None:
            raise ValueError(
                f"{function}: {name} is {shown(value)}, expected None: treadle computes in this "
                "process, with the threads of treadle.set_num_threads"
            )


def _check_options(function: str, given: LoadOptions) -> None:
    known = LoadOptions.__annotations__
    for name, value in given.items():
        if name not in known:
            raise TypeError(
                f"{function}: there is no argument {name}, expected some of {', '.join(known)}"
            )
        if name not in _REFUSED:
            continue
        allowed, reason = _REFUSED[name]
        if not any(value is a or value == a for a in allowed):
            expected = " or ".join(map(repr, allowed))
            raise ValueError(f"{function}: {name} is {shown(value)}, expected {expected}: {reason}")
    folder = given.get("cache_folder")
    if not isinstance(folder, str | os.PathLike | None):
        raise TypeError(f"{function}: cache_folder is {shown(folder)}, expected a path or None")
    check_device(function, given.get("device"))


def _given(function: str, given: Mapping[str, Any], old: str, new: str) -> object:
    """Return an option that has two names, tokenizer_kwargs and processor_kwargs."""
    names = (new, "tokenizer_kwargs") if old == "tokenizer_args" else (new,)
    values = [given[name] for name in names if given.get(name) is not None]
    if len(values) > 1:
        raise ValueError(f"{function}: {' and '.join(names)} are two names of one argument")
    return values[0] if values else None


def _dtype(function: str, dtype: object, model_options: Mapping[str, Any]) -> str:
    """Return the dtype of packed weights, from ``dtype`` or from Transformers' torch_dtype."""
    if dtype is not None:
        return check_dtype(function, "dtype", dtype)
    for name in ("dtype", "torch_dtype"):
        value = model_options.get(name)
        if value is None:
            continue
        text = str(value).removeprefix("torch.")
        if text in ("auto", "float32", "float"):
            return "float32"
        if text == "bfloat16":
            return text
        raise ValueError(
            f"{function}: {name} of model_kwargs is {shown(value)}, expected float32, bfloat16 or "
            "'auto', or the constructor's dtype"
        )
    return "float32"
