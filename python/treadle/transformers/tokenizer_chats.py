"""This module makes the tokens of chats, by the template of a model's files."""

from __future__ import annotations

from typing import Any

from treadle._inputs.checks import flag
from treadle.transformers import chat_template as chats
from treadle.transformers.tokenizer_arguments import NAME
from treadle.transformers.tokenizer_limits import Limits


class Chats(Limits):
    """A tokenizer's chats: `apply_chat_template`."""

    _templates: chats.Templates

    def _of_chats(self, text: Any, options: dict[str, Any]) -> Any:
        """Tokenize texts that have their special tokens, as a call does."""
        raise NotImplementedError

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Any = None,
        documents: Any = None,
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        **options: Any,
    ) -> Any:
        """Make the tokens of a chat, or its text, by the template of the model's files.

        Parameters
        ----------
        conversation
            A list of messages, dicts with "role" and "content", or a list of such lists.
        tools, documents
            What else a template may see: tools as JSON schemas, documents as dicts.
        chat_template
            A template, or the name of one of the files'; their own by default.
        add_generation_prompt
            True ends the text with the beginning of an answer.
        continue_final_message
            True ends the text within the last message, which the model is to continue.
        tokenize
            False returns the text.
        return_dict
            False returns the input_ids alone.
        options
            Options of a call of the tokenizer (padding, truncation, max_length, return_tensors);
            others are variables of the template.

        Raises
        ------
        ImportError
            Without jinja2.
        TypeError, ValueError
            For chats that are none, and for templates that fail.

        Notes
        -----
        A template is a program of somebody else. It runs in a sandbox and sees the chat, the
        special tokens and the variables only.
        """
        function = f"{NAME}.apply_chat_template"
        template = chats.chosen(function, self._templates, chat_template, tools)
        found, single = chats.conversations_of(function, conversation)
        call = {name: options.pop(name) for name in chats.CALL if name in options}
        variables = self.special_tokens_map | {"tools": tools, "documents": documents} | options
        texts = [
            chats.render(
                function,
                template,
                chat,
                variables,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
            )
            for chat in found
        ]
        text = texts[0] if single else texts
        if not flag(function, "tokenize", tokenize):
            return text
        result = self._of_chats(text, call)
        return result if flag(function, "return_dict", return_dict) else result["input_ids"]

    @property
    def chat_template(self) -> Any:
        """The template of chats, a dict where there are several, None where there is none."""
        if set(self._templates) <= {"default"}:
            return self._templates.get("default")
        return dict(self._templates)
