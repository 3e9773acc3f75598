"""Transformers' generate as a reference: tiny models, ties and random numbers that are defined."""

import warnings
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
import transformers

from support.decodings import Causal, EncoderDecoder

VOCABULARY = 17
START = 0  # Transformers puts it before decoder prompts that do not begin with it.


def _filled(model, seed):
    """Give a model weights from which its choices depend on everything it has seen."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "position" not in name and "wpe" not in name:
            scale = 1.5 / parameter.shape[-1] ** 0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return model.eval()


def gpt2(seed=0):
    """A decoder-only model of two layers."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    return _filled(transformers.GPT2LMHeadModel(config), seed)


def t5(seed=0):
    """An encoder-decoder with relative positions and tied weights."""
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return _filled(transformers.T5ForConditionalGeneration(config), seed)


def bart(seed=0):
    """An encoder-decoder with learned positions."""
    config = transformers.BartConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=64,
        forced_eos_token_id=None,
    )
    return _filled(transformers.BartForConditionalGeneration(config), seed)


def decoding_of(model, prompts, sources=None):
    """Return a model as a decoding that has read prompts [B, P], and its logits."""
    decoding = Causal(model) if sources is None else EncoderDecoder(model, sources)
    return decoding, decoding.start(prompts)


def expected(model, prompts, options, uniform=None, sources=None):
    """Return what generate returns, as a dict, for prompts [B, P]."""
    prompts = torch.as_tensor(np.asarray(prompts))
    if sources is None:
        inputs = {"input_ids": prompts, "attention_mask": torch.ones_like(prompts)}
    else:
        sources = torch.as_tensor(np.asarray(sources))
        mask = torch.ones_like(sources)
        inputs = {"input_ids": sources, "attention_mask": mask, "decoder_input_ids": prompts}
        inputs["decoder_start_token_id"] = START
    asked = {"return_dict_in_generate": True, "output_scores": True, **options}
    for name in ("eos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"):
        if isinstance(asked.get(name), tuple):
            asked[name] = list(asked[name])
    if asked.get("bad_words_ids") is not None:
        asked["bad_words_ids"] = [list(word) for word in asked["bad_words_ids"]]
    # The options of a model's own files count for nothing.
    model.generation_config = transformers.GenerationConfig()
    with defined(uniform), torch.inference_mode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unfeasible length constraints")
        return model.generate(**inputs, **asked)


@contextmanager
def defined(uniform=None):
    """Let topk take the first of equal numbers, sort keep their order, and multinomial read
    ``uniform`` [B, steps, ...]. PyTorch leaves open what it does there.
    """
    sort = torch.sort
    steps = iter(() if uniform is None else np.moveaxis(np.asarray(uniform), 1, 0))

    def stable_sort(values, dim=-1, descending=False):
        return sort(values, dim=dim, descending=descending, stable=True)

    def topk(values, k, dim=-1):
        order = stable_sort(values, dim, descending=True)
        return torch.return_types.topk((order.values[..., :k], order.indices[..., :k]))

    def multinomial(probabilities, num_samples):
        numbers = next(steps).reshape(len(probabilities), num_samples)
        left = probabilities.double().numpy().copy()
        drawn = np.zeros((len(left), num_samples), np.int64)
        for row, (weights, us) in enumerate(zip(left, numbers, strict=True)):
            taken = []
            for u in us:
                sums = np.cumsum(weights)
                if sums[-1] > 0:
                    place = int(np.argmax(sums > u * sums[-1]))
                else:
                    place = next(i for i in range(len(weights)) if i not in taken)
                weights[place] = 0
                taken.append(place)
            drawn[row] = taken
        return torch.as_tensor(drawn)

    functions = {"topk": topk, "sort": stable_sort, "multinomial": multinomial}
    with mock.patch.multiple("torch", **functions):
        yield
