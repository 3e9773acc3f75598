"""Seq2Seq writes sequences: the same tokens as step by step, alone and in a batch, and the options
that a model keeps.
"""

import numpy as np
import pytest

import treadle
import treadle.generation
from support.tolerance import assert_same_bits

WORDS, TOKENS, E, H = 30, 12, 8, 16
START, END, PAD = 1, 2, 0
KEPT = {"decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
X = np.random.default_rng(0).integers(0, WORDS, (6, 9))
LENGTHS = [9, 3, 1, 7, 9, 5]


def model(score="additive", *, feeds=True, seed=0, **options):
    encoder = treadle.Sequential(
        treadle.Embedding(WORDS, E, seed=seed), treadle.LSTM(E, H, batch_first=True, seed=seed)
    )
    decoder = treadle.Sequential(
        treadle.Embedding(TOKENS, E, seed=seed + 1),
        treadle.LSTM(E + H * (feeds and score is not None), H, batch_first=True, seed=seed),
        treadle.Linear(H * (2 if score else 1), TOKENS, seed=seed),
    )
    m = treadle.Seq2Seq(encoder, decoder, score, generation=KEPT, seed=seed, **options)
    # Larger weights than those of a new layer: sentences then differ and end at several lengths.
    weights = {k: 4 * v for k, v in m.state_dict().items()}
    weights["decoder.2.bias"][END] += 2
    m.load_state_dict(weights)
    return m


MODELS = [(None, False), ("dot", False), ("general", True), ("additive", True), ("additive", False)]
every_model = pytest.mark.parametrize(("score", "feeds"), MODELS)


def by_hand(m, x, most):
    """The best tokens of one sentence, from the logits of the whole sequence each time."""
    tokens = [START]
    while len(tokens) <= most and tokens[-1] != END:
        tokens.append(int(m(x, [tokens])[0, -1].argmax()))
    return tokens


@every_model
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_best_token_each_time(isa, threads, score, feeds, dtype):
    m = model(score, feeds=feeds).to(dtype)
    found = m.generate(X, lengths=LENGTHS, max_new_tokens=14, return_dict_in_generate=True)
    expected = [by_hand(m, X[i : i + 1, :n], 14) for i, n in enumerate(LENGTHS)]
    assert found.lengths.tolist() == [len(tokens) for tokens in expected]
    rows = [row[:n].tolist() for row, n in zip(found.sequences, found.lengths, strict=True)]
    assert rows == expected
    for row, n in zip(found.sequences, found.lengths, strict=True):
        assert (row[n:] == PAD).all()


def test_sentences_end_at_several_lengths():
    """Otherwise the test above would not see rows that leave the decoding."""
    found = [len(by_hand(model(), X[i : i + 1, :n], 14)) for i, n in enumerate(LENGTHS)]
    assert len(set(found)) > 2
    assert min(found) < 15


@every_model
def test_scores_do_not_depend_on_the_batch(score, feeds):
    m = model(score, feeds=feeds)
    options = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 6}
    found = m.generate(X, lengths=LENGTHS, **options)
    for i, n in enumerate(LENGTHS):
        alone = m.generate(X[i : i + 1, :n], **options)
        for step, scores in enumerate(alone.scores):
            assert_same_bits(scores[0], found.scores[step][i])


@every_model
def test_beams_that_see_everything(score, feeds):
    """Twelve beams over two tokens of twelve: the best of all 144 pairs, by their probability."""
    m = model(score, feeds=feeds)
    found = m.generate(
        X, lengths=LENGTHS, max_new_tokens=2, num_beams=TOKENS, eos_token_id=None,
        return_dict_in_generate=True,
    )  # fmt: skip
    for row, n in enumerate(LENGTHS):
        x = np.repeat(X[row : row + 1, :n], TOKENS, axis=0)
        first = np.arange(TOKENS)
        logits = m(x, np.stack([np.full(TOKENS, START), first], axis=1)).astype(np.float64)
        log = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        total = log[0, 0][:, None] + log[:, 1]  # [first, second]
        best = np.unravel_index(total.argmax(), total.shape)
        assert found.sequences[row].tolist() == [START, *best]
        np.testing.assert_allclose(found.sequences_scores[row], total.max() / 2, rtol=1e-5)


def test_drawn_tokens_do_not_depend_on_the_batch():
    m = model()
    options = {"do_sample": True, "seed": 7, "max_new_tokens": 6, "num_return_sequences": 3}
    found = m.generate(X, lengths=LENGTHS, **options)
    assert len(found) == 18
    alone = m.generate(X[4:5], **options)
    assert np.array_equal(found[12:15, : alone.shape[1]], alone)
    assert len({row.tobytes() for row in found[:3]}) > 1


def test_the_attention_that_wrote_a_sentence():
    m = model()
    tokens = m.generate(X, lengths=LENGTHS, max_new_tokens=5, min_new_tokens=5)
    logits, looks = m(X, tokens[:, :-1], lengths=LENGTHS, output_attentions=True)
    free = logits.copy()
    free[:, :, END] = -np.inf  # what min_new_tokens forbids
    assert np.array_equal(free.argmax(2), tokens[:, 1:])
    assert looks.shape == (6, 5, 9)
    sums = looks.sum(2)
    assert np.allclose(sums, 1, atol=9 * np.finfo(np.float32).eps)


def test_first_tokens_and_hooks():
    m = model()
    tokens = np.array([[START, 5, 7]] * 6)
    found = m.generate(X, tokens, lengths=LENGTHS, max_new_tokens=3)
    assert np.array_equal(found[:, :3], tokens)
    assert m.generate(X, decoder_start_token_id=4, max_new_tokens=1)[:, 0].tolist() == [4] * 6

    def seven(seen, scores):
        scores[:, 7] = 100
        return scores

    assert (m.generate(X, max_new_tokens=2, logits_hook=seven)[:, 1:] == 7).all()
    received = []

    class Streamer:
        def put(self, value):
            received.append(np.array(value))

        def end(self):
            received.append("end")

    whole = m.generate(X[:1], max_new_tokens=4, min_new_tokens=4, streamer=Streamer())
    assert received.pop() == "end"
    assert np.concatenate([part.reshape(-1) for part in received]).tolist() == whole[0].tolist()


def test_kept_options(tmp_path):
    """They are in files and copies, count less than those of a call, and show in the repr."""
    m = model()
    treadle.save(m, tmp_path / "model.safetensors")
    other = treadle.load(tmp_path / "model.safetensors")
    assert other.generation == m.generation == KEPT
    assert "'eos_token_id': 2" in repr(other)
    assert np.array_equal(other.generate(X, max_new_tokens=4), m.generate(X, max_new_tokens=4))
    assert other.generate(X, max_new_tokens=30, eos_token_id=None).shape == (6, 31)
    words = {"bad_words_ids": [[3], [4, 5]], "eos_token_id": [2, 3]}
    plain = treadle.Seq2Seq(m.encoder, m.decoder, "additive", generation=words)
    treadle.save(plain, tmp_path / "words.safetensors")
    assert treadle.load(tmp_path / "words.safetensors").generation == plain.generation
    bare = treadle.Seq2Seq(m.encoder, m.decoder, "additive")
    assert "generation" not in repr(bare)
    with pytest.raises(ValueError, match=r"^treadle\.Seq2Seq\.generate: neither tokens nor"):
        bare.generate(X)


@pytest.mark.parametrize(
    "options",
    [{"nosuch": 1}, {"num_beams": 0}, {"eos_token_id": -1}, {"max_new_tokens": 2**70}, [1], "x"],
    ids=repr,
)
def test_options_without_meaning(options):
    m = model()
    with pytest.raises((TypeError, ValueError), match=r"^treadle\.Seq2Seq: generation"):
        treadle.Seq2Seq(m.encoder, m.decoder, "additive", generation=options)
    if isinstance(options, dict):
        with pytest.raises((TypeError, ValueError), match=next(iter(options))):
            m.generate(X, **options)


def test_tokens_beyond_the_logits():
    with pytest.raises(ValueError, match="eos_token_id"):
        model().generate(X, eos_token_id=TOKENS)
    with pytest.raises(ValueError, match="expected 0 to V - 1"):
        model().generate(X, decoder_start_token_id=TOKENS)


def test_an_error_in_the_middle_leaves_the_model_as_it_was():
    m = model()
    before = m.generate(X, max_new_tokens=5)

    def fails(seen, scores):
        if seen.shape[1] == 3:
            raise RuntimeError("in the middle")
        return scores

    with pytest.raises(RuntimeError, match="in the middle"):
        m.generate(X, max_new_tokens=5, logits_hook=fails)
    assert np.array_equal(m.generate(X, max_new_tokens=5), before)
