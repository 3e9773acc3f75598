"""This module reads the configuration of a model: JSON that Keras 2 or Keras 3 wrote.

Both describe a layer as {"class_name", "config"}; Keras 3 adds where the class comes from
("module", "registered_name"), which must be Keras itself. The layers are those of `kinds`, and
their options are checked as it says. What a file says about compiling and training is not looked
at. Every error names the file and the layer, and says what was expected and what was found.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from treadle._storage.json import parse_json, short
from treadle.keras.files import kinds, options, origin
from treadle.keras.files.description import Layer
from treadle.keras.files.graph import functional, sequential

if TYPE_CHECKING:
    from treadle.keras.files.description import ModelDescription
    from treadle.keras.files.options import Option

LARGEST_CONFIG = 1 << 24  # bytes
MOST_VALUES = 2_000_000  # in the JSON
MOST_LEVELS = 128  # of lists and objects in each other
MOST_LAYERS = 10_000
MOST_LAYERS_IN_LAYERS = 16
_RECURRENT = ("SimpleRNN", "LSTM", "GRU", "RNN")


def parse_config(text: bytes, where: str) -> dict[str, Any]:
    """Parse the JSON of a configuration. Raises ValueError."""
    if len(text) > LARGEST_CONFIG:
        raise ValueError(f"{where} has {len(text)} bytes, expected at most {LARGEST_CONFIG}")
    return parse_json(text, where)


def read_config(content: dict[str, Any], where: str, version: str = "") -> ModelDescription:
    """Return the model that a configuration describes, without weights. Raises ValueError."""
    check_size(content, where)
    name = origin.class_name(content, where, "the model")
    if name in kinds.REFUSED:
        origin.refuse(name, where)
    if name not in kinds.MODELS:
        raise ValueError(
            f"{where}: the model is of class {short(name)}, expected Sequential or Functional; a "
            f"model with its own call() is Python code, which no file has: {kinds.INSTEAD}"
        )
    return _Reader(where, version).model(content, 0)


def check_size(content: Any, where: str) -> None:
    """Raise ValueError for JSON of too many values or levels."""
    level, depth, found = [content], 0, 0
    while level:
        found += len(level)
        if depth > MOST_LEVELS:
            raise ValueError(f"{where} has more than {MOST_LEVELS} levels of lists and objects")
        if found > MOST_VALUES:
            raise ValueError(f"{where} has more than {MOST_VALUES} values")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        level, depth = inner, depth + 1


class _Reader:
    """This reads the layers of one file, and counts them."""

    def __init__(self, where: str, version: str) -> None:
        self.where, self.version = where, version
        self.layers = 0

    def model(self, entry: dict[str, Any], depth: int) -> ModelDescription:
        """Read a Sequential or Functional, which may be a layer of another model."""
        kind = kinds.MODELS[entry["class_name"]]
        where = f"{self.where}: the {kind} model"
        origin.check_origin(entry, where)
        self._check_depth(depth, where)
        config = entry.get("config")
        if isinstance(config, list) and kind == "Sequential":  # Keras 2.2 and before
            config = {"layers": config}
        config = options.as_object(config, f"{where} has no configuration, expected an object")
        entries = options.as_list(config.get("layers"), f"{where} has no list of layers")
        name = _name(config.get("name", kind.lower()), where)
        where = f"{where} {name!r}"
        layers: dict[str, Layer] = {}
        for item in entries:
            layer = self.layer(item, depth, operations=kind == "Functional")
            if layer.name in layers:
                raise ValueError(f"{where} has two layers named {layer.name!r}, expected one")
            layers[layer.name] = layer
        build = sequential if kind == "Sequential" else functional
        return build(name, config, layers, where, self.version)

    def layer(self, entry: Any, depth: int, *, operations: bool = False) -> Layer:
        """Read a layer of a model or within another layer."""
        kind = origin.class_name(entry, self.where, "a layer")
        self.layers += 1
        if self.layers > MOST_LAYERS:
            raise ValueError(f"{self.where} has more than {MOST_LAYERS} layers")
        trainable = not isinstance(entry.get("config"), dict) or (
            entry["config"].get("trainable", True) is not False
        )
        if kind in kinds.MODELS:
            model = self.model(entry, depth + 1)
            return Layer(model.kind, model.name, {"trainable": trainable}, model=model)
        where = f"{self.where}: a layer {kind!r}"
        complaint = f"{where} has no configuration, expected an object"
        config = options.as_object(entry.get("config"), complaint)
        name = _name(config.get("name", entry.get("name")), where)
        where = f"{self.where}: layer {name!r} ({kind})"
        if operations and origin.is_operation(entry):
            return _operation(kind, name, config, where)
        if kind not in kinds.KINDS:
            origin.refuse(kind, where)
        origin.check_origin(entry, where)
        self._check_depth(depth, where)
        checked, parts = self._options(kinds.KINDS[kind], config, where, depth)
        checked["trainable"] = trainable
        if kind == "InputLayer":
            origin.check_input(checked["dtype"], where)
            checked["batch_shape"] = input_shape(config, where)
        elif kind == "Normalization" and (checked["mean"] is None) != (checked["variance"] is None):
            raise ValueError(f"{where} has one of mean and variance, expected both or none")
        elif kind == "TimeDistributed":
            parts["layer"] = self.layer(config.get("layer"), depth + 1)
        elif kind == "Bidirectional":
            parts |= self._directions(config, where, depth)
        elif kind == "RNN":
            parts |= self._cells(config.get("cell"), where, depth)
        for old, new in kinds.RENAMED.get(kind, {}).items():
            if old in config:
                checked[new] = _option(old, kinds.KINDS[kind][new], config, where)
        return Layer(kind, name, checked, parts)

    def _check_depth(self, depth: int, where: str) -> None:
        if depth > MOST_LAYERS_IN_LAYERS:
            raise ValueError(
                f"{where} is within {depth} other layers, expected at most {MOST_LAYERS_IN_LAYERS}"
            )

    def _options(
        self, table: kinds.Options, config: dict[str, Any], where: str, depth: int
    ) -> tuple[dict[str, Any], dict[str, Layer]]:
        """Return the checked options of a layer or cell, and the activations that are layers."""
        checked: dict[str, Any] = {}
        parts: dict[str, Layer] = {}
        origin.check_policy(config.get("dtype"), where)
        for name, rule in table.items():
            value = config.get(name, rule.default)
            if name not in kinds.ACTIVATIONS:
                checked[name] = _option(name, rule, config, where)
            elif isinstance(value, dict) and value.get("class_name") != "function":
                inner = value.get("config")
                named = {"name": name, **inner} if isinstance(inner, dict) else inner
                parts[name] = self.layer({**value, "config": named}, depth + 1)
                checked[name] = None
            else:
                checked[name] = origin.function_name(value, f"{where}: {name}")
        return checked, parts

    def _directions(self, config: dict[str, Any], where: str, depth: int) -> dict[str, Layer]:
        forward = self.layer(config.get("layer"), depth + 1)
        if forward.kind not in _RECURRENT:
            raise ValueError(f"{where}: layer is a {forward.kind}, expected a recurrent layer")
        if config.get("backward_layer") is not None:
            backward = self.layer(config["backward_layer"], depth + 1)
        else:
            turned = {**forward.config, "go_backwards": not forward.config["go_backwards"]}
            copies = {name: replace(part) for name, part in forward.parts.items()}
            backward = Layer(forward.kind, f"backward_{forward.name}", turned, copies)
        if backward.kind not in _RECURRENT:
            raise ValueError(
                f"{where}: backward_layer is a {backward.kind}, expected a recurrent layer"
            )
        for option in ("return_sequences", "return_state", "stateful"):
            if forward.config[option] != backward.config[option]:
                raise ValueError(f"{where}: its directions differ in {option}")
        if forward.config["go_backwards"] == backward.config["go_backwards"]:
            raise ValueError(f"{where}: its directions have the same go_backwards")
        return {"forward": forward, "backward": backward}

    def _cells(self, entry: Any, where: str, depth: int) -> dict[str, Layer]:
        """Return the cells of an RNN, of which there may be a stack, as its parts."""
        kind = origin.class_name(entry, where, "cell")
        cells: Any = [entry]
        if kind == "StackedRNNCells":
            origin.check_origin(entry, where)
            config = entry.get("config")
            cells = config.get("cells") if isinstance(config, dict) else None
            if not isinstance(cells, list) or not cells:
                raise ValueError(f"{where}: cells are {short(cells)}, expected a list of cells")
        return {f"cell{i}": self._cell(cell, where, depth) for i, cell in enumerate(cells)}

    def _cell(self, entry: Any, where: str, depth: int) -> Layer:
        kind = origin.class_name(entry, where, "a cell")
        self.layers += 1
        config = entry.get("config")
        if kind not in kinds.CELLS or not isinstance(config, dict):
            raise ValueError(
                f"{where}: a cell is {short(entry)}, expected one of {', '.join(kinds.CELLS)} with "
                "its configuration"
            )
        origin.check_origin(entry, where)
        name = _name(config.get("name", kind.lower()), where)
        checked, parts = self._options(
            kinds.CELLS[kind], config, f"{where}: cell {name!r}", depth + 1
        )
        return Layer(kind, name, checked, parts)


def _option(name: str, rule: Option, config: dict[str, Any], where: str) -> Any:
    if name not in config or (config[name] is None and not rule.nullable):
        if rule.required:
            raise ValueError(f"{where} has no {name}")
        return rule.default
    try:
        return rule.check(config[name])
    except ValueError as error:
        raise ValueError(f"{where}: {name} is {short(config[name])}, expected {error}") from None


def _operation(kind: str, name: str, config: dict[str, Any], where: str) -> Layer:
    if kind not in kinds.OPERATIONS:
        raise ValueError(f"{where}: this operation is {kinds.INSTEAD}")
    values = {key: value for key, value in config.items() if key != "name"}
    for key, value in values.items():
        lists = value if isinstance(value, list) else [value]
        items = [item for one in lists for item in (one if isinstance(one, list) else [one])]
        if not all(item is None or isinstance(item, bool | int | float | str) for item in items):
            raise ValueError(f"{where}: {key} is {short(value)}, expected numbers or strings")
    return Layer(f"ops.{kind}", name, values)


def input_shape(config: dict[str, Any], where: str) -> tuple[int | None, ...] | None:
    """Return the shape of an input, its batch included, or None where none is said."""
    value = config.get("batch_shape", config.get("batch_input_shape"))
    if isinstance(value, dict):  # "__tuple__" of Keras 2
        value = value.get("items")
    try:
        result: tuple[int | None, ...] | None = kinds.SHAPE(value)
    except ValueError as error:
        raise ValueError(f"{where}: its shape is {short(value)}, expected {error}") from None
    return result


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 1000:
        raise ValueError(f"{where} is named {short(value)}, expected a string")
    return value
