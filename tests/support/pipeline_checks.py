"""Model directories with tokenizers for the pipelines, and the comparison with Transformers' own.

Transformers' pipeline runs on the model in float64, for what is right, and in float32, for how
wrong the model's outputs may be in float32: d, the bound of `support.checkpoints.assert_close`.
Where every output errs by d at most, log softmax errs by 2 d, a sigmoid by d / 4, and the product
of two softmaxes by 4 d of itself: no score errs by more than 4 d, or 4 d of itself above 1.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers

from support import checkpoints, tokenizer_directories
from support.tolerance import EPS
from treadle.transformers import pipeline

# One family for each kind of tokenizer, and one without types of tokens.
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert")
TEXTS = [
    "The warp is held taut in tension on a loom.",
    "Ada Lovelace lived in London, near the Thames.",
    "strip",
    "Don't stop, it's 10 words... (nearly)",
    "Ünïcödé, 漢字 and Привет 🧵",
]
LONG = " ".join(TEXTS[:2]) * 5
POSITIONS, LENGTH = 150, 66  # of the model, and model_max_length of its tokenizer
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")


@cache
def directory(family, head="", **changes):
    """A random model with a tokenizer of its family; not to be changed."""
    path = Path(checkpoints.ROOT.name) / f"pipeline-{family}-{head}-{len(list(changes))}"
    while path.exists():
        path = path.with_name(path.name + "x")
    tokenizer_directories.write(path, family)
    (path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH}))
    content = json.loads((path / "tokenizer.json").read_text())
    size = max(len(content["model"]["vocab"]), 1 + max(t["id"] for t in content["added_tokens"]))
    changes = {"vocab_size": size, "max_position_embeddings": POSITIONS, **_thawed(changes)}
    model = checkpoints.randomized(checkpoints.configuration(family, **changes), head)
    if head in ("TokenClassification", "QuestionAnswering"):
        _spread(model, size, "classifier" if head[0] == "T" else "qa_outputs")
    model.save_pretrained(path)
    return path


def _spread(model, size, name):
    """Let the head tell tokens apart: random states have so much in common that none stands out."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, size, (8, 30), generator=generator)
    head = getattr(model, name)
    with torch.no_grad():
        head.weight.mul_(4)
        states = model.base_model(ids).last_hidden_state
        head.bias.sub_(head(states).mean((0, 1)))


def labels(*names):
    """The entries of a configuration that name labels."""
    ids = dict(enumerate(names))
    return {"id2label": tuple(ids.items()), "label2id": tuple((n, i) for i, n in ids.items())}


def _thawed(changes):
    """Turn tuples of pairs, which a cache can look up, into dicts."""
    return {k: dict(v) if isinstance(v, tuple) else v for k, v in changes.items()}


@cache
def theirs(task, path, head):
    """Transformers' pipeline on the model in float64 and in float32; it keeps the outputs."""
    name = f"AutoModelFor{head}" if head else "AutoModel"
    model = getattr(transformers, name).from_pretrained(path, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    made = []
    for dtype in (torch.float64, torch.float32):
        copy = type(model)(model.config).eval().to(dtype)
        copy.load_state_dict(model.state_dict())
        pipe = transformers.pipeline(task, model=copy, tokenizer=tokenizer, device="cpu")
        pipe.outputs = []
        copy.register_forward_hook(lambda _, __, output, kept=pipe.outputs: kept.append(output))
        made.append(pipe)
    return made


def compare(task, path, head, *inputs, **options):
    """Check that both answer the same; return treadle's answer."""
    actual = pipeline(task, path)(*inputs, **options)
    both = theirs(task, path, head)
    same(actual, both, lambda pipe: pipe(*inputs, **options))
    return actual


def same(actual, both, run):
    """Compare answers: texts, integers and the form exactly, floats by the bound.

    ``run`` gets the answer of one of Transformers' pipelines ``both``.
    """
    for pipe in both:
        pipe.outputs.clear()
    exact, _ = (run(pipe) for pipe in both)
    assert form(actual) == form(exact)
    found = [np.array(list(floats(answer)), np.float64) for answer in (actual, exact)]
    bound = 4 * allowed(*(pipe.outputs for pipe in both)) * np.maximum(1, np.abs(found[1]))
    assert (np.abs(found[0] - found[1]) <= bound).all()


def allowed(exact, rounded):
    """How much an output of the model may err in float32."""
    exact, rounded = (
        [tensor.double().numpy() for output in outputs for tensor in output.to_tuple()]
        for outputs in (exact, rounded)
    )
    error = max(np.abs(a - b).max() for a, b in zip(exact, rounded, strict=True))
    return 2 * error + 4 * EPS * max(1, *(np.abs(a).max() for a in exact))


def form(answer):
    """An answer without the values of its floats."""
    if isinstance(answer, dict):
        return {name: form(value) for name, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [form(item) for item in answer]
    return float if isinstance(answer, float | np.floating) else answer


def floats(answer):
    """All floats of an answer, in its order."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        for item in answer:
            yield from floats(item)
    elif isinstance(answer, float | np.floating):
        yield float(answer)
