"""Configurations with one thing wrong: each is refused, and the message names file and layer."""

import pytest

from support import keras_configs as make
from support.keras_configs import call, layer, tensor
from treadle.keras.files.config import read_config
from treadle.keras.files.description import Reference

SEQUENTIAL, FUNCTIONAL = make.sequential(), make.functional()
LAYERS = ("config", "layers")
CODE = "4wEAAAAAAAAAAAAAAAEAAAABAAAAQwAAAHMEAAAAfABTAA=="  # what Keras stores of a lambda


def appended(entry):
    """Return the Sequential with another layer."""
    return make.edited(SEQUENTIAL, (*LAYERS, None), entry)


def option(index, name, value):
    """Return the Sequential with another option of a layer."""
    return make.edited(SEQUENTIAL, (*LAYERS, index, "config", name), value)


def nested(depth, kind="Sequential"):
    """Return models in each other."""
    entry = layer("Dense", "dense", units=1)
    for index in range(depth):
        if kind == "Sequential":
            entry = make.model([entry], name=f"net{index}")
        else:
            entry = layer(kind, f"layer{index}", layer=entry)
    return entry if kind == "Sequential" else make.model([entry])


CODES = {
    "a Lambda": (
        appended(layer("Lambda", "l", function={"class_name": "__lambda__", "config": CODE})),
        r"layer 'l' \(Lambda\): it is a Lambda: it is Python code, which treadle never runs.*ONNX",
    ),
    "a Lambda as the model": (
        {"class_name": "Lambda", "config": {"function": [CODE, None, None]}},
        "it is a Lambda",
    ),
    "a class of one's own": (
        appended({**layer("MyLayer", "mine"), "module": "my.package"}),
        r"layer 'mine' \(MyLayer\): layers of class 'MyLayer' are not among those",
    ),
    "a class that imports": (
        appended({**layer("run", "x"), "module": "os", "class_name": "system"}),
        "layers of class 'system' are not among those",
    ),
    "Keras' name in another module": (
        appended({**layer("Dense", "x", units=1), "module": "builtins"}),
        r"layer 'x' \(Dense\): 'Dense' is of module 'builtins', expected Keras' own",
    ),
    "a module that only begins so": (
        appended({**layer("Dense", "x", units=1), "module": "keras_evil.layers"}),
        "is of module 'keras_evil.layers'",
    ),
    "no module": (appended({**layer("Dense", "x", units=1), "module": None}), "is of module None"),
    "a registered class": (
        appended({**layer("Dense", "x", units=1), "registered_name": "pack>Dense"}),
        "is registered as 'pack>Dense'",
    ),
    "a function of one's own": (
        option(1, "activation", {"class_name": "function", "config": "mine", "module": "builtins"}),
        r"layer 'lstm' \(LSTM\): activation is 'mine', expected one of Keras' own functions",
    ),
    "a function of a module": (
        option(1, "activation", {"class_name": "function", "config": "relu", "module": "os"}),
        "is of module 'os'",
    ),
    "a lambda for a function": (
        option(1, "activation", {"class_name": "__lambda__", "config": {"value": CODE}}),
        "layers of class '__lambda__' are not among those",
    ),
    "an unknown function": (option(3, "activation", "system"), "activation is 'system'"),
    "a list for a function": (option(3, "activation", ["relu"]), r"activation is \['relu'\]"),
    "a cell of one's own": (
        appended(layer("RNN", "r", cell=layer("MyCell", "c", units=1))),
        "expected one of SimpleRNNCell, LSTMCell, GRUCell",
    ),
    "a model of one's own": (
        {**SEQUENTIAL, "class_name": "MyModel"},
        "the model is of class 'MyModel', expected Sequential or Functional.*Python code",
    ),
    "a model of another package": (
        {**SEQUENTIAL, "registered_name": "mine>Sequential"},
        "is registered as 'mine>Sequential'",
    ),
    "cuDNN's layer": (appended(layer("CuDNNLSTM", "l", units=1)), "as cuDNN has them"),
    "strings": (appended(layer("TextVectorization", "t")), "treadle has no strings"),
    "an operation of TensorFlow": (appended(layer("TFOpLambda", "t")), "a function of TensorFlow"),
    "strings as inputs": (option(0, "dtype", "string"), "its dtype is 'string'"),
    "ragged inputs": (option(0, "ragged", True), "ragged is True, expected False or None"),
    "a quantized layer": (
        option(
            3,
            "dtype",
            {
                "module": "keras.dtype_policies",
                "class_name": "QuantizedDTypePolicy",
                "config": {"mode": "int8"},
                "registered_name": None,
            },
        ),
        "'QuantizedDTypePolicy', expected DTypePolicy: save the model before quantizing it",
    ),
    "an adapter": (option(3, "lora_rank", 4), "lora_rank is 4, expected None .merge the adapters"),
    "time first": (option(1, "time_major", True), "time_major is True"),
}

VALUES = {
    **{
        f"units {value!r}": (option(1, "units", value), "units is .*, expected an integer from 1")
        for value in (0, -1, 2**31, 2**63, 10**30, 1.5, True, "4", [4], {"a": 1})
    },
    "no units": (option(1, "units", None), r"layer 'lstm' \(LSTM\) has no units"),
    "a number for a truth": (option(1, "return_sequences", 1), "is 1, expected true or false"),
    "a shape": (option(0, "batch_shape", [None] * 9), "a shape of at most 8 sizes"),
    "a size": (option(0, "batch_shape", [None, -1]), "expected an integer from 0"),
    "a text for a shape": (option(0, "batch_shape", "abc"), "its shape is 'abc'"),
    "a dtype": (option(3, "dtype", "complex64"), "its dtype is 'complex64', expected one of"),
    "a dtype that is a list": (option(3, "dtype", []), r"its dtype is \[\]"),
    "a dtype of a module": (option(3, "dtype", {"class_name": 3, "config": {}}), "policy is 3"),
    "a rate": (appended(layer("ELU", "e", alpha=1e999)), "alpha is inf, expected a finite"),
    "a large number": (appended(layer("ELU", "e", alpha=10**400)), "number of float64"),
    "a kernel": (
        appended(layer("Conv1D", "c", filters=1, kernel_size=[3, 3])),
        "kernel_size is .*, expected 1 numbers",
    ),
    "a padding": (
        appended(layer("Conv2D", "c", filters=1, kernel_size=3, padding="causal")),
        "padding is 'causal', expected one of 'valid', 'same'",
    ),
    "a target": (appended(layer("Reshape", "r", target_shape=[-1, -1])), "one may be -1"),
    "lists of several lengths": (
        appended(layer("Normalization", "n", mean=[[1, 2], [3]], variance=[[1], [2]])),
        "expected lists of equal lengths",
    ),
    "lists and numbers": (
        appended(layer("Normalization", "n", mean=[[], 1], variance=[1, 2])),
        "expected lists of equal lengths",
    ),
    "numbers beyond float32": (
        appended(layer("Rescaling", "r", scale=1e300)),
        "expected numbers of float32",
    ),
    "a mean alone": (appended(layer("Normalization", "n", mean=[1.0])), "expected both or none"),
    "two axes": (appended(layer("BatchNormalization", "b", axis=[1, 2])), "expected one axis"),
    "a list of many axes": (
        appended(layer("LayerNormalization", "b", axis=[1] * 9)),
        "a list of at most 8",
    ),
    "a way to merge": (option(2, "merge_mode", "max"), "merge_mode is 'max', expected one of"),
    "no recurrent layer": (
        option(2, "layer", layer("Dense", "d", units=1)),
        "layer is a Dense, expected a recurrent layer",
    ),
    "directions that differ": (
        option(2, "backward_layer", layer("GRU", "g", units=2, return_sequences=True)),
        "its directions differ in return_sequences",
    ),
    "one direction twice": (
        option(2, "backward_layer", layer("GRU", "g", units=2)),
        "its directions have the same go_backwards",
    ),
    "no layer in a layer": (option(2, "layer", None), "a layer is None, expected an object"),
    "no cells": (
        appended(layer("RNN", "r", cell=layer("StackedRNNCells", "s", cells=[]))),
        r"cells are \[\]",
    ),
    "no name": (appended({"class_name": "Flatten", "config": {}}), "is named None, expected a"),
    "a long name": (appended(layer("Flatten", "x" * 1001)), "expected a string"),
    "a name twice": (appended(layer("Flatten", "dense")), "two layers named 'dense'"),
    "no configuration": (appended({"class_name": "Flatten"}), "has no configuration"),
    "a layer that is none": (appended(7), "a layer is 7, expected an object of a class"),
    "a class that is none": (appended({"class_name": ["a"]}), "expected an object of a class"),
    "no layers": (make.model([]), "has no layers"),
    "no list of layers": (make.model({}), "has no list of layers"),
    "inputs in the middle": (appended(layer("InputLayer", "y")), "'y' is an InputLayer"),
    "no model": ({}, "the model is {}"),
    "models in models": (nested(40), "within 17 other layers, expected at most 16"),
    "layers in layers": (nested(40, "TimeDistributed"), "within 17 other layers"),
    "too many layers": (
        make.model([layer("Flatten", f"f{i}") for i in range(10_001)]),
        "more than 10000 layers",
    ),
}


def calls(name, *nodes):
    """Return the Functional with other calls of a layer."""
    index = [entry["name"] for entry in FUNCTIONAL["config"]["layers"]].index(name)
    return make.edited(FUNCTIONAL, (*LAYERS, index, "inbound_nodes"), list(nodes))


def ends(end, value):
    """Return the Functional with other inputs or outputs."""
    return make.edited(FUNCTIONAL, ("config", end), value)


GRAPHS = {
    "a circle": (
        calls("lstm", call(tensor("add"))),
        "call 0 of layer .* waits for itself: the calls form a circle",
    ),
    "a call of itself": (calls("add", call(tensor("add"))), "waits for itself"),
    "an unknown layer": (calls("lstm", call(tensor("y"))), "of layer 'y', which is not there"),
    "a call that is not there": (calls("lstm", call(tensor("dense", 2))), "has 2 calls .from 0."),
    "a call before the first": (calls("lstm", call(tensor("dense", -1))), "call -1 of layer"),
    "a call that is no number": (calls("lstm", call(tensor("dense", "0"))), "call '0' of layer"),
    "a second output": (calls("lstm", call(tensor("dense", 0, 1))), "with at most 1 outputs"),
    "a far output": (calls("dense", call(tensor("lstm", 0, 2**40))), "at most 1000 outputs"),
    "no history": (
        calls("lstm", call({"class_name": "__keras_tensor__", "config": {}})),
        "a tensor is of None, expected a layer's call",
    ),
    "no tensor": (calls("dense", call(3)), "call 0 of layer 'dense' has no tensor"),
    "a number for a state": (
        calls("lstm", call(tensor("x"), initial_state=[0, 1])),
        "has numbers among its inputs and states",
    ),
    "code for an argument": (
        calls("lstm", call(tensor("x"), {"class_name": "__lambda__", "config": {"value": CODE}})),
        "an argument is of class '__lambda__', expected tensors, numbers and slices",
    ),
    "a type for an argument": (
        calls("lstm", call({"class_name": "__typespec__", "config": [1], "module": "os"})),
        "an argument is of class '__typespec__'",
    ),
    "a slice": (
        calls("add", call(tensor("lstm"), {"class_name": "__slice__", "config": {"start": "a"}})),
        "a slice has the end 'a'",
    ),
    "a constant": (
        calls("add", call(tensor("lstm"), {"class_name": "__numpy__", "config": {"value": "a"}})),
        "a constant is not made of numbers",
    ),
    "a call that is none": (calls("lstm", 3), "expected lists of arguments"),
    "arguments that are none": (calls("lstm", {"args": 3}), "expected lists of arguments"),
    "names that are none": (calls("lstm", {"args": [], "kwargs": 3}), "expected lists of arg"),
    "calls that are none": (
        make.edited(FUNCTIONAL, (*LAYERS, 1, "inbound_nodes"), "x"),
        "the calls of layer 'lstm' are no list",
    ),
    "a call of an input": (calls("x", call(tensor("lstm"))), "the InputLayer 'x' is called"),
    "no inputs": (ends("input_layers", []), "the InputLayer 'x' is not among its inputs"),
    "no outputs": (ends("output_layers", []), "has no inputs or no outputs"),
    "inputs that are none": (ends("input_layers", "x"), "input_layers have 'x', expected tensors"),
    "an input that is none": (ends("input_layers", ["lstm", 0, 0]), "'lstm' is not an InputLayer"),
    "an input twice": (ends("input_layers", [["x", 0, 0]] * 2), "has an input twice"),
    "an output that is not there": (ends("output_layers", ["y", 0, 0]), "which is not there"),
    "an old tensor": (calls("lstm", [["x", 0]]), r"expected \[layer, call, output, kwargs\]"),
    "an old tensor that is none": (calls("lstm", [[["x", 0, 0, {}], 3]]), "an argument is 3"),
    "an unknown operation": (
        make.edited(
            FUNCTIONAL,
            (*LAYERS, 3),
            {**layer("EvalString", "add", [call(tensor("lstm"))]), "module": "keras.src.ops.numpy"},
        ),
        r"layer 'add' \(EvalString\): this operation is not among those",
    ),
    "an operation's option": (
        make.edited(
            FUNCTIONAL,
            (*LAYERS, 3),
            {
                **layer("Mean", "add", [call(tensor("lstm"))], axis={"a": 1}),
                "module": "keras.src.ops.numpy",
            },
        ),
        "axis is .*, expected numbers or strings",
    ),
}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [*CODES.values(), *VALUES.values(), *GRAPHS.values()],
    ids=[*CODES, *VALUES, *GRAPHS],
)
def test_refused(config, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        read_config(config, "load: file")
    assert str(error.value).startswith("load: file")
    assert len(str(error.value)) < 700


def test_good():
    """The description that the variants change is good."""
    model = read_config(SEQUENTIAL, "load: file")
    assert [layer.kind for layer in model.layers] == [
        "InputLayer",
        "LSTM",
        "Bidirectional",
        "Dense",
    ]
    both = model.layer("both")
    assert both.parts["backward"].config["go_backwards"] is True
    assert both.parts["forward"].config["reset_after"] is False
    graph = read_config(FUNCTIONAL, "load: file")
    assert [call.layer for call in graph.calls] == ["lstm", "dense", "add", "dense"]
    assert graph.outputs == (Reference("dense", 1), Reference("add"))
    assert graph.inputs == (Reference("x"),)


def test_what_is_not_looked_at():
    """Training, initializers and regularizers may say whatever they like."""
    evil = {"module": "os", "class_name": "system", "config": {"command": "true"}}
    config = make.edited(SEQUENTIAL, ("compile_config",), evil)
    for name in ("kernel_initializer", "bias_regularizer", "kernel_constraint", "unheard_of"):
        config = make.edited(config, (*LAYERS, 1, "config", name), evil)
    assert read_config(config, "load: file").layers == read_config(SEQUENTIAL, "load: file").layers


def test_forms_of_keras_2():
    """A list of layers, an input said by the first layer, and its names for options."""
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "LSTM",
                "config": {"name": "l", "units": 3, "batch_input_shape": [None, 5, 2]},
            },
            {"class_name": "LeakyReLU", "config": {"name": "r", "alpha": 0.25}},
        ],
    }
    model = read_config(config, "load: file")
    assert model.input_shapes == ((None, 5, 2),)
    assert model.layers[0].name == model.input_names[0] == "l_input"
    assert model.layer("r").config["negative_slope"] == 0.25


def test_old_calls():
    """Constants and tensors among the arguments of Keras 2, and masks by name."""
    graph = calls(
        "lstm", [["x", 0, 0, {"mask": ["x", 0, 0], "training": False, "initial_state": None}]]
    )
    graph = make.edited(graph, (*LAYERS, 2, "inbound_nodes"), [[["lstm", 0, 0, {}]]] * 2)
    graph = make.edited(
        graph,
        (*LAYERS, 3, "inbound_nodes"),
        [[["lstm", 0, 0, {}], ["_CONSTANT_VALUE", -1, 2.5, {}]]],
    )
    model = read_config(graph, "load: file")
    found = {(call.layer, call.index): call for call in model.calls}
    assert found["lstm", 0].kwargs == {"mask": Reference("x")}
    assert found["add", 0].args == [[Reference("lstm"), 2.5]]


def test_many_tensors_that_wait():
    """A chain in the wrong order costs time in proportion to its length."""
    length = 5000
    layers = [
        layer("Flatten", f"f{i}", [call(tensor(f"f{i - 1}" if i else "x"))])
        for i in reversed(range(length))
    ]
    layers.append(layer("InputLayer", "x", [], batch_shape=[None, 3]))
    model = make.model(
        layers, "Functional", input_layers=["x", 0, 0], output_layers=[f"f{length - 1}", 0, 0]
    )
    calls = read_config(model, "load: file").calls
    assert [call.layer for call in calls] == [f"f{i}" for i in range(length)]
