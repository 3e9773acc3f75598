"""This module compares captured modules with the modules themselves, and has the cases for it.

A case is a function of tensors. The cases of a group share their inputs, and are captured together:
one module returns the results of all of them by their names.
"""

import copy

import numpy as np
import torch
from torch.nn import functional as F

from support.tolerance import EPS


class Group(torch.nn.Module):
    """Functions of the same inputs as one module, whose outputs have the functions' names."""

    def __init__(self, functions, weights=()):
        super().__init__()
        self.functions = functions
        for name, shape in dict(weights).items():
            generator = torch.Generator().manual_seed(len(name))
            self.register_buffer(name, torch.randn(shape, generator=generator))

    def forward(self, **inputs):
        own = dict(self.named_buffers())
        return {name: run(**inputs, **own) for name, run in self.functions.items()}


def inputs_of(shapes, seed=0, B=2, T=5):
    """Return tensors for a group: of a shape with B and T, or what a function of (B, T) makes."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        if callable(shape):
            found[name] = shape(B, T, generator)
            continue
        sizes = [{"B": B, "T": T}.get(size, size) for size in shape]
        found[name] = torch.randn(sizes, generator=generator)
    return found


def integers(low, high, *shape):
    def make(B, T, generator):
        sizes = [{"B": B, "T": T}.get(size, size) for size in shape]
        return torch.randint(low, high, sizes, generator=generator)

    return make


def as_double(inputs):
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def flattened(result):
    """Return the tensors of a result, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    if result is None:
        return []
    values = result.values() if isinstance(result, dict) else result
    return [tensor for value in values for tensor in flattened(value)]


def assert_same(model, module, inputs):
    """Assert that a model computes what its module does, to rounding.

    Each output: max |ours - exact| <= 2 max |PyTorch's - exact| + 4 eps max(1, max |exact|), where
    the module in float64 is exact. Integers and bools are equal.
    """
    with torch.no_grad():
        theirs = flattened(module(**inputs))
        exact = flattened(copy.deepcopy(module).double()(**as_double(inputs)))
    found = model(**{name: tensor.numpy() for name, tensor in inputs.items()})
    found = list(found.values()) if isinstance(found, dict) else [found]
    names = [value.name for value in model.outputs]
    assert len(found) == len(theirs) == len(names)
    for name, ours, near, truth in zip(names, found, theirs, exact, strict=True):
        near, truth = near.numpy(), truth.numpy()
        assert ours.shape == near.shape, f"{name}: shape {ours.shape}, expected {near.shape}"
        assert ours.dtype == near.dtype, f"{name}: {ours.dtype}, expected {near.dtype}"
        if ours.dtype != np.float32:
            np.testing.assert_array_equal(ours, near, err_msg=name)
            continue
        finite = np.isfinite(near)
        np.testing.assert_array_equal(ours[~finite], near[~finite], err_msg=name)
        ours, near, truth = ours[finite], near[finite], truth[finite]
        if not ours.size:
            continue
        size = max(1.0, np.abs(truth).max())
        allowed = 2 * np.abs(near - truth).max() + 4 * EPS * size
        error = np.abs(ours - truth).max()
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}"


def _written(x, index, value):
    x = x.clone()
    x[index] = value
    return x


POINTWISE = {
    "abs": lambda x, **_: x.abs(),
    "acos_asin": lambda x, **_: torch.acos(x.clamp(-0.9, 0.9)) + torch.asin(x.clamp(-0.9, 0.9)),
    "acosh": lambda x, **_: torch.acosh(x.abs() + 1.5),
    "asinh": lambda x, **_: torch.asinh(x),
    "atan": lambda x, **_: torch.atan(x),
    "atanh": lambda x, **_: torch.atanh(x.clamp(-0.9, 0.9)),
    "ceil_floor": lambda x, **_: torch.ceil(x) - torch.floor(x * 3),
    "cos_sin": lambda x, **_: torch.cos(x) * torch.sin(x),
    "cosh_sinh": lambda x, **_: torch.cosh(x) - torch.sinh(x),
    "tan": lambda x, **_: torch.tan(x.clamp(-1, 1)),
    "erf": lambda x, **_: torch.erf(x),
    "exp_log": lambda x, **_: torch.log(torch.exp(x) + 1),
    "exp2": lambda x, **_: torch.exp2(x),
    "expm1": lambda x, **_: torch.expm1(x),
    "log2": lambda x, **_: torch.log2(x.abs() + 1),
    "log10": lambda x, **_: torch.log10(x.abs() + 1),
    "log1p": lambda x, **_: torch.log1p(x.abs()),
    "neg": lambda x, **_: -x,
    "reciprocal": lambda x, **_: torch.reciprocal(x.abs() + 1),
    "round": lambda x, **_: torch.round(x * 3),
    "rsqrt_sqrt": lambda x, **_: torch.rsqrt(x.abs() + 1) + torch.sqrt(x.abs()),
    "sign_trunc": lambda x, **_: torch.sign(x) + torch.trunc(x * 3),
    "square": lambda x, **_: torch.square(x),
    "add_alpha": lambda x, y, **_: torch.add(x, y, alpha=0.5),
    "sub_alpha": lambda x, y, **_: torch.sub(x, y, alpha=2),
    "rsub": lambda x, **_: 1 - x,
    "mul_broadcast": lambda x, y, **_: x * y[:, :1],
    "add_int": lambda x, n, **_: x + n[:, None, None],
    "int_half": lambda n, **_: n * 0.5,
    "div": lambda x, y, **_: x / (y.abs() + 1),
    "div_int": lambda n, **_: n / 4,
    "div_floor": lambda x, **_: torch.div(x, 0.3, rounding_mode="floor"),
    "div_trunc": lambda x, **_: torch.div(x, 0.3, rounding_mode="trunc"),
    "floor_divide": lambda n, **_: (n - 5) // 3,
    "div_trunc_int": lambda n, **_: torch.div(n - 5, 3, rounding_mode="trunc"),
    "remainder": lambda n, **_: (n - 5) % 3,
    "remainder_float": lambda x, **_: torch.remainder(x, 2.0),
    "fmod": lambda x, **_: torch.fmod(x, 2.0),
    "pow": lambda x, **_: x.abs() ** 1.7 + x**2 + x**3 + (x.abs() + 1) ** -1 + x.abs() ** 0.5,
    "pow_base": lambda x, **_: 2.0**x,
    "maximum": lambda x, y, **_: torch.maximum(x, y) - torch.minimum(x, y),
    "max_other": lambda x, y, **_: torch.max(x, y) + torch.min(x, y),
    "clamp": lambda x, **_: x.clamp(-0.5, 0.5) + x.clamp_min(0.1) + x.clamp_max(0.2),
    "clamp_tensor": lambda x, y, **_: x.clamp(min=-y.abs(), max=y.abs()),
    "compare": lambda x, y, **_: (x < y) | (x >= 1) & (x != y) & ~(x > 2) | (x <= -1),
    "eq_int": lambda n, **_: (n == 3) ^ (n > 4),
    "logical": lambda n, **_: torch.logical_and(n, n > 1) | torch.logical_not(n),
    "logical_or": lambda x, **_: torch.logical_or(x > 0, x < -1) ^ torch.logical_xor(x > 1, x > 0),
    "bitwise": lambda n, **_: (n & 3) + (n | 4) + (n ^ 1) + ~n,
    "where": lambda x, y, **_: torch.where(x > y, x, y * 2),
    "where_scalar": lambda x, **_: torch.where(x > 0, x, 0.0),
    "masked_fill": lambda x, **_: x.masked_fill(x > 1, -torch.inf),
    "isfinite": lambda x, **_: torch.isfinite(x / (x > 0)) | torch.isnan(x) | torch.isinf(x),
    "lerp": lambda x, y, **_: torch.lerp(x, y, 0.3),
    "addcmul": lambda x, y, **_: torch.addcmul(x, x, y, value=0.5),
    "addcdiv": lambda x, y, **_: torch.addcdiv(x, x, y.abs() + 1),
    "to": lambda x, **_: x.to(torch.int32).to(torch.float32) + x.long() + (x > 0).float(),
    "inplace": lambda x, y, **_: x.clone().add_(y).mul_(2).relu_(),
}

ACTIVATIONS = {
    "relu": lambda x, **_: F.relu(x),
    "relu6": lambda x, **_: F.relu6(x * 4),
    "sigmoid": lambda x, **_: torch.sigmoid(x),
    "tanh": lambda x, **_: torch.tanh(x),
    "elu": lambda x, **_: F.elu(x, 0.7),
    "celu": lambda x, **_: F.celu(x, 0.7),
    "selu": lambda x, **_: F.selu(x),
    "leaky_relu": lambda x, **_: F.leaky_relu(x, 0.2),
    "silu": lambda x, **_: F.silu(x),
    "gelu": lambda x, **_: F.gelu(x),
    "gelu_tanh": lambda x, **_: F.gelu(x, approximate="tanh"),
    "mish": lambda x, **_: F.mish(x),
    "hardswish": lambda x, **_: F.hardswish(x * 3),
    "hardsigmoid": lambda x, **_: F.hardsigmoid(x * 3),
    "hardtanh": lambda x, **_: F.hardtanh(x, -0.5, 0.7),
    "softplus": lambda x, **_: F.softplus(x) + F.softplus(x, 2.0, 1.5),
    "logsigmoid": lambda x, **_: F.logsigmoid(x),
    "softsign": lambda x, **_: F.softsign(x),
    "threshold": lambda x, **_: F.threshold(x, 0.1, 3.0),
    "hardshrink": lambda x, **_: F.hardshrink(x),
    "softshrink": lambda x, **_: F.softshrink(x),
    "tanhshrink": lambda x, **_: F.tanhshrink(x),
    "prelu": lambda x, slope, **_: F.prelu(x, slope),
    "glu": lambda y, **_: F.glu(y, -1),
    "softmax": lambda x, **_: torch.softmax(x, -1) + F.softmin(x, 1),
    "log_softmax": lambda x, **_: torch.log_softmax(x, 1),
    "dropout": lambda x, **_: F.dropout(x, 0.5, training=False),
}

MOVEMENT = {
    "reshape": lambda x, **_: x.reshape(x.shape[0], -1),
    "view_both": lambda x, **_: x.view(x.shape[0] * x.shape[1], 6),
    "view_split": lambda x, **_: x.view(x.shape[0], x.shape[1], 2, 3).transpose(1, 2),
    "flatten": lambda x, **_: x.flatten(1),
    "flatten_all": lambda x, **_: x.flatten(),
    "unflatten": lambda x, **_: x.unflatten(-1, (2, 3)),
    "permute": lambda x, **_: x.permute(2, 0, 1),
    "transpose": lambda x, **_: x.transpose(1, 2).contiguous(),
    "mT": lambda x, **_: x.mT @ x,
    "movedim": lambda x, **_: x.movedim(0, -1),
    "t": lambda w, **_: w.t() * 2,
    "expand": lambda x, **_: x[:, :1].expand(-1, x.shape[1], -1) + x.new_ones(6).expand_as(x),
    "squeeze": lambda x, **_: x[:, :, :1].squeeze(-1),
    "unsqueeze": lambda x, **_: x.unsqueeze(1).unsqueeze(-1),
    "select": lambda x, **_: x[:, 0] + x[:, -1] + x.select(1, 1),
    "slice": lambda x, **_: x[:, 1:, ::2] + x[:, :-1, 1::2],
    "narrow": lambda x, **_: x.narrow(2, 1, 3),
    "cat": lambda x, y, **_: torch.cat([x, y, x[:, :2]], 1),
    "stack": lambda x, y, **_: torch.stack([x, y], 1),
    "split": lambda x, **_: torch.cat(x.split(4, -1)[::-1], -1),
    "split_sizes": lambda x, **_: x.split([1, 5], 2)[1],
    "chunk": lambda x, **_: x.chunk(3, -1)[1],
    "unbind": lambda x, **_: x.unbind(-1)[2] * 2,
    "repeat": lambda x, **_: x.repeat(1, 2, 3),
    "repeat_longer": lambda x, **_: x.repeat(2, 1, 1, 1),
    "tile": lambda x, **_: x.tile(2),
    "repeat_interleave": lambda x, **_: x.repeat_interleave(2, 1),
    "flip": lambda x, **_: x.flip(1, 2),
    "roll": lambda x, **_: x.roll(2, 1) + x.roll((1, -1), (1, 2)),
    "roll_flat": lambda x, **_: x.roll(3),
    "pad": lambda x, **_: F.pad(x, (1, 2, 3, 0)),
    "pad_value": lambda x, **_: F.pad(x, (0, 1), value=2.5),
    "pad_cut": lambda x, **_: F.pad(x, (-1, 1)),
    "pad_reflect": lambda x, **_: F.pad(x, (2, 1), mode="reflect"),
    "pad_replicate": lambda x, **_: F.pad(x, (2, 1), mode="replicate"),
    "tril": lambda x, **_: x.tril() + x.triu(1),
    "unfold": lambda x, **_: x.unfold(2, 3, 2),
    "unfold_time": lambda x, **_: x.unfold(1, 3, 1),
    "pixel_shuffle": lambda x, **_: F.pixel_shuffle(x[:, :4].reshape(-1, 4, 2, 3), 2),
    "clone": lambda x, **_: x.clone().detach(),
    "meshgrid": lambda n, **_: torch.meshgrid(n, n + 1, indexing="ij")[1],
}

INDEXING = {
    "embedding": lambda n, w, **_: F.embedding(n % 4, w),
    "index_select": lambda x, n, **_: x.index_select(0, n % x.shape[0]),
    "gather": lambda x, places, **_: x.gather(1, places),
    "index_one": lambda x, n, **_: x[:, n % 5],
    "index_two": lambda x, n, **_: x[torch.arange(x.shape[0]), n % 5],
    "index_inner": lambda x, n, **_: x[:, n % 5, n % 6],
    "index_apart": lambda x, n, **_: x[n % x.shape[0], :, n % 6],
    "scatter": lambda x, places, **_: x.scatter(1, places[:, :1], x[:, 1:2]),
    "scatter_value": lambda x, places, **_: x.scatter(1, places[:, :1], 7.0),
    "scatter_add": lambda x, places, **_: x.scatter_add(1, places, x),
    "write_slice": lambda x, **_: _written(x, (slice(None), slice(1, 3)), 2.0),
    "write_step": lambda x, **_: _written(x, (slice(None), slice(None, None, 2)), 3.0),
    "write_row": lambda x, **_: _written(x, (slice(None), -1), x[:, 0]),
    "write_mask": lambda x, **_: _written(x, x > 0.5, 0.0),
    "write_places": lambda x, n, **_: _written(x, (torch.arange(x.shape[0]), n % 5), 1.5),
    "masked": lambda x, n, **_: x * (torch.arange(x.shape[1]) < n[:, None]).unsqueeze(-1),
    "topk": lambda x, **_: x.topk(3, -1)[0] + x.topk(3, -1)[1],
    "smallest": lambda x, **_: x.topk(2, -1, largest=False)[0],
    "sort": lambda x, **_: x.sort(1, descending=True)[0],
    "argsort": lambda x, **_: x.argsort(-1),
    "one_hot": lambda n, **_: F.one_hot(n % 4, 4),
}

CREATION = {
    "zeros": lambda x, **_: torch.zeros(x.shape[0], 3) + 1,
    "ones": lambda x, **_: torch.ones(x.shape[0], x.shape[1]),
    "full": lambda x, **_: torch.full((x.shape[1],), 2.5),
    "like": lambda x, **_: torch.zeros_like(x) + torch.ones_like(x) + torch.full_like(x, 3),
    "new": lambda x, **_: x.new_zeros(x.shape[0], 2) + x.new_full((2,), 4.0),
    "arange": lambda x, **_: torch.arange(x.shape[1]) + torch.arange(1, 2 * x.shape[1], 2),
    "arange_float": lambda x, **_: torch.arange(0, 3, 0.5) + torch.arange(6.0),
    "linspace": lambda x, **_: torch.linspace(0, 1, 5),
    "eye": lambda x, **_: torch.eye(3),
    "tensor": lambda x, **_: x * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    "sizes": lambda x, **_: x * (x.shape[1] // 2) + x.shape[0] * 0.5 - (x.shape[1] % 3),
    "ceil_size": lambda x, **_: torch.zeros(-(-x.shape[1] // 2) + 1),
    "fill": lambda x, **_: x.clone().fill_(2.0),
}

REDUCTIONS = {
    "mean": lambda x, **_: x.mean(1) + x.mean((0, 1)),
    "mean_all": lambda x, **_: x.mean(),
    "sum": lambda x, **_: x.sum(-1, keepdim=True) + x.sum(),
    "sum_int": lambda n, **_: n.sum() + (n > 2).sum(),
    "prod": lambda x, **_: x.prod(-1),
    "amax": lambda x, **_: x.amax(1) - x.amin((1,)),
    "max": lambda x, **_: x.max() + x.min(),
    "max_dim": lambda x, **_: x.max(1)[0] + x.max(1)[1],
    "min_dim": lambda x, **_: x.min(-1, keepdim=True)[0],
    "argmax": lambda x, **_: x.argmax(-1) + x.argmin(1, keepdim=True).sum(-1),
    "argmax_all": lambda x, **_: x.argmax(),
    "logsumexp": lambda x, **_: x.logsumexp(1),
    "any": lambda x, **_: (x > 1).any(1) | (x > -3).all(1),
    "any_all": lambda x, **_: (x > 9).any() | (x > -9).all(),
    "count_nonzero": lambda x, **_: torch.count_nonzero(x > 0, 1),
    "var": lambda x, **_: x.var(1) + x.var((1, 2), correction=0, keepdim=True).squeeze(-1),
    "std": lambda x, **_: x.std(-1, keepdim=True),
    "std_mean": lambda x, **_: torch.std_mean(x, 1)[0] + torch.var_mean(x, 1)[1],
    "norm": lambda x, **_: x.norm(dim=-1) + torch.linalg.vector_norm(x, 1, -1),
    "norm_inf": lambda x, **_: torch.linalg.vector_norm(x, torch.inf, 1),
    "normalize": lambda x, **_: F.normalize(x, dim=-1),
    "cosine": lambda x, y, **_: F.cosine_similarity(x, y, dim=-1),
    "cumsum": lambda x, **_: x.cumsum(1),
    "cumsum_int": lambda n, **_: n.cumsum(0) + (n > 2).cumsum(0),
}

PRODUCTS = {
    "linear": lambda x, w, **_: F.linear(x, w),
    "linear_bias": lambda x, w, bias, **_: F.linear(x, w, bias),
    "matmul": lambda x, y, **_: x @ y.transpose(1, 2),
    "bmm": lambda x, y, **_: torch.bmm(x, y.transpose(1, 2)),
    "mm": lambda x, w, **_: torch.mm(x[:, 0], w.t()),
    "addmm": lambda x, w, bias, **_: torch.addmm(bias, x[:, 0], w.t(), beta=0.5, alpha=2),
    "baddbmm": lambda x, y, **_: torch.baddbmm(x[:, :, :1], x, y.transpose(1, 2)),
    "mv": lambda w, x, **_: torch.mv(w, w[0]) + torch.dot(w[0], w[1]),
    "einsum": lambda x, y, **_: torch.einsum("bti,bsi->bts", x, y),
    "einsum_three": lambda x, w, **_: torch.einsum("bti, oi -> bot", x, w),
    "layer_norm": lambda x, scale, shift, **_: F.layer_norm(x, (6,), scale, shift),
    "layer_norm_plain": lambda x, **_: F.layer_norm(x, (6,)),
    "rms_norm": lambda x, scale, **_: F.rms_norm(x, (6,), scale),
    "group_norm": lambda x, **_: F.group_norm(x.transpose(1, 2), 3),
    "batch_norm": lambda x, scale, shift, **_: F.batch_norm(
        x.transpose(1, 2), shift, scale.abs() + 0.5, scale, shift
    ),
    "instance_norm": lambda x, **_: F.instance_norm(x.transpose(1, 2)),
    "attention": lambda x, y, **_: F.scaled_dot_product_attention(
        *(v.unflatten(-1, (2, 3)).transpose(1, 2) for v in (x, y, x))
    ),
    "attention_causal": lambda x, y, **_: F.scaled_dot_product_attention(
        *(v.unflatten(-1, (2, 3)).transpose(1, 2) for v in (x, y, x)), is_causal=True
    ),
    "attention_mask": lambda x, y, n, **_: F.scaled_dot_product_attention(
        x, y, x, attn_mask=torch.arange(x.shape[1]) < n[:, None, None] + 1, scale=0.3
    ),
    "attention_added": lambda x, y, **_: F.scaled_dot_product_attention(
        x, y, x, attn_mask=torch.zeros(x.shape[1], x.shape[1]).triu(1) - 1
    ),
}

CONVOLUTIONS = {
    "conv1d": lambda x, k, b, **_: F.conv1d(x, k, b, padding=1),
    "conv1d_same": lambda x, k, **_: F.conv1d(x, k, padding="same", dilation=2),
    "conv1d_causal": lambda x, k, **_: F.conv1d(F.pad(x, (2, 0)), k),
    "conv1d_groups": lambda x, g, **_: F.conv1d(x, g, groups=2, stride=2),
    "conv1d_depthwise": lambda x, d, **_: F.conv1d(x, d, groups=4, padding=1),
    "conv2d": lambda z, k2, b, **_: F.conv2d(z, k2, b, padding=1, stride=2),
    "conv2d_dilated": lambda z, k2, **_: F.conv2d(z, k2, dilation=2, padding=(2, 1)),
    "max_pool1d": lambda x, **_: F.max_pool1d(x, 2),
    "max_pool2d": lambda z, **_: F.max_pool2d(z, 3, 2, 1),
    "avg_pool1d": lambda x, **_: F.avg_pool1d(x, 2, padding=1),
    "avg_pool2d": lambda z, **_: F.avg_pool2d(z, 2, count_include_pad=False),
    "global": lambda z, **_: F.adaptive_avg_pool2d(z, 1) + F.adaptive_max_pool2d(z, 1),
    "global1d": lambda x, **_: F.adaptive_avg_pool1d(x, 1) + F.adaptive_max_pool1d(x, 1),
    "nearest": lambda z, **_: F.interpolate(z, scale_factor=2),
    "nearest1d": lambda x, **_: F.interpolate(x, scale_factor=3),
    "bilinear": lambda f, **_: F.interpolate(f, (16, 12), mode="bilinear"),
    "aligned": lambda f, **_: F.interpolate(f, (12, 9), mode="bilinear", align_corners=True),
}

TRANSPOSED = {
    "transpose1d": lambda x, kt, **_: F.conv_transpose1d(x, kt, stride=2, output_padding=1),
    "transpose2d": lambda z, kt2, **_: F.conv_transpose2d(z, kt2, stride=2, padding=1),
}

ADAPTIVE = {
    "adaptive": lambda f, **_: F.adaptive_avg_pool2d(f, (4, 2)),
    "adaptive_uneven": lambda f, **_: F.adaptive_avg_pool2d(f, (3, 5)),
    "adaptive_max": lambda f, **_: F.adaptive_max_pool2d(f, (2, 3)),
}

_N = integers(0, 8, "B")
_ROWS = {"x": ("B", "T", 6), "y": ("B", "T", 6), "n": _N}
GROUPS = {
    "pointwise": (POINTWISE, _ROWS, {}),
    "activations": (ACTIVATIONS, {"x": ("B", 4, 6), "y": ("B", 4, 6)}, {"slope": (4,)}),
    "movement": (MOVEMENT, _ROWS, {"w": (4, 6)}),
    "indexing": (
        INDEXING,
        _ROWS | {"places": integers(0, 5, "B", "T", 6)},
        {"w": (4, 6)},
    ),
    "creation": (CREATION, {"x": ("B", "T", 6)}, {}),
    "reductions": (REDUCTIONS, _ROWS, {}),
    "products": (
        PRODUCTS,
        _ROWS,
        {"w": (4, 6), "bias": (4,), "scale": (6,), "shift": (6,)},
    ),
    "convolutions": (
        CONVOLUTIONS,
        {"x": ("B", 4, "T"), "z": ("B", 4, 9, 8), "f": ("B", 2, 8, 6)},
        {
            "k": (3, 4, 3), "b": (3,), "g": (6, 2, 3), "d": (4, 1, 3), "k2": (3, 4, 3, 3),
        },
    ),
    "transposed": (
        TRANSPOSED,
        {"x": ("B", 4, "T"), "z": ("B", 4, 9, 8)},
        {"kt": (4, 3, 3), "kt2": (4, 3, 3, 3)},
    ),
    "adaptive": (ADAPTIVE, {"f": ("B", 2, 8, 6)}, {}),
}  # fmt: skip
