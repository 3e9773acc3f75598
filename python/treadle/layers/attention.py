"""Multi-head attention with packed projections."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from treadle import _core
from treadle._inputs import checks, masks
from treadle._inputs.arrays import laid, viewed
from treadle._public import published
from treadle._storage import formats
from treadle.layers.configuration import Dtype, Flag, Integer, Number
from treadle.layers.module import Module, layer
from treadle.layers.projections import projection_initial, projection_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._core import AttentionOptions
    from treadle._inputs.types import AnyArray, ArrayLike, Bool, Float
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries

# The kernels have registers for heads up to this size.
MAX_HEAD_SIZE: int = _core.limits()["head_size"]


class _Products(NamedTuple):
    """The packed projections of multi-head attention.

    One product for queries, keys and values would give the same bits; three of them serve keys and
    values that are not the queries, too.
    """

    query: _core.Linear
    key: _core.Linear
    value: _core.Linear
    out: _core.Linear


class _Sizes(NamedTuple):
    """The sizes of a call, and the layout of its arrays."""

    batched: bool
    turned: bool
    """True if time comes before the batch."""
    batch: int
    queries: int
    keys: int

    @property
    def tokens(self) -> tuple[int, int]:
        """The leading axes of the result."""
        return (self.queries, self.batch) if self.turned else (self.batch, self.queries)


@published("treadle")
@layer
class MultiheadAttention(Module):
    """``torch.nn.MultiheadAttention`` for inference: N heads attend side by side.

    With E = H / N columns of each projection for a head, and ``mask`` 0 or -inf when bool::

        q = query W_q^T + b_q    k = key W_k^T + b_k    v = value W_v^T + b_v
        head_n = softmax(q_n k_n^T / sqrt(E) + mask) v_n
        y = [head_1, ..., head_N] W_o^T + b_o

    Arguments, defaults and weights are PyTorch's; H is embed_dim and N num_heads. ``dropout`` is
    accepted and does nothing, since treadle runs inference. ``add_bias_kv`` appends a learned key
    and value to those of every row, ``add_zero_attn`` a key and value of zeros. Shapes, in the
    letters B batch, S queries, K keys::

        query [S, B, H], key [K, B, kdim], value [K, B, vdim]   y [S, B, H]
        (batch_first: [B, S, H], ...; unbatched: [S, H], ...)
        in_proj_weight [3*H, H], rows q, k, v; or, where kdim or vdim is given and not H,
        q_proj_weight [H, H]   k_proj_weight [H, kdim]   v_proj_weight [H, vdim]
        in_proj_bias [3*H]   bias_k, bias_v [1, 1, H]   out_proj.weight [H, H]   out_proj.bias [H]

    The initial weights are uniform with PyTorch's variances, the biases of the projections zero;
    ``seed`` makes them repeatable. E may be up to 256.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    References
    ----------
    Vaswani et al., Attention is all you need, arXiv:1706.03762, section 3.2.2.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> m = treadle.MultiheadAttention(16, 4, batch_first=True, seed=0)
    >>> x = np.ones((2, 5, 16), np.float32)
    >>> y, probabilities = m(x, x, x)
    >>> y.shape, probabilities.shape
    ((2, 5, 16), (2, 5, 5))
    """

    _takes = "query, key and value"
    _entries: ClassVar[Entries] = {
        "embed_dim": Integer(),
        "num_heads": Integer(),
        "dropout": Number(least=0, most=1),
        "bias": Flag(),
        "add_bias_kv": Flag(),
        "add_zero_attn": Flag(),
        "kdim": Integer(optional=True),
        "vdim": Integer(optional=True),
        "batch_first": Flag(),
        "dtype": Dtype(),
    }

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _check_configuration(self) -> None:
        own = self._configuration
        check_heads(self._function, "embed_dim", own["embed_dim"], own["num_heads"])
        super()._check_configuration()

    def _inputs(self) -> tuple[int, int, int]:
        """Return the sizes of query, key and value."""
        own = self._configuration
        hidden = own["embed_dim"]
        return hidden, own["kdim"] or hidden, own["vdim"] or hidden

    def _shapes(self) -> Shapes:
        own = self._configuration
        return projection_shapes(*self._inputs(), own["bias"], own["add_bias_kv"])

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return projection_initial(name, shape)

    def _pack(self, parameters: Mapping[str, Any]) -> _Products:
        hidden, dtype = (self._configuration[name] for name in ("embed_dim", "dtype"))
        bias = parameters.get("in_proj_bias")
        rows = [slice(i * hidden, (i + 1) * hidden) for i in range(3)]
        if "in_proj_weight" in parameters:
            weights = [formats.rows(parameters["in_proj_weight"], own) for own in rows]
        else:
            weights = [parameters[f"{letter}_proj_weight"] for letter in "qkv"]
        biases = [None if bias is None else bias[own] for own in rows]
        weights.append(parameters["out_proj.weight"])
        biases.append(parameters.get("out_proj.bias"))
        pairs = zip(weights, biases, strict=True)
        return _Products(*(_core.Linear(self._function, w, b, dtype) for w, b in pairs))

    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        key_padding_mask: ArrayLike | None = None,
        need_weights: bool = True,
        attn_mask: ArrayLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Float, Float | None]:
        """Attend and return ``(y, probabilities)`` in the shapes of the class.

        Parameters
        ----------
        key_padding_mask
            [B, K] ([K] unbatched), bool: True for keys that are padding, or float32: added to the
            scores.
        need_weights
            Return the attention probabilities, too: [B, S, K] with ``average_attn_weights``, the
            mean over the heads, else [B, N, S, K]; without B when unbatched. K includes appended
            keys. Without need_weights the probabilities are never stored, and None is returned.
        attn_mask
            [S, K] or [B*N, S, K], bool: True for keys that a query does not attend to, or float32:
            added to the scores.
        is_causal
            If True, query i attends only to the keys j <= i. An attn_mask beside it must say the
            same; unlike in PyTorch, attn_mask may be left out.

        Raises
        ------
        ValueError
            For a shape that does not fit.
        TypeError
            For another dtype or kind of object; float64 is never rounded silently.

        Notes
        -----
        A query for which every key is ruled out gives probabilities of zero and the bias of the
        projection (PyTorch: the same with need_weights=False, NaN otherwise).

        Examples
        --------
        >>> import numpy as np, treadle
        >>> m = treadle.MultiheadAttention(4, 2, seed=0)
        >>> x = np.ones((3, 4), np.float32)
        >>> m(x, x, x, key_padding_mask=[False, False, True])[1]
        array([[0.5, 0.5, 0. ],
               [0.5, 0.5, 0. ],
               [0.5, 0.5, 0. ]], dtype=float32)
        """
        function, packed = self._function, self._packed
        for name, flag in (
            ("need_weights", need_weights),
            ("average_attn_weights", average_attn_weights),
            ("is_causal", is_causal),
        ):
            checks.flag(function, name, flag)
        arrays = self._checked(query, key, value)
        sizes = self._sizes(*arrays[:2])
        options = self._options(sizes, key_padding_mask, attn_mask, is_causal)
        products: _Products = packed.native
        q, k, v = (self._heads(product, x) for product, x in zip(products, arrays, strict=False))
        k = self._extended(k, packed.parameters.get("bias_k"))
        v = self._extended(v, packed.parameters.get("bias_v"))
        heads, keys, size = k.shape[1:]
        # The heads of a token lie side by side, in the order in which the result is wanted.
        joined = np.empty((*sizes.tokens, heads, size), np.float32)
        probabilities = None
        if need_weights:
            probabilities = np.empty((sizes.batch, heads, sizes.queries, keys), np.float32)
        _core.attention(
            function,
            q,
            k,
            v,
            options,
            joined.transpose(1, 2, 0, 3) if sizes.turned else joined.transpose(0, 2, 1, 3),
            probabilities,
        )
        flat = joined.reshape(sizes.batch * sizes.queries, heads * size)
        y = products.out.run(function, flat).reshape(*sizes.tokens, heads * size)
        if probabilities is not None and average_attn_weights:
            probabilities = _mean(probabilities)
        if sizes.batched:
            return y, probabilities
        return y[0], None if probabilities is None else probabilities[0]

    def _checked(self, *inputs: ArrayLike) -> tuple[Float, Float, Float]:
        """Check query, key and value, and that their shapes fit."""
        function = self._function
        query, key, value = (
            viewed(function, name, array)
            for name, array in zip(("query", "key", "value"), inputs, strict=True)
        )
        hidden, kdim, vdim = self._inputs()
        if query.ndim == 2:
            letters = ("S", "K")
        else:
            letters = ("BS", "BK") if self._configuration["batch_first"] else ("SB", "KB")
        checks.shape(
            function, "query", query, (*[None] * len(letters[0]), hidden), (*letters[0], "H")
        )
        rows = [query.shape[i] if letter == "B" else None for i, letter in enumerate(letters[1])]
        checks.shape(function, "key", key, (*rows, kdim), (*letters[1], "kdim"))
        checks.shape(function, "value", value, (*key.shape[:-1], vdim), (*letters[1], "vdim"))
        return laid(query), laid(key), laid(value)

    def _sizes(self, query: Float, key: Float) -> _Sizes:
        batched, batch_first = query.ndim == 3, self._configuration["batch_first"]
        time = int(batched and batch_first)
        batch = query.shape[1 - time] if batched else 1
        turned = batched and not batch_first
        return _Sizes(batched, turned, batch, query.shape[time], key.shape[time])

    def _heads(self, product: _core.Linear, x: Float) -> Float:
        """Project x and return the result as a view [B, N, rows, E]."""
        own = self._configuration
        rows = prod(x.shape[:-1])
        y = product.run(self._function, x.reshape(rows, x.shape[-1]))
        heads = own["num_heads"]
        y = y.reshape(*x.shape[:-1], heads, own["embed_dim"] // heads)
        if x.ndim == 2:
            return y[None].transpose(0, 2, 1, 3)
        return y.transpose(0, 2, 1, 3) if own["batch_first"] else y.transpose(1, 2, 0, 3)

    def _options(
        self,
        sizes: _Sizes,
        key_padding_mask: ArrayLike | None,
        attn_mask: ArrayLike | None,
        is_causal: bool,
    ) -> AttentionOptions:
        """Turn masks and configuration into the options of the core's attention."""
        own = self._configuration
        heads = own["num_heads"]
        options: AttentionOptions = {
            "scale": (own["embed_dim"] // heads) ** -0.5,
            "dtype": attention_dtype(own["dtype"]),
        }
        mask, exists = self._masks(sizes, key_padding_mask, attn_mask)
        appended = own["add_bias_kv"] + own["add_zero_attn"]
        if not appended:
            options["is_causal"] = is_causal
            if exists is not None:
                options["key_lengths"] = lengths = masks.prefix_lengths(exists)
                if lengths is None:
                    mask = masks.merged(mask, exists[:, None, None])
        else:
            # Every query attends to the appended keys, which neither lengths nor is_causal can
            # express, so that both become masks.
            if exists is not None:
                mask = masks.merged(mask, exists[:, None, None])
            if is_causal:
                triangle = np.tri(sizes.queries, sizes.keys, dtype=np.bool_)
                mask = masks.merged(mask, triangle[None, None])
            if mask is not None:
                admits = mask.dtype.type(mask.dtype == np.bool_)
                admitted = np.broadcast_to(admits, (*mask.shape[:-1], appended))
                mask = np.concatenate([mask, admitted], axis=-1)
        if mask is not None:
            shape = (sizes.batch, heads, sizes.queries, sizes.keys + appended)
            options["mask"] = np.broadcast_to(mask, shape)
        return options

    def _masks(
        self, sizes: _Sizes, key_padding_mask: ArrayLike | None, attn_mask: ArrayLike | None
    ) -> tuple[AnyArray | None, Bool | None]:
        """Check both masks: (mask of the scores or None, the keys that exist [B, K] or None)."""
        function, heads = self._function, self._configuration["num_heads"]
        batch, queries, keys = sizes.batch, sizes.queries, sizes.keys
        shape, letters = ((batch, keys), "BK") if sizes.batched else ((keys,), "K")
        exists, added = masks.padding(
            function, "key_padding_mask", key_padding_mask, shape, letters
        )
        mask = masks.attention(function, "attn_mask", attn_mask, batch, heads, queries, keys)
        if added is not None:
            mask = masks.merged(mask, added[:, None, None])
        return mask, exists

    def _extended(self, x: Float, learned: Float | None) -> Float:
        """Append the learned key or value, and zeros, to those of each row [B, N, K, E]."""
        batch, heads, _, size = x.shape
        parts = [x]
        if learned is not None:
            one = learned.reshape(1, heads, 1, size)
            parts.append(np.broadcast_to(one, (batch, heads, 1, size)))
        if self._configuration["add_zero_attn"]:
            parts.append(np.zeros((batch, heads, 1, size), np.float32))
        return np.concatenate(parts, axis=2) if len(parts) > 1 else x


def check_heads(function: str, name: str, hidden: int, heads: int) -> None:
    """Check that H divides into N heads of a size that the kernel knows."""
    if hidden % heads:
        raise ValueError(
            f"{function}: {name} is {hidden}, expected a multiple of the number of heads, {heads}"
        )
    if hidden // heads > MAX_HEAD_SIZE:
        raise ValueError(
            f"{function}: {name} is {hidden} with {heads} heads, expected heads of at most "
            f"{MAX_HEAD_SIZE}, not {hidden // heads}"
        )


def attention_dtype(dtype: str) -> str:
    """Return the dtype of attention's products in a layer of ``dtype``.

    int8 is too coarse for the probabilities of keys, many of which are small.
    """
    return "float32" if dtype == "float32" else "bfloat16"


def _mean(probabilities: Float) -> Float:
    """Return the mean over the heads, added in their order for any shape of the arrays."""
    total = probabilities[:, 0].copy()
    for head in range(1, probabilities.shape[1]):
        total += probabilities[:, head]
    total /= np.float32(probabilities.shape[1])
    return total
