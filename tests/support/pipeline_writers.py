"""Small random models that write texts, with tokenizers: the directories of pipelines' tests."""

import json
from functools import cache
from pathlib import Path

import tokenizers
import torch
import transformers

from support import checkpoints, generators
from support.tokenizer_directories import FILES

# A family, its tokenizer, and entries of its configuration beside those of `generators`.
POSITIONS = 200
_T5 = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
LANGUAGES = ("en_XX", "de_DE", "eng_Latn", "deu_Latn", "__en__", "__de__")
CHAT = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SEQ2SEQ = ("bart", "marian", "t5", "mbart", "m2m_100")
CAUSAL = ("gpt2", "llama")


@cache
def directory(case, settings="{}", changes="{}"):
    """A random model with its tokenizer; ``settings`` and ``changes`` are JSON, for the cache."""
    path = Path(generators.ROOT.name) / f"writer-{case}-{len(list(_parent().iterdir()))}"
    path.mkdir()
    kind = "bytelevel" if case in ("bart", *CAUSAL) else "unigram"
    tokenizer = tokenizers.Tokenizer.from_file(str(FILES / f"{kind}.json"))
    if case in CAUSAL:
        tokenizer.post_processor = tokenizers.processors.ByteLevel()
    elif case in ("mbart", "m2m_100"):
        tokenizer.add_special_tokens([*LANGUAGES])
    tokenizer.save(str(path / "tokenizer.json"))
    more = {"extra_special_tokens": [*LANGUAGES]} if case in ("mbart", "m2m_100") else {}
    entries = {"model_max_length": 120} | _SPECIAL | more | json.loads(settings)
    (path / "tokenizer_config.json").write_text(json.dumps(entries))
    name, values = generators.CASES[case]
    size = tokenizer.get_vocab_size()
    values = values | {"vocab_size": size} | (_T5 if case == "t5" else {})
    long = "n_positions" if case == "gpt2" else "max_position_embeddings"
    values = values | ({long: POSITIONS} if case != "t5" else {})
    config = getattr(transformers, name)(**values | json.loads(changes))
    head = "Seq2SeqLM" if case in SEQ2SEQ else "CausalLM"
    checkpoints.randomized(config, head).save_pretrained(path)
    return path


def _parent():
    return Path(generators.ROOT.name)


@cache
def theirs(path, head):
    """Transformers' model and tokenizer of a directory."""
    model = getattr(transformers, f"AutoModelFor{head}").from_pretrained(path)
    return model.eval(), transformers.PreTrainedTokenizerFast.from_pretrained(path)


def written(path, text, *, first=(), **options):
    """Return the texts that Transformers writes for a text, without special tokens."""
    model, tokenizer = theirs(path, "Seq2SeqLM")
    ids = list(first) + tokenizer(text)["input_ids"]
    found = model.generate(input_ids=torch.tensor([ids]), **options)
    return [tokenizer.decode(row, skip_special_tokens=True) for row in found]
