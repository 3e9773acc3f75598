"""Pictures of traces: compared by the data of their artists, with hostile texts as they are."""

import io

import numpy as np
import pytest

import treadle
from support import samples

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
from matplotlib import pyplot

from treadle.inspection import plot

HOSTILE = ["$\\frac{$", "<b>&amp;", "^_{}\n\x00\ud800"]


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture
def trace():
    lengths = np.array([3, 2])
    module = treadle.LSTM(4, 6, num_layers=2, bidirectional=True, seed=0)
    return treadle.trace(module)(samples.normal(0, 3, 2, 4), lengths=lengths)


def rendered(ax):
    ax.figure.savefig(io.BytesIO(), format="png")


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("quantity", ["hidden", "cell"])
def test_states(trace, quantity):
    ax = plot.states(trace, quantity, layer=1, direction="reverse", row=1)
    values = trace[f"layer1.reverse.states.{quantity}"][:, 1].T
    (image,) = ax.get_images()
    shown = image.get_array()
    np.testing.assert_array_equal(shown.mask, np.isnan(values))
    np.testing.assert_array_equal(shown.filled(np.nan), values)
    low, high = image.get_clim()
    assert -low == high == np.nanmax(np.abs(values))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "unit")


def test_tokens_stand_at_the_axis(trace):
    trace.tokens = ["I", "love", "AI"]
    ax = plot.states(trace)
    assert labels(ax.xaxis) == ["I", "love", "AI"]
    assert ax.get_xlabel() == "token"
    rendered(ax)


def test_gates_as_lines(trace):
    _, given = pyplot.subplots()
    ax = plot.gates(trace, unit=2, ax=given)
    assert ax is given
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert list(lines) == ["input", "forget", "cell", "output"]
    for name, line in lines.items():
        gate = trace[f"layer0.forward.gates.{name}"][:, 0]
        np.testing.assert_array_equal(line.get_ydata(), gate[:, 2])
    assert len({line.get_color() for line in lines.values()}) == 4
    assert len({line.get_linestyle() for line in lines.values()}) == 4
    mean = plot.gates(trace).get_lines()[1]
    forget = trace["layer0.forward.gates.forget"][:, 0]
    np.testing.assert_array_equal(mean.get_ydata(), forget.mean(axis=1))


def test_one_gate_as_a_map(trace):
    (image,) = plot.gates(trace, "forget").get_images()
    gate = trace["layer0.forward.gates.forget"][:, 0].T
    np.testing.assert_array_equal(image.get_array(), gate)
    assert image.get_clim() == (0, 1)


def test_predictions():
    ax = plot.predictions([0.2, 0.7, 0.1], ["low", "high", "none"])
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.7, 0.2, 0.1])
    assert labels(ax.yaxis) == ["high", "low", "none"]
    steps = np.array([[0.2, 0.8], [0.6, 0.4], [1, 0]], np.float32)
    ax = plot.predictions(steps, ["noun", "verb"], tokens=["I", "love", "AI"])
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), steps.T)
    assert labels(ax.xaxis) == ["I", "love", "AI"]
    assert labels(ax.yaxis) == ["noun", "verb"]
    rendered(ax)


def test_hostile_texts_are_drawn_as_they_are(trace):
    trace.tokens = HOSTILE
    for draw in (plot.states, plot.gates):
        ax = draw(trace)
        assert labels(ax.xaxis)[:2] == HOSTILE[:2]
        rendered(ax)
    rendered(plot.predictions([0.5, 0.2, 0.3], HOSTILE))
    trace.add("$x$layer0.forward.states.hidden", np.ones((3, 2)), ("time", "unit"))
    rendered(plot.states(trace, prefix="$x$"))


def test_long_sequences_have_few_ticks():
    trace = treadle.trace(treadle.GRU(2, 3, seed=0))(samples.normal(0, 500, 2))
    trace.tokens = [f"token {i}" for i in range(500)]
    ax = plot.states(trace)
    assert len(ax.get_xticks()) <= 64
    assert labels(ax.xaxis)[1] == "token 8"


def test_what_is_refused(trace):
    with pytest.raises(TypeError, match="trace is 5"):
        plot.states(5)
    with pytest.raises(ValueError, match=r"no 'layer7\.forward\.states\.hidden'"):
        plot.states(trace, layer=7)
    with pytest.raises(ValueError, match="row is 2"):
        plot.states(trace, row=2)
    with pytest.raises(ValueError, match="unit is 6"):
        plot.gates(trace, unit=6)
    with pytest.raises(TypeError, match="gate is 3"):
        plot.gates(trace, 3)
    with pytest.raises(ValueError, match="no 'layer0"):
        plot.gates(trace, "reset")
    with pytest.raises(TypeError, match="ax is 3"):
        plot.gates(trace, ax=3)
    rnn = treadle.trace(treadle.RNN(2, 3, seed=0))(samples.normal(0, 4, 2))
    with pytest.raises(ValueError, match="expected gates"):
        plot.gates(rnn)
    with pytest.raises(ValueError, match="row is 1"):
        plot.states(rnn, row=1)
    empty = treadle.trace(treadle.RNN(2, 3, seed=0))(samples.normal(0, 0, 2))
    with pytest.raises(ValueError, match="expected a step"):
        plot.states(empty)
    with pytest.raises(ValueError, match="labels has 1 texts, expected 2"):
        plot.predictions([0.5, 0.5], ["a"])
    with pytest.raises(ValueError, match="probabilities has shape"):
        plot.predictions(np.zeros((1, 1, 1), np.float32))


def test_gradient_flow():
    x = samples.normal(0, 9, 2, 4)
    nets = {"RNN": treadle.RNN(4, 6, seed=0), "$LSTM": treadle.LSTM(4, 6, seed=0)}
    flows = {name: treadle.inspection.gradient_flow(net, x) for name, net in nets.items()}
    ax = plot.gradient_flow(flows, row=1)
    assert ax.get_yscale() == "log"
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    assert list(lines) == list(flows)
    for name, line in lines.items():
        np.testing.assert_array_equal(line, flows[name]["layer0.forward.norms.hidden"][:, 1])
    rendered(ax)
    one = plot.gradient_flow(flows["$LSTM"])
    labelled = [line.get_label() for line in one.get_lines()]
    assert labelled == ["layer0.forward hidden", "layer0.forward cell"]
    with pytest.raises(ValueError, match="no norms of 'cell'"):
        plot.gradient_flow(flows["RNN"], "cell")
    with pytest.raises(ValueError, match="flow is empty"):
        plot.gradient_flow({})
    with pytest.raises(TypeError, match="trace is 5"):
        plot.gradient_flow({"a": 5})


def test_saliency_shades_each_token():
    found = treadle.inspection.saliency(treadle.GRU(4, 6, seed=0), samples.normal(0, 3, 4))
    ax = plot.saliency(found, HOSTILE)
    values = found["saliency"]
    assert len(ax.texts) == 3
    for text, value in zip(ax.texts, values, strict=True):
        red, _, blue, _ = text.get_bbox_patch().get_facecolor()
        assert (red > blue) == (value > 0)
    rendered(ax)
    with pytest.raises(ValueError, match="tokens has 1 texts, expected 3"):
        plot.saliency(found, ["a"])


def test_attention():
    module = treadle.MultiheadAttention(8, 2, batch_first=True, seed=0)
    query, key = samples.normal(0, 2, 3, 8), samples.normal(1, 2, 4, 8)
    trace = treadle.trace(module)(query, key, key)
    found = trace["attention.probabilities"]
    ax = plot.attention(trace, row=1)
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), found[1].mean(axis=0))
    ax = plot.attention(trace, head=1, tokens=[*HOSTILE, "d"], queries=HOSTILE)
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), found[0, 1])
    assert labels(ax.yaxis)[:2] == HOSTILE[:2]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key", "query")
    rendered(ax)
    trace.tokens = list("abcd")
    assert labels(plot.attention(trace).xaxis) == list("abcd")
    with pytest.raises(ValueError, match="head is 2"):
        plot.attention(trace, head=2)
    with pytest.raises(ValueError, match="row is 2"):
        plot.attention(trace, row=2)
    with pytest.raises(ValueError, match="no 'x'"):
        plot.attention(trace, "x")
    with pytest.raises(ValueError, match="queries has 1 texts, expected 3"):
        plot.attention(trace, queries=["a"])
