"""This module says what values the options of a search may have, and what others files hold."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeAlias

from treadle._inputs import checks

Check: TypeAlias = Callable[[str, str, Any], Any]

# A search keeps a row of the model's state for each hypothesis; nobody wants so many.
MOST_ROWS = 4096
# A list of tokens or words in a file may not be longer.
MOST_ITEMS = 1 << 20


def _integer(least: int, most: int = checks.MAX_SIZE) -> Check:
    return lambda function, name, value: checks.integer(function, name, value, least, most)


def _tokens(function: str, name: str, value: Any) -> tuple[int, ...]:
    """Check a list of token ids, and return it as a tuple."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(
            f"{function}: {name} is {checks.shown(value)}, expected a list of token ids"
        )
    tokens = tuple(
        checks.integer(function, f"{name}[{i}]", token, least=0)
        for i, token in enumerate(islice(value, MOST_ITEMS + 1))
    )
    if len(tokens) > MOST_ITEMS:
        raise ValueError(f"{function}: {name} has more than {MOST_ITEMS} tokens")
    return tokens


def _token_or_tokens(function: str, name: str, value: Any) -> int | tuple[int, ...] | None:
    """Check one token id or a list of them; an empty list is None."""
    if isinstance(value, Iterable):
        return _tokens(function, name, value) or None
    return checks.integer(function, name, value, least=0)


def _words(function: str, name: str, value: Any) -> tuple[tuple[int, ...], ...] | None:
    """Check a list of lists of token ids, none of which is empty; an empty list is None."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(
            f"{function}: {name} is {checks.shown(value)}, expected a list of lists of token ids"
        )
    words, total = [], 0
    for i, word in enumerate(value):
        words.append(_tokens(function, f"{name}[{i}]", word))
        total += len(words[-1])
        if not words[-1]:
            raise ValueError(f"{function}: {name}[{i}] is empty, expected token ids")
        if total > MOST_ITEMS:
            raise ValueError(f"{function}: {name} has more than {MOST_ITEMS} tokens")
    return tuple(words) or None


def _stopping(function: str, name: str, value: Any) -> bool | str:
    if value is True or value is False or (isinstance(value, str) and value == "never"):
        return value
    raise ValueError(
        f'{function}: {name} is {checks.shown(value)}, expected True, False or "never"'
    )


def _seed(function: str, name: str, value: Any) -> int | tuple[int, ...]:
    """Check a seed, or a list of them, one for each sentence."""
    if isinstance(value, Iterable):
        return _tokens(function, name, value)
    return checks.integer(function, name, value, least=0, most=2**63 - 1)


def _positive(function: str, name: str, value: Any) -> float:
    return checks.number(function, name, value, above=0)


CHECKS: dict[str, Check] = {
    "max_length": _integer(1),
    "max_new_tokens": _integer(1),
    "min_length": _integer(0),
    "min_new_tokens": _integer(0),
    "do_sample": checks.flag,
    "num_beams": _integer(1, MOST_ROWS),
    "num_return_sequences": _integer(1, MOST_ROWS),
    "length_penalty": checks.number,
    "early_stopping": _stopping,
    "temperature": checks.number,
    "top_k": _integer(-checks.MAX_SIZE),
    "top_p": checks.number,
    "min_p": checks.number,
    "seed": _seed,
    "repetition_penalty": _positive,
    "no_repeat_ngram_size": _integer(0),
    "bad_words_ids": _words,
    "forced_bos_token_id": _integer(0),
    "forced_eos_token_id": _token_or_tokens,
    "suppress_tokens": _tokens,
    "begin_suppress_tokens": _tokens,
    "remove_invalid_values": checks.flag,
    "renormalize_logits": checks.flag,
    "bos_token_id": _integer(-1),
    "decoder_start_token_id": _integer(0),
    "eos_token_id": _token_or_tokens,
    "pad_token_id": _integer(-1),
    "output_scores": checks.flag,
    "output_logits": checks.flag,
    "return_dict_in_generate": checks.flag,
}

# Options of Transformers that would change the tokens, with the values that change nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "assistant_early_exit": (None,),
    "constraints": (None,),
    "diversity_penalty": (None, 0),
    "dola_layers": (None,),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1),
    "epsilon_cutoff": (None, 0, 1),
    "eta_cutoff": (None, 0, 1),
    "exponential_decay_length_penalty": (None,),
    "force_words_ids": (None,),
    "guidance_scale": (None, 1),
    "max_time": (None,),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None, 0),
    "prompt_lookup_num_tokens": (None,),
    "sequence_bias": (None,),
    "stop_strings": (None,),
    "token_healing": (None, False),
    "top_h": (None,),
    "typical_p": (None, 1),
    "use_mtp": (None, False),
    "watermarking_config": (None,),
}
# Options of Transformers that say how it computes, and leave the tokens as they are.
_WITHOUT_EFFECT = {
    *("cache_config", "cache_implementation", "compile_config", "disable_compile", "low_memory"),
    *("max_cache_len", "prefill_chunk_size", "return_legacy_cache", "use_cache"),
}


def refuse_unsupported(function: str, content: Mapping[str, Any]) -> None:
    """Raise ValueError for an option of Transformers that is not here and would have an effect."""
    for name, neutral in _UNSUPPORTED.items():
        value = content.get(name)
        if not any(value is n or (isinstance(value, int | float) and value == n) for n in neutral):
            raise ValueError(
                f"{function}: treadle has no {name}, which is {checks.shown(value)}; leave it out, "
                "or give its effect to logits_hook"
            )


def refuse_unknown(function: str, content: Mapping[str, Any], known: set[str]) -> None:
    """Raise TypeError for a name that is no option."""
    for name in content:
        if name in known or name in _UNSUPPORTED or name in _WITHOUT_EFFECT:
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; is {near[0]} meant?" if near else ""
        raise TypeError(f"{function}: {checks.shown(name)} is no option{hint}")
