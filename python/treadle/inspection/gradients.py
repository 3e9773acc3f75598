"""Gradients to look at: how far a loss reaches back in time, and which inputs it depends on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_float32
from treadle.inspection import chain
from treadle.inspection.result import Trace
from treadle.layers.recurrent_stack import Recurrent
from treadle.layers.sequential import Sequential

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.inspection.chain import Way
    from treadle.inspection.flow import Gradients

LOSSES = ("last", "sum")


def gradient_flow(module: Any, x: ArrayLike, *, loss: Any = "last", **call: Any) -> Trace:
    """Return the gradients of a loss with respect to every state of a recurrent net.

    This is the picture of vanishing gradients: where the norms fall towards the first steps, the
    net cannot learn from them. The gradients come from the native backward passes, step by step,
    without PyTorch. They are total derivatives: by h_t and c_t of each step, through all that
    follows. A net in bfloat16 or int8 has those of its rounded weights, computed in float32.

    Parameters
    ----------
    module
        A `treadle.RNN`, `treadle.LSTM` or `treadle.GRU`; a `treadle.Sequential` of an `Embedding`,
        recurrent nets, linear layers and activations; or a module of PyTorch that
        `treadle.from_torch` converts to one of these, those of `treadle.torch` among them.
    x
        What a call takes.
    loss
        "last": the sum of the outputs of each sequence's last step. "sum": the sum of all outputs.
        An array like the output y: its product with y, so that it is the gradient of the loss by y.
        A function of y that returns such an array; or, for a module of PyTorch, a function of a
        tensor y that returns a scalar.
    call
        The other arguments of a recurrent net's call: state, lengths, mask, resets, reset_state.

    Returns
    -------
    A `Trace`, whose output is that of the call. With the axes time, batch and unit it has
    ``layer0.forward.gradients.hidden`` and, of an LSTM, ``.gradients.cell``; with time and batch
    their Euclidean norms, ``layer0.forward.norms.hidden`` and ``.norms.cell``. A step that did not
    run has NaN.

    Raises
    ------
    TypeError
        For another module, and for a loss that is none of these.
    ValueError
        For a gradient of the loss in another shape, and for what a call refuses.

    References
    ----------
    Hochreiter, Untersuchungen zu dynamischen neuronalen Netzen, 1991; Pascanu et al.,
    arXiv:1211.5063.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x = np.ones((50, 1, 4), np.float32)
    >>> flow = treadle.inspection.gradient_flow(treadle.RNN(4, 8, seed=0), x)
    >>> norms = flow["layer0.forward.norms.hidden"]
    >>> norms.shape, bool(norms[0, 0] < 1e-6 * norms[-1, 0])
    ((50, 1), True)
    """
    function = "treadle.inspection.gradient_flow"
    module, x, call, foreign = _converted(function, module, x, call)
    way = _way(function, module, x, call)
    _, found = way.back(_upstream(function, way, loss, foreign))
    trace = Trace(f"the gradients of {module!r}", way.output)
    for gradients in found:
        for quantity, values in _quantities(gradients).items():
            steps = ("time", "batch") if values.ndim == 3 else ("time",)
            trace.add(f"{gradients.place}.gradients.{quantity}", values, (*steps, "unit"))
            norms = np.linalg.norm(values.astype(np.float64), axis=-1)
            trace.add(f"{gradients.place}.norms.{quantity}", norms, steps)
    return trace


def saliency(module: Any, x: ArrayLike, *, loss: Any = "last", **call: Any) -> Trace:
    """Return how much a loss depends on the input of each step: gradient times input.

    The product of the gradient and the input, summed over the features of a step, is what the step
    adds to the loss to first order. For ids the input is the row of the embedding.

    Parameters
    ----------
    module, x, loss, call
        As `gradient_flow` has them.

    Returns
    -------
    A `Trace` with ``saliency`` [time, batch] and ``gradients.input`` [time, batch, feature].

    Raises
    ------
    TypeError, ValueError
        As `gradient_flow` does.

    References
    ----------
    Simonyan et al., arXiv:1312.6034; gradient times input: Shrikumar et al., arXiv:1605.01713.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> model = treadle.Sequential(
    ...     treadle.Embedding(10, 4, seed=0), treadle.GRU(4, 8, seed=0), treadle.Tanh()
    ... )
    >>> found = treadle.inspection.saliency(model, np.array([[3], [1], [4]]))
    >>> found["saliency"].shape, found.axes("saliency")
    ((3, 1), ('time', 'batch'))
    """
    function = "treadle.inspection.saliency"
    module, x, call, foreign = _converted(function, module, x, call)
    way = _way(function, module, x, call)
    dx, _ = way.back(_upstream(function, way, loss, foreign))
    values = np.sum(dx.astype(np.float64) * way.x, axis=-1)
    trace = Trace(f"the saliency of {module!r}", way.output)
    if dx.ndim == 3 and way.steps == 1:
        dx, values = dx.swapaxes(0, 1), values.swapaxes(0, 1)
    batch = ("batch",) if dx.ndim == 3 else ()
    trace.add("saliency", values, ("time", *batch))
    trace.add("gradients.input", dx, ("time", *batch, "feature"))
    return trace


def _quantities(gradients: Gradients) -> dict[str, Float]:
    found = {"hidden": gradients.hidden}
    return found if gradients.cell is None else found | {"cell": gradients.cell}


def _way(function: str, module: Any, x: ArrayLike, call: dict[str, Any]) -> Way:
    """Call a module and return the way back."""
    if isinstance(module, Recurrent):
        return chain.recurrent(function, module, x, **call)
    if isinstance(module, Sequential):
        if call:
            raise TypeError(f"{function}: got {sorted(call)}, which a Sequential does not take")
        return chain.sequential(function, module, x)
    raise TypeError(
        f"{function}: module is of type {type(module).__name__}, expected an RNN, LSTM, GRU or "
        "Sequential of treadle or PyTorch"
    )


def _converted(
    function: str, module: Any, x: Any, call: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any], bool]:
    """Return treadle's form of a module of PyTorch and of its input, and whether it was one."""
    torch = sys.modules.get("torch")  # a module of PyTorch exists only where it was imported
    if torch is None or not isinstance(module, torch.nn.Module):
        return module, x, call, False
    from treadle.torch import from_torch

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(plain(part) for part in value)
        return value.detach() if isinstance(value, torch.Tensor) else value

    return from_torch(module), plain(x), {k: plain(v) for k, v in call.items()}, True


def _upstream(function: str, way: Way, loss: Any, foreign: bool) -> Float:
    """Return the gradient of the loss by y."""
    y = way.y
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"{function}: loss is {checks.shown(loss)}, expected one of {LOSSES}")
        return np.ones_like(y) if loss == "sum" else _last(way)
    if callable(loss):
        if foreign:
            return _by_autograd(function, loss, y)
        loss = loss(y.copy())
    given = to_float32(function, "loss", loss, checks.fits(function, "loss", y.shape))
    return np.ascontiguousarray(given)


def _last(way: Way) -> Float:
    """Return ones at the last step of each sequence, zeros elsewhere."""
    grad = np.zeros_like(way.y)
    if way.y.ndim < 2 or not way.y.size:
        return grad
    time = way.steps if way.y.ndim == 3 else 0
    steps = np.moveaxis(grad, time, 0)
    if way.lengths is None:
        steps[-1] = 1
    elif way.y.ndim == 2:
        steps[way.lengths[0] - 1] = 1 if way.lengths[0] else 0
    else:
        rows = np.flatnonzero(way.lengths)
        steps[way.lengths[rows] - 1, rows] = 1
    return grad


def _by_autograd(function: str, loss: Any, y: Float) -> Float:
    """Return the gradient by y of a loss that is written for tensors of PyTorch."""
    import torch

    leaf = torch.from_numpy(y.copy()).requires_grad_()
    with torch.enable_grad():
        value = loss(leaf)
    if not isinstance(value, torch.Tensor):
        return to_float32(function, "loss", value, checks.fits(function, "loss", y.shape))
    if value.numel() != 1 or not value.requires_grad:
        raise ValueError(
            f"{function}: loss returns a tensor of shape {tuple(value.shape)}, expected a scalar "
            "that depends on y"
        )
    (grad,) = torch.autograd.grad(value.reshape(()), leaf)
    found: Float = grad.numpy()
    return found
