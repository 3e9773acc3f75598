"""Several Python threads in one object, or in dicts and lists that a call reads: they take turns,
or the misuse is an error. Without a GIL they are in the bindings at the same time.
"""

import pickle
import threading

import numpy as np
import pytest

import treadle
from support import child, samples, stacks
from support.native_checks import native_encoder
from support.native_recurrent import native_arguments
from support.stacks import V
from support.threads import serials, together
from support.tolerance import assert_same_bits
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model
from treadle.layers.decoder_stack import DecoderStack

pytestmark = pytest.mark.usefixtures("switch_often")

F32, THREADS, STEPS = np.float32, 4, 1000


def refusal(call, *arguments):
    """Return what the error of a call says, or "" where the call is not refused."""
    try:
        call(*arguments)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        return str(error)
    return ""


# -- caches and states of decoding ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_steps_of_one_cache(dtype):
    """A step appends and attends as one: as the n-th attends there are n tokens."""
    cache = treadle.KVCache(1, 1, THREADS, capacity=8, dtype=dtype)

    def work(index):
        q, v = np.zeros((2, 1, 1, 1, THREADS), F32)
        v[..., index] = 1  # the output is the mean of all values
        return [float(cache.step(q, q, v)[0, 0, 0, index]) for _ in range(STEPS)]

    assert serials(together(work, THREADS)) == list(range(1, STEPS * THREADS + 1))
    assert cache.lengths.tolist() == [STEPS * THREADS]


def test_truncating_never_lengthens():
    cache, token = treadle.KVCache(1, 1, 4), np.zeros((1, 1, 5, 4), F32)
    allowed = (
        "",
        "treadle.KVCache.truncate: lengths holds 3 for row 0, expected 0 to its 0 tokens",
    )

    def work(index):
        for _ in range(400):
            if index:
                assert refusal(cache.truncate, [3]) in allowed
            else:
                cache.append(token, token)
                cache.reset()
                assert cache.lengths.tolist() == [0]
        return True

    assert all(together(work, 2))


def test_a_pickled_cache_is_one_that_was():
    cache, token = treadle.KVCache(1, 1, 4, capacity=5), np.ones((1, 1, 5, 4), F32)

    def work(index):
        for number in range(200):
            if index:
                other = pickle.loads(pickle.dumps(cache))
                assert other.lengths[0] in (0, 5)
                assert len(np.unique(other.keys)) <= 1
            else:
                cache.reset()
                cache.append(number * token, token)
        return True

    assert all(together(work, 3))


def test_copies_and_orders_of_a_cache():
    """Rows are copied, moved and forgotten while others append: all that is seen was there once."""
    cache, tokens = treadle.KVCache(3, 2, 8, capacity=4), samples.normal(1, 3, 2, 1, 8)
    tokens[:] = np.arange(1, 4, dtype=F32)[:, None, None, None]

    def work(index):
        for turn in range(100):
            if index == 0:
                cache.append(tokens, tokens)
            elif index == 1:
                cache.reorder(np.roll(np.arange(3), turn % 3))
            elif index == 2 and turn % 9 == 8:
                cache.reset([turn % 3])
            else:
                for _ in range(50):
                    assert cache.lengths.max() <= cache.capacity  # a capacity only grows
                other = cache.__copy__()
                for row, length in zip(other.keys, other.lengths, strict=True):
                    assert np.isin(row[:, :length], (1, 2, 3)).all()
        return True

    assert all(together(work, THREADS))


def test_one_state_of_a_decoder():
    """Steps, orders and copies of one state: every row stays as long as all others."""
    specs, weights = stacks.make("llama")
    stack = DecoderStack(specs, weights, vocabulary=V)
    state = stack.start(3)

    def work(index):
        for turn in range(40):
            if index == 0:
                assert len(set(state.lengths.tolist())) == 1
                state.reorder([turn % 3, 0, 1])
            elif index == 1:
                copied = state.copy()
                assert len(set(copied.lengths.tolist())) == 1
                assert stack.step(copied, [1, 2, 3]).shape == (3, V)
            else:
                stack.step(state, [1, 2, 3])
        return True

    assert all(together(work, THREADS))
    assert state.lengths.tolist() == [80] * 3


def test_one_decoding_of_a_seq2seq():
    """Each step happens once and whole, whatever the threads' order."""
    encoder = treadle.Sequential(
        treadle.Embedding(9, 8, seed=0), treadle.GRU(8, 8, batch_first=True, seed=0)
    )
    decoder = treadle.Sequential(
        treadle.Embedding(7, 8, seed=1),
        treadle.GRU(8, 8, batch_first=True, seed=1),
        treadle.Linear(16, 7, seed=1),
    )
    model = treadle.Seq2Seq(encoder, decoder, "dot", seed=2)

    def fresh():
        return model.decoding([[1, 2, 3]], [[0]])[0]

    alone = fresh()
    expected = sorted(alone.step([3]).tobytes() for _ in range(6 * THREADS))
    for _ in range(40):  # many steps would all end in the same state
        shared = fresh()
        results = together(lambda _, shared=shared: [shared.step([3]) for _ in range(6)], THREADS)
        assert sorted(y.tobytes() for part in results for y in part) == expected


# -- streams and models ---------------------------------------------------------------------------


def carried():
    """A model whose state counts the steps of each input, and whose output is their share."""
    x, y, state, after = (
        Value(name, "float32", ("batch", THREADS)) for name in ("x", "y", "h", "hn")
    )
    constants = {"w": np.ones((THREADS, 1), F32)}
    nodes = [
        Node("Add", ["x", "h"], ["hn"]),
        Node("MatMul", ["hn", "w"], ["sum"]),
        Node("Div", ["hn", "sum"], ["y"]),
    ]
    return Model(Graph([x, state], [y, after], nodes, constants))


@pytest.mark.parametrize("kind", ["stream", "pool"])
def test_one_stream_of_a_model(kind):
    model = carried()
    step = model.stream().step if kind == "stream" else treadle.StreamPool(model, 2).open().push
    axes = (None,) if kind == "stream" else ()

    def work(index):
        x = np.eye(THREADS, dtype=F32)[index][axes]
        return [float(np.ravel(step(x)["y"])[index]) for _ in range(100)]

    assert serials(together(work, THREADS)) == list(range(1, 100 * THREADS + 1))


def test_one_stream_of_a_sequence():
    model = treadle.Sequential(treadle.LSTM(4, 24, seed=0), treadle.Linear(24, 2, seed=0))
    x, alone, shared = samples.normal(3, 1, 4), model.stream(), model.stream()
    expected = [alone.step(x) for _ in range(40 * THREADS)]
    results = together(lambda _: [shared.step(x) for _ in range(40)], THREADS)
    seen = sorted(y.tobytes() for part in results for y in part)
    assert seen == sorted(y.tobytes() for y in expected)
    for name, array in shared.state.items():
        assert_same_bits(array, alone.state[name])


def test_one_model():
    """Calls with several sizes, which the calls' workspaces grow for."""
    x, y = Value("x", "float32", ("batch", 8)), Value("y", "float32", ("batch", 8))
    nodes = [Node("MatMul", ["x", "w"], ["a"]), Node("Softmax", ["a"], ["b"])]
    nodes += [Node("Add", ["b", "x"], ["y"])]
    model = Model(Graph([x], [y], nodes, {"w": samples.normal(2, 8, 8)}))
    inputs = [samples.normal([3, n], n, 8) for n in (1, 300, 17, 2)]
    expected = [model(given)["y"] for given in inputs]

    def work(index):
        for turn in range(100):
            at = (index + turn) % len(inputs)
            assert_same_bits(model(inputs[at])["y"], expected[at])
        return True

    assert all(together(work, THREADS))


def test_held_streams_that_another_thread_releases():
    slots = treadle._core.StreamSlots("f", 3, 64)
    ids = np.array([slots.open(np.full(64, i, F32)) for i in range(3)])
    for _ in range(50):
        held = treadle._core.HeldStreams(slots, ids)

        def work(index, held=held):
            if index == 1:
                held.release()
                return True
            try:
                return (held.get() == np.arange(3)[:, None]).all()
            except ValueError as error:
                return str(error) == "f: the streams have been released"

        assert all(together(work, 3))


# -- objects that grow before they are used -------------------------------------------------------


def test_layers_are_added_before_the_first_call_or_not_at_all():
    own = {
        "self_attn.in_proj_weight": samples.normal(1, 18, 6),
        "self_attn.out_proj.weight": samples.normal(2, 6, 6),
        "linear1.weight": samples.normal(3, 5, 6),
        "linear2.weight": samples.normal(4, 6, 5),
    }
    for name in ("norm1", "norm2"):
        own[f"{name}.weight"], own[f"{name}.bias"] = np.ones(6, F32), np.zeros(6, F32)
    x, offsets = samples.normal(5, 3, 6), np.array([0, 3])
    whole = [native_encoder()]
    for layers in range(1, 10):
        whole.append(native_encoder())
        for _ in range(layers):
            whole[-1].add_layer(own)
    expected = [encoder.run("f", x, offsets) for encoder in whole]
    for _ in range(20):
        encoder = native_encoder()
        encoder.add_layer(own)

        def work(index, encoder=encoder):
            if index < 2:
                return [encoder.run("f", x, offsets) for _ in range(3)]
            said = [refusal(encoder.add_layer, own) for _ in range(4)]
            assert set(said) <= {"", "f: add_layer after run"}
            return said.count("")

        one, two, *added = together(work, THREADS)
        # A call sees the layers that were there as it began.
        assert encoder.num_layers == 1 + sum(added)
        for result in one + two:
            assert any(result.tobytes() == each.tobytes() for each in expected[1:])
        assert_same_bits(encoder.run("f", x, offsets), expected[encoder.num_layers])


# -- dicts and lists that change while a call reads them ------------------------------------------


def changing(change, call, words):
    """Call while another thread changes the arguments: it succeeds, or is refused in words."""
    ended = threading.Event()

    def work(index):
        if index == 0:
            while not ended.is_set():
                change()
            return set()
        try:
            return {refusal(call) for _ in range(300)}
        finally:
            ended.set()

    for said in set().union(*together(work, 2)):
        assert not said or words in said


def test_options_that_change():
    q = samples.normal(1, 1, 2, 3, 8)
    options = {"scale": 0.5}

    def change():
        options["softcap"] = 2.0
        options.update({f"wrong {i}": None for i in range(20)})
        options.clear()
        options["scale"] = 0.5

    changing(
        change,
        lambda: treadle._core.attention("f", q, q, q, options),
        "is no name that options can have",
    )


def test_lists_of_dtypes_that_change():
    arguments, dtypes = native_arguments(), ["float32"]

    def change():
        dtypes.extend(["bfloat16"] * 50)
        dtypes.clear()
        dtypes.append("float32")

    changing(
        change,
        lambda: treadle._core.RecurrentStack(**arguments | {"dtype": dtypes}),
        "items, expected 1",
    )


def test_lists_of_arrays_that_change():
    arrays = [np.ones(4, F32)]

    def change():
        arrays.extend(np.ones(4, F32) for _ in range(20))
        arrays.clear()
        arrays.append(np.ones(4, F32))

    changing(change, lambda: treadle._core.same_bits(arrays, arrays), "index out of range")


def test_plans_that_change():
    constants, attributes = [np.ones((4, 4), F32)], {"alpha": 1.0}
    node = {"op": "Elu", "name": "n", "inputs": [0], "outputs": [1], "last": [0]}
    plan = {"inputs": 1, "slots": 2, "outputs": [1], "constants": constants}
    plan["nodes"] = [node | {"attributes": attributes}]

    def change():
        constants.extend(np.ones((4, 4), F32) for _ in range(20))
        constants.clear()
        attributes.update({f"more {i}": 1 for i in range(20)})
        attributes.clear()
        attributes["alpha"] = 1.0
        constants.append(np.ones((4, 4), F32))

    changing(change, lambda: treadle._core.Program("f", plan), "attribute")


def test_inputs_by_name_that_change():
    inputs = treadle._core.PlainInputs([("x", "float32", None)])
    plan = {"inputs": 1, "slots": 1, "outputs": [0], "constants": [], "nodes": []}
    program, named = treadle._core.Program("f", plan), {"x": np.ones(4, F32)}

    def change():
        named.clear()
        named["x"] = np.ones(4, F32)

    changing(change, lambda: inputs.run(program, "f", (), named), "")


# -- the package ----------------------------------------------------------------------------------

FIRST_USE = """
import random, sys, threading
sys.setswitchinterval(1e-6)
import treadle, treadle.functional
from treadle import _places
names = [(treadle, n) for ns in _places.PUBLIC.values() for n in ns]
names += [(treadle.functional, n) for ns in _places.FUNCTIONAL.values() for n in ns]
names += [(treadle, "inspection")]
barrier, found = threading.Barrier(8), [None] * 8

def work(index):
    own = random.Random(index).sample(names, len(names))
    barrier.wait()
    found[index] = {name: getattr(package, name) for package, name in own}

threads = [threading.Thread(target=work, args=[i]) for i in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(all(one == found[0] for one in found))
"""


def test_names_that_all_threads_ask_for_first():
    """Modules are imported by whoever needs them first; all threads get the same objects."""
    assert child.succeed(FIRST_USE) == "True"
