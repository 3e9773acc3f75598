"""Train a small translator with PyTorch on a real parallel text, then translate with treadle alone.

    pip install ".[torch,transformers]" transformers mercurial sacrebleu
    python examples/train_translate.py            # --quick: a few sentences, to see that it runs

The text is the catalogue of messages of Mercurial (a version control system, GPL), which its
package carries: some 3,900 short English texts and their translations into Brazilian Portuguese.
`--catalogue` reads the compiled catalogue (.mo) of any other program. A tokenizer of subwords and a
transformer of Marian's architecture are trained (Transformers' model on treadle's attention), and
saved as a directory of the Hugging Face hub; treadle reads that, in float32 and in int8, and
translates sentences that were held out.

The table says how good the translations are (BLEU by sacrebleu: 0 to 100) and how long they took,
and what copying the English sentence would reach, for messages are full of names and options. So
few sentences teach a model the commonest words and turns of such messages, not a language: it is
wrong about most sentences that it has not seen, and writes nonsense for any other text.
"""

from __future__ import annotations

import argparse
import importlib.util
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import tokenizers
import torch
import transformers
from show_training import Live

import treadle
import treadle.torch
from treadle.transformers import AutoModelForSeq2SeqLM, AutoTokenizer

END, UNKNOWN, PAD = range(3)
SPECIAL = ["</s>", "<unk>", "<pad>"]
TOKENS = 64  # of the longest translation
Pairs = list[tuple[str, str]]
T = TypeVar("T")


class Plan(NamedTuple):
    """How much is learned: by default in a quarter of an hour on one core."""

    longest: int = 80  # letters of an English sentence
    vocabulary: int = 3000
    size: int = 128
    layers: int = 2
    steps: int = 1800
    batch: int = 1000  # tokens of a step, in each language


QUICK = Plan(longest=30, vocabulary=500, size=64, layers=1, steps=300, batch=300)


class Run(NamedTuple):
    """The translations of the held-out sentences: their tokens, as texts, and the seconds."""

    tokens: list[list[int]]
    texts: list[str]
    seconds: float


def catalogue() -> Path:
    """Find the Portuguese messages of the installed package mercurial."""
    found = importlib.util.find_spec("mercurial")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the package mercurial carries the text: pip install mercurial")
    return Path(found.submodule_search_locations[0], "locale/pt_BR/LC_MESSAGES/hg.mo")


def read(path: Path) -> Pairs:
    """Return (message, translation) of a .mo file; of plurals the first form.

    The layout is that of the manual of GNU gettext, "The Format of GNU MO Files".
    """
    data = path.read_bytes()
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    if order is None:
        raise SystemExit(f"{path} is not a compiled catalogue of messages (.mo)")
    _, count, *tables = struct.unpack_from(f"{order}4I", data, 4)
    columns = []
    for table in tables:
        places = struct.unpack_from(f"{order}{2 * count}I", data, table)
        texts = [data[at : at + n] for n, at in zip(places[::2], places[1::2], strict=True)]
        columns.append([text.split(b"\0")[0].decode() for text in texts])
    pairs = zip(*columns, strict=True)
    return [(message, text) for message, text in pairs if message and "\x04" not in message]


def sentences(pairs: Pairs, longest: int) -> tuple[Pairs, Pairs]:
    """Return the pairs of the training and those held out, one of ten: a choice by the letters.

    Messages that differ in their capitals and marks alone are on the same side. Those that are
    longer, or the same in both languages, or commands rather than words are left out.
    """
    sides: tuple[Pairs, Pairs] = ([], [])
    for message, text in pairs:
        english, other = " ".join(message.split()), " ".join(text.split())
        letters = "".join(filter(str.isalpha, english.lower()))
        words = len(letters) + english.count(" ") >= 0.85 * len(english)
        if words and letters and len(english) <= longest and english != other:
            sides[zlib.crc32(letters.encode()) % 10 == 0].append((english, other))
    return sides


def spread(items: list[T], count: int) -> list[T]:
    """Return `count` items at equal distances, for messages stand in the alphabet's order."""
    return [items[at * len(items) // count] for at in range(min(count, len(items)))]


def train_tokenizer(pairs: Pairs, directory: Path, size: int) -> None:
    """Train subwords of both languages and save tokenizer.json."""
    native = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=SPECIAL[UNKNOWN]))
    native.normalizer = tokenizers.normalizers.NFC()
    native.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    native.decoder = tokenizers.decoders.Metaspace()
    native.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", END)]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, show_progress=False
    )
    native.train_from_iterator([text for pair in pairs for text in pair], trainer)
    names = {"eos_token": SPECIAL[END], "unk_token": SPECIAL[UNKNOWN], "pad_token": SPECIAL[PAD]}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=native, **names, model_max_length=128
    ).save_pretrained(directory)


def build(vocabulary: int, size: int, layers: int) -> transformers.MarianMTModel:
    """Return a small model of Marian's architecture, with as many layers that read as write."""
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {"layers": layers, "attention_heads": 4, "ffn_dim": 4 * size}.items()
    }
    config = transformers.MarianConfig(
        **sides,
        vocab_size=vocabulary,
        d_model=size,
        max_position_embeddings=256,
        activation_function="relu",
        scale_embedding=True,
        dropout=0.1,
        eos_token_id=END,
        forced_eos_token_id=END,
        pad_token_id=PAD,
        decoder_start_token_id=PAD,
        attn_implementation="treadle",
    )
    return transformers.MarianMTModel(config)


def batches(lengths: list[int], rng: np.random.Generator, most: int) -> Iterator[list[int]]:
    """Yield the numbers of pairs of about one length, `most` tokens with the padding at a time."""
    while True:
        order = np.argsort(np.array(lengths) + rng.uniform(0, 4, len(lengths)))
        cuts = np.cumsum(np.array(lengths)[order]) // most
        groups = np.split(order, np.flatnonzero(np.diff(cuts)) + 1)
        for group in rng.permutation(len(groups)):
            yield groups[group].tolist()


def train(
    model: transformers.MarianMTModel, tokenizer: AutoTokenizer, pairs: Pairs, plan: Plan
) -> float:
    """Train by teacher forcing; return the loss of the last steps."""
    options = {"max_length": TOKENS, "truncation": True}
    read = tokenizer([english for english, _ in pairs], **options).input_ids
    written = tokenizer([other for _, other in pairs], **options).input_ids
    lengths = [max(len(a), len(b)) for a, b in zip(read, written, strict=True)]
    chosen = batches(lengths, np.random.default_rng(0), plan.batch)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=plan.steps)
    losses = []
    model.train()
    with closing(Live(plan.steps, "step")) as live:
        for _ in range(plan.steps):
            rows = next(chosen)
            x = tokenizer.pad({"input_ids": [read[row] for row in rows]}, return_tensors="np")
            y = tokenizer.pad({"input_ids": [written[row] for row in rows]}, return_tensors="np")
            answers = torch.tensor(y.input_ids)
            answers[answers == PAD] = -100  # not counted
            before = torch.tensor(np.roll(y.input_ids, 1, axis=1))
            before[:, 0] = PAD
            logits = model(
                torch.tensor(x.input_ids),
                attention_mask=torch.tensor(x.attention_mask),
                decoder_input_ids=before,
            ).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), answers.flatten(), label_smoothing=0.1
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            live.update(f"loss {losses[-1]:.3f}")
    model.eval()
    return float(np.mean(losses[-20:]))


def translate(
    generate: Callable[[np.ndarray, np.ndarray], np.ndarray],
    tokenizer: AutoTokenizer,
    texts: list[str],
    batch: int = 32,
) -> Run:
    """Translate the texts with one model's `generate`, those of about one length together."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    tokens: list[list[int]] = [[] for _ in texts]
    start = time.perf_counter()
    for at in range(0, len(texts), batch):
        rows = order[at : at + batch]
        x = tokenizer([texts[row] for row in rows], padding=True, return_tensors="np")
        for row, found in zip(rows, generate(x.input_ids, x.attention_mask).tolist(), strict=True):
            tokens[row] = [token for token in found if token != PAD]
    seconds = time.perf_counter() - start
    return Run(tokens, tokenizer.batch_decode(tokens, skip_special_tokens=True), seconds)


def compare(directory: Path, held: Pairs, beams: int) -> dict[str, Run]:
    """Translate the held-out sentences with PyTorch and with treadle, and print the table."""
    from sacrebleu.metrics import BLEU

    tokenizer = AutoTokenizer.from_pretrained(directory)
    english, answers = [a for a, _ in held], [b for _, b in held]
    search = {"num_beams": beams, "do_sample": False, "max_length": TOKENS}
    reference = transformers.MarianMTModel.from_pretrained(directory)

    def of_torch(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        mine = torch.tensor(ids), torch.tensor(mask)
        return reference.generate(mine[0], attention_mask=mine[1], **search).numpy()

    runs = {"torch float32": translate(of_torch, tokenizer, english)}
    for dtype in ("float32", "int8"):  # from here on PyTorch plays no part
        model = AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=dtype)
        runs[f"treadle {dtype}"] = translate(
            lambda ids, mask, model=model: model.generate(ids, mask, **search), tokenizer, english
        )
    first = runs["torch float32"].tokens
    bleu = BLEU()
    copied = bleu.corpus_score(english, [answers]).score
    print(f"\n{'':16} {'BLEU':>6} {'seconds':>8}  the same tokens as torch")
    print(f"{'copied English':16} {copied:6.2f}")
    for name, run in runs.items():
        score = bleu.corpus_score(run.texts, [answers]).score
        same = np.mean([a == b for a, b in zip(run.tokens, first, strict=True)])
        print(f"{name:16} {score:6.2f} {run.seconds:8.2f}  {same:.1%} of {len(held)} sentences")
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--catalogue", type=Path, help="a .mo file, instead of mercurial's")
    parser.add_argument("--directory", type=Path, help="where to keep the model and its tokenizer")
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--beams", type=int, default=1, help="1, the default, is greedy")
    parser.add_argument("--quick", action="store_true", help="see that it runs")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan(steps=options.steps)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    treadle.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    treadle.torch.register_attention()
    pairs, held = sentences(read(options.catalogue or catalogue()), plan.longest)
    if options.quick:  # few sentences are soon learned by heart, and the new ones are mixtures
        pairs, held = spread(pairs, 150), spread(held, 60)
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        start = time.perf_counter()
        train_tokenizer(pairs, directory, plan.vocabulary)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model = build(len(tokenizer), plan.size, plan.layers)
        print(f"{len(pairs)} pairs to learn from, {model.num_parameters():,} numbers to learn")
        loss = train(model, tokenizer, pairs, plan)
        print(f"loss {loss:.3f} after {time.perf_counter() - start:.0f} s of training")
        model.save_pretrained(directory)
        runs = compare(directory, held, options.beams)
    for (english, other), text in spread(
        list(zip(held, runs["treadle float32"].texts, strict=True)), 4
    ):
        print(f"\n  {english}\n  {other}\n  {text}")
    if options.quick and runs["treadle float32"].tokens != runs["torch float32"].tokens:
        raise SystemExit("treadle's tokens are not those of PyTorch")


if __name__ == "__main__":
    main()
