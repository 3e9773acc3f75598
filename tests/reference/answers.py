"""The answers to a question: all spans of tokens, one by one.

The rule is that of the pipeline for question answering in Transformers 4.57. A row of tokens has
the question and a part of the context. The softmax of the start logits, and that of the end logits,
runs over the tokens of the context and the first token of the row. A span has the product of the
two probabilities; from the best spans of all rows, those with the same text are added up.
"""

import numpy as np
import torch


def answer(
    model, tokenizer, texts, *, top_k=1, max_answer_len=15, max_seq_len=None, doc_stride=None,
    handle_impossible_answer=False, align_to_words=True,
):  # fmt: skip
    """The best answer, or several, to a question with its context."""
    most = max_seq_len or min(tokenizer.model_max_length, 384)
    stride = min(most // 2, 128) if doc_stride is None else doc_stride
    rows = tokenizer(
        *texts, truncation="only_second", max_length=most, stride=stride,
        return_overflowing_tokens=True,
    )  # fmt: skip
    found, null = {}, 1.0
    for encoding in rows.encodings:
        names = tokenizer.model_input_names
        fields = {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
        inputs = {k: torch.tensor([v]) for k, v in fields.items() if k in names}
        with torch.inference_mode():
            output = model(**inputs)
        inside = np.array([text == 1 for text in encoding.sequence_ids])
        kept = inside | (np.arange(len(inside)) == 0)
        start, end = (
            _softmax(logits[0].double().numpy(), kept)
            for logits in (output.start_logits, output.end_logits)
        )
        null = min(null, start[0] * end[0])
        spans = [
            (start[i] * end[j], i, j)
            for i in np.flatnonzero(inside)
            for j in np.flatnonzero(inside)
            if i <= j < i + max_answer_len
        ]
        spans.sort(key=lambda span: -span[0])
        for score, i, j in spans[: 2 * top_k + 10 if align_to_words else top_k]:
            first, last = encoding.offsets[i][0], encoding.offsets[j][1]
            if align_to_words:
                first = encoding.word_to_chars(encoding.token_to_word(i), 1)[0]
                last = encoding.word_to_chars(encoding.token_to_word(j), 1)[1]
            text = texts[1][first:last]
            entry = {"score": 0.0, "start": first, "end": last, "answer": text}
            found.setdefault(text.lower(), entry)["score"] += score
    answers = list(found.values())
    if handle_impossible_answer:
        answers.append({"score": null, "start": 0, "end": 0, "answer": ""})
    answers = sorted(answers, key=lambda entry: -entry["score"])[:top_k]
    return answers[0] if len(answers) == 1 else answers


def _softmax(logits, kept):
    numerators = np.where(kept, np.exp(logits - logits.max()), 0)
    return numerators / numerators.sum()
