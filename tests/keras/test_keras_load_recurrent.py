"""Recurrent layers of files of Keras: masks, states, directions and cells."""

import keras
import numpy as np
import pytest

from support.keras_checks import L, branches, check, ids, normal, sequential

LAYERS = {"LSTM": L.LSTM, "GRU": L.GRU, "SimpleRNN": L.SimpleRNN}
X, IDS = normal(1, 3, 7, 4), ids(2, 3, 7)


def embedding():
    return L.Embedding(5, 4, mask_zero=True)


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_many_to_one(layer, activation, tmp_path):
    make = sequential(lambda: layer(6, activation=activation), lambda: L.Dense(2))
    check(make, [X], tmp_path)


def test_stacks_of_any_length(layer, tmp_path):
    make = sequential(
        lambda: layer(6, return_sequences=True),
        lambda: L.Dropout(0.5),
        lambda: layer(6, return_sequences=True, dropout=0.1),
        lambda: layer(3),
        shape=(None, 4),
    )
    loaded = check(make, [X], tmp_path)
    stacks = [node for node in loaded.graph.nodes if node.op == "treadle.Recurrent"]
    assert [node.attributes.get("num_layers", 1) for node in stacks] == [2, 1]


def test_backwards(layer, tmp_path):
    """The outputs of a layer that goes backwards are in the order of its steps."""
    make = sequential(
        lambda: layer(6, return_sequences=True, go_backwards=True),
        lambda: layer(5, go_backwards=True),
    )
    check(make, [X], tmp_path)


@pytest.mark.parametrize("zeroed", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_masks(layer, zeroed, backwards, tmp_path):
    options = {"zero_output_for_mask": zeroed, "go_backwards": backwards}
    make = sequential(
        embedding,
        lambda: layer(6, return_sequences=True, **options),
        lambda: layer(5, return_sequences=True),
        lambda: layer(3, **options),
        shape=(None,),
        dtype="int32",
    )
    check(make, [IDS], tmp_path)


def test_masked_stacks(isa, tmp_path):
    """Layers with one mask become one node; the last one is apart, since its state is read."""
    make = sequential(
        embedding,
        lambda: L.LSTM(6, return_sequences=True),
        lambda: L.LSTM(6, return_sequences=True),
        lambda: L.LSTM(6),
        shape=(None,),
        dtype="int32",
    )
    loaded = check(make, [IDS], tmp_path)
    assert sum(node.op == "treadle.Recurrent" for node in loaded.graph.nodes) == 2


def test_masking(tmp_path):
    x = np.where(normal(3, 3, 7, 1) > 0, X, np.float32(0.5))
    make = sequential(
        lambda: L.Masking(0.5), lambda: L.LSTM(3, return_sequences=True), lambda: L.GRU(2)
    )
    check(make, [x], tmp_path)


@pytest.mark.parametrize("masked", [False, True])
def test_both_directions(layer, masked, tmp_path):
    def make():
        x = keras.Input((None,) if masked else (None, 4), dtype="int32" if masked else None)
        first = embedding()(x) if masked else x
        outputs = []
        for merge in ("concat", "sum", "mul", "ave"):
            y = first
            for sequences in (True, True, False):
                one = layer(5, return_sequences=sequences)
                y = L.Bidirectional(one, merge_mode=merge)(y)
            outputs.append(y)
        return keras.Model(x, outputs)

    check(make, [IDS if masked else X], tmp_path)


def test_directions_that_differ(tmp_path):
    def make():
        forward = L.LSTM(6, return_sequences=True, go_backwards=True)
        backward = L.LSTM(6, activation="relu", return_sequences=True)
        return keras.Sequential(
            [keras.Input((7, 4)), L.Bidirectional(forward, backward_layer=backward), L.GRU(2)]
        )

    check(make, [X], tmp_path)


def test_directions_apart(tmp_path):
    def make():
        x = keras.Input((None, 4))
        layer = L.Bidirectional(
            L.LSTM(6, return_sequences=True, return_state=True), merge_mode=None
        )
        return keras.Model(x, layer(x))

    loaded = check(make, [X], tmp_path)
    assert len(loaded.outputs) == 6


@pytest.mark.parametrize("bidirectional", [False, True])
def test_states(layer, bidirectional, tmp_path):
    """Initial states are inputs, last states are outputs."""
    count = (2 if layer is L.LSTM else 1) * (1 + bidirectional)

    def make():
        x, states = keras.Input((None, 4)), [keras.Input((6,)) for _ in range(count)]
        one = layer(6, return_sequences=True, return_state=True)
        one = L.Bidirectional(one) if bidirectional else one
        return keras.Model([x, *states], one(x, initial_state=states))

    inputs = [X, *(normal(5 + i, 3, 6) for i in range(count))]
    loaded = check(make, inputs, tmp_path)
    assert len(loaded.inputs) == 1 + count


def test_encoder_and_decoder(tmp_path):
    """The states of one layer begin another one; its mask is not that of the second."""

    def make():
        source, target = (keras.Input((None,), dtype="int32") for _ in range(2))
        _, h, c = L.LSTM(6, return_state=True)(embedding()(source))
        y = L.LSTM(6, return_sequences=True)(embedding()(target), initial_state=[h, c])
        return keras.Model([source, target], L.Dense(5, activation="softmax")(y))

    check(make, [IDS, ids(7, 3, 5)], tmp_path)


def test_rows_without_steps_and_states(tmp_path):
    """A row whose steps are all masked gives 0, not its first state."""

    def make():
        x, h = keras.Input((None,), dtype="int32"), keras.Input((3,))
        words = embedding()(x)
        steps = keras.ops.not_equal(x, 0)
        return keras.Model([x, h], L.GRU(3)(words, initial_state=h, mask=steps))

    given = IDS.copy()
    given[1] = 0
    check(make, [given, normal(8, 3, 3)], tmp_path)


def test_resets_and_bias(tmp_path):
    cases = {
        f"{after} {bias}": lambda after=after, bias=bias: L.GRU(
            6, reset_after=after, use_bias=bias, return_sequences=True
        )
        for after in (False, True)
        for bias in (False, True)
    }
    for name in ("LSTM", "SimpleRNN"):
        cases[name] = lambda name=name: LAYERS[name](6, use_bias=False)
    check(branches(cases, 7, 4), [X], tmp_path)


ACTIVATIONS = (
    *("linear", "relu6", "leaky_relu", "elu", "softplus", "softsign", "sigmoid", "hard_sigmoid"),
    *("hard_tanh", "silu", "gelu", "hard_silu", "sparse_sigmoid", "celu"),
)


def test_activations(layer, tmp_path):
    options = {} if layer is L.SimpleRNN else {"recurrent_activation": "hard_sigmoid"}
    cases = {name: lambda name=name: layer(6, activation=name, **options) for name in ACTIVATIONS}
    check(branches(cases, 7, 4), [X], tmp_path)


def test_cells(tmp_path):
    """A stack of cells is a stack of layers, whatever the cells are."""
    make = sequential(
        lambda: L.RNN([L.LSTMCell(6), L.LSTMCell(6), L.LSTMCell(5)], return_sequences=True),
        lambda: L.RNN([L.GRUCell(4), L.SimpleRNNCell(3)], return_sequences=True, go_backwards=True),
        lambda: L.RNN(L.GRUCell(4, reset_after=False)),
    )
    check(make, [X], tmp_path)


def test_masked_cells(tmp_path):
    make = sequential(
        embedding, lambda: L.RNN([L.LSTMCell(6), L.GRUCell(5)]), shape=(None,), dtype="int32"
    )
    check(make, [IDS], tmp_path)


def test_stateful_layers_begin_at_zero(tmp_path):
    """A model takes any batch, and each call is a sequence of its own."""

    def make():
        return keras.Sequential([keras.Input(batch_shape=(3, None, 4)), L.LSTM(5, stateful=True)])

    model = check(make, [X], tmp_path)
    np.testing.assert_array_equal(model(X), model(X))
