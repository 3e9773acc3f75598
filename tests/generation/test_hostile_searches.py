"""Options and arguments that have no meaning, models, hooks and streamers that fail, memory."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest

from support.decodings import Table
from treadle.generation import GenerationConfig, search

NAN, INF = float("nan"), float("inf")


def run(prompts=((1, 2), (3,)), table=None, logits=None, **options):
    table = Table(11) if table is None else table
    started = table.start([[1, 2], [3]] if len(prompts) == 2 else [[1]])
    logits = started if logits is None else logits
    names = ("logits_hook", "streamer", "uniform")
    extra = {name: options.pop(name) for name in names if name in options}
    return search(table, logits, prompts, GenerationConfig(**options), **extra)


ABSURD = [
    ("max_length", 0),
    ("max_length", -1),
    ("max_length", 10**30),
    ("max_length", 2.0),
    ("max_length", True),
    ("max_new_tokens", 0),
    ("min_length", -1),
    ("min_new_tokens", "3"),
    ("do_sample", 1),
    ("num_beams", 0),
    ("num_beams", 10**9),
    ("num_return_sequences", 0),
    ("num_return_sequences", 10**9),
    ("length_penalty", NAN),
    ("length_penalty", INF),
    ("length_penalty", 10**400),
    ("early_stopping", "always"),
    ("early_stopping", 1),
    ("temperature", NAN),
    ("temperature", [1.0]),
    ("top_k", 1.5),
    ("top_p", INF),
    ("min_p", NAN),
    ("seed", -1),
    ("seed", 2**63),
    ("seed", 0.5),
    ("repetition_penalty", 0.0),
    ("repetition_penalty", -2),
    ("repetition_penalty", NAN),
    ("no_repeat_ngram_size", -3),
    ("bad_words_ids", [3]),
    ("bad_words_ids", [[]]),
    ("bad_words_ids", [[-1]]),
    ("bad_words_ids", "words"),
    ("bad_words_ids", {"a": 1}),
    ("forced_bos_token_id", -1),
    ("forced_bos_token_id", [1]),
    ("forced_eos_token_id", [1, "2"]),
    ("suppress_tokens", 5),
    ("suppress_tokens", [-1]),
    ("begin_suppress_tokens", {"a": 1}),
    ("remove_invalid_values", "yes"),
    ("renormalize_logits", 0),
    ("eos_token_id", -1),
    ("eos_token_id", [2**40]),
    ("eos_token_id", 1.0),
    ("pad_token_id", -2),
    ("output_scores", "no"),
]


@pytest.mark.parametrize(("name", "value"), ABSURD, ids=str)
def test_absurd_values(name, value):
    """Each is refused wherever it comes from, by its name, and little memory is taken."""
    makes = (
        lambda: GenerationConfig(**{name: value}),
        lambda: GenerationConfig.from_dict({name: value, "transformers_version": "5.0"}),
        lambda: GenerationConfig().merged(**{name: value}),
    )
    for make in makes:
        tracemalloc.start()
        with pytest.raises((TypeError, ValueError), match=name):
            make()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.0), ("temperature", -1.0), ("top_k", -1), ("top_p", 1.5), ("min_p", -0.1)],
)
def test_sampling_options_are_judged_where_they_count(name, value):
    """Real files have such values beside do_sample = False."""
    GenerationConfig(**{name: value})
    with pytest.raises(ValueError, match=name):
        GenerationConfig(do_sample=True, **{name: value})


def test_options_that_contradict_each_other():
    with pytest.raises(ValueError, match="num_return_sequences is 3, expected at most 2"):
        GenerationConfig(num_beams=2, num_return_sequences=3)
    with pytest.raises(ValueError, match="num_return_sequences is 2, expected at most 1"):
        GenerationConfig(num_return_sequences=2)
    assert GenerationConfig(do_sample=True, num_return_sequences=9).num_return_sequences == 9
    with pytest.raises(ValueError, match="forced_bos_token_id"):
        GenerationConfig(forced_bos_token_id=3, suppress_tokens=[3, 4])


def test_names_of_options():
    with pytest.raises(TypeError, match=r"'num_beam'.* is no option; is num_beams meant"):
        GenerationConfig().merged(num_beam=2)
    for make in (GenerationConfig.from_dict, lambda entries: GenerationConfig().merged(**entries)):
        with pytest.raises(ValueError, match=r"no typical_p, which is 0\.5"):
            make({"typical_p": 0.5})
        with pytest.raises(ValueError, match="no stop_strings"):
            make({"stop_strings": ["."]})
        assert make({"typical_p": 1.0, "use_cache": True, "guidance_scale": None}).top_k == 50
    # A file may hold what another program reads.
    assert GenerationConfig.from_dict({"lang_to_id": {"<|en|>": 3}, "top_k": None}).top_k == 50
    assert GenerationConfig(temperature=0.5).merged(top_k=None, temperature=None) == (
        GenerationConfig(top_k=0)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 2}, r"prompt 0 has 2 tokens and max_length is 2"),
        ({"eos_token_id": 11}, r"eos_token_id has 11, but there are logits for 11 tokens"),
        ({"eos_token_id": [1, 50256]}, r"eos_token_id has 50256"),
        ({"forced_bos_token_id": 11}, r"forced_bos_token_id has 11"),
        ({"forced_eos_token_id": [3, 11]}, r"forced_eos_token_id has 11"),
        ({"bad_words_ids": [[1, 2, 12]]}, r"bad_words_ids has 12"),
        ({"suppress_tokens": [99]}, r"suppress_tokens has 99"),
        ({"num_beams": 2, "length_penalty": 1e9}, r"length_penalty is 1e\+09"),
        ({"num_beams": 2, "length_penalty": -40, "max_length": 2000}, "length_penalty is -40"),
        ({"num_beams": 2, "eos_token_id": range(11)}, "keeps 12 tokens for each beam"),
        ({"uniform": [[0.5]]}, "do_sample"),
        (
            {"do_sample": True, "uniform": [[0.5]]},
            r"uniform has shape \(1, 1\), expected \(2, 20\)",
        ),
        ({"do_sample": True, "uniform": np.ones((2, 20))}, r"outside \[0, 1\)"),
        ({"do_sample": True, "uniform": np.full((2, 20), NAN)}, r"outside \[0, 1\)"),
        ({"do_sample": True, "uniform": np.zeros((2, 20)), "num_beams": 3}, "uniform has shape"),
        ({"do_sample": True, "seed": [1]}, r"seed has 1 numbers, expected one for each of the 2"),
        (
            {"logits": np.zeros((3, 11), np.float32)},
            r"logits has shape \(3, 11\), expected \(2, V\)",
        ),
        ({"logits": np.zeros((2, 0), np.float32)}, r"logits has shape \(2, 0\)"),
        ({"logits": np.zeros(11, np.float32)}, r"logits has shape \(11,\)"),
        ({"prompts": [[1], [-1]]}, r"prompts\[1\]"),
        ({"prompts": [[1], [[2]]]}, r"prompts\[1\]"),
        ({"suppress_tokens": range(11)}, "new token 1: every token is forbidden"),
        ({"suppress_tokens": range(11), "num_beams": 2}, "new token 1: every token is forbidden"),
        ({"suppress_tokens": range(11), "do_sample": True}, "every token is forbidden"),
        (
            {"suppress_tokens": range(11), "do_sample": True, "num_beams": 2},
            "every token is forbidden",
        ),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logits": np.zeros((2, 11))}, "float64"),
        ({"prompts": [[1.5], [2]]}, r"prompts\[0\]"),
        ({"logits_hook": 3}, "logits_hook"),
        ({"do_sample": True, "uniform": "half"}, "uniform"),
    ],
)
def test_arguments_of_other_types(options, message):
    with pytest.raises(TypeError, match=message):
        run(**options)
    with pytest.raises(TypeError, match="config"):
        search(Table(3), np.zeros((1, 3), np.float32), [[1]], {"num_beams": 2})


MODES = [{}, {"num_beams": 3}, {"do_sample": True}, {"do_sample": True, "num_beams": 3}]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("value", [NAN, INF])
def test_logits_that_are_no_numbers(mode, value):
    class Broken(Table):
        def step(self, tokens):
            logits = super().step(tokens)
            logits[-1, 4] = value
            return logits

    with pytest.raises(ValueError, match=r"prompt 1, new token 2: the scores have (nan|inf)"):
        run(table=Broken(11), **mode)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda scores: scores[:, :-1], ValueError, "has shape"),
        (lambda scores: scores[:1], ValueError, "has shape"),
        (lambda scores: scores.astype(np.float64), TypeError, "float64"),
        (lambda scores: None, TypeError, "logits_hook"),
        (lambda scores: scores * np.float32(NAN), ValueError, "logits_hook returned NaN"),
        (lambda scores: scores - np.float32(INF), ValueError, "every token is forbidden"),
    ],
    ids=["narrow", "rows", "dtype", "none", "nan", "forbidden"],
)
def test_hooks_that_return_something_else(mode, change, error, message):
    with pytest.raises(error, match=message):
        run(logits_hook=lambda ids, scores: change(scores), **mode)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_hook_may_keep_what_it_has(mode):
    """Neither its argument of ids nor what it returned is changed behind its back."""
    kept = []

    def hook(ids, scores):
        mine = scores.copy()
        kept.append((ids, ids.copy(), mine, mine.copy()))
        ids[:] = 0
        return mine

    expected = run(seed=1, **mode)
    found = run(seed=1, logits_hook=hook, **mode)
    np.testing.assert_array_equal(found.sequences, expected.sequences)
    for _, _, returned, before in kept:
        assert returned.tobytes() == before.tobytes()


class Streams:
    """A streamer that raises at one of its calls."""

    def __init__(self, fails=-1):
        self.fails, self.puts, self.ends = fails, 0, 0

    def put(self, tokens):
        self.puts += 1
        if self.puts - 1 == self.fails:
            raise RuntimeError("full")

    def end(self):
        self.ends += 1


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_raises_in_the_middle(mode, error):
    """The error goes through, the stream is ended, and the next search is as good as new."""
    expected = run(seed=1, **mode).sequences

    class Failing(Table):
        def step(self, tokens):
            if self.steps == 3:
                raise error("now")
            return super().step(tokens)

    def hook(ids, scores):
        if ids.shape[1] == 5:
            raise error("now")
        return scores

    for broken in ({"table": Failing(11)}, {"logits_hook": hook}):
        streamer = Streams()
        with pytest.raises(error, match="now"):
            run(streamer=streamer, **broken, **mode)
        assert streamer.ends == 1
    np.testing.assert_array_equal(run(seed=1, **mode).sequences, expected)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("fails", [0, 1])
def test_a_streamer_that_raises_is_left_alone(mode, fails):
    streamer = Streams(fails)
    with pytest.raises(RuntimeError, match="full"):
        run(prompts=[[1]], streamer=streamer, **mode)
    assert (streamer.puts, streamer.ends) == (fails + 1, 0)


def test_a_length_that_nobody_reaches_takes_no_memory():
    tracemalloc.start()
    run(max_new_tokens=2**31 - 1, forced_bos_token_id=None, eos_token_id=range(10), num_beams=1)
    run(max_new_tokens=2**31 - 1, eos_token_id=range(4), num_beams=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_memory_is_flat(mode):
    """Ten thousand searches in all keep nothing; the model is a constant."""

    class Constant:
        logits = np.linspace(0, 1, 7, dtype=np.float32)

        def step(self, tokens):
            return np.tile(self.logits, (len(tokens), 1))

        def reorder(self, rows):
            pass

    config = GenerationConfig(max_new_tokens=2, eos_token_id=0, seed=1, **mode)

    def some(count):
        for _ in range(count):
            search(Constant(), Constant().step([0]), [[1]], config, streamer=Streams())

    count = 2500
    some(200)
    gc.collect()
    before = sys.getallocatedblocks()
    some(count)
    gc.collect()
    assert sys.getallocatedblocks() - before < count / 10, "a search in ten keeps an object"
