"""Seq2Seq refuses layers and sizes that do not fit, wrong arguments, files that lie."""

import json
import re

import numpy as np
import pytest

import treadle
from support import hostile, samples

WORDS, TOKENS, E, H = 30, 20, 8, 16


def encoder(**options):
    return treadle.Sequential(
        treadle.Embedding(WORDS, E, seed=0),
        treadle.GRU(E, H, batch_first=True, seed=0, **options),
    )


def decoder(inputs=E, outputs=H, cls=treadle.GRU, **options):
    return treadle.Sequential(
        treadle.Embedding(TOKENS, E, seed=0),
        cls(inputs, H, batch_first=True, seed=0, **options),
        treadle.Linear(outputs, TOKENS, seed=0),
    )


def layers(*modules):
    return treadle.Sequential(*modules)


WORDS_FIRST = treadle.Embedding(TOKENS, E, seed=0)
GRU = treadle.GRU(E, H, batch_first=True, seed=0)
LAST = treadle.Linear(H, TOKENS, seed=0)
CONV = layers(treadle.Conv1d(3, H, 3, seed=0), treadle.Transpose(1, 2))
WRONG = {
    "no encoder": ((None, decoder()), "memory_size"),
    "no decoder": ((encoder(), None), "decoder is None .*Sequential"),
    "decoder layer": ((encoder(), GRU), "decoder is GRU.*expected a treadle.Sequential"),
    "encoder layer": ((treadle.Linear(3, 4), decoder()), "encoder is Linear.*treadle.GRU"),
    "encoder cell": ((layers(treadle.GRUCell(3, H)), decoder()), "encoder: 0 is a GRUCell"),
    "of torch": ((np.zeros(3), decoder()), "encoder is array"),
    "empty decoder": ((encoder(), layers()), "decoder has no layers"),
    "no words": ((encoder(), layers(GRU, LAST)), "decoder begins with a GRU"),
    "no net": ((encoder(), layers(WORDS_FIRST)), "decoder has 0 recurrent"),
    "two nets": ((encoder(), layers(WORDS_FIRST, GRU, GRU)), "decoder has 2 recurrent"),
    "time first": (
        (encoder(), layers(WORDS_FIRST, treadle.GRU(E, H), LAST)),
        "decoder: 1 has batch_first=False",
    ),
    "encoder's time first": ((treadle.GRU(E, H), decoder()), "encoder has batch_first=False"),
    "both directions": ((encoder(), decoder(bidirectional=True)), "bidirectional=True"),
    "backwards": ((encoder(), decoder(reverse=True)), "reverse=True"),
    "attention": ((encoder(), decoder(), "luong"), "attention is 'luong'"),
    "no name": ((encoder(), decoder(), ["dot"]), r"attention is \['dot'\]"),
    "input": ((encoder(), decoder(inputs=9)), "input_size=9, expected 8"),
    "context": ((encoder(), decoder(9, 2 * H), "dot"), "expected 8,.* or 24, with the context"),
    "outputs": ((encoder(), decoder(), "dot"), "take 16 numbers, expected 32"),
    "outputs of h": ((encoder(), decoder(outputs=2 * H)), "take 32 numbers, expected 16"),
    "dot": (
        (encoder(bidirectional=True), decoder(outputs=3 * H), "dot"),
        "'dot' between a state of 16 numbers and positions of 32",
    ),
    "vocabulary": (
        (encoder(), layers(WORDS_FIRST, GRU, treadle.Linear(H, TOKENS + 1))),
        "return 21 logits and its Embedding has 20 tokens",
    ),
    "layers": ((encoder(num_layers=2), decoder()), "1 layers of 16 numbers and the encoder's 2"),
    "directions": ((encoder(bidirectional=True), decoder()), "encoder's 1 of 32"),
    "no c": ((encoder(), decoder(cls=treadle.LSTM)), "a GRU, whose state has no c"),
    "nothing to read": ((CONV, decoder()), "nothing reaches the decoder"),
    "unknown size": ((CONV, decoder(), "additive"), "do not tell the size of a position"),
    "unknown embedding": (
        (encoder(), layers(WORDS_FIRST, treadle.Transpose(0, 1), GRU, LAST)),
        "do not tell their size",
    ),
}
OPTIONS = {
    "attention_size": ({"attention_size": 4}, "attention_size is given"),
    "attention_size of dot": ({"attention": "dot", "attention_size": 4}, "'additive' alone"),
    "memory_size": ({"memory_size": 5}, "memory_size is 5, expected 16"),
    "no memory": ({"memory_size": 0}, "memory_size is 0"),
    "bridge": ({"bridge": 1}, "bridge is 1"),
    "dtype": ({"dtype": "int4"}, "dtype is 'int4'"),
    "dtype of no part": ({"bridge": True, "dtype": {"encoder": "int8"}}, "name 'encoder'"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit(arguments, message):
    with pytest.raises((TypeError, ValueError), match=rf"^treadle\.Seq2Seq: .*{message}"):
        treadle.Seq2Seq(*arguments)


@pytest.mark.parametrize(("options", "message"), OPTIONS.values(), ids=OPTIONS)
def test_wrong_options(options, message):
    outputs = 2 * H if options.get("attention") else H
    with pytest.raises((TypeError, ValueError), match=rf"^treadle\.Seq2Seq: .*{message}"):
        treadle.Seq2Seq(encoder(), decoder(outputs=outputs), **options)


X, Y = np.ones((3, 4), np.int64), np.ones((3, 2), np.int64)
CALLS = {
    "a word": ((X + WORDS, Y), {}, "encoder: before 1: .*expected 0 to V - 1"),
    "a token": ((X, Y + TOKENS), {}, "decoder: its first layers: .*expected 0 to V - 1"),
    "numbers": ((samples.normal(0, 3, 4), Y), {}, "encoder: before 1"),
    "no batch": ((X[0], Y), {}, "encoder: before 1|the encoder's output has shape"),
    "tokens": ((X, Y[0]), {}, r"tokens has shape \(2,\), expected \[B, T\]"),
    "no token": ((X, Y[:, :0]), {}, r"tokens has shape \(3, 0\), expected T > 0"),
    "rows": ((X, Y[:2]), {}, r"tokens has shape \(2, 2\), expected 3 rows"),
    "lengths": ((X, Y), {"lengths": [1, 2]}, "lengths"),
    "long": ((X, Y), {"lengths": [1, 2, 5]}, "lengths"),
    "below zero": ((X, Y), {"lengths": [1, 2, -1]}, "lengths"),
    "no integers": ((X, Y), {"lengths": [1.5, 2, 1]}, "lengths"),
    "text": (("text", Y), {}, "encoder: before 1"),
    "attentions": ((X, Y), {"output_attentions": 1}, "output_attentions is 1"),
    "no attention": ((X, Y), {"output_attentions": True}, "the model has no attention"),
}


@pytest.mark.parametrize(("arguments", "options", "message"), CALLS.values(), ids=CALLS)
def test_wrong_calls(arguments, options, message):
    m = treadle.Seq2Seq(encoder(), decoder())
    before = m(X, Y)
    with pytest.raises((TypeError, ValueError), match=rf"^treadle\.Seq2Seq: .*({message})"):
        m(*arguments, **options)
    assert np.array_equal(m(X, Y), before)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 6, 2, 2), (3,)])
def test_features_of_another_shape(shape):
    m = treadle.Seq2Seq(
        None, decoder(outputs=H + 6), "additive", memory_size=6, attention_size=3, bridge=True
    )
    with pytest.raises(ValueError, match=r"x has shape .*, expected \[B, S, M\] with M = 6"):
        m(np.zeros(shape, np.float32), Y)
    with pytest.raises(ValueError, match=r"lengths are \[1, 2, 5\].* expected \[B\] of 0 to S"):
        m(np.zeros((3, 4, 6), np.float32), Y, lengths=[1, 2, 5])


def test_a_wrong_step_changes_nothing():
    m = treadle.Seq2Seq(encoder(), decoder(outputs=2 * H), "dot")
    decoding, _ = m.decoding(X, Y[:, :1])
    for rows in ([3], [-1], [[0]]):
        with pytest.raises(ValueError, match=r"expected \[R\] of 0 to 2"):
            decoding.reorder(np.array(rows))
    for tokens in (Y[:2, 1], Y[:, 1] + TOKENS):
        with pytest.raises(ValueError, match=r"treadle\.Seq2Seq"):
            decoding.step(tokens)
    assert np.array_equal(decoding.step(Y[:, 1]), m(X, Y)[:, 1])


def test_no_rows():
    m = treadle.Seq2Seq(encoder(), decoder(outputs=2 * H), "general", bridge=True)
    logits, looks = m(X[:0], Y[:0], output_attentions=True)
    assert (logits.shape, looks.shape) == ((0, 2, TOKENS), (0, 2, 4))
    decoding, _ = m.decoding(X, Y)
    decoding.reorder(np.zeros(0, np.int64))
    assert decoding.step(np.zeros(0, np.int64)).shape == (0, TOKENS)


def test_it_is_no_part_of_a_sequence():
    with pytest.raises(TypeError, match="is a Seq2Seq, which takes x and tokens"):
        treadle.Sequential(treadle.Seq2Seq(encoder(), decoder()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.safetensors"
    treadle.save(treadle.Seq2Seq(encoder(), decoder(outputs=2 * H), "additive", bridge=True), path)
    return path.read_bytes()


def test_damaged_files(saved, tmp_path):
    for data in hostile.variants(saved).values():
        path = tmp_path / "x.safetensors"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            treadle.load(path)


def set_to(*place, value):
    def edit(about):
        inner = about["configuration"]
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value

    return edit


NESTED = ["Seq2Seq", {}]
EDITS = {
    "another class": set_to("encoder", 0, value="Linear"),
    "a class of users": set_to("encoder", 0, value="os.system"),
    "itself": set_to("encoder", value=NESTED),
    "no list": set_to("encoder", value={"modules": []}),
    "three": set_to("decoder", value=["Sequential", {}, {}]),
    "no decoder": set_to("decoder", value=None),
    "score": set_to("attention", value="dot product"),
    "no attention": set_to("attention", value=None),
    "no bridge": set_to("bridge", value=False),
    "sizes": set_to("attention_size", value=2**31 - 1),
    "absurd": set_to("attention_size", value=2**62),
    "hidden": set_to("decoder", 1, "modules", 1, 2, "hidden_size", value=2**31 - 1),
    "layers": set_to("encoder", 1, "modules", 1, 2, "num_layers", value=4096),
    "dtype": set_to("dtype", value={"nosuch": "int8"}),
    "dtypes": set_to("dtype", value={"attention_score": "int8"}),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_files_that_lie(saved, edit, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(hostile.about_edited(saved, edit))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        treadle.load(path)


def test_a_deep_file(saved, tmp_path):
    """Sequences within each other to any depth are refused before Python's stack ends."""
    header, payload = hostile.split(saved)
    about = json.loads(header["__metadata__"]["treadle"])
    inner = about["configuration"]["encoder"]
    for _ in range(200):
        inner = ["Sequential", {"modules": [["0", *inner]]}]
    about["configuration"]["encoder"] = inner
    header["__metadata__"]["treadle"] = json.dumps(about)
    path = tmp_path / "x.safetensors"
    path.write_bytes(hostile.join(header, payload))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        treadle.load(path)
