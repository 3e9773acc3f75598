"""The functions that take arrays, each with right arguments: the material of wrong ones."""

from functools import partial

import numpy as np

import treadle
from support import samples
from support.checks import CELLS, MODULES
from support.tolerance import flatten

T, B, INPUT, H = 4, 3, 5, 7


def entries():
    result = {}
    for mode in samples.MODES:
        weights, _ = samples.layer(mode, INPUT, H)
        named = dict(zip(["weight_ih", "weight_hh", "bias_ih", "bias_hh"], weights, strict=True))
        state = samples.states(mode, [], B, H)
        x, x_t = samples.normal(0, T, B, INPUT), samples.normal(0, B, INPUT)
        first = dict(zip(["h_0", "c_0"], flatten(state), strict=False))
        one = dict(zip(["h", "c"], flatten(state), strict=False))
        extra = {"weight_hr": samples.normal(0, 2, H)} if mode == "lstm" else {}
        function = getattr(treadle.functional, mode)
        result[f"treadle.functional.{mode}"] = (function, {"x": x, **named, **first})
        if mode == "lstm":
            own = named | {"weight_hh": samples.normal(0, 4 * H, 2)}
            peepholes = {"peepholes": samples.normal(0, 3 * H)}
            result["treadle.functional.lstm with a projection"] = (
                function, {"x": x, **own, **extra, **peepholes},
            )  # fmt: skip
        forward = getattr(treadle.functional, mode + "_forward")
        result[f"treadle.functional.{mode}_forward"] = (forward, {"x": x, **named, **first})
        *results, saved = forward(x, **named, **first)
        seeds = dict(zip(["dy", "dh_n", "dc_n"], flatten(results), strict=False))
        backward = partial(getattr(treadle.functional, mode + "_backward"), saved)
        result[f"treadle.functional.{mode}_backward"] = (backward, seeds)
        cell = getattr(treadle.functional, mode + "_cell")
        result[f"treadle.functional.{mode}_cell"] = (cell, {"x": x_t, **named, **one})
        module, cell = MODULES[mode](INPUT, H, seed=0), CELLS[mode](INPUT, H, seed=0)
        result[f"treadle.{MODULES[mode].__name__}"] = (module, {"x": x})
        result[f"treadle.{CELLS[mode].__name__}"] = (cell, {"x": x_t})
        traced, flow = treadle.trace(module), partial(treadle.inspection.gradient_flow, module)
        result[f"treadle.{MODULES[mode].__name__} with a trace"] = (traced, {"x": x})
        result[f"treadle.{MODULES[mode].__name__} with its gradients"] = (flow, {"x": x})
        result[f"treadle.{CELLS[mode].__name__} with a trace"] = (treadle.trace(cell), {"x": x_t})
        with_axis = tuple(part[None] for part in flatten(state))
        if mode == "lstm":
            call = lambda x, h, c, m=module: m(x, (h, c))
            result["treadle.LSTM with a state"] = (
                call,
                {"x": x, **dict(zip("hc", with_axis, strict=True))},
            )
        else:
            result[f"treadle.{mode.upper()} with a state"] = (
                module,
                {"x": x, "state": with_axis[0]},
            )
    weight = samples.normal(0, H, INPUT)
    result["treadle.functional.linear"] = (
        treadle.functional.linear, {"x": x_t, "weight": weight, "bias": samples.normal(0, H)},
    )  # fmt: skip
    image, line = samples.normal(0, B, 4, 6, 5), samples.normal(0, B, 4, 6)
    bias = samples.normal(0, H)
    for name, x, weight in (
        ("conv1d", line, samples.normal(1, H, 4, 3)),
        ("conv2d", image, samples.normal(1, H, 4, 3, 2)),
        ("conv_transpose1d", line, samples.normal(1, 4, H, 3)),
        ("conv_transpose2d", image, samples.normal(1, 4, H, 3, 2)),
    ):
        function = getattr(treadle.functional, name)
        result[f"treadle.functional.{name}"] = (function, {"x": x, "weight": weight, "bias": bias})
    result["treadle.Conv2d"] = (treadle.Conv2d(4, H, 3, seed=0), {"x": image})
    result["treadle.ConvTranspose2d"] = (treadle.ConvTranspose2d(4, H, 3, seed=0), {"x": image})
    return result


ENTRIES = entries()


# Dtypes that are not float32, and that nothing may cast silently.
WRONG_DTYPES = [
    np.float64, np.float16, np.longdouble, np.complex64, np.int8, np.int32, np.int64, np.uint8,
    np.uint32, np.bool_, np.object_, "S4", "U4", "V4", "M8[s]", "m8[s]", [("a", "f4")],
]  # fmt: skip
