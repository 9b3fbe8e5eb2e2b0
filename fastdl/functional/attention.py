"""Attention: each query's average of values, weighted by how well their keys fit it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, overload

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional.verbs import (
    Array,
    ArrayLike,
    disjoint,
    fail,
    flag,
    floats,
    floats_as,
    floats_like,
    integer,
    number_or_nan,
    output,
    probability,
    score_mask,
    with_rstd,
)

__all__ = [
    "AttentionGrad",
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_backward",
]

_TEXTS = {
    "query": """
        query : array of shape (..., heads, queries, width)
            float32 or float64. Any number of dimensions before the last two.
        key : array of shape (..., heads, keys, width)
        value : array of shape (..., heads, keys, value_width)
        """,
    "options": """
        attn_mask : array, optional
            Of a shape that broadcasts to that of the scores, (..., heads, queries, keys): bools, False where a query
            may not look at a key; or numbers of the dtype of `query`, which are added to the scores.
        dropout_p : float, in [0, 1]
            The probability with which a weight is dropped (the others are divided by 1 - dropout_p).
        is_causal : bool
            Whether query i may look at keys 0 to i only. Not together with a mask.
        scale : float, optional
            What scores are multiplied by; None is 1 / sqrt(width).
        enable_gqa : bool
            Whether there may be fewer heads of keys and values than of queries, whose number is a multiple: each of the
            former is shared by that many of the latter, side by side.
        seed, offset : int, in [0, 2^63)
            Of dropout, as in `dropout`: weight (r, j), r counted over all queries of all heads, has number
            r * 4 * ceil(keys / 4) + j.
        """,
    "raises": """
        Raises
        ------
        ValueError
            Shapes that do not fit each other, numbers out of range, arrays that overlap what is written.
        TypeError
            What is no array (or no number), or has another dtype. Either message names the argument, what was found
            and what was expected; nothing has been written then.
        """,
}


class AttentionGrad(NamedTuple):
    """The gradients of scaled_dot_product_attention.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.ones((1, 2))
    >>> y, saved = fastdl.scaled_dot_product_attention(x, x, x, return_saved=True)
    >>> fastdl.scaled_dot_product_attention_backward(np.ones((1, 2)), x, x, x, y, saved).value
    array([[1., 1.]])
    """

    query: Array
    key: Array
    value: Array


@overload
def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    seed: int = 0,
    offset: int = 0,
    out: Array | None = None,
    return_saved: Literal[False] = False,
) -> Array: ...
@overload
def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    seed: int = 0,
    offset: int = 0,
    out: Array | None = None,
    *,
    return_saved: Literal[True],
) -> tuple[Array, Array]: ...
@doc(_TEXTS)
@operation
def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    seed: int = 0,
    offset: int = 0,
    out: Array | None = None,
    return_saved: bool = False,
) -> Array | tuple[Array, Array]:
    """Attention with scaled dot products, as torch.nn.functional.scaled_dot_product_attention.

    ::

        scores = scale * query @ key^T + attn_mask      -infinity where attn_mask is False, or (is_causal) j > i
        y      = softmax(scores) @ value

    A query that may look at no key (all of its scores are -infinity) gets 0, as in torch. No array of scores is made:
    memory grows with the number of queries and keys, not with their product.

    Parameters
    ----------
    {query}
    {options}
    out : array, optional
        Where to store the result: as it is, C-contiguous, in memory that no argument shares.
    return_saved : bool
        Whether to return what the gradient needs, too.

    Returns
    -------
    y : array of shape (..., heads, queries, value_width)
    saved : array of shape (..., heads, queries)
        With `return_saved`: the logarithm of the sum of the exponentials of each query's scores.

    {raises}

    References
    ----------
    Vaswani et al., "Attention Is All You Need", NeurIPS 2017; Dao et al., "FlashAttention: Fast and Memory-Efficient
    Exact Attention with IO-Awareness", NeurIPS 2022.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> query, key = np.array([[0.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> fastdl.scaled_dot_product_attention(query, key, np.array([[1.0], [2.0]]))
    array([[1.5]])
    >>> fastdl.scaled_dot_product_attention(query, key, np.array([[1.0], [2.0]]), np.array([True, False]))
    array([[1.]])
    """
    query = floats(query, "query")
    key = floats_like(key, "key", query)
    value = floats_like(value, "value", query)
    allowed, bias = score_mask(attn_mask, "attn_mask", query)
    keep = 1.0 - probability(dropout_p, "dropout_p")
    causal, shared = _causal(is_causal, attn_mask), flag(enable_gqa, "enable_gqa")
    mask = _shape_of(allowed, bias)
    heads, geometry, shape = _heads(query.shape, key.shape, value.shape, mask, causal, shared)
    factor = _factor(scale, query.shape)
    first, start = integer(seed, "seed", 0), integer(offset, "offset", 0)
    flag(return_saved, "return_saved")
    result = output(out, shape, query)
    if out is not None:
        disjoint(result, "query", query)
        disjoint(result, "key", key)
        disjoint(result, "value", value)
        disjoint(result, "attn_mask", allowed if allowed is not None else bias)
    saved = output(None, query.shape[:-1] if return_saved else (0,), query)
    _kernels.attention(query, key, value, allowed, bias, result, saved, geometry, heads, factor, keep, first, start)
    return with_rstd(result, saved, return_saved)


@operation
@doc(_TEXTS)
def scaled_dot_product_attention_backward(
    grad_output: ArrayLike,
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    y: ArrayLike,
    saved: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    seed: int = 0,
    offset: int = 0,
) -> AttentionGrad:
    """The gradients of scaled_dot_product_attention in query, key and value. (There is none in the mask.)

    Parameters
    ----------
    grad_output : array of shape (..., heads, queries, value_width)
        The gradient of the result.
    {query}
    y, saved : array
        What scaled_dot_product_attention(..., return_saved=True) returned.
    {options}

    Returns
    -------
    AttentionGrad
        (query, key, value), of their shapes.

    {raises}

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> y, saved = fastdl.scaled_dot_product_attention(x, x, x, is_causal=True, return_saved=True)
    >>> grad = fastdl.scaled_dot_product_attention_backward(np.ones((2, 2)), x, x, x, y, saved, is_causal=True)
    >>> grad.value.round(3)
    array([[1.33, 1.33],
           [0.67, 0.67]])
    """
    query = floats(query, "query")
    key = floats_like(key, "key", query)
    value = floats_like(value, "value", query)
    allowed, bias = score_mask(attn_mask, "attn_mask", query)
    keep = 1.0 - probability(dropout_p, "dropout_p")
    causal, shared = _causal(is_causal, attn_mask), flag(enable_gqa, "enable_gqa")
    mask = _shape_of(allowed, bias)
    heads, geometry, shape = _heads(query.shape, key.shape, value.shape, mask, causal, shared)
    y = floats_like(y, "y", query)
    if y.shape != shape:
        fail("y", y.shape, shape)
    grad_output = floats_as(grad_output, "grad_output", y)
    saved = floats_like(saved, "saved", query)
    if saved.shape != query.shape[:-1]:
        fail("saved", saved.shape, query.shape[:-1])
    factor = _factor(scale, query.shape)
    first, start = integer(seed, "seed", 0), integer(offset, "offset", 0)
    grad = AttentionGrad(np.empty_like(query), np.empty_like(key), np.empty_like(value))
    _kernels.attention_backward(
        grad_output,
        query,
        key,
        value,
        allowed,
        bias,
        y,
        saved,
        grad.query,
        grad.key,
        grad.value,
        geometry,
        heads,
        factor,
        keep,
        first,
        start,
    )
    return grad


@helper
def _causal(is_causal: bool, attn_mask: ArrayLike | None) -> bool:
    causal = flag(is_causal, "is_causal")
    if attn_mask is not None and causal:
        fail("attn_mask", "a mask with is_causal=True", "one of the two")
    return causal


@helper
def _shape_of(allowed: Array | None, bias: Array | None) -> tuple[int, ...]:
    """Of a mask; that of none is as if it were one number."""
    found: tuple[int, ...] = ()
    if allowed is not None:
        found = allowed.shape
    if bias is not None:
        found = bias.shape
    return found


@helper
def _factor(scale: float | None, shape: tuple[int, ...]) -> float:
    if scale is not None:
        return number_or_nan(scale, "scale")
    return 1.0 / math.sqrt(float(max(shape[-1], 1)))


@cached_helper
def _heads(
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    mask: tuple[int, ...],
    causal: bool,
    shared: bool,
) -> tuple[_kernels.Heads, Array, tuple[int, ...]]:
    """What kernels take for the shapes, and the shape of the result."""
    rank, group = len(query), 1
    if rank < 2:
        fail("query", ("shape", query), "at least 2 dimensions")
    if len(key) != rank:
        fail("key", ("shape", key), (rank, "dimensions, as query has"))
    if shared and rank > 2 and key[-3] > 0:
        group = query[-3] // key[-3]
    if rank > 2 and (group < 1 or (group > 1 and query[-3] != group * key[-3])):
        fail("key", (key[-3], "heads"), ("a number that", query[-3], "heads of queries are a multiple of"))
    leading = query[:-2] if group == 1 else (*query[:-3], query[-3] // group)
    if key[:-2] != leading or key[-1] != query[-1]:
        fail("key", ("shape", key), ("one like", leading, "+ (keys,", query[-1], ")"))
    if value[:-1] != key[:-1]:
        fail("value", ("shape", value), ("one that begins with", key[:-1]))
    scores = (*query[:-1], key[-2])
    if len(mask) > rank:
        fail("attn_mask", ("shape", mask), ("one that broadcasts to", scores))
    own = (1,) * (rank - len(mask)) + mask
    geometry, step = np.zeros((rank, 2), np.int64), 1
    for i in range(rank):
        d = rank - 1 - i
        if own[d] != 1 and own[d] != scores[d]:
            fail("attn_mask", ("shape", mask), ("one that broadcasts to", scores))
        geometry[d, 0] = scores[d]
        geometry[d, 1] = 0 if own[d] == 1 else step
        step = step * own[d]
    found = _kernels.Heads(
        heads=math.prod(query[:-2]),
        group=group,
        queries=query[-2],
        keys=key[-2],
        width=query[-1],
        value_width=value[-1],
        causal=int(causal),
        mask_rank=rank - 2,
        mask_row=int(geometry[rank - 2, 1]),
        mask_key=int(geometry[rank - 1, 1]),
    )
    return found, geometry, (*query[:-1], value[-1])
