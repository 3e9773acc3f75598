"""Every architecture of Transformers that builds from a small configuration, on treadle's
attention: it computes what "eager" computes, or it is refused.

Programs of public threads and model cards: `AutoModel.from_pretrained(name,
attn_implementation="treadle")` for whatever model stands on the hub.
"""

import copy
import re
import warnings
from pathlib import Path

import pytest
import torch

import treadle.torch

transformers = pytest.importorskip("transformers")

from support import architectures
from treadle.torch import transformers_attention

RIGHT = """
    afmoe aimv2 aimv2_vision_model albert altclip apertus arcee aria aria_text audioflamingo3
    aya_vision bart beam beit bert bert-generation bigbird_pegasus biogpt bitnet blenderbot
    blenderbot-small camembert chinese_clip chinese_clip_vision_model clip clip_text_model
    clip_vision_model clipseg cohere cohere2 cohere2_moe cohere2_vision cosmos3_edge
    cosmos3_edge_text cosmos3_omni ctrl cwm data2vec-audio data2vec-text deepseek_v2 deepseek_v3
    deepseek_vl deit diffllama dinov2 dinov2_with_registers distilbert doge dpr dpt electra
    embedding_gemma2 embedding_gemma2_text ernie ernie4_5 ernie4_5_moe esm esmc eurobert exaone4
    exaone4_5 exaone_moe falcon_mamba flex_olmo fnet fuyu gemma gemma2 gemma3 gemma3_text
    gemma4_unified gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glmasr glmasr_encoder
    gpt-sw3 gpt2 gpt_bigcode gpt_neox granite granite_docling granite_docling_text granitemoe
    granitemoeshared gte helium higgs_audio_v2 hrm_text hubert hy_v3 hyperclovax
    hyperclovax_vision_v2 idefics2 idefics3 idefics3_vision ijepa inkling_mm_model inkling_text
    internlm3 internvl internvl_vision iquestcoder jais2 jetmoe jina_embeddings_v3 kolibri1
    kosmos-2.5 kyutai_speech_to_text laguna layoutlm lfm2 lfm2_vl lfm3 lfm3_vl lighton_ocr llama
    llama4 llama4_text llava llava_next llava_next_video llava_onevision longt5 m2m_100 mamba
    marian markuplm mbart mellum metaclip_2 minicpm3 minicpmv4_6 minimax minimax_m2
    minimax_m3_vl minimax_m3_vl_text ministral3 mistral mistral3 mistral4 mixtral mlcd
    mlcd_vision_model mllama mobilebert mobilenet_v2 modernbert modernbert-decoder modernvbert
    molmo2_text moonshine moshi moss_transcribe_diarize mt5 muse_glimmer_text muse_spark_text
    musicflamingo nanochat nemotron nemotron3_5_transcribe_asr_audio
    nemotron3_5_transcribe_word_timestamp nemotron3_diarization_audio neomme nllb-moe nomic_bert
    olmo olmo2 olmo3 olmo_hybrid olmoe opt ovis2 owlv2 owlvit paddleocr_vl paligemma pegasus
    pegasus_x persimmon phi phi3 phi4_multimodal phimoe pixio pixtral plbart qianfan_ocr
    qianfan_ocr_vision qwen2 qwen2_audio qwen2_moe qwen3 qwen3_5 qwen3_5_moe qwen3_5_moe_text
    qwen3_5_text qwen3_moe qwen3_next qwen3_vl qwen3_vl_moe qwen3_vl_moe_text qwen3_vl_text
    radio roberta roberta-prelayernorm roc_bert sam3_vision_model sam3_vit_model sapiens2
    seed_oss sew siglip siglip_vision_model smollm3 smolvlm smolvlm_vision solar_open
    speech_to_text splinter stablelm starcoder2 swin switch_transformers t5 t5gemma t5gemma2
    tipsv2 tipsv2_text_model tipsv2_vision_model ultrabert ultravbert umt5 unispeech
    unispeech-sat vaultgemma video_llama_3 video_llava vipllava vision-text-dual-encoder vit
    vit_mae vit_msn voxtral voxtral_realtime_encoder wav2vec2 wav2vec2-conformer whisper
    xlm-roberta xlm-roberta-xl yolos youtu
"""

REFUSED = """
    big_bird blip bloom bros canine clvp codegen convbert cpmant cvt data2vec-vision deberta
    deberta-v2 falcon flaubert flava git glpn got_ocr2 gpt_neo gpt_neox_japanese gptj
    granite_speech groupvit ibert imagegpt layoutlmv3 led lilt longformer luke lxmert
    megatron-bert mgp-str mobilevit mpnet mpt mra mvp nystromformer openai-gpt perceiver
    prophetnet pvt_v2 rembert roformer rwkv sam sam_hq seggpt sew-d speecht5 squeezebert
    swiftformer tapas timesformer vilt visual_bert vitdet vits wavlm xglm xlm xlnet yoso
"""

# These have no attention that goes by the name, so that nothing changes.
WITHOUT_ATTENTION = """
    falcon_mamba fnet focalnet mamba mobilenet_v1 mobilenet_v2
"""

# These use the interface, and hand it what treadle's attention does not have.
REFUSED_IN_A_CALL = {
    "sinks": "flint gpt_oss granite_swa granitemoe_swa inkling2_text openai_privacy_filter "
    "hy_v4 mimo_v2_flash",
    "a sparse choice of keys": "axk2 dots3_note_text glm_moe_dsa mistral_large4_text",
}
CALLS = [(kind, part) for part, kinds in REFUSED_IN_A_CALL.items() for kind in kinds.split()]

NEW = "the list is that of another version of Transformers"
LISTED = transformers.__version__.startswith("5.23.")


@pytest.fixture(autouse=True)
def quiet():
    """Transformers' own warnings about configurations are no matter of these tests."""
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="transformers")
        yield
    transformers.logging.set_verbosity_warning()


@pytest.fixture(autouse=True, scope="module")
def registered():
    treadle.torch.register_attention()


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of treadle's attention."""
    found = []
    theirs = transformers_attention.attend

    def attend(*arguments):
        found.append(arguments)
        return theirs(*arguments)

    monkeypatch.setattr(transformers_attention, "attend", attend)
    return found


def masks():
    """Return no padding, and padding on the right of one row and on the left of another."""
    padding = torch.ones(architectures.ROWS, architectures.TOKENS, dtype=torch.long)
    padding[1, 5:] = 0
    padding[2, :4] = 0
    return None, padding


def run(model, given, padding):
    """Return the numbers that a model computes for tokens that exist."""
    torch.manual_seed(5)
    given = given if padding is None else {**given, "attention_mask": padding}
    with torch.no_grad():
        result = model(**given)
    found = {}
    for name, value in result.items():
        parts = value if isinstance(value, tuple | list) else [value]
        for i, part in enumerate(parts):
            if not isinstance(part, torch.Tensor) or not part.is_floating_point():
                continue
            tokens = padding is not None and part.shape[:2] == padding.shape
            # A pooled row may be that of a token that does not exist.
            found[f"{name}{i}"] = part[padding.bool()] if tokens else part
    return found


def doubled(given):
    """Return the inputs of a model in float64."""
    return {k: v.double() if v.is_floating_point() else v for k, v in given.items()}


def built(kind):
    """Return the first tiny model of an architecture that runs on some small inputs, and these."""
    reasons = []
    for configuration in architectures.small_configurations(kind):
        try:
            model = architectures.tiny_model(copy.deepcopy(configuration), "eager")
        except Exception as reason:  # noqa: BLE001 - sizes that do not fit each other
            reasons.append(reason)
            continue
        for given in architectures.small_inputs(model):
            try:
                run(model, given, None)
            except Exception as reason:  # noqa: BLE001 - inputs that it does not take
                reasons.append(reason)
            else:
                return model, given
    pytest.fail(f"{kind} cannot be built and run: {reasons[-1:]}")


@pytest.mark.skipif(not LISTED, reason=NEW)
@pytest.mark.parametrize("kind", RIGHT.split())
def test_right(kind, calls):
    """The model computes what it computes with "eager", and on treadle's kernels."""
    model, given = built(kind)
    padded = "attention_mask" in given or "input_ids" in given
    cases = [m for m in masks() if m is None or padded]
    expected = [run(model, given, padding) for padding in cases]
    exact = copy.deepcopy(model).double()
    model.set_attn_implementation("treadle")
    for padding, theirs in zip(cases, expected, strict=True):
        ours = run(model, given, padding)
        assert ours.keys() == theirs.keys()
        for name, numbers in theirs.items():
            assert not numbers.isnan().any()
            bound = 1e-4 * max(1.0, numbers.abs().max().item())
            if (ours[name] - numbers).abs().max() <= bound:
                continue
            # Then "eager" itself is far from the truth, which the pooler of MobileBERT magnifies.
            truth = run(exact, doubled(given), padding)[name]
            theirs_off, ours_off = ((part - truth).abs().max() for part in (numbers, ours[name]))
            assert ours_off <= max(bound, theirs_off)
    assert bool(calls) is (kind not in WITHOUT_ATTENTION.split())


@pytest.mark.skipif(not LISTED, reason=NEW)
@pytest.mark.parametrize("kind", REFUSED.split())
def test_refused(kind):
    """The model is not built, and the error says what to do."""
    configuration = next(architectures.small_configurations(kind))
    message = r'does not support attn_implementation="treadle".*="eager"'
    with pytest.raises(ValueError, match=message):
        transformers.AutoModel.from_config(configuration, attn_implementation="treadle")


@pytest.mark.skipif(not LISTED, reason=NEW)
@pytest.mark.parametrize(("kind", "part"), CALLS)
def test_refused_in_a_call(kind, part):
    """The model's attention has parts that treadle's has not, and the error names them."""
    model, given = built(kind)
    model.set_attn_implementation("treadle")
    with pytest.raises(ValueError, match=f'{part} .*"eager"'):
        run(model, given, None)


def test_all_arguments_are_known():
    """No model hands its attention function an argument by a name that has not been judged."""
    known = {*transformers_attention.REFUSED, *transformers_attention.IGNORED}
    known |= set(transformers_attention.attention_forward.__kwdefaults__)
    known |= {"query", "key", "value", "attention_mask", "output_attentions", "head_mask"}
    call = re.compile(r"attention_interface\(\n +self,\n((?:[^()]|\([^()]*\))*)\)")
    found = {}
    for path in (Path(transformers.__file__).parent / "models").glob("*/modeling_*.py"):
        for arguments in call.findall(path.read_text()):
            for name in re.findall(r"^ +(\w+)=", arguments, re.MULTILINE):
                found.setdefault(name, path.stem)
    assert {"dropout", "scaling"} <= found.keys()
    assert {name: where for name, where in found.items() if name not in known} == {}
