"""Decodings for tests of searches: tables, and models of Transformers behind a cache."""

import numpy as np
import torch
from transformers import modeling_outputs


class Table:
    """A model whose logits [V] depend on a row's tokens alone, and which checks how it is used."""

    def __init__(self, vocabulary, seed=0, spread=3.0):
        self.vocabulary, self.seed, self.spread = vocabulary, seed, spread
        self.rows = []
        self.steps = self.reorders = 0

    def start(self, prompts):
        """Return the logits of the first new token, [B, V]."""
        self.rows = [tuple(int(token) for token in prompt) for prompt in prompts]
        return self.logits()

    def logits(self):
        found = [self.of(row) for row in self.rows]
        return np.array(found, np.float32).reshape(len(found), self.vocabulary)

    def of(self, row):
        """The logits that follow a tuple of tokens."""
        generator = np.random.default_rng([self.seed, len(row), *row])
        return (generator.normal(size=self.vocabulary) * self.spread).astype(np.float32)

    def step(self, tokens):
        assert tokens.dtype == np.int64
        assert tokens.shape == (len(self.rows),)
        self.steps += 1
        self.rows = [(*row, int(token)) for row, token in zip(self.rows, tokens, strict=True)]
        return self.logits()

    def reorder(self, rows):
        assert rows.dtype == np.int64
        self.reorders += 1
        self.rows = [self.rows[row] for row in rows]


class BestTable(Table):
    """A table that returns the best of its logits, and all of them only at the beginning."""

    def step(self, tokens):
        raise AssertionError("all logits were asked for")

    def step_best(self, tokens, k):
        logits = super().step(tokens)
        ids = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        lse = np.log(np.exp(logits.astype(np.float64)).sum(axis=1)).astype(np.float32)
        return ids, np.take_along_axis(logits, ids, axis=1), lse


class Causal:
    """A decoder-only model of Transformers with its cache."""

    def __init__(self, model):
        self.model, self.cache = model, None

    def start(self, prompts):
        """Read prompts of one length, [B, P]."""
        return self._read(torch.as_tensor(np.asarray(prompts)))

    def _read(self, ids):
        with torch.inference_mode():
            out = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True)
        self.cache = out.past_key_values
        return out.logits[:, -1].float().numpy()

    def step(self, tokens):
        return self._read(torch.as_tensor(tokens)[:, None])

    def reorder(self, rows):
        self.cache.reorder_cache(torch.as_tensor(rows))


class EncoderDecoder:
    """An encoder-decoder of Transformers with its cache and what its encoder said."""

    def __init__(self, model, sources):
        with torch.inference_mode():
            self.memory = model.get_encoder()(torch.as_tensor(sources)).last_hidden_state
        self.model, self.cache = model, None

    def start(self, prompts):
        """Read decoder prompts of one length, [B, P]."""
        return self._read(torch.as_tensor(np.asarray(prompts)))

    def _read(self, ids):
        memory = modeling_outputs.BaseModelOutput(last_hidden_state=self.memory)
        with torch.inference_mode():
            out = self.model(
                encoder_outputs=memory,
                decoder_input_ids=ids,
                past_key_values=self.cache,
                use_cache=True,
            )
        self.cache = out.past_key_values
        return out.logits[:, -1].float().numpy()

    def step(self, tokens):
        return self._read(torch.as_tensor(tokens)[:, None])

    def reorder(self, rows):
        rows = torch.as_tensor(rows)
        self.memory = self.memory[rows]
        self.cache.reorder_cache(rows)
