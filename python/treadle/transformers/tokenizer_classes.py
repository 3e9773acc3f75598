"""This module knows the tokenizer classes of Transformers that a model directory may name.

A class gives what the files leave out: special tokens, and how texts are normalized. The
tokenizer_config.json of the most used checkpoints has nothing but a length (bert-base-uncased,
roberta-base). The defaults are those of Transformers 4.57 and 5, which agree unless a comment says
otherwise.
"""

from __future__ import annotations

from typing import NamedTuple


class TokenizerClass(NamedTuple):
    """The defaults of a class."""

    kind: str
    """The model: "wordpiece", "bytelevel", "unigram", or "marian", "t5", "m2m_100", "nllb", "mbart"
    and "mbart50" for their files of sentencepiece; "" for a class that knows nothing."""
    tokens: dict[str, str]
    """The special tokens by name."""
    token_types: bool
    """True if its results have token_type_ids."""
    extra: tuple[str, ...] = ()
    """The special tokens without names."""
    mask_takes_space: bool = True
    """True if the mask token takes the space before it, as Transformers 4.57 has it for all these
    classes and the tokenizer.json of their checkpoints too."""


_BERT = TokenizerClass(
    "wordpiece",
    {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    token_types=True,
    mask_takes_space=False,
)
_ROBERTA = TokenizerClass(
    "bytelevel",
    {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    },
    token_types=False,
)
_UNIGRAM = _ROBERTA._replace(kind="unigram")
_ALBERT = _UNIGRAM._replace(
    tokens=_ROBERTA.tokens
    | {"bos_token": "[CLS]", "eos_token": "[SEP]", "sep_token": "[SEP]"}
    | {"cls_token": "[CLS]", "mask_token": "[MASK]"},
    token_types=True,
)
_PIECES = TokenizerClass(
    "marian",
    {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    token_types=False,
    mask_takes_space=False,
)
# A class of which the file tokenizer.json says all.
GENERIC = TokenizerClass("", {}, token_types=False)

CLASSES = {
    "BertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "ConvBertTokenizer": _BERT,
    "MobileBertTokenizer": _BERT,
    "SqueezeBertTokenizer": _BERT,
    "LayoutLMTokenizer": _BERT,
    "DistilBertTokenizer": _BERT._replace(token_types=False),
    "MPNetTokenizer": _ROBERTA._replace(
        kind="wordpiece", tokens=_ROBERTA.tokens | {"unk_token": "[UNK]"}
    ),
    "RobertaTokenizer": _ROBERTA,
    "LongformerTokenizer": _ROBERTA,
    "XLMRobertaTokenizer": _UNIGRAM,
    "CamembertTokenizer": _UNIGRAM._replace(
        extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    ),
    "AlbertTokenizer": _ALBERT,
    "MarianTokenizer": _PIECES,
    "T5Tokenizer": _PIECES._replace(kind="t5"),
    "MT5Tokenizer": _PIECES._replace(kind="t5"),
}
# The classes of models whose files name none.
MODELS = {
    "bert": "BertTokenizer",
    "electra": "BertTokenizer",
    "ernie": "BertTokenizer",
    "convbert": "BertTokenizer",
    "megatron-bert": "BertTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "squeezebert": "SqueezeBertTokenizer",
    "layoutlm": "LayoutLMTokenizer",
    "distilbert": "DistilBertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "roberta-prelayernorm": "RobertaTokenizer",
    "data2vec-text": "RobertaTokenizer",
    "longformer": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "xlm-roberta-xl": "XLMRobertaTokenizer",
    "xmod": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "albert": "AlbertTokenizer",
    "marian": "MarianTokenizer",
    "t5": "T5Tokenizer",
    "mt5": "MT5Tokenizer",
}


def _without(kind: str, *names: str) -> TokenizerClass:
    """Return RoBERTa's special tokens without some, for another kind of tokenizer."""
    tokens = {name: token for name, token in _ROBERTA.tokens.items() if name not in names}
    return TokenizerClass(kind, tokens, token_types=False)


# The classes of translators of many languages, of whose directories tokenizer.json says all where
# it is there. The tokens of languages, which settings may change, come later.
PIECES = {
    "M2M100Tokenizer": _without("m2m_100", "cls_token", "mask_token"),
    "NllbTokenizer": _without("nllb"),
    "MBartTokenizer": _without("mbart"),
    "MBart50Tokenizer": _without("mbart50", "bos_token"),
}
MODELS_OF_PIECES = {"m2m_100": "M2M100Tokenizer", "mbart": "MBartTokenizer"}
