"""Files of Keras with bytes or values of their configuration changed, by chance."""

import copy
import json

from support import keras_configs, keras_files

NUMBERS = (0, 1, 7, 8, 0x7F, 0x80, 0xFF)
LONG = (0, 1, 96, 2**16, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, 10**30, 0.5, 1e308, "", "a", "relu", "x"),
    *([], {}, [[]], [None], [1, 2, 3], ["x", 0, 0], [["x", 0, 0]], {"a": 1}),
    {"class_name": "Dense", "config": {"units": 3, "name": "d"}},
    {"class_name": "__lambda__", "config": {"value": "code"}},
    {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}},
)


def changed(data, rng):
    """Return bytes with some of them changed, cut out, doubled, moved or made addresses."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        i, n = int(rng.integers(len(data))), int(rng.integers(1, 20))
        kind = rng.integers(8)
        if kind == 0:
            data[i] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[i] = int(rng.choice(NUMBERS))
        elif kind == 2:
            del data[i : i + n]
        elif kind == 3:
            data[i:i] = data[i : i + n]
        elif kind == 4:
            j = int(rng.integers(len(data)))
            data[i : i + n] = data[j : j + n]
        else:  # a number of HDF5 or ZIP: aligned, little-endian
            width = int(rng.choice([1, 2, 4, 8]))
            i -= i % width
            number = LONG[int(rng.integers(len(LONG)))]
            if kind == 7:
                number = int(rng.integers(len(data)))
            data[i : i + width] = (number % 256**width).to_bytes(width, "little")
    return bytes(data)


def places(value, path=()):
    """Yield the path of every value in JSON."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def changed_values(config, rng):
    """Return a configuration with some of its values changed, deleted or moved."""
    config = copy.deepcopy(config)
    for _ in range(rng.integers(1, 4)):
        found = [path for path in places(config) if path]
        if not found:
            break
        path = found[int(rng.integers(len(found)))]
        place = config
        for key in path[:-1]:
            place = place[key]
        kind = rng.integers(4)
        if kind == 0:
            del place[path[-1]]
        elif kind == 1:
            other = found[int(rng.integers(len(found)))]
            value = config
            for key in other:
                value = value[key]
            place[path[-1]] = copy.deepcopy(value)
        else:
            place[path[-1]] = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
    return config


def archives(name):
    """Return the parts of a `.keras` file: its configuration as JSON, its weights as bytes."""
    parts = keras_configs.members(name)
    return parts, json.loads(parts["config.json"])


def drawn(name, rng):
    """Return the bytes of a file with something wrong, perhaps."""
    if name.endswith(".h5"):
        return changed(keras_files.content(name), rng)
    kind = rng.integers(3)
    if kind == 0:
        return changed(keras_files.content(name), rng)
    parts, config = archives(name)
    if kind == 1:
        parts["model.weights.h5"] = changed(parts["model.weights.h5"], rng)
    else:
        parts["config.json"] = json.dumps(changed_values(config, rng)).encode()
    return keras_configs.archive(parts)
