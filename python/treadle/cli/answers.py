"""This module writes the answers of pipelines as lines that people read."""

from __future__ import annotations

from typing import Any


def readable(text: str, answer: Any) -> str:
    """Return the lines for one text and its answer, the score first."""
    if isinstance(answer, dict):
        answer = [answer]
    if answer and isinstance(answer[0], list):
        if answer[0] and isinstance(answer[0][0], dict):  # several masks
            return "\n\n".join(readable(text, part) for part in answer)
        size = len(answer[0][0]) if answer[0] else 0
        return f"{len(answer[0])} vectors of {size} numbers; --json shows them"
    return "\n".join(line for entry in answer for line in _lines(text, entry))


def _lines(text: str, entry: dict[str, Any]) -> list[str]:
    """Return the lines of one entry of an answer."""
    if "labels" in entry:  # of zero-shot-classification
        pairs = zip(entry["scores"], entry["labels"], strict=True)
        return [f"{score:6.3f}  {label}" for score, label in pairs]
    score = f"{entry['score']:6.3f}" if "score" in entry else ""
    if "sequence" in entry:  # of fill-mask
        return [f"{score}  {entry['token_str']:<12}  {entry['sequence']}"]
    if "start" in entry:
        place = slice(entry["start"], entry["end"])
        label = entry.get("entity_group", entry.get("entity"))
        words = [score, *([] if label is None else [f"{label:<8}"])]
        return ["  ".join([*words, f"{place.start}-{place.stop}", text[place]])]
    if "label" in entry:
        return [f"{score}  {entry['label']:<12}  {text}"]
    for name, value in entry.items():  # of a task that writes
        if isinstance(value, list) and name.endswith("_text"):
            return [f"{message['role']}: {message['content']}" for message in value]
        if name.endswith("_text"):
            return [value]
        if name.endswith("_token_ids"):
            return [" ".join(map(str, value))]
    raise KeyError(f"treadle run: an answer has {[*entry]}, which no task gives")
