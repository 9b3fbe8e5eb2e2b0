"""Dropout."""

from __future__ import annotations

import math
from typing import Any

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.verbs import Array, flag, natural
from fastdl.nn._arguments import example, in_place, real
from fastdl.nn._layer import RandomLayer

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]

_SHARED = {
    "rest": """
Outside training (``layer.eval()``) forward returns its input.

Parameters
----------
p : float
    The probability of being dropped, in [0, 1].
inplace : bool
    Write the result over the input, which has to be a C-contiguous array.
seed : int, optional
    What the masks follow from, at least 0; None takes fresh entropy from the system.

Attributes
----------
seed, offset : int
    The key and the position of a counter-based generator (Philox, see fastdl.dropout). Each forward in training moves
    `offset` on by as many counters as it draws, so that the two say which mask comes next: assign them to repeat one.
    Both are pickled with the layer, which so goes on where it was. A copy (copy.deepcopy) is another layer: it has a
    seed of its own, derived from the two, and draws other masks. Neither is in state_dict, as in torch.

See Also
--------
{see}

{example}""",
}


class _Dropout(RandomLayer):
    elementwise = True
    rank = 0
    """Spatial dimensions, where whole channels are dropped."""

    def __init__(self, p: float = 0.5, inplace: bool = False, *, seed: int | None = None) -> None:
        self.p, self.inplace = real(p, "p", 0.0, 1.0), flag(inplace, "inplace")
        self._seed(None if seed is None else natural(seed, "seed"))

    def forward(self, x: Any) -> Array:
        if not self.training:
            self.save_for_backward(None)
            return x  # type: ignore[no-any-return]
        options = self.p, True, self.seed, self.offset
        function = getattr(functions(), self.function)
        y: Array = in_place(function, x, *options) if self.inplace else function(x, *options)
        self.save_for_backward(options)
        before = 2 if self.rank == 2 else max(y.ndim - self.rank, 1)  # the dimensions that number the channels
        drawn = math.prod(y.shape[:before]) if self.rank else y.size
        self.offset += -(-drawn // 4)
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        (options,) = self.saved
        if options is None:
            return grad_output  # type: ignore[no-any-return]
        return getattr(functions(), self.function_backward)(grad_output, *options)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


@doc(
    _SHARED,
    example(
        """
>>> layer = nn.Dropout(0.5, seed=0)
>>> layer(np.ones(8))
array([2., 0., 0., 0., 0., 2., 0., 2.])
>>> layer.eval()(np.ones(3))
array([1., 1., 1.])
"""
    ),
    see="fastdl.dropout : The function, and how masks follow from seed and offset. torch.nn.Dropout.",
)
class Dropout(_Dropout, function="dropout"):
    """Zeroes each element with probability p in training, and scales the others by 1 / (1 - p).

    {rest}
    """


@doc(
    _SHARED,
    example(">>> nn.AlphaDropout(0.5, seed=0)(np.zeros(4)).round(3)\narray([ 0.779, -0.779, -0.779, -0.779])"),
    see="fastdl.alpha_dropout : The function. SELU. torch.nn.AlphaDropout.",
)
class AlphaDropout(_Dropout, function="alpha_dropout"):
    """Dropout that keeps mean 0 and variance 1, for networks of SELU: what is dropped becomes SELU's limit, and an
    affine map follows.

    {rest}
    """


@doc(
    _SHARED,
    example(
        ">>> nn.Dropout1d(0.5, seed=0)(np.ones((1, 3, 2))).reshape(3, 2)\n"
        "array([[2., 2.],\n"
        "       [0., 0.],\n"
        "       [0., 0.]])"
    ),
    see="fastdl.dropout1d : The function. torch.nn.Dropout1d.",
)
class Dropout1d(_Dropout, rank=1, function="dropout1d"):
    """Zeroes whole channels of sequences, (batch, channels, length), with probability p in training,
    and scales the others by 1 / (1 - p).

    {rest}
    """


@doc(
    _SHARED,
    example(
        ">>> nn.Dropout2d(0.5, seed=0)(np.ones((1, 3, 1, 2))).reshape(3, 2)\n"
        "array([[2., 2.],\n"
        "       [0., 0.],\n"
        "       [0., 0.]])"
    ),
    see="fastdl.dropout2d : The function. torch.nn.Dropout2d.",
)
class Dropout2d(_Dropout, rank=2, function="dropout2d"):
    """Zeroes whole channels of images, (batch, channels, height, width), with probability p in training,
    and scales the others by 1 / (1 - p). Three dimensions are (batch, channels, length), as the function says.

    {rest}
    """


@doc(
    _SHARED,
    example(
        ">>> nn.Dropout3d(0.5, seed=0)(np.ones((1, 3, 1, 1, 2))).reshape(3, 2)\n"
        "array([[2., 2.],\n"
        "       [0., 0.],\n"
        "       [0., 0.]])"
    ),
    see="fastdl.dropout3d : The function. torch.nn.Dropout3d.",
)
class Dropout3d(_Dropout, rank=3, function="dropout3d"):
    """Zeroes whole channels of volumes, (batch, channels, depth, height, width), with probability p in training,
    and scales the others by 1 / (1 - p).

    {rest}
    """
