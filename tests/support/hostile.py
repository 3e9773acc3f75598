"""Damaged and hostile safetensors, made from good ones: for files and for exported states.

Each variant is a class of accident or attack known from other loaders: truncation, lengths that
wrap, shapes that overflow, tensors that overlap, allocation on the file's word, confused types.
"""

import json
import pickle
import struct
import zipfile
from io import BytesIO


def split(data):
    """The header as a dict, and the tensors' bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header, payload, *, length=None):
    """The inverse; a header given as bytes is taken as it is, a length may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


def edited(data, edit):
    """`data` after `edit(header)`, which may return another header."""
    header, payload = split(data)
    return join(edit(header) or header, payload)


def about_edited(data, edit):
    """`data` after `edit(about)` on what treadle wrote into the metadata."""

    def change(header):
        about = json.loads(header["__metadata__"]["treadle"])
        header["__metadata__"]["treadle"] = json.dumps(edit(about) or about)

    return edited(data, change)


def variants(data):
    """name -> bytes, none of which may load. `data` must hold two tensors or more."""
    return foreign_variants(data) | _metadata(data)


def foreign_variants(data):
    """Return the variants but those that concern the entry of treadle in the metadata."""
    return _cut(data) | _lengths(data) | _headers(data) | _entries(data)


def _cut(data):
    header_end = len(data) - len(split(data)[1])
    cuts = [0, 1, 7, 8, 9, header_end // 2, header_end - 1, header_end, header_end + 1]
    cuts += [(header_end + len(data)) // 2, len(data) - 4, len(data) - 1]
    result = {f"cut at {cut}": data[:cut] for cut in cuts}
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        entry = zipfile.ZipInfo("archive/data.pkl")  # without the time: the same bytes every time
        file.writestr(entry, pickle.dumps({}))
    return result | {
        "one byte more": data + b"\0",
        "twice": data + data,
        "zeros": bytes(len(data)),
        "ones": b"\xff" * len(data),
        "text": b"Once upon a time there was a model that was none.\n" * 20,
        "zip as of torch.save": archive.getvalue(),
        "pickle": pickle.dumps({"weight_ih_l0": [0.0] * 100}),
        "shifted": b"\0" + data,
        "first byte lost": data[1:],
    }


def _lengths(data):
    header, payload = split(data)
    text = json.dumps(header).encode()
    lengths = [0, 1, 2, len(text) - 1, len(text) + 1, len(text) + len(payload) + 1, len(data)]
    lengths += [2**24, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1]
    return {f"header of {n}": join(text, payload, length=n) for n in lengths}


def _headers(data):
    header, payload = split(data)
    text = json.dumps(header).encode()
    first = next(name for name in header if name != "__metadata__")
    entry = json.dumps({first: header[first]}).encode()[1:-1]
    texts = {
        "no JSON": b"weight_ih_l0 = [1, 2, 3]",
        "no header": b"",
        "spaces": b" " * 64,
        "list": b"[" + text + b"]",
        "number": b"7",
        "null": b"null",
        "string": b'"weights"',
        "not UTF-8": text.replace(first.encode(), b"\xff\xfe" + first.encode()[2:]),
        "UTF-16": text.decode().encode("utf-16"),
        "cut JSON": text[:-1],
        "more after JSON": text + b"{}",
        "NUL after JSON": text + b"\0",
        "deep lists": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "deep objects": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
        "NaN": text.replace(b'"data_offsets": [0', b'"data_offsets": [NaN', 1),
        "infinity": text.replace(b'"data_offsets": [0', b'"data_offsets": [-Infinity', 1),
        "a tensor twice": text[:-1] + b", " + entry + b"}",
        "metadata twice": text[:-1] + b', "__metadata__": {}}',
        "shape twice": text.replace(b'"shape"', b'"shape": [1], "shape"', 1),
        "long number": text.replace(b'"data_offsets": [0', b'"data_offsets": [' + b"9" * 5000, 1),
        "many tensors": json.dumps(
            {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}
        ).encode(),
        "empty": b"{}",
    }
    return {name: join(text, payload) for name, text in texts.items()}


def _entries(data):
    header, payload = split(data)
    names = [name for name in header if name != "__metadata__"]
    names.sort(key=lambda name: header[name]["data_offsets"])
    first, last = names[0], names[-1]
    shape, (begin, end) = header[first]["shape"], header[first]["data_offsets"]

    def with_entry(name, **changes):
        return edited(data, lambda h: h[name].update(changes))

    result = {}
    for value in ["F64", "F16", "BF16", "I32", "U8", "f32", "", "F32 ", "X" * 10_000, 32, None, []]:
        result[f"dtype {str(value)[:9]!r}"] = with_entry(first, dtype=value)
    shapes = {
        "none": None,
        "number": 12,
        "text": "12",
        "object": {},
        "scalar": [],
        "transposed or split": [*shape[:-1], 1, shape[-1]],
        "trailing one": [*shape, 1],
        "zero": [0, *shape[1:]],
        "one more": [shape[0] + 1, *shape[1:]],
        "negative": [-n for n in shape],
        "minus one": [-1, *shape[1:]],
        "float": [float(n) for n in shape],
        "texts": [str(n) for n in shape],
        "bools": [True] * len(shape),
        "nested": [shape],
        "rank 1000": [*shape, *[1] * 1000],
        "2^31": [2**31, 2**31],
        "2^32": [2**32, 2**32],  # 4 * 2^64 wraps to 0
        "2^62": [2**62, 1],  # 4 * 2^62 wraps to 0
        "2^63": [2**63, 1],
        "2^64": [2**64, 1],
        "2^200": [2**200],
        "wraps to itself": [2**62 + (end - begin) // 4],
        "petabytes": [2**25, 2**25],
    }
    result |= {f"shape {name}": with_entry(first, shape=value) for name, value in shapes.items()}
    size = len(payload)
    offsets = {
        "none": None,
        "one": [begin],
        "three": [begin, end, end],
        "texts": [str(begin), str(end)],
        "floats": [float(begin), float(end)],
        "bools": [False, True],
        "backwards": [end, begin],
        "negative": [begin - 4, end - 4],
        "shifted": [begin + 1, end + 1],
        "short": [begin, end - 4],
        "long": [begin, end + 4],
        "empty": [begin, begin],
        "beyond the file": [size, size + end - begin],
        "far beyond": [2**40, 2**40 + end - begin],
        "2^63": [2**63, 2**63 + end - begin],
        "wrapping": [2**64 - 4, end - begin - 4],
        "2^64": [2**64, 2**64 + end - begin],
        "into the header": [-8, end],
    }
    result |= {f"offsets {n}": with_entry(first, data_offsets=v) for n, v in offsets.items()}
    last_begin, last_end = header[last]["data_offsets"]
    gap = edited(data, lambda h: h[last].update(data_offsets=[last_begin + 4, last_end + 4]))
    result |= {
        "overlap": with_entry(last, data_offsets=[last_begin - 4, last_end - 4]),
        "all at the start": with_entry(last, data_offsets=[0, last_end - last_begin]),
        "gap": gap + bytes(4),
        "entry is a list": edited(data, lambda h: h.update({first: [1, 2]})),
        "entry is null": edited(data, lambda h: h.update({first: None})),
        "entry is text": edited(data, lambda h: h.update({first: "F32"})),
        "entry with more": with_entry(first, pickle="cos\nsystem\n(S'true'\ntR."),
        "tensor renamed": edited(data, lambda h: h.update({"other": h.pop(first)})),
        "tensor without name": edited(data, lambda h: h.update({"": h.pop(first)})),
        "path for a name": edited(data, lambda h: h.update({"../../x": h.pop(first)})),
        "surrogate in a name": edited(data, lambda h: h.update({"\ud800": h.pop(first)})),
        "empty tensor more": edited(
            data,
            lambda h: h.update(more={"dtype": "F32", "shape": [0], "data_offsets": [size] * 2}),
        ),
        "tensor less": join({k: v for k, v in header.items() if k != last}, payload[:last_begin]),
    }
    for key in ("dtype", "shape", "data_offsets"):
        result[f"entry without {key}"] = edited(data, lambda h, key=key: h[first].pop(key) and None)
    return result


def _metadata(data):
    def with_metadata(value):
        return edited(data, lambda h: h.update(__metadata__=value))

    return {
        "no metadata": edited(data, lambda h: h.pop("__metadata__") and None),
        "metadata empty": with_metadata({}),
        "metadata null": with_metadata(None),
        "metadata list": with_metadata([]),
        "metadata of a stranger": with_metadata({"format": "pt"}),
        "about is an object": with_metadata({"treadle": {}}),
        "about is null": with_metadata({"treadle": None}),
        "about is no JSON": with_metadata({"treadle": "LSTM(8, 16)"}),
        "about is empty": with_metadata({"treadle": ""}),
        "about is a list": with_metadata({"treadle": "[]"}),
        "about is nothing": with_metadata({"treadle": "{}"}),
        "about is deep": with_metadata({"treadle": "[" * 100_000}),
        "about is a surrogate": with_metadata({"treadle": "\ud800"}),
        "format of the future": about_edited(data, lambda a: a.update(format="treadle/999")),
        "format is a number": about_edited(data, lambda a: a.update(format=1)),
        "format missing": about_edited(data, lambda a: a.pop("format") and None),
        "entry too many": about_edited(data, lambda a: a.update(__class__="os.system")),
    }
