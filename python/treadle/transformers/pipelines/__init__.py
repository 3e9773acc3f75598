"""Pipelines take texts to answers: a tokenizer, a model, and what its numbers mean, in one call."""
