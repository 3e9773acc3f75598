"""This module makes the models: sizes of real ones, weights that are drawn, once for a process.

A weight matrix has a deviation of 1 / sqrt(inputs), more than Transformers begins with, so that
logits differ and a choice between two tokens is seldom a matter of rounding. No model has an end
token: every text gets all its new tokens. Marian's last token is its padding, as in its real files:
its embedding is zero, a decoder begins with it and must not choose it. NLLB's padding is token 1,
which has no position; its embedding is zero, too, so that no text is continued with it.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from .cases import SEQ2SEQ, GenerationCase

SEED = 3
START = 0  # what most decoders begin with, and most models' padding
TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": START}
MARIAN_TOKENS = 58101
NLLB_PADDING = 1


def missing() -> str:
    """Say what is needed to make the models."""
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            return f"no models without {name}: pip install torch transformers"
    return ""


def _marian() -> Any:
    import transformers

    return transformers.MarianConfig(
        vocab_size=MARIAN_TOKENS,
        d_model=512,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        max_position_embeddings=512,
        scale_embedding=True,
        activation_function="silu",
        decoder_start_token_id=MARIAN_TOKENS - 1,
        forced_eos_token_id=None,
        **{**TOKENS, "pad_token_id": MARIAN_TOKENS - 1},
    )


def _nllb_600m() -> Any:
    import transformers

    return transformers.M2M100Config(
        vocab_size=256206,
        d_model=1024,
        encoder_ffn_dim=4096,
        decoder_ffn_dim=4096,
        encoder_layers=12,
        decoder_layers=12,
        encoder_attention_heads=16,
        decoder_attention_heads=16,
        max_position_embeddings=1024,
        scale_embedding=True,
        decoder_start_token_id=START,
        **{**TOKENS, "pad_token_id": NLLB_PADDING},
    )


def _t5_small() -> Any:
    import transformers

    return transformers.T5Config(decoder_start_token_id=START, **TOKENS)


def _gpt2() -> Any:
    import transformers

    return transformers.GPT2Config(**TOKENS)


def _llama_135m() -> Any:
    import transformers

    return transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        **TOKENS,
    )


CONFIGURATIONS: dict[str, Callable[[], Any]] = {
    "marian": _marian,
    "t5-small": _t5_small,
    "nllb-600m": _nllb_600m,
    "gpt2": _gpt2,
    "llama-135m": _llama_135m,
}


def configuration(name: str) -> Any:
    """Return the configuration of a model, in Transformers' class."""
    return CONFIGURATIONS[name]()


def padding(name: str) -> int:
    """Return the token that pads texts."""
    return int(configuration(name).pad_token_id)


def start(name: str) -> int:
    """Return the token that the decoder of a translator begins with."""
    return int(configuration(name).decoder_start_token_id)


def model_class(case: GenerationCase) -> Any:
    """Return the class of Transformers that runs a case."""
    import transformers

    if case.group == SEQ2SEQ:
        return transformers.AutoModelForSeq2SeqLM
    return transformers.AutoModelForCausalLM


_folder = cache(tempfile.TemporaryDirectory)


@cache
def _made(name: str, group: str) -> Path:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    case = GenerationCase(group, name, 1, 1, "the model of several")
    with torch.inference_mode(False):
        torch.manual_seed(SEED)
        model = model_class(case).from_config(configuration(name))
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        unused, forbidden = padding(name), None
        if unused != START:
            model.get_input_embeddings().weight.data[unused] = 0
        if name == "marian":
            forbidden = [[unused]]
        model.generation_config = transformers.GenerationConfig(
            pad_token_id=unused,
            decoder_start_token_id=start(name) if group == SEQ2SEQ else None,
            bad_words_ids=forbidden,
        )
        path = Path(_folder().name) / name
        model.save_pretrained(path)
    return path


def directory(case: GenerationCase) -> Path:
    """Return the directory of the model of a case."""
    return _made(case.model, case.group)
