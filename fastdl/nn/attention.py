"""Attention, and the layers of transformers."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.verbs import Array, fail, flag, floats, view
from fastdl.nn._arguments import blame_input, example, float_dtype, one_of, real, size_of
from fastdl.nn._layer import RandomLayer
from fastdl.nn._parameters import PARAMETERS, generator, within
from fastdl.nn.activation import GELU, ReLU
from fastdl.nn.container import ModuleList, back
from fastdl.nn.dropout import Dropout
from fastdl.nn.linear import Linear
from fastdl.nn.module import Module, Rng
from fastdl.nn.normalization import LayerNorm

__all__ = ["MultiheadAttention", "TransformerEncoder", "TransformerEncoderLayer"]

_SHARED = {
    **PARAMETERS,
    "batch_first": """
batch_first : bool
    Whether arrays are (batch, steps, features) in place of (steps, batch, features). Without a batch they are (steps,
    features) in either case.""",
    "masks": """
Masks are torch's: bools that are True where a query may *not* look, or numbers that are added to the scores. What is
computed of them is not recorded: in a program, `is_causal=True`, or one mask of numbers that was made before.""",
}


@doc(
    _SHARED,
    example(
        """
>>> attention = nn.MultiheadAttention(8, 2, batch_first=True)
>>> x = np.ones((3, 5, 8), np.float32)
>>> y, _ = attention(x, x, x, is_causal=True)
>>> y.shape
(3, 5, 8)
"""
    ),
)
class MultiheadAttention(RandomLayer):
    """Attention of several heads, each of projections of its own. torch.nn.MultiheadAttention.

    ::

        y = out_proj(attention(W_q query + b_q, W_k key + b_k, W_v value + b_v))

    Parameters
    ----------
    embed_dim : int
        The features of queries, keys, values and results.
    num_heads : int
        Of which embed_dim is a multiple.
    dropout : float
        The probability with which a weight is dropped in training.
    bias : bool
        Whether projections have biases.
    add_bias_kv, add_zero_attn, kdim, vdim
        As in torch, of which only the defaults are here.
    {batch_first}
    {dtype}
    {rng}
        It also draws the seed of dropout.

    Attributes
    ----------
    in_proj_weight : (3 * embed_dim, embed_dim) array
        Of queries, keys and values; uniform within sqrt(6 / (4 * embed_dim)) at first.
    in_proj_bias : (3 * embed_dim,) array or None
    out_proj : Linear
    seed, offset : int
        Of dropout, as of Dropout.

    Notes
    -----
    ``layer(query, key=None, value=None, key_padding_mask=None, need_weights=False, attn_mask=None,
    average_attn_weights=True, is_causal=False)`` returns (y, None): weights are never in memory, so that need_weights,
    which is torch's default, is an error. Without key and value, or where they are the query itself, the three
    projections are one product. key_padding_mask is (batch, keys), attn_mask (queries, keys) or (batch * num_heads,
    queries, keys).
    {masks}

    ``layer.backward(grad_output)`` returns the gradient of the query where keys and values are the query itself, else
    those of (query, key, value).

    See Also
    --------
    fastdl.scaled_dot_product_attention, torch.nn.MultiheadAttention

    {example}
    """

    parameter_names = ("in_proj_weight", "in_proj_bias")

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
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        self.embed_dim, self.num_heads = size_of(embed_dim, "embed_dim", 1), size_of(num_heads, "num_heads", 1)
        if embed_dim % num_heads:
            fail("embed_dim", embed_dim, ("a multiple of num_heads,", num_heads))
        self.head_dim = self.embed_dim // self.num_heads
        self.dropout, self.batch_first = real(dropout, "dropout", 0.0, 1.0), flag(batch_first, "batch_first")
        for name, value in {"add_bias_kv": add_bias_kv, "add_zero_attn": add_zero_attn}.items():
            if flag(value, name):
                fail(name, "True", "False: fastdl has no added keys")
        for name, size in {"kdim": kdim, "vdim": vdim}.items():
            if size not in (None, embed_dim):
                fail(name, size, ("None or embed_dim,", embed_dim))
        random, dtype = generator(rng), float_dtype(dtype)
        shape = 3 * self.embed_dim, self.embed_dim
        self.in_proj_weight = within(math.sqrt(6 / sum(shape)), shape, dtype, random)
        self.in_proj_bias = np.zeros(shape[0], dtype) if flag(bias, "bias") else None
        self.out_proj = Linear(self.embed_dim, self.embed_dim, bias, dtype, random)
        if self.out_proj.bias is not None:
            self.out_proj.bias[...] = 0
        self._seed(int(random.integers(2**63 - 1)))

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        key_padding_mask: Any = None,
        need_weights: bool = False,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Array, None]:
        if need_weights:
            fail("need_weights", "True", "False: weights are never in memory")
        itself = all(other is None or other is query for other in (key, value))
        given = [floats(query, "query")]
        if not itself:
            given += [floats(query if x is None else x, name) for x, name in ((key, "key"), (value, "value"))]
        for x, name in zip(given, ("query", "key", "value"), strict=False):
            if x.ndim not in (2, 3) or x.ndim != given[0].ndim or x.shape[-1] != self.embed_dim:
                steps = "(batch, steps, " if self.batch_first else "(steps, batch, "
                fail(name, ("shape", x.shape), f"{steps}{self.embed_dim}), or (steps, {self.embed_dim}) of all three")
            blame_input(x, self.in_proj_weight.dtype, self.embed_dim, -1)
        linear = functions().linear
        parts = [linear(x, weight, bias) for x, (weight, bias) in zip(given, self._projections(itself), strict=True)]
        q, k, v = self._heads(parts[0], 3) if itself else [self._heads(part, 1)[0] for part in parts]
        mask, causal = self._mask(q, k, key_padding_mask, attn_mask, flag(is_causal, "is_causal"))
        p = float(self.dropout) if self.training else 0.0
        options = {"attn_mask": mask, "dropout_p": p, "is_causal": causal, "seed": self.seed, "offset": self.offset}
        y, saved = functions().scaled_dot_product_attention(q, k, v, **options, return_saved=True)
        if p:
            self.offset += math.prod(q.shape[:-1]) * -(-k.shape[-2] // 4)
        self.save_for_backward(itself, given, (q, k, v, y, saved), options)
        return self.out_proj(self._steps(y, given[0].ndim)), None

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        itself, given, arrays, options = self.saved
        grad_y = self._heads(floats(back(self.out_proj, grad_output), "grad_output"), 1)[0]
        grads = functions().scaled_dot_product_attention_backward(grad_y, *arrays, **options)
        parts = [self._steps(grad, given[0].ndim) for grad in grads]
        if itself:
            parts = [functions().cat(tuple(parts), -1)]
        found = [
            functions().linear_backward(part, x, weight, input_grad=input_grad)
            for part, x, (weight, _) in zip(parts, given, self._projections(itself), strict=True)
        ]
        weight, bias = found[0].weight, found[0].bias
        if not itself:
            weight = functions().cat(tuple(grad.weight for grad in found), 0)
            bias = functions().cat(tuple(grad.bias for grad in found), 0)
        self.set_grads(in_proj_weight=weight, in_proj_bias=bias)
        return found[0].input if itself else tuple(grad.input for grad in found)

    def _projections(self, itself: bool) -> list[tuple[Array, Array | None]]:
        """Weight and bias of all that query, key and value are projected by, or of each."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if itself:
            return [(weight, bias)]
        parts = [slice(i * self.embed_dim, (i + 1) * self.embed_dim) for i in range(3)]
        return [(weight[part], None if bias is None else bias[part]) for part in parts]

    def _heads(self, x: Array, parts: int) -> Array:
        """Of (steps, batch, parts * features), as (parts, batch, heads, steps, features of a head)."""
        split = parts, self.num_heads, self.head_dim
        if x.ndim == 2:
            found = x.reshape(1, len(x), *split).transpose(2, 0, 3, 1, 4)
        else:
            order = (2, 0, 3, 1, 4) if self.batch_first else (2, 1, 3, 0, 4)
            found = x.reshape(*x.shape[:2], *split).transpose(order)
        return floats(found, "x")

    def _steps(self, x: Array, ndim: int) -> Array:
        """The way back, of (batch, heads, steps, features of a head)."""
        batch, heads, steps, features = x.shape
        if ndim == 2:
            return floats(x.transpose(0, 2, 1, 3), "x").reshape(steps, heads * features)
        order, first = ((0, 2, 1, 3), (batch, steps)) if self.batch_first else ((2, 0, 1, 3), (steps, batch))
        return floats(x.transpose(order), "x").reshape(*first, heads * features)

    def _mask(self, q: Array, k: Array, padding: Any, mask: Any, causal: bool) -> tuple[Any, bool]:
        """One mask as the function takes it, and whether it is to be causal."""
        batch, heads, queries = q.shape[:3]
        keys = k.shape[-2]
        if causal and padding is None:
            return None, True
        found: list[Array] = []
        if mask is not None:
            mask = view(mask, "attn_mask")
            if mask.shape not in ((queries, keys), (batch * heads, queries, keys)):
                fail("attn_mask", ("shape", mask.shape), f"{(queries, keys)} or {(batch * heads, queries, keys)}")
            found.append(mask.reshape(batch, heads, queries, keys) if mask.ndim == 3 else mask)
        elif causal:
            found.append(np.tri(queries, keys) == 0)
        if padding is not None:
            padding = view(padding, "key_padding_mask")
            if padding.shape not in ((batch, keys), (keys,) if batch == 1 else (batch, keys)):
                fail("key_padding_mask", ("shape", padding.shape), (batch, keys))
            found.append(padding.reshape(batch, 1, 1, keys))
        if not found:
            return None, False
        if all(m.dtype == np.bool_ for m in found):
            return ~found[0] if len(found) == 1 else ~(found[0] | found[1]), False
        numbers = [np.where(m, -np.inf, 0).astype(q.dtype) if m.dtype == np.bool_ else m for m in found]
        return numbers[0] if len(numbers) == 1 else numbers[0] + numbers[1], False

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


@doc(
    _SHARED,
    example(
        """
>>> layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
>>> layer(np.ones((3, 5, 8), np.float32)).shape
(3, 5, 8)
"""
    ),
)
class TransformerEncoderLayer(Module):
    """Attention of a sequence to itself, and a network of two layers for each step. torch.nn.TransformerEncoderLayer.

    ::

        x = norm1(x + dropout1(self_attn(x)))
        y = norm2(x + dropout2(linear2(dropout(activation(linear1(x))))))

    or, with norm_first, ``x + dropout1(self_attn(norm1(x)))`` and so on.

    Parameters
    ----------
    d_model : int
        The features of a step.
    nhead : int
        The heads of attention, of which d_model is a multiple.
    dim_feedforward : int
        The features between the two layers.
    dropout : float
        The probability of all dropouts, that of attention's weights included.
    activation : {"relu", "gelu"}
        After the first layer.
    layer_norm_eps : float
        Of both norms.
    {batch_first}
    norm_first : bool
        Whether norms stand before what is added, in place of after.
    bias : bool
        Whether products and norms have biases.
    {dtype}
    {rng}
        It also draws the seeds of dropout.

    Notes
    -----
    ``layer(src, src_mask=None, src_key_padding_mask=None, is_causal=False)``.
    {masks}

    See Also
    --------
    torch.nn.TransformerEncoderLayer

    References
    ----------
    Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

    {example}
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        random = generator(rng)
        self.norm_first = flag(norm_first, "norm_first")
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, rng=random
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype, random)
        self.dropout = self._dropout(dropout, random)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype, random)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = self._dropout(dropout, random), self._dropout(dropout, random)
        self.activation = ReLU() if one_of(activation, "activation", ("relu", "gelu")) == "relu" else GELU()

    @staticmethod
    def _dropout(p: float, random: np.random.Generator) -> Dropout:
        return Dropout(p, seed=int(random.integers(2**63 - 1)))

    def _feedforward(self) -> tuple[Module, ...]:
        return self.linear1, self.activation, self.dropout, self.linear2, self.dropout2

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Array:
        masks = {"key_padding_mask": src_key_padding_mask, "attn_mask": src_mask, "is_causal": is_causal}
        self.save_for_backward(src)

        def attend(x: Array) -> Array:
            return self.dropout1(self.self_attn(x, **masks)[0])  # type: ignore[no-any-return]

        def feed(x: Array) -> Array:
            for layer in self._feedforward():
                x = layer(x)
            return x

        add = functions().add
        if self.norm_first:
            x = add(src, attend(self.norm1(src)))
            return add(x, feed(self.norm2(x)))  # type: ignore[no-any-return]
        x = self.norm1(add(src, attend(src)))
        return self.norm2(add(x, feed(x)))  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        _ = self.saved
        add, first = functions().add, self.norm_first
        grad = grad_output if first else back(self.norm2, grad_output)
        inner = grad
        for layer in reversed(self._feedforward()):
            inner = back(layer, inner)
        grad = add(grad, back(self.norm2, inner) if first else inner)
        grad = grad if first else back(self.norm1, grad)
        inner = back(self.self_attn, back(self.dropout1, grad), input_grad or first)
        if first:
            inner = back(self.norm1, inner)
        return add(grad, inner) if input_grad else grad


@doc(
    _SHARED,
    example(
        """
>>> layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
>>> net = nn.TransformerEncoder(layer, num_layers=3, norm=nn.LayerNorm(8))
>>> net(np.ones((3, 5, 8), np.float32), is_causal=True).shape
(3, 5, 8)
"""
    ),
)
class TransformerEncoder(Module):
    """Copies of a layer, one after another. torch.nn.TransformerEncoder.

    Parameters
    ----------
    encoder_layer : TransformerEncoderLayer
        What is copied, its parameters as well; dropouts of copies draw masks of their own.
    num_layers : int
        How many copies there are.
    norm : Module, optional
        What comes after the last.

    Notes
    -----
    ``net(src, mask=None, src_key_padding_mask=None, is_causal=False)``.
    {masks}

    See Also
    --------
    torch.nn.TransformerEncoder

    {example}
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        if not isinstance(encoder_layer, Module):
            raise TypeError(f"encoder_layer: found {type(encoder_layer).__name__}, expected a Module")
        if norm is not None and not isinstance(norm, Module):
            raise TypeError(f"norm: found {type(norm).__name__}, expected a Module or None")
        self.num_layers = size_of(num_layers, "num_layers")
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(self.num_layers))
        self.norm = norm

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Array:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        layers = list(self.layers)
        if self.norm is not None:
            grad_output = back(self.norm, grad_output, input_grad or bool(layers))
        for i, layer in reversed(list(enumerate(layers))):
            grad_output = back(layer, grad_output, input_grad or i > 0)
        return grad_output
