"""Generations of whole models that are ended from outside, and what thousands of them leave.

Ctrl-C arrives in the middle of a search that would take minutes, as where a person has seen enough
of a text; a server generates for weeks; a step or a streamer fails. The models are a causal one, an
encoder-decoder and a recurrent `Seq2Seq`, each tiny.
"""

import inspect

import numpy as np
import pytest

import treadle
from support import child, generators
from support.systems import linux
from support.tolerance import assert_same_bits
from treadle.seq2seq.decoding import Decoding
from treadle.transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from treadle.transformers.generator import StackDecoding


def recurrent():
    encoder = treadle.Sequential(
        treadle.Embedding(30, 8, seed=0), treadle.LSTM(8, 16, batch_first=True, seed=0)
    )
    decoder = treadle.Sequential(
        treadle.Embedding(12, 8, seed=1),
        treadle.LSTM(24, 16, batch_first=True, seed=0),
        treadle.Linear(32, 12, seed=0),
    )
    kept = {"decoder_start_token_id": 1, "pad_token_id": 0}
    return treadle.Seq2Seq(encoder, decoder, "additive", generation=kept, seed=0)


PROGRAM = f"""
import gc, resource, signal, sys
import numpy as np, treadle
from treadle.transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

{inspect.getsource(recurrent)}
path = sys.argv[1]
model = {{
    "Seq2Seq": recurrent,
    "causal": lambda: AutoModelForCausalLM.from_pretrained(path),
    "encoder-decoder": lambda: AutoModelForSeq2SeqLM.from_pretrained(path),
}}[sys.argv[2]]()
ids = np.arange(3, 24).reshape(3, 7)
"""
# The signal comes after some tokens, in the midst of a search that would take hours.
INTERRUPTED = """
signal.signal(signal.SIGALRM, signal.default_int_handler)

def interrupted(call):
    try:
        call()
    except KeyboardInterrupt:
        return True
    return False

options = {"num_beams": int(sys.argv[3]), "eos_token_id": None}
before = model.generate(ids, max_new_tokens=6, **options)
count = 0

class Counts:
    def put(self, tokens):
        global count
        count += 1
        if count == 3:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
    def end(self):
        pass

long = lambda: model.generate(ids, max_new_tokens=10_000_000, streamer=Counts(), **options)
print(interrupted(long), count >= 3, end=" ")
print((model.generate(ids, max_new_tokens=6, **options) == before).all())
"""
PROMPT = """
ids = np.tile(np.arange(3, 73), (4, 3000))
before = model.generate(ids[:, :9], max_new_tokens=4)
signal.setitimer(signal.ITIMER_REAL, 0.5)
print(interrupted(lambda: model.generate(ids, max_new_tokens=4)), end=" ")
print((model.generate(ids[:, :9], max_new_tokens=4) == before).all())
"""
MEMORY = """
def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def some(count):
    for i in range(count):
        model.generate(ids[: i % 3 + 1], max_new_tokens=2, num_beams=1 + i % 2)

some(1000)
before = resident()
some(10_000)
print(resident() - before)
"""
# A hundred bytes for each of ten thousand generations: one object that stays takes as much.
MOST_BYTES = 2**20


def directory(name, tmp_path_factory, **changes):
    """A model whose positions have no end."""
    path = tmp_path_factory.mktemp(name)
    generators.randomized(generators.configuration(name, **changes)).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    sizes = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 1, "head_dim": 6}
    return {
        "Seq2Seq": "-",
        "causal": directory(
            "llama", tmp_path_factory, max_position_embeddings=2**31 - 1, eos_token_id=None, **sizes
        ),
        "encoder-decoder": directory("t5", tmp_path_factory, num_layers=1, num_decoder_layers=1),
    }


KINDS = ("Seq2Seq", "causal", "encoder-decoder")


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_ends_a_generation(paths, kind, beams):
    """Steps had been taken, the search had not ended, and the model generates as before."""
    found = child.succeed(PROGRAM + INTERRUPTED, paths[kind], kind, beams)
    assert found == "True True True"


def test_ctrl_c_ends_the_reading_of_a_prompt(paths):
    """A prompt of 210,000 tokens is read by one native call, which would take minutes."""
    program = PROGRAM + INTERRUPTED.split("options =")[0] + PROMPT
    assert child.succeed(program, paths["causal"], "causal") == "True True"


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_flat_over_ten_thousand_generations(paths, kind):
    assert int(child.succeed(PROGRAM + MEMORY, paths[kind], kind, timeout=600)) < MOST_BYTES


IDS = np.arange(3, 24).reshape(3, 7)


@pytest.fixture(scope="module")
def models(paths):
    return {
        "Seq2Seq": recurrent(),
        "causal": AutoModelForCausalLM.from_pretrained(paths["causal"]),
        "encoder-decoder": AutoModelForSeq2SeqLM.from_pretrained(paths["encoder-decoder"]),
    }


def generated(model, beams, **options):
    return model.generate(IDS, max_new_tokens=8, num_beams=beams, eos_token_id=None, **options)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
def test_a_step_that_raises(models, kind, beams, error, monkeypatch):
    """The error goes through, and the model generates the same bits as before."""
    model, of = models[kind], Decoding if kind == "Seq2Seq" else StackDecoding
    options = {"output_logits": True, "return_dict_in_generate": True}
    before = generated(model, beams, **options)
    calls = 0

    def failing(method):
        def step(self, *arguments):
            nonlocal calls
            calls += 1
            if calls == 4:
                raise error("in the middle")
            return method(self, *arguments)

        return step

    for name in ("step", "step_best"):
        if hasattr(of, name):
            monkeypatch.setattr(of, name, failing(getattr(of, name)))
    with pytest.raises(error, match="in the middle"):
        generated(model, beams)
    assert calls == 4
    monkeypatch.undo()
    after = generated(model, beams, **options)
    np.testing.assert_array_equal(after.sequences, before.sequences)
    for one, other in zip(after.logits, before.logits, strict=True):
        assert_same_bits(one, other)


class Streams:
    """A streamer that raises at one of its calls, or when the search has ended."""

    def __init__(self, fails):
        self.fails, self.puts, self.ends = fails, 0, 0

    def put(self, tokens):
        self.puts += 1
        if self.puts - 1 == self.fails:
            raise RuntimeError("full")

    def end(self):
        self.ends += 1
        if self.fails == "end":
            raise RuntimeError("full")


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fails", [0, 1, "end"])
def test_a_streamer_that_raises(models, kind, beams, fails):
    """Its error goes through, it is not called again, and the model is as it was."""
    model = models[kind]
    before = model.generate(IDS[:1], max_new_tokens=8, num_beams=beams)
    streamer = Streams(fails)
    with pytest.raises(RuntimeError, match="full"):
        model.generate(IDS[:1], max_new_tokens=8, num_beams=beams, streamer=streamer)
    if fails == "end":
        assert streamer.ends == 1
    else:
        assert (streamer.puts, streamer.ends) == (fails + 1, 0)
    after = model.generate(IDS[:1], max_new_tokens=8, num_beams=beams)
    np.testing.assert_array_equal(after, before)
