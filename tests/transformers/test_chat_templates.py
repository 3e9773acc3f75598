"""Chat templates against Transformers: real ones, every option, and hostile programs."""

import json
import shutil

import pytest
import transformers

from support import checkpoints
from treadle.transformers import AutoTokenizer

CHATML = (
    "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message.content"
    " | trim + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = """{{ bos_token }}
{%- set ns = namespace(first=true) %}
{%- if tools is not none %}{{ tools | tojson(indent=2) }}{% endif %}
{%- for message in messages -%}
    {%- if message['role'] == 'system' and not ns.first %}
        {{- raise_exception('a system message must come first') }}
    {%- elif message.role == 'assistant' %}
        {%- generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}
    {%- else %}
        {{- '[INST] ' + message['content'] + ' [/INST]' }}
    {%- endif %}
    {%- set ns.first = false %}
    {%- if loop.index > 50 %}{% break %}{% endif %}
{%- endfor %}
{%- for document in documents or [] %}{{ document.title ~ ': ' ~ document['text'] }}{% endfor %}
{{- mood if mood is defined else '' }}"""
CHAT = [
    {"role": "system", "content": "You weave."},
    {"role": "user", "content": "  A <b>warp</b> & a weft?\n", "name": None},
    {"role": "assistant", "content": "Two threads."},
]
TOOLS = [{"type": "function", "function": {"name": "weave", "parameters": {"ü": [1, None, True]}}}]


def directory(tmp_path, setting=None, files=None):
    """A tokenizer's directory with chat templates in tokenizer_config.json and in files."""
    path = tmp_path / "chat"
    shutil.copytree(checkpoints.MINILM, path, ignore=shutil.ignore_patterns("*.safetensors"))
    config = path / "tokenizer_config.json"
    entries = json.loads(config.read_text()) | {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    entries |= {} if setting is None else {"chat_template": setting}
    config.write_text(json.dumps(entries))
    for name, text in (files or {}).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)
    return path


def both(path):
    """treadle's tokenizer and that of Transformers."""
    return AutoTokenizer.from_pretrained(path), transformers.AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize("template", [CHATML, LLAMA], ids=["chatml", "llama"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_generation_prompt": True},
        {"continue_final_message": True},
        {"tools": TOOLS},
        {"documents": [{"title": "Loom", "text": "old"}], "mood": "glad"},
    ],
    ids=str,
)
def test_texts_and_tokens(tmp_path, template, options):
    ours, theirs = both(directory(tmp_path, template))
    for chat in (CHAT, [CHAT, CHAT[:2]]):
        text = theirs.apply_chat_template(chat, tokenize=False, **options)
        assert ours.apply_chat_template(chat, tokenize=False, **options) == text
        expected = theirs.apply_chat_template(chat, **options)
        found = ours.apply_chat_template(chat, **options)
        assert found["input_ids"] == expected["input_ids"]
        plain = ours.apply_chat_template(chat, return_dict=False, **options)
        assert plain == expected["input_ids"]


def test_padded_tensors(tmp_path):
    ours, theirs = both(directory(tmp_path, CHATML))
    options = {"padding": True, "return_tensors": "np"}
    expected = theirs.apply_chat_template([CHAT, CHAT[:1]], **options)
    found = ours.apply_chat_template([CHAT, CHAT[:1]], **options)
    assert found["input_ids"].tolist() == expected["input_ids"].tolist()
    assert found["attention_mask"].tolist() == expected["attention_mask"].tolist()


@pytest.mark.parametrize("content", ["ends in spaces  ", [{"type": "text", "text": "of blocks"}]])
def test_continuing_messages(tmp_path, content):
    blocks = "{% for m in messages %}{% for b in m.content %}{{ b.text }}{% endfor %}\n{% endfor %}"
    template = CHATML if isinstance(content, str) else blocks
    ours, theirs = both(directory(tmp_path, template))
    chat = [{"role": "assistant", "content": content}]
    options = {"continue_final_message": True, "tokenize": False}
    assert ours.apply_chat_template(chat, **options) == theirs.apply_chat_template(chat, **options)


def test_where_templates_lie(tmp_path):
    """A file wins over the setting, and tools choose the template of that name."""
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    path = directory(tmp_path / "a", named)
    ours, theirs = both(path)
    assert ours.chat_template == theirs.chat_template == {"default": "plain", "tool_use": "tools"}
    for options in ({}, {"tools": TOOLS}, {"chat_template": "tool_use"}, {"chat_template": "own"}):
        expected = theirs.apply_chat_template(CHAT, tokenize=False, **options)
        assert ours.apply_chat_template(CHAT, tokenize=False, **options) == expected
    files = {"chat_template.jinja": "a file", "additional_chat_templates/more.jinja": "more"}
    ours, theirs = both(directory(tmp_path / "b", "a setting", files))
    assert ours.chat_template == theirs.chat_template == {"default": "a file", "more": "more"}
    assert AutoTokenizer.from_pretrained(checkpoints.MINILM).chat_template is None


def test_names_of_reasoning(tmp_path):
    template = "{{ messages[0].thinking }}/{{ messages[0].reasoning_content }}"
    ours, theirs = both(directory(tmp_path, template))
    for name in ("thinking", "reasoning", "reasoning_content"):
        chat = [{"role": "assistant", "content": "", name: "why"}]
        text = theirs.apply_chat_template(chat, tokenize=False)
        assert ours.apply_chat_template(chat, tokenize=False) == text == "why/why"


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self.__init__ }}{{ namespace.__init__.__globals__['os'] }}",
        "{% set ns = namespace(a=1) %}{% set ns.__class__ = 1 %}{{ ns.__class__ }}",
        "{{ namespace(__class__=1) }}",
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 1000000000 }}",
        "{{ 10 ** 10000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ messages | tojson(indent=1000000000) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ raise_exception('no') }}",
        "{{ 1 / 0 }}",
        "{% for",
        "{{ lipsum(100000) }}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}",
    ],
)
def test_hostile_templates(tmp_path, template):
    """A template can fail, and nothing else: it reaches no file and takes no memory."""
    tokenizer = AutoTokenizer.from_pretrained(directory(tmp_path, template))
    with pytest.raises(ValueError, match="apply_chat_template: the chat template fails"):
        tokenizer.apply_chat_template(CHAT, tokenize=False)


def test_objects_are_not_seen(tmp_path):
    """A template sees plain data: of any other object the name of its type."""
    tokenizer = AutoTokenizer.from_pretrained(directory(tmp_path, "{{ messages[0].content }}"))
    chat = [{"role": "user", "content": tokenizer}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<AutoTokenizer>"


@pytest.mark.parametrize(
    ("chat", "options", "error", "match"),
    [
        (None, {}, TypeError, "list of messages"),
        ([], {}, TypeError, "list of messages"),
        ("hello", {}, TypeError, "list of messages"),
        (["hello"], {}, TypeError, "list of messages"),
        ([CHAT, []], {}, TypeError, "list of messages"),
        ([{"role": "user"}, "x"], {}, TypeError, "a dict with role"),
        (CHAT, {"chat_template": 3}, TypeError, "chat_template is 3"),
        (CHAT, {"add_generation_prompt": 1}, TypeError, "add_generation_prompt is 1"),
        (
            CHAT,
            {"add_generation_prompt": True, "continue_final_message": True},
            ValueError,
            "one of them",
        ),
        ([{"role": "user"}], {"continue_final_message": True}, TypeError, "text to continue"),
        (CHAT, {"continue_final_message": True, "chat_template": "x"}, ValueError, "as it is"),
    ],
)
def test_wrong_arguments(tmp_path, chat, options, error, match):
    tokenizer = AutoTokenizer.from_pretrained(directory(tmp_path, CHATML))
    with pytest.raises(error, match=match):
        tokenizer.apply_chat_template(chat, **options)


@pytest.mark.parametrize("setting", [3, [1], [{"name": "default"}], {"default": 1}, "x" * 2**21])
def test_wrong_settings(tmp_path, setting):
    with pytest.raises(ValueError, match="chat_template"):
        AutoTokenizer.from_pretrained(directory(tmp_path, setting))


def test_no_template():
    tokenizer = AutoTokenizer.from_pretrained(checkpoints.MINILM)
    with pytest.raises(ValueError, match="no default chat template"):
        tokenizer.apply_chat_template(CHAT)
