"""Configurations of Keras as dictionaries, whole or with one thing wrong, and files of them."""

import copy
import json
import struct
import zipfile
import zlib
from io import BytesIO

from support import keras_files


def layer(kind, name, calls=None, **config):
    """Return a layer as Keras 3 writes it; ``calls`` are for functional models."""
    entry = {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, "trainable": True, **config},
        "registered_name": None,
    }
    return entry if calls is None else {**entry, "name": name, "inbound_nodes": calls}


def tensor(name, call=0, output=0):
    """Return a tensor as an argument."""
    history = [name, call, output]
    return {"class_name": "__keras_tensor__", "config": {"keras_history": history}}


def call(*args, **kwargs):
    """Return a call with arguments."""
    return {"args": list(args), "kwargs": kwargs}


def model(layers, kind="Sequential", **config):
    """Return a model of layers."""
    return {
        "module": "keras",
        "class_name": kind,
        "config": {"name": "net", "layers": layers, **config},
        "registered_name": None,
    }


def sequential():
    """Return a good Sequential."""
    return model(
        [
            layer("InputLayer", "x", batch_shape=[None, 6, 3], dtype="float32"),
            layer("LSTM", "lstm", units=4, return_sequences=True, activation="tanh"),
            layer("Bidirectional", "both", layer=layer("GRU", "gru", units=2)),
            layer("Dense", "dense", units=2, activation="relu"),
        ]
    )


def functional():
    """Return a good Functional."""
    return model(
        [
            layer("InputLayer", "x", [], batch_shape=[None, 6, 3], dtype="float32"),
            layer("LSTM", "lstm", [call(tensor("x"))], units=4),
            layer("Dense", "dense", [call(tensor("lstm")), call(tensor("add"))], units=4),
            layer("Add", "add", [call([tensor("lstm"), tensor("dense")])]),
        ],
        "Functional",
        input_layers=["x", 0, 0],
        output_layers=[["dense", 1, 0], ["add", 0, 0]],
    )


def edited(config, path, value):
    """Return a configuration with another value at a path; None as a key appends to a list."""
    config = copy.deepcopy(config)
    place = config
    for key in path[:-1]:
        place = place[key]
    if path[-1] is None:
        place.append(value)
    else:
        place[path[-1]] = value
    return config


def members(name="keras3_gru.keras"):
    """Return the parts of a good `.keras` file."""
    with zipfile.ZipFile(BytesIO(keras_files.content(name))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(parts, method=zipfile.ZIP_STORED):
    """Return a ZIP archive of parts: a dictionary or a list of pairs."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w", method) as file:
        for name, content in parts.items() if isinstance(parts, dict) else parts:
            file.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return target.getvalue()


class Raw:
    """A ZIP archive written by hand, in which every number may lie."""

    def __init__(self):
        self.body, self.directory, self.count = b"", b"", 0

    def add(self, name, content, *, method=0, flags=0, at=None, local=None, **lies):
        """Add a member: stored, or deflated by method 8."""
        raw = name if isinstance(name, bytes) else name.encode()
        local = raw if local is None else local
        stored = content
        if method == 8:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            stored = packer.compress(content) + packer.flush()
        numbers = {
            "checksum": zlib.crc32(content),
            "stored": len(stored),
            "size": len(content),
            "method": method,
            "flags": flags,
            "offset": len(self.body) if at is None else at,
            "disk": 0,
        } | lies
        n = numbers
        sizes = (n["checksum"], n["stored"], n["size"])
        self.body += struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 20, n["flags"], method, 0, 0, *sizes, len(local), 0
        )
        self.body += local + stored
        self.directory += struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\x01\x02", 20, 20, n["flags"], n["method"], 0, 0, *sizes),
            *(len(raw), 0, 0, n["disk"], 0, 0, n["offset"]),
        )
        self.directory += raw
        self.count += 1
        return self

    def all(self, **parts):
        """Add the members of a good file but those given."""
        for name, content in members().items():
            if name not in parts:
                self.add(name, content)
        return self

    def end(self, before=b"", after=b"", comment=b"", **lies):
        """Return the archive."""
        n = {
            "count": self.count,
            "here": lies.get("count", self.count),
            "size": len(self.directory),
            "start": len(self.body) + len(before),
            "disk": 0,
        } | lies
        end = struct.pack(
            "<4s4H2LH",
            *(b"PK\x05\x06", n["disk"], 0, n["here"], n["count"], n["size"], n["start"]),
            len(comment),
        )
        return before + self.body + self.directory + end + comment + after
