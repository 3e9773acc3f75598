"""Models of Transformers on treadle's attention do what programs around them expect: generation,
packed sequences, masks of one's own, attention probabilities, dropout, other dtypes, graphs."""

import copy
import warnings

import pytest
import torch

import treadle.torch
from treadle.torch import transformers_attention
from treadle.torch.mask_patterns import kept_pattern, mask_pattern

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
SMALL |= {"intermediate_size": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
SEQUENCES = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 50}
SEQUENCES |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48}
SEQUENCES |= {"decoder_ffn_dim": 48, "max_position_embeddings": 64, "dropout": 0.0}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 50}
CONFIGURATIONS = {
    "Bert": {**SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "Llama": DECODER,
    "Mistral": {**DECODER, "sliding_window": 6},
    "Gemma2": {**DECODER, "sliding_window": 6},
    "Qwen3": DECODER,
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 64}
    | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "eos_token_id": 2},
    "OPT": {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
    "T5": {**T5, "dropout_rate": 0.0, "decoder_start_token_id": 0, "eos_token_id": 2},
    "Bart": {**SEQUENCES, "forced_eos_token_id": None, "eos_token_id": 2, "pad_token_id": 0},
    "Splinter": {**SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
HEADS = {"T5": "AutoModelForSeq2SeqLM", "Bart": "AutoModelForSeq2SeqLM"}


@pytest.fixture(autouse=True, scope="module")
def registered():
    treadle.torch.register_attention()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity_warning()


@pytest.fixture
def calls(monkeypatch):
    """Collect the options of all calls of treadle's attention."""
    found = []
    theirs = transformers_attention.attend

    def attend(query, key, value, mask, lengths, options, recorded):
        found.append((mask, lengths, options))
        return theirs(query, key, value, mask, lengths, options, recorded)

    monkeypatch.setattr(transformers_attention, "attend", attend)
    return found


def models(kind, auto="AutoModel", **more):
    """Return the same model on treadle's attention and on Transformers' "eager"."""
    configuration = getattr(transformers, f"{kind}Config")(**CONFIGURATIONS[kind] | more)
    torch.manual_seed(0)
    theirs, ours = (
        getattr(transformers, auto).from_config(copy.deepcopy(configuration), attn_implementation=n)
        for n in ("eager", "treadle")
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.4 / parameter[0].numel() ** 0.5)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs.eval()


def inputs(rows=3, tokens=11):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, 50, (rows, tokens), generator=generator)


def close(ours, theirs):
    largest = max(1.0, theirs.abs().max().item())
    torch.testing.assert_close(ours / largest, theirs / largest, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    "kind", ["Llama", "Mistral", "Gemma2", "Qwen3", "GPT2", "OPT", "T5", "Bart"]
)
def test_generated_tokens(kind, calls):
    """Greedy decoding of a batch that is padded on the left gives the tokens of "eager"."""
    ours, theirs = models(kind, HEADS.get(kind, "AutoModelForCausalLM"))
    padding = torch.ones(3, 11, dtype=torch.long)
    padding[1, :4] = 0
    given = {"input_ids": inputs(), "attention_mask": padding, "do_sample": False}
    given |= {"max_new_tokens": 12, "min_new_tokens": 12, "pad_token_id": 0}
    results = [model.generate(**given) for model in (ours, theirs)]
    assert torch.equal(*results)
    assert calls
    results = [model.generate(**given, num_beams=2) for model in (ours, theirs)]
    assert torch.equal(*results)


@pytest.mark.parametrize("kind", ["Llama", "Mistral"])
def test_a_cache_of_a_fixed_size(kind):
    """A static cache has more keys than there are tokens: the rest stays hidden."""
    ours, theirs = models(kind, "AutoModelForCausalLM")
    results = []
    for model in (ours, theirs):
        cache = transformers.StaticCache(config=model.config, max_cache_len=32)
        first = model(inputs()[:, :7], past_key_values=cache, use_cache=True)
        second = model(inputs()[:, 7:], past_key_values=cache, use_cache=True)
        results.append(torch.cat([first.logits, second.logits], 1))
    close(*results)


@pytest.mark.parametrize("kind", ["Bert", "Mistral", "Gemma2", "T5", "Bart", "Splinter"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.filterwarnings("ignore:treadle.torch.register_attention. the mask wants a gradient")
def test_gradients(kind, padded):
    """All gradients are those of "eager", also that of a position bias."""
    ours, theirs = models(kind)
    padding = torch.ones(3, 11, dtype=torch.long)
    if padded:
        padding[1, 6:] = 0
        padding[2, :3] = 0
    given = {"input_ids": inputs(), "attention_mask": padding if padded else None}
    if kind in HEADS:
        given["decoder_input_ids"] = inputs(3, 8)
    generator = torch.Generator().manual_seed(2)
    gradients = []
    for model in (ours, theirs):
        y = model.train()(**given).last_hidden_state
        y = y * padding[..., None] if y.shape[1] == 11 else y
        (y * torch.randn(y.shape, generator=generator.manual_seed(2))).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        close(gradients[0][name], gradient)


def test_packed_sequences(calls):
    """Two texts in one row, told apart by position_ids alone, do not see each other."""
    ours, theirs = models("Llama")
    positions = torch.cat([torch.arange(4), torch.arange(7)])[None]
    given = {"input_ids": inputs(1), "position_ids": positions, "use_cache": False}
    results = [m(**given).last_hidden_state for m in (ours, theirs)]
    close(*results)
    assert all(mask is not None for mask, _, _ in calls)
    alone = ours(inputs(1)[:, 4:], use_cache=False).last_hidden_state
    close(results[0][:, 4:], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_a_mask_of_ones_own(dtype):
    """A mask [B, 1, S, K] is taken as it is; bools mean what they mean for "sdpa"."""
    ours, theirs = models("Llama")
    seen = torch.rand(3, 1, 11, 11, generator=torch.Generator().manual_seed(3)) < 0.6
    seen |= torch.eye(11, dtype=torch.bool)
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    given = added if dtype is torch.float32 else seen
    y = ours(inputs(), attention_mask=given).last_hidden_state
    close(y, theirs(inputs(), attention_mask=added).last_hidden_state)


@pytest.mark.parametrize("kind", ["Bert", "Gemma2"])
def test_attention_probabilities(kind):
    """output_attentions gives those of "eager", by PyTorch's operations, and says so."""
    ours, theirs = models(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [m(inputs(), output_attentions=True) for m in (ours, theirs)]
    close(results[0].last_hidden_state, results[1].last_hidden_state)
    assert len(results[0].attentions) == len(results[1].attentions) == 2
    for a, b in zip(results[0].attentions, results[1].attentions, strict=True):
        close(a, b)


def test_head_mask():
    """A head mask (Transformers 4) is multiplied with the probabilities."""
    generator = torch.Generator().manual_seed(4)
    q, k, v = torch.randn(3, 2, 4, 5, 8, generator=generator)
    weights = torch.tensor([1.0, 0.0, 0.5, 1.0]).view(1, 4, 1, 1)
    module = torch.nn.Module().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y, p = transformers_attention.attention_forward(module, q, k, v, None, head_mask=weights)
    expected = (q @ k.transpose(2, 3) / 8**0.5).softmax(-1) * weights
    close(p, expected)
    close(y, (expected @ v).transpose(1, 2))


@pytest.mark.parametrize("name", ["s_aux", "sinks", "indices", "block_indices", "cache"])
def test_what_is_not_there_is_refused(name):
    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r'does not have; use attn_implementation="eager"'):
        transformers_attention.attention_forward(
            torch.nn.Module(), q, q, q, None, **{name: torch.zeros(1)}
        )


def test_dropout_is_that_of_training():
    """A model that hands its dropout on in eval, too, does not drop then."""
    q = torch.randn(1, 2, 9, 8, generator=torch.Generator().manual_seed(5))
    module = torch.nn.Module()
    forward = transformers_attention.attention_forward
    plain, _ = forward(module.eval(), q, q, q, None)
    assert torch.equal(forward(module, q, q, q, None, dropout=0.5)[0], plain)
    assert not torch.equal(forward(module.train(), q, q, q, None, dropout=0.5)[0], plain)


def test_bfloat16_and_autocast():
    """Where treadle does not run, PyTorch's function has the same masks."""
    for context in (False, True):
        ours, theirs = models("Mistral")
        padding = torch.ones(3, 11, dtype=torch.long)
        padding[1, 6:] = 0
        if not context:
            ours, theirs = ours.bfloat16(), theirs.bfloat16()
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=context):
            warnings.simplefilter("ignore")
            y, expected = (
                m(inputs(), attention_mask=padding).last_hidden_state for m in (ours, theirs)
            )
        exists = padding.bool()
        torch.testing.assert_close(y[exists], expected[exists], rtol=0.1, atol=0.15)


@pytest.mark.parametrize("kind", ["Bert", "Llama", "Mistral"])
def test_compiled(kind):
    """The graph reads what the mask says when it runs, and is right for another mask, too."""
    ours, theirs = models(kind)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=False)
    for row in (None, (1, 6, 11), (2, 0, 3)):
        padding = torch.ones(3, 11, dtype=torch.long)
        if row is not None:
            padding[row[0], row[1] : row[2]] = 0
        with torch.no_grad():
            y = compiled(inputs(), attention_mask=padding, use_cache=False).last_hidden_state
            expected = theirs(inputs(), attention_mask=padding).last_hidden_state
        close(y[padding.bool()], expected[padding.bool()])


def test_a_mask_that_changes_is_read_again():
    """The pattern of a mask is kept for other layers, until the mask is changed in place."""
    seen = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    mask = torch.zeros(1, 1, 5, 5).masked_fill(~seen, torch.finfo(torch.float32).min)
    assert kept_pattern(mask, 1).is_causal
    assert kept_pattern(mask, 1) is kept_pattern(mask, 1)
    mask[..., 0] = 0.5
    assert not kept_pattern(mask, 1).is_causal
    assert kept_pattern(mask, 1).mask is mask


def test_mask_patterns():
    """Lengths and causality are recognised exactly where they say all."""
    least = torch.finfo(torch.float32).min
    causal = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    lengths = torch.tensor([5, 3, 1])
    padding = (torch.arange(5) < lengths[:, None])[:, None, None]

    def said(seen, **options):
        mask = torch.zeros(seen.shape).masked_fill(~seen, least)
        pattern = mask_pattern(mask.expand(*options.get("to", mask.shape)), 3)
        own = None if pattern.lengths is None else list(pattern.lengths)
        return pattern.mask is None, own, pattern.is_causal

    every = (3, 1, 5, 5)
    assert said(causal) == (True, None, True)
    assert said(padding, to=every) == (True, [5, 3, 1], False)
    assert said(padding & causal) == (True, [5, 3, 1], True)
    assert said(torch.ones(every, dtype=torch.bool)) == (True, None, False)
    assert said(torch.nn.functional.pad(causal, (0, 4))) == (True, [5] * 3, True)
    # Keys from a cache, windows, padding on the left, and queries that see nothing.
    assert said(torch.nn.functional.pad(causal, (2, 0), value=True))[0] is False
    assert said(causal & ~causal.tril(-2))[0] is False
    assert said(padding.flip(-1), to=every)[0] is False
    assert said(padding & (lengths[:, None, None, None] > 1), to=every)[0] is False
    assert mask_pattern(torch.rand(every), 3).mask is not None
    assert mask_pattern(causal, 1).is_causal


def test_set_attn_implementation():
    """A model can be switched, and one that would not call treadle's attention stays as it is."""
    ours, theirs = models("Bert")
    theirs.set_attn_implementation("treadle")
    assert theirs.config._attn_implementation == "treadle"
    close(theirs(inputs()).last_hidden_state, ours(inputs()).last_hidden_state)
    other = transformers.MPNetModel(transformers.MPNetConfig(**SMALL))
    before = other.config._attn_implementation
    other.set_attn_implementation("treadle")
    assert other.config._attn_implementation == before


def test_a_model_of_ones_own():
    """A class that extends one of Transformers' runs, with pooling of its own beside it."""

    class AttentionPooling(torch.nn.Module):
        def forward(self, x):
            return x.softmax(1).mul(x).sum(1)

    class Own(transformers.BertPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.bert = transformers.BertModel(config)
            self.pooling = AttentionPooling()

        def forward(self, ids):
            return self.pooling(self.bert(ids).last_hidden_state)

    configuration = transformers.BertConfig(**CONFIGURATIONS["Bert"])
    ours = Own._from_config(configuration, attn_implementation="treadle").eval()
    assert ours.bert.config._attn_implementation == "treadle"
    assert ours(inputs()).shape == (3, 32)
