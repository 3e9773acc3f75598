"""Cases of the modules for PyTorch: results and gradients. Empty where PyTorch is not installed."""

import warnings
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import treadle.torch
from support.bits.numbers import Case, Numbers


def cases() -> Iterator[Case]:
    if find_spec("torch") is None:
        return
    computed = [*_recurrent(), *_attention()]
    yield from (Case(name, compute, portable=False) for name, compute in computed)


def _tensor(array: Any, gradient: bool = True) -> Any:
    import torch

    return torch.from_numpy(array).requires_grad_(gradient)


def _loaded(numbers: Numbers, module: Any) -> Any:
    import torch

    for name, parameter in module.named_parameters():
        values = numbers.parameter(name, tuple(parameter.shape))
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values))
    return module


def _flat(result: Any) -> list[Any]:
    if isinstance(result, tuple):
        return [tensor for item in result for tensor in _flat(item)]
    return [] if result is None else [result]


def _trained(numbers: Numbers, module: Any, inputs: list[Any], results: Any) -> Any:
    """The results with the gradients of inputs and parameters for a loss that is linear in them."""
    import torch

    outputs = [tensor for tensor in _flat(results) if tensor.requires_grad]
    upstream = [torch.from_numpy(numbers.floats(*tensor.shape)) for tensor in outputs]
    torch.autograd.backward(outputs, upstream)
    leaves = [*inputs, *(module.parameters() if module is not None else ())]
    return [t.detach().numpy() for t in _flat(results)], [t.grad.numpy() for t in leaves]


def _module(name: str, cls: str, call: dict[str, Any], **options: Any) -> Any:
    numbers, (T, B, I, H) = Numbers(name), (6, 5, 9, 19)
    cell = cls.endswith("Cell")
    module = _loaded(numbers, getattr(treadle.torch, cls)(I, H, **options))
    x = _tensor(numbers.floats(*(() if cell else (T,)), B, I))
    given, state, call = [x], None, dict(call)
    if call.pop("state", False):
        leading = () if cell else (module.num_layers * (1 + module.bidirectional),)
        sizes = [options.get("proj_size", H), H][: 1 + cls.startswith("LSTM")]
        states = tuple(_tensor(numbers.floats(*leading, B, size)) for size in sizes)
        given, state = [x, *states], states if len(states) == 2 else states[0]
    if "lengths" in call:
        call["lengths"] = numbers.lengths(T, B)
    import torch

    with torch.no_grad():
        plain = module(x, state, **call)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch must not compute in place of treadle
        trained = _trained(numbers, module, given, module(x, state, **call))
    return [tensor.numpy() for tensor in _flat(plain)], trained


def _recurrent() -> Iterator[tuple[str, Any]]:
    two = {"num_layers": 2, "bidirectional": True}
    for cls in ("RNN", "LSTM", "GRU"):
        variants: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "plain": ({}, {}),
            "state": ({"state": True}, two),
            "lengths": ({"lengths": None, "state": True}, two),
            "no_bias": ({}, {"bias": False}),
        }
        if cls == "LSTM":
            variants["projection"] = ({"lengths": None, "state": True}, {"proj_size": 7} | two)
        if cls == "RNN":
            variants["relu"] = ({"state": True}, {"nonlinearity": "relu"})
        for label, (call, options) in variants.items():
            name = f"torch/{cls}/{label}"
            yield name, partial(_module, name, cls, call, **options)
        name = f"torch/{cls}Cell"
        yield name, partial(_module, name, f"{cls}Cell", {"state": True})


def _scaled(name: str, **options: Any) -> Any:
    numbers = Numbers(name)
    heads = 2 if options.get("enable_gqa") else 4
    given = [_tensor(numbers.floats(2, n, 9, 24)) for n in (4, heads, heads)]
    if "lengths" in options:
        options["lengths"] = numbers.lengths(9, 2)
    if "attn_mask" in options:
        options["attn_mask"] = _tensor(numbers.flags(2, 1, 9, 9), False)
    y = treadle.torch.scaled_dot_product_attention(*given, **options)
    return _trained(numbers, None, given, y)


def _heads(name: str, **options: Any) -> Any:
    numbers = Numbers(name)
    module = treadle.torch.MultiheadAttention(36, 4, batch_first=True)
    x = _tensor(numbers.floats(2, 7, 36))
    y = _loaded(numbers, module)(x, x, x, need_weights=False, **options)
    return _trained(numbers, module, [x], y)


def _attention() -> Iterator[tuple[str, Any]]:
    every: list[dict[str, Any]] = [
        {}, {"is_causal": True}, {"attn_mask": None}, {"enable_gqa": True}, {"softcap": 2.0},
        {"lengths": None}, {"scale": 0.5},
    ]  # fmt: skip
    for options in every:
        name = f"torch/attention/{','.join(options) or 'plain'}"
        yield name, partial(_scaled, name, **options)
    yield "torch/MultiheadAttention", partial(_heads, "torch/MultiheadAttention")
