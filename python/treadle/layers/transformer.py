"""Transformer encoders: one layer, and a stack of them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs.checks import MAX_LAYERS
from treadle._public import published
from treadle.layers.attention import check_heads
from treadle.layers.build import blueprint, fill
from treadle.layers.configuration import (
    Dtype,
    Flag,
    Integer,
    Nested,
    Nonlinearity,
    Number,
    check_layer,
)
from treadle.layers.module import layer
from treadle.layers.norm import LayerNorm, normalized
from treadle.layers.projections import projection_initial
from treadle.layers.transformer_base import TransformerBase

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.activation import Activation
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries


@published("treadle")
@layer
class TransformerEncoderLayer(TransformerBase):
    """``torch.nn.TransformerEncoderLayer`` for inference: attention, then two products.

    With ``attn`` as in `treadle.MultiheadAttention` and ``norm`` as in `treadle.LayerNorm`::

        x = norm1(x + attn(x))           norm_first:  x = x + attn(norm1(x))
        y = norm2(x + ffn(x))                         y = x + ffn(norm2(x))
        ffn(x) = W_2 act(W_1 x + b_1) + b_2

    Arguments, defaults and weights are PyTorch's; H is d_model, N nhead and F dim_feedforward.
    ``dropout`` is accepted and does nothing, since treadle runs inference. ``activation`` is
    "relu", "gelu" or any other of `treadle.layers.activation`. Shapes, in the letters B batch,
    S tokens::

        src, y [S, B, H] (batch_first: [B, S, H]; unbatched: [S, H])
        self_attn.in_proj_weight [3*H, H]   self_attn.in_proj_bias [3*H]
        self_attn.out_proj.weight [H, H]    self_attn.out_proj.bias [H]
        linear1.weight [F, H]   linear1.bias [F]   linear2.weight [H, F]   linear2.bias [H]
        norm1.weight, norm1.bias, norm2.weight, norm2.bias [H]      (no biases with bias=False)

    The initial weights are uniform with PyTorch's variances; ``seed`` makes them repeatable. A head
    has H / N columns, up to 256.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    References
    ----------
    Vaswani et al., arXiv:1706.03762, section 3; norm_first: Xiong et al., arXiv:2002.04745.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> m = treadle.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True, seed=0)
    >>> m(np.ones((2, 5, 16), np.float32)).shape
    (2, 5, 16)
    """

    _entries: ClassVar[Entries] = {
        "d_model": Integer(),
        "nhead": Integer(),
        "dim_feedforward": Integer(),
        "dropout": Number(least=0, most=1),
        "activation": Nonlinearity(),
        "layer_norm_eps": Number(least=0),
        "batch_first": Flag(),
        "norm_first": Flag(),
        "bias": Flag(),
        "dtype": Dtype(),
    }

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _check_configuration(self) -> None:
        own = self._configuration
        check_heads(self._function, "d_model", own["d_model"], own["nhead"])
        super()._check_configuration()

    def _layer(self) -> dict[str, Any]:
        return self._configuration

    def _prefixes(self) -> list[str]:
        return [""]

    def _shapes(self) -> Shapes:
        return self._layer_shapes()

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        if name.startswith("norm"):
            return float(name.endswith("weight")), 0.0
        if name.startswith("self_attn."):
            return projection_initial(name.removeprefix("self_attn."), shape)
        own = self._configuration
        inputs = own["d_model"] if name.startswith("linear1") else own["dim_feedforward"]
        return 0.0, inputs**-0.5

    def __call__(
        self,
        src: ArrayLike,
        src_mask: ArrayLike | None = None,
        src_key_padding_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> Float:
        """Return the layer's output, a new array of the shape of src.

        Parameters
        ----------
        src_mask
            [S, S] or [B*N, S, S], bool: True for keys that a query does not attend to, or float32:
            added to the scores.
        src_key_padding_mask
            [B, S] ([S] unbatched), bool: True for padding, or float32: added to the scores, with
            -inf for padding.
        is_causal
            If True, token i attends only to the tokens j <= i. A src_mask beside it must say the
            same; unlike in PyTorch, src_mask may be left out.

        Raises
        ------
        ValueError
            For a shape that does not fit.
        TypeError
            For another dtype or kind of object; float64 is never rounded silently.

        Notes
        -----
        Padding may lie anywhere. It is never computed, and its output is 0 (in PyTorch it is 0 or
        something without meaning, depending on which of its paths is taken). A sequence's result
        has the same bits alone and in any batch.

        Examples
        --------
        >>> import numpy as np, treadle
        >>> m = treadle.TransformerEncoderLayer(4, 2, 8, batch_first=True, seed=0)
        >>> x = np.random.default_rng(0).random((1, 3, 4), np.float32)
        >>> y = m(x, src_key_padding_mask=[[False, False, True]])
        >>> bool(np.all(y[:, :2] == m(x[:, :2]))), y[0, 2]
        (True, array([0., 0., 0., 0.], dtype=float32))
        """
        return self._run(src, "src_mask", src_mask, src_key_padding_mask, is_causal)


@published("treadle")
@layer
class TransformerEncoder(TransformerBase):
    """``torch.nn.TransformerEncoder`` for inference: L layers, one after the other.

    ``enable_nested_tensor`` and ``mask_check`` are accepted and change nothing: padded tokens are
    never computed, whatever the arguments, and shape and values are always the same. (PyTorch takes
    another path in inference for some layers and masks, which cuts the result to the longest row.)
    The names of the weights are those of a layer after ``layers.0.``, ``layers.1.``, ..., then
    norm.weight and norm.bias.

    Parameters
    ----------
    encoder_layer
        A `treadle.TransformerEncoderLayer`; each layer begins as a copy of it.
    num_layers
        L
    norm
        A `treadle.LayerNorm` that follows the last layer, or None.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.

    References
    ----------
    Vaswani et al., Attention is all you need, arXiv:1706.03762.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> one = treadle.TransformerEncoderLayer(16, 4, 32, batch_first=True, seed=0)
    >>> m = treadle.TransformerEncoder(one, 6, norm=treadle.LayerNorm(16))
    >>> m(np.ones((2, 5, 16), np.float32)).shape
    (2, 5, 16)
    """

    _entries: ClassVar[Entries] = {
        "encoder_layer": Nested(TransformerEncoderLayer),
        "num_layers": Integer(most=MAX_LAYERS),
        "norm": Nested(LayerNorm, optional=True),
        "enable_nested_tensor": Flag(),
        "mask_check": Flag(),
    }

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: LayerNorm | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k != "self"}
        check_layer(self._function, "encoder_layer", encoder_layer, TransformerEncoderLayer)
        if norm is not None:
            check_layer(self._function, "norm", norm, LayerNorm)
        self._configure(arguments)
        parameters = {
            prefix + name: value  # read-only, and therefore shared
            for prefix in self._prefixes()
            for name, value in encoder_layer._packed.parameters.items()
        }
        if norm is not None:
            parameters |= {f"norm.{n}": v for n, v in norm._packed.parameters.items()}
        fill(self, parameters)

    @property
    def dtype(self) -> str:
        """The dtype of the layers: float32, bfloat16 or int8."""
        return self._dtype

    def _check_configuration(self) -> None:
        own = self._configuration
        norm, hidden = own["norm"], own["encoder_layer"]["d_model"]
        if norm is not None and norm["normalized_shape"] != (hidden,):
            raise ValueError(
                f"{self._function}: norm is over {norm['normalized_shape']}, "
                f"expected ({hidden},), the d_model of encoder_layer"
            )
        super()._check_configuration()

    def _layer(self) -> dict[str, Any]:
        layer: dict[str, Any] = self._configuration["encoder_layer"]
        return layer

    def _prefixes(self) -> list[str]:
        return [f"layers.{i}." for i in range(self._configuration["num_layers"])]

    def _norm_shapes(self) -> Shapes:
        norm = self._configuration["norm"]
        return {} if norm is None else blueprint(LayerNorm, norm)._shapes()

    def _shapes(self) -> Shapes:
        one = self._layer_shapes()
        shapes = {prefix + name: size for prefix in self._prefixes() for name, size in one.items()}
        return shapes | {f"norm.{name}": size for name, size in self._norm_shapes().items()}

    def _count(self) -> tuple[int, int]:
        layers = self._configuration["num_layers"]
        one, norm = (s.values() for s in (self._layer_shapes(), self._norm_shapes()))
        return (
            layers * len(one) + len(norm),
            layers * sum(map(prod, one)) + sum(map(prod, norm)),
        )

    def _after(self, y: Float) -> Float:
        norm, parameters = self._configuration["norm"], self._packed.parameters
        if norm is None:
            return y
        weight, bias = parameters.get("norm.weight"), parameters.get("norm.bias")
        return normalized(self._function, y, y.shape[-1:], weight, bias, norm["eps"])

    def __call__(
        self,
        src: ArrayLike,
        mask: ArrayLike | None = None,
        src_key_padding_mask: ArrayLike | None = None,
        is_causal: bool | None = None,
    ) -> Float:
        """Return the output of the last layer, a new array of the shape of src.

        The arguments are those of `treadle.TransformerEncoderLayer.__call__`; a padded token's
        output is 0. With ``is_causal=None`` only ``mask`` decides, as in PyTorch.

        Examples
        --------
        >>> import numpy as np, treadle
        >>> m = treadle.TransformerEncoder(treadle.TransformerEncoderLayer(4, 2, 8, seed=0), 2)
        >>> x = np.random.default_rng(0).random((3, 4), np.float32)
        >>> bool(np.all(m(x, is_causal=True)[:2] == m(x[:2], is_causal=True)))
        True
        """
        causal = False if is_causal is None else is_causal
        return self._run(src, "mask", mask, src_key_padding_mask, causal)
