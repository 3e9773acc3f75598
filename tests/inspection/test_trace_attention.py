"""Traces of attention: the bits of the plain call, the probabilities of the reference."""

import numpy as np
import pytest

import treadle
from reference import attention as reference
from support import checkpoints, generators, samples
from support.tolerance import EPS, assert_close, assert_same_bits, flatten

B, S, K, H, N = 3, 5, 6, 16, 4
AXES = ("batch", "head", "query", "key")


def assert_rows(probabilities, rows=None):
    """Rows sum to one: each of S roundings is at most eps / 2 of a sum that is one."""
    sums = probabilities.astype(float).sum(axis=-1)
    sums = sums if rows is None else sums[np.broadcast_to(rows, sums.shape)]
    assert np.abs(sums - 1).max() <= probabilities.shape[-1] * 4 * EPS
    assert probabilities.min() >= 0


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("given", ["plain", "causal", "mask", "positional"])
def test_multihead_attention(isa, batch_first, given):
    module = treadle.MultiheadAttention(H, N, batch_first=batch_first, seed=0)
    keys = S if given == "causal" else K
    query, key = samples.normal(0, B, S, H), samples.normal(1, B, keys, H)
    options, call = {}, {}
    if given == "causal":
        options = call = {"is_causal": True}
    if given == "mask":
        call = {"key_padding_mask": np.arange(K) >= np.array([[6], [4], [1]])}
        options = {"key_lengths": np.array([6, 4, 1])}
    laid = (query, key, key) if batch_first else [a.swapaxes(0, 1) for a in (query, key, key)]
    others = (None, False) if given == "positional" else ()
    trace = treadle.trace(module)(*laid, *others, **call)
    plain = module(*laid, *others, **call)
    assert_same_bits(trace.output[0], plain[0])
    assert (trace.output[1] is None) == (given == "positional")
    found = trace["attention.probabilities"]
    assert trace.axes("attention.probabilities") == AXES
    exact, rounded = (
        reference.multihead_attention(
            module.state_dict(), N, query, key, key, dtype=dtype, **options
        )[1]
        for dtype in (np.float64, np.float32)
    )
    assert_close(found, exact, rounded, cell=True)
    assert_rows(found)
    chosen = treadle.trace(module, heads=[2, 0])(*laid, *others, **call)
    assert_same_bits(chosen["attention.probabilities"], found[:, [2, 0]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("padded", [False, True])
def test_encoders(dtype, padded):
    layer = treadle.TransformerEncoderLayer(H, N, 32, batch_first=True, seed=0)
    module = treadle.TransformerEncoder(layer, 3, norm=treadle.LayerNorm(H)).to(dtype)
    x = samples.normal(0, B, S, H)
    padding = np.arange(S) >= np.array([[5], [3], [1]]) if padded else None
    trace = treadle.trace(module)(x, src_key_padding_mask=padding)
    assert_same_bits(trace.output, module(x, src_key_padding_mask=padding))
    exists = np.ones((B, S), bool) if padding is None else ~padding
    assert len(trace) == 6
    before = x
    for number in range(3):
        found = trace[f"layer{number}.self_attention.probabilities"]
        assert_rows(found, exists[:, None])
        assert not found[np.broadcast_to(~exists[:, None, None], found.shape)].any()
        after = trace[f"layer{number}.states.hidden"].swapaxes(0, 1)
        assert (np.isnan(after[..., 0]) == ~exists).all()
        if dtype == "float32":
            begin = f"layers.{number}.self_attn."
            own = {k.removeprefix(begin): v for k, v in module.state_dict().items()
                   if k.startswith(begin)}  # fmt: skip
            lengths = exists.sum(axis=1)
            exact, rounded = (
                reference.multihead_attention(
                    own, N, *[np.nan_to_num(before)] * 3, key_lengths=lengths, dtype=kind
                )[1]
                for kind in (np.float64, np.float32)
            )
            rows = np.broadcast_to(exists[:, None], found.shape[:3])
            assert_close(found[rows], exact[rows], rounded[rows], cell=True)
        before = after
    one = treadle.trace(module, layers=2, heads=1)(x, src_key_padding_mask=padding)
    assert one.names == ("layer2.self_attention.probabilities", "layer2.states.hidden")
    for name in one:
        whole = trace[name]
        assert_same_bits(one[name], whole[:, [1]] if "probabilities" in name else whole)


def test_a_layer_alone_and_unbatched():
    layer = treadle.TransformerEncoderLayer(H, N, 32, seed=0)
    mask = np.triu(np.ones((S, S), bool), 1)
    x = samples.normal(0, S, H)
    trace = treadle.trace(layer)(x, src_mask=mask)
    assert_same_bits(trace.output, layer(x, src_mask=mask))
    assert trace.axes("layer0.self_attention.probabilities") == AXES[1:]
    assert not np.triu(trace["layer0.self_attention.probabilities"], 1).any()
    assert_same_bits(trace["layer0.states.hidden"], trace.output)
    causal = treadle.trace(layer)(x, is_causal=True)
    for name in causal:
        assert_same_bits(causal[name], trace[name])


@pytest.mark.parametrize("head", ["", "TokenClassification"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_checkpoints(head, dtype):
    model = checkpoints.load(checkpoints.saved("bert", head), head, dtype=dtype)
    inputs = checkpoints.batch("bert")
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    trace = treadle.trace(model)(**inputs)
    plain = model(**inputs)
    assert_same_bits(trace.output[0], plain[0])
    whole = model(**inputs, output_attentions=True, output_hidden_states=True)
    exists = inputs["attention_mask"].astype(bool)
    for number, probabilities in enumerate(whole.attentions):
        found = trace[f"layer{number}.self_attention.probabilities"]
        if number == 0:  # the input of later layers is rounded as in the plain call
            assert_same_bits(found, probabilities)
        assert_rows(found, exists[:, None])
    state = trace[f"layer{number}.states.hidden"].swapaxes(0, 1)
    if not head:
        assert_same_bits(state[exists], plain.last_hidden_state[exists])
    last = len(whole.attentions) - 1
    chosen = treadle.trace(model, layers=[last], heads=[0])(**inputs)
    assert chosen.names == (
        "embedding.states.hidden",
        f"layer{last}.self_attention.probabilities",
        f"layer{last}.states.hidden",
    )
    with pytest.raises(ValueError, match=f"layers has {last + 1}"):
        treadle.trace(model, layers=last + 1)(**inputs)


def test_a_model_that_writes():
    case = next(iter(generators.CAUSAL))
    model = checkpoints.load(generators.saved(case), "CausalLM")
    ids = generators.ids(7)[None]
    trace = treadle.trace(model)(ids)
    assert_same_bits(trace.output.logits, model(ids).logits)
    found = trace["layer0.self_attention.probabilities"]
    assert_rows(found)
    assert not np.triu(found, 1).any()
    assert trace["embedding.states.hidden"].shape[:2] == (7, 1)


def test_a_model_that_reads_and_writes():
    case = next(iter(generators.SEQ2SEQ))
    model = checkpoints.load(generators.saved(case), "Seq2SeqLM")
    ids, written = generators.ids(7)[None], generators.ids(4, seed=1)[None]
    trace = treadle.trace(model, layers=0)(ids, decoder_input_ids=written)
    assert_same_bits(trace.output.logits, model(ids, decoder_input_ids=written).logits)
    shapes = {
        "encoder.layer0.self_attention.probabilities": (7, 7),
        "decoder.layer0.self_attention.probabilities": (4, 4),
        "decoder.layer0.cross_attention.probabilities": (4, 7),
    }
    assert {name for name in trace if "attention" in name} == set(shapes)
    for name, shape in shapes.items():
        assert trace[name].shape[2:] == shape
        assert_rows(trace[name])


DECODERS = {
    "cell": (treadle.LSTMCell, {}, None),
    "layer": (treadle.GRU, {"batch_first": True}, "dot"),
    "fed": (treadle.GRU, {"batch_first": True, "num_layers": 2}, "additive"),
    "fed cell": (treadle.LSTMCell, {}, "additive"),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_seq2seq(kind):
    cls, options, attention = DECODERS[kind]
    lengths = np.array([4, 2])
    mode = treadle.LSTM if cls is treadle.LSTMCell else treadle.GRU
    extra = {"num_layers": options["num_layers"]} if "num_layers" in options else {}
    encoder = treadle.Sequential(
        treadle.Embedding(20, 6, seed=0), mode(6, H, batch_first=True, seed=0, **extra)
    )
    fed = attention == "additive"
    decoder = treadle.Sequential(
        treadle.Embedding(9, 5, seed=1),
        cls(5 + H * fed, H, seed=1, **options),
        treadle.Linear(H if attention is None else 2 * H, 9, seed=1),
    )
    model = treadle.Seq2Seq(encoder, decoder, attention, seed=2)
    ids = np.array([[5, 6, 7, 8], [9, 3, 0, 0]])
    tokens = np.array([[1, 4, 2], [1, 3, 5]])
    trace = treadle.trace(model)(ids, tokens, lengths=lengths)
    assert_same_bits(trace.output, model(ids, tokens, lengths=lengths))
    both = treadle.trace(encoder[1])(encoder[0](ids), lengths=lengths)
    for name in both:
        assert_same_bits(trace[f"encoder.1.{name}"], both[name])
    last = "decoder.layer1" if extra else "decoder.layer0"
    hidden = trace[f"{last}.forward.states.hidden"]
    assert hidden.shape == (3, 2, H)
    if attention is None:
        assert "decoder.attention.probabilities" not in trace
        logits = decoder[2](hidden.swapaxes(0, 1).copy())
        assert_same_bits(logits, trace.output)
        return
    found = trace["decoder.attention.probabilities"]
    _, expected = model(ids, tokens, lengths=lengths, output_attentions=True)
    assert_same_bits(found, expected)
    assert_rows(found)
    assert trace.axes("decoder.attention.probabilities") == ("batch", "query", "key")
    shown = treadle.trace(model)(ids, tokens, lengths=lengths, output_attentions=True)
    assert_same_bits(flatten(shown.output), [trace.output, expected])


def test_what_is_refused():
    module, x = treadle.MultiheadAttention(H, N, seed=0), samples.normal(0, S, H)
    with pytest.raises(ValueError, match="heads has 4, expected less than 4"):
        treadle.trace(module, heads=[4])(x, x, x)
    with pytest.raises(TypeError, match="heads is 'a'"):
        treadle.trace(module, heads="a")
    with pytest.raises(ValueError, match="layers is -1"):
        treadle.trace(module, layers=-1)
    with pytest.raises(ValueError, match="twice"):
        treadle.trace(module, layers=[1, 1])
    with pytest.raises(ValueError, match="layers has 2, expected less than 2"):
        treadle.trace(treadle.GRU(2, 3, num_layers=2), layers=2)(np.ones((1, 2), np.float32))
    with pytest.raises(TypeError):
        treadle.trace(module)(x)
