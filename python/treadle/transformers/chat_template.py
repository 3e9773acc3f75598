"""Chats become texts by a template of the model's files, a program in the language of jinja2.

The template is not trusted. It runs in jinja2's ImmutableSandboxedEnvironment, sees only plain
data, and cannot make texts of any length by an operator, nor lists by `range`. A loop over loops
may still take long: Ctrl-C ends it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from functools import cache, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from treadle._inputs.checks import flag, shown
from treadle._storage.files import check_regular
from treadle.transformers.directory import exists, wrong

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = "chat_template.jinja"
FOLDER = "additional_chat_templates"
_DEFAULT, _TOOLS = "default", "tool_use"
# The longest template and the longest text of a chat, in characters.
_MAX_TEMPLATE, _MAX_TEXT = 2**20, 2**26
_MAX_TEMPLATES = 32
# Options of a call of the tokenizer, which are no variables of a template.
CALL = ("padding", "truncation", "max_length", "return_tensors")
# A message that is to be continued is cut behind this mark.
_MARK = "TREADLE_CONTINUES_HERE "

Templates = dict[str, str]


def read_templates(function: str, directory: str, setting: Any) -> Templates:
    """Return the templates by name, of tokenizer_config.json and of the files that win over it."""
    where = f"{function}: {directory}"
    found: Templates = {}
    if isinstance(setting, str):
        found[_DEFAULT] = setting
    elif isinstance(setting, dict):
        found |= {str(name): _text(where, name, text) for name, text in setting.items()}
    elif isinstance(setting, list):
        for entry in setting:
            if not (isinstance(entry, dict) and isinstance(entry.get("name"), str)):
                raise wrong(where, "chat_template", entry, "an object with name and template")
            found[entry["name"]] = _text(where, entry["name"], entry.get("template"))
    elif setting is not None:
        raise wrong(where, "chat_template", setting, "a text, or several with names")
    if exists(directory, FILE):
        found[_DEFAULT] = _read(function, os.path.join(directory, FILE))
    folder = os.path.join(directory, FOLDER)
    if os.path.isdir(folder):
        names = sorted(name for name in os.listdir(folder) if name.endswith(".jinja"))
        for name in names[:_MAX_TEMPLATES]:
            found[name.removesuffix(".jinja")] = _read(function, os.path.join(folder, name))
    for name, text in found.items():
        if len(text) > _MAX_TEMPLATE:
            raise wrong(
                where, f"chat_template {name!r}", text, f"at most {_MAX_TEMPLATE} characters"
            )
    return found


def chosen(function: str, templates: Templates, given: object, tools: object) -> str:
    """Return the template for a call: a given text, one of a given name, or the model's own."""
    if given is not None and not isinstance(given, str):
        raise TypeError(f"{function}: chat_template is {shown(given)}, expected a text")
    if given is not None:
        return templates.get(given, given)
    if tools is not None and _TOOLS in templates:
        return templates[_TOOLS]
    if _DEFAULT in templates:
        return templates[_DEFAULT]
    names = f"one of {', '.join(templates)}" if templates else "a template"
    raise ValueError(
        f"{function}: the tokenizer has no default chat template, expected {names} as chat_template"
    )


def conversations_of(function: str, value: Any) -> tuple[list[list[dict[str, Any]]], bool]:
    """Check chats, lists of messages; return them, and True if one chat was given."""
    if not isinstance(value, list | tuple) or not value:
        raise TypeError(f"{function}: conversation is {shown(value)}, expected a list of messages")
    single = isinstance(value[0], Mapping)
    chats = []
    for chat in [value] if single else value:
        if not isinstance(chat, list | tuple) or not chat:
            raise TypeError(f"{function}: a chat is {shown(chat)}, expected a list of messages")
        for message in chat:
            if not isinstance(message, Mapping):
                raise TypeError(
                    f"{function}: a message is {shown(message)}, expected a dict with role and "
                    "content"
                )
        chats.append([{k: v for k, v in m.items() if v is not None} for m in chat])
    return chats, single


def render(
    function: str,
    template: str,
    chat: list[dict[str, Any]],
    variables: Mapping[str, Any],
    *,
    add_generation_prompt: object,
    continue_final_message: object,
) -> str:
    """Return the text of a chat.

    Raises
    ------
    ImportError
        Without jinja2.
    ValueError
        For a template that is none, that fails, or that raises.
    """
    begin = flag(function, "add_generation_prompt", add_generation_prompt)
    go_on = flag(function, "continue_final_message", continue_final_message)
    if begin and go_on:
        raise ValueError(
            f"{function}: add_generation_prompt and continue_final_message are both True, expected "
            "one of them: a chat ends with a new message or within the last one"
        )
    messages = [_with_reasoning(message) for message in plain(chat)]
    final = _mark(function, messages) if go_on else ""
    try:
        program = _compiled(_environment(function), template)
        pieces, size = [], 0
        for piece in program.generate(
            **plain(variables), messages=messages, add_generation_prompt=begin
        ):
            size += len(piece)
            if size > _MAX_TEXT:
                raise ValueError(f"its text has more than {_MAX_TEXT} characters")
            pieces.append(piece)
    except (ImportError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:  # a template may raise whatever Python raises
        raise ValueError(
            f"{function}: the chat template fails: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    text = "".join(pieces)
    return _cut(function, text, final) if go_on else text


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Give the reasoning of a message both names that templates use."""
    names = ("reasoning_content", "thinking", "reasoning")
    found = next((message[name] for name in names if name in message), None)
    if found is None:
        return message
    return {"thinking": found} | message | {"reasoning_content": found}


def plain(value: Any) -> Any:
    """Return a copy of data of plain types; any other object becomes its type's name."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return f"<{type(value).__name__}>"


def _mark(function: str, messages: list[dict[str, Any]]) -> str:
    """Put the mark behind the text of the last message; return that text."""
    content = messages[-1].get("content")
    blocks = content if isinstance(content, list) else []
    for block in reversed(blocks):
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            final: str = block["text"]
            block["text"] = final + _MARK
            return final
    if not isinstance(content, str):
        expected = "expected a text to continue with continue_final_message"
        raise TypeError(f"{function}: the last message has content {shown(content)}, {expected}")
    messages[-1]["content"] = content + _MARK
    return content


def _cut(function: str, text: str, final: str) -> str:
    place = text.rfind(_MARK.strip())
    if place < 0 or final.strip() not in text:
        raise ValueError(
            f"{function}: continue_final_message is True, but the chat template does not write the "
            "last message as it is: expected a template that does"
        )
    if text[place : place + len(_MARK)] == _MARK:
        return text[:place]
    return text[:place].rstrip()  # the template trims messages


@cache
def _environment(function: str) -> Any:
    try:
        jinja2 = import_module("jinja2")
        sandbox = import_module("jinja2.sandbox")
        nodes, extension = import_module("jinja2.nodes"), import_module("jinja2.ext")
    except ImportError as error:
        raise ImportError(
            f"{function}: jinja2, which runs chat templates, cannot be imported ({error}); "
            "pip install treadle[transformers]"
        ) from error

    class Generation(extension.Extension):  # type: ignore[misc, name-defined]
        """The tag that marks what an assistant says, which changes nothing of the text."""

        tags = frozenset(("generation",))

        def parse(self, parser: Any) -> Any:
            """Return the tag's body as it is."""
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    class Namespace(jinja2.utils.Namespace):  # type: ignore[misc, name-defined]
        """Variables of a template, none of which may be called as Python's internals are."""

        def __init__(self, **variables: Any) -> None:
            super().__init__()
            for name, value in variables.items():
                self[name] = value

        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise jinja2.exceptions.SecurityError(f"a namespace may not have {name!r}")
            super().__setitem__(name, value)

    class Bounded(sandbox.ImmutableSandboxedEnvironment):  # type: ignore[misc, name-defined]
        """The sandbox, where texts and lists cannot be multiplied without end."""

        intercepted_binops = frozenset(("*", "**", "%"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """Refuse a product, a power or a formatted text of absurd size."""
            _check_operation(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            """Refuse the methods of texts that pad to any width."""
            return attr not in _PADDING and super().is_safe_attribute(obj, attr, value)

    environment = Bounded(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, "jinja2.ext.loopcontrols"],
    )
    for name in ("center", "format", "xmlattr"):
        environment.filters.pop(name)
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raiser(jinja2.exceptions.TemplateError)
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals["namespace"] = Namespace
    environment.globals.pop("lipsum")
    return environment


_PADDING = frozenset(
    ("center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "__format__")
)


def _check_operation(operator: str, left: Any, right: Any) -> None:
    if operator == "%" and isinstance(left, str):
        raise ValueError("a template may not format texts with %")
    if operator == "**" and not all(
        isinstance(x, int | float) and abs(x) <= 2**16 for x in (left, right)
    ):
        raise ValueError("a power of absurd size")
    pairs = ((left, right), (right, left)) if operator == "*" else ()
    for some, count in pairs:
        several = isinstance(some, str | list | tuple) and isinstance(count, int)
        if several and len(some) * count > _MAX_TEXT:
            raise ValueError("a product of absurd size")


@lru_cache(maxsize=16)
def _compiled(environment: Any, template: str) -> Any:
    return environment.from_string(template)


def _raiser(kind: type[Exception]) -> Any:
    def raise_exception(message: object) -> NoReturn:
        raise kind(message)

    return raise_exception


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as Transformers does: without HTML's escapes, which jinja2 would add."""
    pair = None if separators is None else (separators[0], separators[1])
    if isinstance(indent, int) and indent > 64:
        raise ValueError("an indent of absurd size")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys
    )


def _text(where: str, name: object, value: object) -> str:
    if not isinstance(value, str):
        raise wrong(where, f"chat_template {name!r}", value, "a text")
    return value


def _read(function: str, path: str) -> str:
    check_regular(function, path)
    with open(path, "rb") as file:
        content = file.read(4 * _MAX_TEMPLATE + 1)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{function}: {path} is no UTF-8 text: {error}") from None
