"""The SVG of a trace: one piece, no script, no address, hostile text escaped, true pixels."""

import base64
import re
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest

import treadle
from support import samples
from treadle.inspection.colors import MISSING, colored, limits, rgb
from treadle.inspection.html import html, page, png

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&b;\x00\x1b\ud800]]>"]


def traced(steps=3, **options):
    module = treadle.LSTM(4, 6, seed=0, **options)
    return treadle.trace(module)(samples.normal(0, steps, 2, 4))


def pixels(file):
    """The pixels of a PNG that has no filters."""
    width, height = struct.unpack(">II", file[16:24])
    at, data = 8, b""
    while at < len(file):
        (size,) = struct.unpack(">I", file[at : at + 4])
        assert zlib.crc32(file[at + 4 : at + 8 + size]) == struct.unpack(
            ">I", file[at + 8 + size : at + 12 + size]
        )[0]  # fmt: skip
        data += file[at + 8 : at + 8 + size] if file[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + size
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_svg_shows_the_values():
    trace = traced()
    trace.tokens = ["I", "love", "AI"]
    root = ElementTree.fromstring(trace._repr_html_())
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags == {"svg", "rect", "text", "image", "g"}
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"I", "love", "AI"} <= set(texts)
    images = [element.get("href") for element in root.iter() if element.tag.endswith("image")]
    assert len(images) == len(trace)
    for name, image in zip(trace, images, strict=True):
        assert name in texts
        head, _, data = image.partition(",")
        assert head == "data:image/png;base64"
        values = trace[name][:, 0].T
        expected = colored(values, *limits(name, values))
        found = pixels(base64.b64decode(data))
        down, right = (n // m for n, m in zip(found.shape, expected.shape[:2], strict=False))
        squares = expected.repeat(down, 0).repeat(right, 1)
        np.testing.assert_array_equal(found, squares)


@pytest.mark.parametrize("make", [html, page])
def test_hostile_text_is_escaped(make):
    trace = traced()
    trace.tokens = HOSTILE
    trace.title = HOSTILE[0]
    trace.add(f"{HOSTILE[1]}.states.hidden", np.ones((2, 3)), ("time", "unit"))
    found = make(trace)
    found.encode()
    assert "<script" not in found
    assert "<img" not in found
    assert "\x00" not in found
    root = ElementTree.fromstring(found[found.index("<svg") : found.index("</svg>") + 6])
    for element in root.iter():
        assert not any(name.startswith("on") or name == "src" for name in element.attrib)
        assert re.fullmatch(
            r"data:image/png;base64,[\w+/=]+", element.get("href", "data:image/png;base64,x")
        )
    assert "http" not in found.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "&lt;script&gt;" in found


def test_attention_has_tokens_on_both_axes():
    x = samples.normal(0, 3, 8)
    trace = treadle.trace(treadle.MultiheadAttention(8, 2, seed=0))(x, x, x)
    trace.tokens = ["I", "love", "AI"]
    root = ElementTree.fromstring(trace._repr_html_())
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert texts.count("love") == 2
    assert "1 array" in texts[0]


def test_size_is_bounded():
    """However many names, steps and units there are."""
    trace = treadle.trace(treadle.GRU(2, 600, num_layers=9, seed=0))(samples.normal(0, 700, 1, 2))
    found = trace._repr_html_()
    assert found.count("<image") == 12
    assert "36 arrays, the first 12 shown" in found
    assert len(found) < 3_500_000


def test_empty_sequences():
    for shape in ((0, 2, 4), (3, 0, 4)):
        trace = treadle.trace(treadle.LSTM(4, 6, seed=0))(np.zeros(shape, np.float32))
        assert "<image" not in trace._repr_html_()
    trace = treadle.trace(treadle.LSTM(4, 6, seed=0))(
        np.zeros((3, 1, 4), np.float32), lengths=np.array([0])
    )
    assert trace._repr_html_().count("<image") == 6


def test_colors():
    values = np.array([-2, -1, 0, 1, 2, np.nan], np.float32)
    assert colored(values, -1, 1).tolist() == [
        rgb("#2166ac"), rgb("#2166ac"), rgb("#f7f7f7"), rgb("#b2182b"), rgb("#b2182b"), rgb(MISSING)
    ]  # fmt: skip
    assert limits("layer0.forward.gates.forget", values[2:4]) == (0, 1)
    assert limits("layer0.forward.gates.cell", values[2:4]) == (-1, 1)
    assert limits("layer0.forward.states.hidden", values) == (-2, 2)
    assert limits("probabilities", values[2:3]) == (0, 1)
    assert pixels(png(colored(values[None], -1, 1))).shape == (1, 6, 3)
