"""Convolution, its transpose, and the im2col / col2im pair."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from fastdl import _kernels
from fastdl._docs import doc
from fastdl.functional._operation import cached_helper, helper, operation
from fastdl.functional._window import Pads, Pair, Triple, Volume, Window, bounded, out_sizes, transposed_size, window
from fastdl.functional.activation.elementwise import fused_activation
from fastdl.functional.padding import CONSTANT, check_borders
from fastdl.functional.verbs import (
    Array,
    PackedConv2dWeight,
    channels_last,
    choice,
    conv_weight,
    disjoint,
    fail,
    flag,
    floats,
    floats_like,
    gradient,
    optional_like,
    optional_vector,
    output,
    pads,
    triple,
    unfolded,
    volume,
    volume_shape,
    with_batch,
    without_batch,
)

__all__ = [
    "ConvGrad",
    "PackedConv2dWeight",
    "col2im",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv3d",
    "conv3d_backward",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
    "im2col",
    "pack_conv2d_weight",
]

Algorithm = Literal["auto", "direct", "im2col", "pointwise", "rows", "winograd_2x2", "winograd", "depthwise"]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Precision = Literal["default", "fast", "exact"]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")  # as those of pad
ALGORITHMS = _kernels.ALGORITHM_NAMES
_WINOGRAD, _WINOGRAD_2X2 = _kernels.ALGORITHM_WINOGRAD, _kernels.ALGORITHM_WINOGRAD_2X2
PRECISIONS = _kernels.PRECISION_NAMES
_ANY_TILE = 6  # for fdl_conv_plan: weights that are still to be packed


SHARED = {
    "window": """
        stride, dilation : int or tuple of ints
            Steps between windows and between a kernel's taps: one number for all dimensions, or one for each.
        padding : int, tuple of ints, tuple of pairs, "valid", "same" or "same_lower"
            Zeros around x: a number for all dimensions, one for each, or (before, after) for each; "valid" is none;
            "same" as many that there are ceil(size / stride) positions, the odd one after (ONNX's SAME_UPPER), and
            "same_lower" the same with the odd one before.
        groups : int
            Into how many parts channels and filters are divided; each filter sees the channels of its part.
    """,
    "padding_mode": """
        padding_mode : {"zeros", "reflect", "replicate", "circular"}
            What stands in the border instead of zeros, as `pad` makes it.
    """,
    "algorithm": """
        algorithm : str
            "auto" chooses (explain_conv2d tells what and why); else one by name, a ValueError where it does not apply:
            "direct" packs cache-sized tiles of x on the fly; "im2col" builds the matrix of columns and multiplies [1];
            "pointwise" is the one product that a 1 x 1 kernel is; "rows" reads shifted rows of a padded copy;
            "winograd" (tiles of 4 x 4) and "winograd_2x2" (both 3 x 3, stride 1, dilation 1, groups 1) need a quarter
            and 4/9 of the multiplications [2]; "depthwise" (one channel in each group) multiplies no matrices.
    """,
    "precision": """
        precision : {"default", "fast", "exact"}
            "exact": no algorithm less exact than "direct"; "fast": Winograd's where it pays, whose error is a few eps
            times the largest magnitude within a tile, not element by element; "default": what set_conv_precision said.
    """,
    "fused": """
        activation : str
            The name of an elementwise function ("relu", "leaky_relu", "gelu", ...) or "none", applied while results are
            in registers or in the first-level cache.
        activation_args : tuple of floats
            Its arguments in order, torch's defaults where they end.
    """,
    "out": """
        out : ndarray, optional
            Where the result goes, in place of a new array: C-contiguous, of its shape and dtype, sharing no memory with
            the inputs.
    """,
    "conv_raises": """
        Raises
        ------
        ValueError, TypeError
            Names the argument, what was found and what was expected, before anything is written.
    """,
    "sources": """
        References
        ----------
        [1] Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document Processing",
        IWFHR 2006, section 2.
        [2] Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.
    """,
    "grads": """
        Returns
        -------
        ConvGrad
            (input, weight, bias): the gradients, of the shapes of x and weight, and (out_channels,).
    """,
    "input_grad": """
        input_grad : bool
            False: `input` of the result is an empty array, and is not computed.
    """,
}


class ConvGrad(NamedTuple):
    """The gradients that convNd_backward and conv_transposeNd_backward return.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 1, 3)), np.ones((1, 1, 2))
    >>> fastdl.conv1d_backward(np.ones((1, 1, 2)), x, weight)._fields
    ('input', 'weight', 'bias')
    """

    input: Array
    """Of x; empty without input_grad."""
    weight: Array
    """Of the weight."""
    bias: Array
    """(out_channels,): the sum of grad_output over everything else."""


@operation
@doc(SHARED)
def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCL", "NLC"] = "NCL",
    algorithm: Algorithm = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: Any = None,
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Convolution (cross-correlation) of sequences, with bias, residual and activation in one pass.

    ::

        y[n, k, i] = bias[k] + residual[n, k, i] + sum over c, r of
            weight[k, c, r] * x[n, c, i * stride - padding + r * dilation]

    then the activation; x is zero outside (or as padding_mode says), and c runs over the channels of k's group.
    torch.nn.functional.conv1d.

    Parameters
    ----------
    x : array of shape (batch, channels, length), or without the batch
        float32 or float64; channels last where data_format says so.
    weight : array of shape (out_channels, channels / groups, kernel_length)
        Of x's dtype.
    bias : array of shape (out_channels,), optional
        Of x's dtype.
    {window}
    {padding_mode}
    data_format : {"NCL", "NLC"}
        How x, residual and the result lie.
    {algorithm}
    {fused}
    residual : array, optional
        As the result; added before the activation.
    {out}
    {precision}

    Returns
    -------
    ndarray
        As x, with out_channels and the sizes ``(size + padding - dilation * (kernel - 1) - 1) // stride + 1``, padding
        counted before and after.

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv1d(np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[-1.0, 1.0]]]))
    array([[[1., 2., 4.]]])
    """
    x = floats(x, "x")
    plain, packed, kernel, tile = conv_weight(weight, x, 3, groups, data_format)
    return _conv(
        x,
        plain,
        packed,
        kernel,
        tile,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        activation,
        activation_args,
        residual,
        out,
        precision,
    )


@operation
@doc(SHARED)
def conv1d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCL", "NLC"] = "NCL",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv1d (with activation "none").

    ::

        input  = sum over filters and taps of weight * grad_output, to where x was read
        weight = sum over batch and positions of grad_output * x, where x was read
        bias   = sum over batch and positions of grad_output

    That of residual is grad_output itself.

    Parameters
    ----------
    grad_output : array
        As conv1d returns: the gradient of a loss by its result.
    x : array of shape (batch, channels, length), or without the batch
        As it was given to conv1d; float32 or float64.
    weight : array of shape (out_channels, channels / groups, kernel_length)
        Of x's dtype; not packed.
    {window}
    {padding_mode}
    data_format : {"NCL", "NLC"}
        How x and grad_output lie.
    {algorithm}
        A gradient that it does not compute is computed by "direct".
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((2, 3, 5)), np.ones((4, 3, 2))
    >>> grads = fastdl.conv1d_backward(np.ones((2, 4, 4)), x, weight)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((2, 3, 5), (4, 3, 2), array([8., 8., 8., 8.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 3)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_backward(
        grad_output,
        x,
        weight,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        input_grad,
        precision,
    )


@operation
@doc(SHARED)
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCHW", "NHWC"] = "NCHW",
    algorithm: Algorithm = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: Any = None,
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Convolution (cross-correlation) of images, with bias, residual and activation in one pass.

    ::

        y[n, k, i, j] = bias[k] + residual[n, k, i, j] + sum over c, r, s of
            weight[k, c, r, s] * x[n, c, i * stride - padding + r * dilation, j * stride - padding + s * dilation]

    then the activation; x is zero outside (or as padding_mode says), and c runs over the channels of k's group.
    torch.nn.functional.conv2d.

    Parameters
    ----------
    x : array of shape (batch, channels, height, width), or without the batch
        float32 or float64; channels last where data_format says so.
    weight : array of shape (out_channels, channels / groups, kernel_height, kernel_width) or PackedConv2dWeight
        Of x's dtype, or what pack_conv2d_weight made of it.
    bias : array of shape (out_channels,), optional
        Of x's dtype.
    {window}
    {padding_mode}
    data_format : {"NCHW", "NHWC"}
        How x, residual and the result lie.
    {algorithm}
    {fused}
    residual : array, optional
        As the result; added before the activation.
    {out}
    {precision}

    Returns
    -------
    ndarray
        As x, with out_channels and the sizes ``(size + padding - dilation * (kernel - 1) - 1) // stride + 1``, padding
        counted before and after.

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> fastdl.conv2d(x, np.ones((1, 1, 2, 2)), bias=np.array([0.5]))
    array([[[[ 8.5, 12.5],
             [20.5, 24.5]]]])
    >>> fastdl.conv2d(x, np.ones((1, 1, 3, 3)), stride=2, padding="same").shape
    (1, 1, 2, 2)
    """
    x = floats(x, "x")
    plain, packed, kernel, tile = conv_weight(weight, x, 4, groups, data_format)
    return _conv(
        x,
        plain,
        packed,
        kernel,
        tile,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        activation,
        activation_args,
        residual,
        out,
        precision,
    )


@operation
@doc(SHARED)
def conv2d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCHW", "NHWC"] = "NCHW",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv2d (with activation "none").

    ::

        input  = sum over filters and taps of weight * grad_output, to where x was read
        weight = sum over batch and positions of grad_output * x, where x was read
        bias   = sum over batch and positions of grad_output

    That of residual is grad_output itself.

    Parameters
    ----------
    grad_output : array
        As conv2d returns: the gradient of a loss by its result.
    x : array of shape (batch, channels, height, width), or without the batch
        As it was given to conv2d; float32 or float64.
    weight : array of shape (out_channels, channels / groups, kernel_height, kernel_width)
        Of x's dtype; not packed.
    {window}
    {padding_mode}
    data_format : {"NCHW", "NHWC"}
        How x and grad_output lie.
    {algorithm}
        A gradient that it does not compute is computed by "direct".
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((2, 3, 5, 5)), np.ones((4, 3, 2, 2))
    >>> grads = fastdl.conv2d_backward(np.ones((2, 4, 4, 4)), x, weight)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((2, 3, 5, 5), (4, 3, 2, 2), array([32., 32., 32., 32.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 4)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_backward(
        grad_output,
        x,
        weight,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        input_grad,
        precision,
    )


@operation
@doc(SHARED)
def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCDHW", "NDHWC"] = "NCDHW",
    algorithm: Algorithm = "auto",
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    residual: Any = None,
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Convolution (cross-correlation) of volumes, with bias, residual and activation in one pass.

    ::

        y[n, k, d, i, j] = bias[k] + residual[n, k, d, i, j] + sum over c, q, r, s of weight[k, c, q, r, s] *
            x[n, c, d * stride - padding + q * dilation, i * stride - padding + r * dilation,
              j * stride - padding + s * dilation]

    then the activation; x is zero outside (or as padding_mode says), and c runs over the channels of k's group.
    torch.nn.functional.conv3d.

    Parameters
    ----------
    x : array of shape (batch, channels, depth, height, width), or without the batch
        float32 or float64; channels last where data_format says so.
    weight : array of shape (out_channels, channels / groups, kernel_depth, kernel_height, kernel_width)
        Of x's dtype.
    bias : array of shape (out_channels,), optional
        Of x's dtype.
    {window}
    {padding_mode}
    data_format : {"NCDHW", "NDHWC"}
        How x, residual and the result lie.
    {algorithm}
    {fused}
    residual : array, optional
        As the result; added before the activation.
    {out}
    {precision}

    Returns
    -------
    ndarray
        As x, with out_channels and the sizes ``(size + padding - dilation * (kernel - 1) - 1) // stride + 1``, padding
        counted before and after.

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv3d(np.ones((1, 2, 4, 4, 4)), np.ones((3, 2, 3, 3, 3)), padding=1).shape
    (1, 3, 4, 4, 4)
    """
    x = floats(x, "x")
    plain, packed, kernel, tile = conv_weight(weight, x, 5, groups, data_format)
    return _conv(
        x,
        plain,
        packed,
        kernel,
        tile,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        activation,
        activation_args,
        residual,
        out,
        precision,
    )


@operation
@doc(SHARED)
def conv3d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Triple = 1,
    padding: Any = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    data_format: Literal["NCDHW", "NDHWC"] = "NCDHW",
    algorithm: Algorithm = "auto",
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv3d (with activation "none").

    ::

        input  = sum over filters and taps of weight * grad_output, to where x was read
        weight = sum over batch and positions of grad_output * x, where x was read
        bias   = sum over batch and positions of grad_output

    That of residual is grad_output itself.

    Parameters
    ----------
    grad_output : array
        As conv3d returns: the gradient of a loss by its result.
    x : array of shape (batch, channels, depth, height, width), or without the batch
        As it was given to conv3d; float32 or float64.
    weight : array of shape (out_channels, channels / groups, kernel_depth, kernel_height, kernel_width)
        Of x's dtype; not packed.
    {window}
    {padding_mode}
    data_format : {"NCDHW", "NDHWC"}
        How x and grad_output lie.
    {algorithm}
        A gradient that it does not compute is computed by "direct".
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((2, 3, 5, 5, 5)), np.ones((4, 3, 2, 2, 2))
    >>> grads = fastdl.conv3d_backward(np.ones((2, 4, 4, 4, 4)), x, weight)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((2, 3, 5, 5, 5), (4, 3, 2, 2, 2), array([128., 128., 128., 128.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 5)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_backward(
        grad_output,
        x,
        weight,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        input_grad,
        precision,
    )


@helper
def _conv(
    x: Array,
    plain: Array | None,
    packed: Array | None,
    kernel: tuple[int, ...],
    tile: int,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    algorithm: str,
    activation: str,
    activation_args: tuple[float, ...],
    residual: Any,
    out: Array | None,
    precision: str,
) -> Array:
    window, shape, codes, act = _geometry(
        x.shape,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        activation,
        activation_args,
        precision,
    )
    bias = optional_vector(bias, "bias", x, kernel[0])
    residual = optional_like(residual, "residual", x, shape)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", plain)
        disjoint(result, "weight", packed)
        disjoint(result, "bias", bias)
        disjoint(result, "residual", residual)
    if padding_mode != "zeros":
        images = _bordered(x, kernel, stride, padding, dilation, padding_mode, data_format)
        _kernels.conv(
            images, plain, packed, bias, residual, result, window, tile, act[0], act[1], act[2], codes[0], codes[1]
        )
    else:
        _kernels.conv(
            x, plain, packed, bias, residual, result, window, tile, act[0], act[1], act[2], codes[0], codes[1]
        )
    return result


@helper
def _conv_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    algorithm: str,
    input_grad: bool,
    precision: str,
) -> ConvGrad:
    window, shape, codes, _ = _geometry(
        x.shape,
        weight.shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        algorithm,
        "none",
        (),
        precision,
    )
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = ConvGrad(gradient(x, flag(input_grad, "input_grad")), gradient(weight), np.empty(weight.shape[0], x.dtype))
    if padding_mode == "zeros":
        _kernels.conv_backward(
            grad_output, x, weight, result.input, result.weight, result.bias, window, codes[0], codes[1]
        )
        return result
    bordered = _bordered(x, weight.shape, stride, padding, dilation, padding_mode, data_format)
    grad = gradient(bordered, input_grad)
    _kernels.conv_backward(grad_output, bordered, weight, grad, result.weight, result.bias, window, codes[0], codes[1])
    if input_grad:
        kind = choice(padding_mode, "padding_mode", PADDING_MODES)
        geometry, _ = _borders(x.shape, weight.shape, stride, padding, dilation, kind, data_format)
        _kernels.pad_backward(grad, result.input, geometry, 5, kind)
    return result


@helper
@doc(SHARED)
def pack_conv2d_weight(
    weight: Any,
    stride: int | Pair = 1,
    padding: Any = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    data_format: Literal["NCHW", "NHWC"] = "NCHW",
    algorithm: Algorithm = "auto",
    x_shape: tuple[int, ...] | None = None,
    precision: Precision = "default",
) -> PackedConv2dWeight:
    """A weight as conv2d's kernels read it, for repeated calls with the same one (inference).

    conv2d takes the result in place of the weight, also with images of another size. The copy is independent of
    `weight`, good on every instruction-set level, and up to about 5 times as large (3 x 3, transformed for Winograd's
    algorithm). The gradients (conv2d_backward) need the plain weight.

    Parameters
    ----------
    weight : array of shape (out_channels, channels / groups, kernel_height, kernel_width)
        float32 or float64.
    {window}
    data_format : {"NCHW", "NHWC"}
        How conv2d will be given x.
    {algorithm}
        Where it is "winograd" or "winograd_2x2", weights are transformed for it as well; where "auto", if that pays.
    x_shape : tuple of 4 ints, optional
        Of the images for which that is asked; large ones, if it is not given.
    {precision}

    Returns
    -------
    PackedConv2dWeight
        What conv2d takes as its weight, with the same groups and data_format.

    {conv_raises}

    {sources}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3))
    >>> packed = fastdl.pack_conv2d_weight(weight)
    >>> bool((fastdl.conv2d(x, packed) == fastdl.conv2d(x, weight)).all())
    True
    """
    weight = floats(weight, "weight", 4)
    shape = _large_images(weight.shape, dilation, groups, data_format) if x_shape is None else x_shape
    window, _, codes, _ = _geometry(
        shape, weight.shape, stride, padding, dilation, groups, "zeros", data_format, algorithm, "none", (), precision
    )
    found = np.zeros(3, np.int64)
    found[0] = codes[0]
    _kernels.conv_plan(weight, found, window, _ANY_TILE, 0, codes[1])
    tile = 0 if window.channels_last else 4 if found[0] == _WINOGRAD else 2 if found[0] == _WINOGRAD_2X2 else 0
    _kernels.conv_packed_size(weight, found, window, tile)
    data = np.empty(found[0], weight.dtype)
    _kernels.conv_pack(weight, data, window, tile)
    return PackedConv2dWeight(data, weight.shape, groups, window.channels_last, tile)


@helper
def _bordered(
    x: Array, weight: tuple[int, ...], stride: Any, padding: Any, dilation: Any, padding_mode: str, data_format: str
) -> Array:
    """x with the border that padding_mode makes."""
    kind = choice(padding_mode, "padding_mode", PADDING_MODES)
    geometry, shape = _borders(x.shape, weight, stride, padding, dilation, kind, data_format)
    result = np.empty(shape, x.dtype)
    _kernels.pad(x, result, geometry, 5, kind, 0.0)
    return result


@cached_helper
def _borders(
    x: tuple[int, ...], weight: tuple[int, ...], stride: Any, padding: Any, dilation: Any, kind: int, data_format: str
) -> tuple[Array, tuple[int, ...]]:
    """What the kernels of pad take, for x as a volume, and the shape of x with its border, with a batch."""
    x = with_batch(x, "x", weight)
    last = channels_last(data_format, x)
    images, kernel = volume(x, last), volume(weight, 0)[2:]
    steps, spread = triple(stride, "stride", 1, 1, x), triple(dilation, "dilation", 1, 1, x)
    around = pads(padding, "padding", x, kernel, steps, spread, images[2:])
    geometry = np.zeros((5, 3), np.int64)
    geometry[0, 0], geometry[4 if last else 1, 0] = images[0], images[1]
    for i in range(3):
        at = i + 1 if last else i + 2
        geometry[at, 0], geometry[at, 1], geometry[at, 2] = images[i + 2], around[i], around[i + 3]
    check_borders(geometry, "padding", kind)
    return geometry, volume_shape(x, images[0], images[1], _padded_sizes(images, around), last)


@helper
def _padded_sizes(images: Volume, around: Pads) -> Triple:
    return images[2] + around[0] + around[3], images[3] + around[1] + around[4], images[4] + around[2] + around[5]


@operation
@doc(SHARED)
def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Transposed convolution of sequences: every input adds a weighted kernel to the output.

    ::

        y[n, k, i * stride - padding + r * dilation] += weight[c, k, r] * x[n, c, i]

    for all inputs and taps, and the channels c of k's group; then bias and activation. It is the gradient of conv1d
    with input and output in each other's place. torch.nn.functional.conv_transpose1d.

    Parameters
    ----------
    x : array of shape (batch, in_channels, length), or without the batch
        float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_length)
        Of x's dtype.
    bias : array of shape (out_channels,), optional
        Of x's dtype.
    stride, dilation : int or tuple of ints
        Steps between the places of neighbouring inputs, and between a kernel's taps.
    padding : int, tuple of ints, or tuple of pairs
        Positions that are cut off: a number for all dimensions, one for each, or (before, after) for each.
    output_padding : int or tuple of ints
        Positions that are added at the end; less than stride or dilation.
    groups : int
        Into how many parts input and output channels are divided.
    {fused}
    {out}
    {precision}

    Returns
    -------
    ndarray
        As x, with out_channels and the sizes
        ``(size - 1) * stride - padding + dilation * (kernel - 1) + output_padding + 1``, padding before and after.

    {conv_raises}

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]]), stride=2)
    array([[[  1.,  10., 102.,  20., 200.]]])
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 3)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out, precision
    )


@operation
@doc(SHARED)
def conv_transpose1d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv_transpose1d (with activation "none").

    ::

        input  = conv1d(grad_output, weight), without output_padding
        weight = conv1d's gradient of the weights, with x and grad_output in each other's place
        bias   = sum over batch and positions of grad_output

    Parameters
    ----------
    grad_output : array
        As conv_transpose1d returns: the gradient of a loss by its result.
    x : array of shape (batch, in_channels, length), or without the batch
        As it was given to conv_transpose1d; float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_length)
        Of x's dtype.
    stride, dilation : int or tuple of ints
        Steps between the places of neighbouring inputs, and between a kernel's taps.
    padding : int, tuple of ints, or tuple of pairs
        Positions that are cut off: a number for all dimensions, one for each, or (before, after) for each.
    output_padding : int or tuple of ints
        Positions that are added at the end; less than stride or dilation.
    groups : int
        Into how many parts input and output channels are divided.
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 2, 3)), np.ones((2, 4, 2))
    >>> grads = fastdl.conv_transpose1d_backward(np.ones((1, 4, 6)), x, weight, stride=2)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((1, 2, 3), (2, 4, 2), array([6., 6., 6., 6.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 3)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad, precision
    )


@operation
@doc(SHARED)
def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: Any = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Transposed convolution of images: every input adds a weighted kernel to the output.

    ::

        y[n, k, i * stride - padding + r * dilation, j * stride - padding + s * dilation] +=
            weight[c, k, r, s] * x[n, c, i, j]

    for all inputs and taps, and the channels c of k's group; then bias and activation. It is the gradient of conv2d
    with input and output in each other's place. torch.nn.functional.conv_transpose2d.

    Parameters
    ----------
    x : array of shape (batch, in_channels, height, width), or without the batch
        float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_height, kernel_width)
        Of x's dtype.
    bias : array of shape (out_channels,), optional
        Of x's dtype.
    stride, dilation : int or tuple of ints
        Steps between the places of neighbouring inputs, and between a kernel's taps.
    padding : int, tuple of ints, or tuple of pairs
        Positions that are cut off: a number for all dimensions, one for each, or (before, after) for each.
    output_padding : int or tuple of ints
        Positions that are added at the end; less than stride or dilation.
    groups : int
        Into how many parts input and output channels are divided.
    {fused}
    {out}
    {precision}

    Returns
    -------
    ndarray
        As x, with out_channels and the sizes
        ``(size - 1) * stride - padding + dilation * (kernel - 1) + output_padding + 1``, padding before and after.

    {conv_raises}

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv_transpose2d(np.ones((1, 8, 5, 5)), np.ones((8, 4, 4, 4)), stride=2, padding=1).shape
    (1, 4, 10, 10)
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 4)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out, precision
    )


@operation
@doc(SHARED)
def conv_transpose2d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Pair = 1,
    padding: Any = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv_transpose2d (with activation "none").

    ::

        input  = conv2d(grad_output, weight), without output_padding
        weight = conv2d's gradient of the weights, with x and grad_output in each other's place
        bias   = sum over batch and positions of grad_output

    Parameters
    ----------
    grad_output : array
        As conv_transpose2d returns: the gradient of a loss by its result.
    x : array of shape (batch, in_channels, height, width), or without the batch
        As it was given to conv_transpose2d; float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_height, kernel_width)
        Of x's dtype.
    stride, dilation : int or tuple of ints
        Steps between the places of neighbouring inputs, and between a kernel's taps.
    padding : int, tuple of ints, or tuple of pairs
        Positions that are cut off: a number for all dimensions, one for each, or (before, after) for each.
    output_padding : int or tuple of ints
        Positions that are added at the end; less than stride or dilation.
    groups : int
        Into how many parts input and output channels are divided.
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 2, 3, 3)), np.ones((2, 4, 2, 2))
    >>> grads = fastdl.conv_transpose2d_backward(np.ones((1, 4, 6, 6)), x, weight, stride=2)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((1, 2, 3, 3), (2, 4, 2, 2), array([36., 36., 36., 36.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 4)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad, precision
    )


@operation
@doc(SHARED)
def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Triple = 1,
    padding: Any = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    activation: str = "none",
    activation_args: tuple[float, ...] = (),
    out: Array | None = None,
    precision: Precision = "default",
) -> Array:
    """Transposed convolution of volumes: every input adds a weighted kernel to the output.

    ::

        y[n, k, d * stride - padding + q * dilation, i * stride - padding + r * dilation,
          j * stride - padding + s * dilation] += weight[c, k, q, r, s] * x[n, c, d, i, j]

    for all inputs and taps, and the channels c of k's group; then bias and activation. It is the gradient of conv3d
    with input and output in each other's place. torch.nn.functional.conv_transpose3d.

    Parameters
    ----------
    x : array of shape (batch, in_channels, depth, height, width), or without the batch
        float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_depth, kernel_height, kernel_width)
        Of x's dtype.
    bias : array of shape (out_channels,), optional
        Of x's dtype.
    stride, dilation : int or tuple of ints
        Steps between the places of neighbouring inputs, and between a kernel's taps.
    padding : int, tuple of ints, or tuple of pairs
        Positions that are cut off: a number for all dimensions, one for each, or (before, after) for each.
    output_padding : int or tuple of ints
        Positions that are added at the end; less than stride or dilation.
    groups : int
        Into how many parts input and output channels are divided.
    {fused}
    {out}
    {precision}

    Returns
    -------
    ndarray
        As x, with out_channels and the sizes
        ``(size - 1) * stride - padding + dilation * (kernel - 1) + output_padding + 1``, padding before and after.

    {conv_raises}

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.conv_transpose3d(np.ones((1, 2, 3, 3, 3)), np.ones((2, 4, 2, 2, 2)), stride=2).shape
    (1, 4, 6, 6, 6)
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 5)
    return _conv_transpose(
        x, weight, bias, stride, padding, output_padding, groups, dilation, activation, activation_args, out, precision
    )


@operation
@doc(SHARED)
def conv_transpose3d_backward(
    grad_output: Any,
    x: Any,
    weight: Any,
    stride: int | Triple = 1,
    padding: Any = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    input_grad: bool = True,
    precision: Precision = "default",
) -> ConvGrad:
    """The gradients of conv_transpose3d (with activation "none").

    ::

        input  = conv3d(grad_output, weight), without output_padding
        weight = conv3d's gradient of the weights, with x and grad_output in each other's place
        bias   = sum over batch and positions of grad_output

    Parameters
    ----------
    grad_output : array
        As conv_transpose3d returns: the gradient of a loss by its result.
    x : array of shape (batch, in_channels, depth, height, width), or without the batch
        As it was given to conv_transpose3d; float32 or float64.
    weight : array of shape (in_channels, out_channels / groups, kernel_depth, kernel_height, kernel_width)
        Of x's dtype.
    stride, dilation : int or tuple of ints
        Steps between the places of neighbouring inputs, and between a kernel's taps.
    padding : int, tuple of ints, or tuple of pairs
        Positions that are cut off: a number for all dimensions, one for each, or (before, after) for each.
    output_padding : int or tuple of ints
        Positions that are added at the end; less than stride or dilation.
    groups : int
        Into how many parts input and output channels are divided.
    {input_grad}
    {precision}

    {grads}

    {conv_raises}

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> x, weight = np.ones((1, 2, 3, 3, 3)), np.ones((2, 4, 2, 2, 2))
    >>> grads = fastdl.conv_transpose3d_backward(np.ones((1, 4, 6, 6, 6)), x, weight, stride=2)
    >>> grads.input.shape, grads.weight.shape, grads.bias
    ((1, 2, 3, 3, 3), (2, 4, 2, 2, 2), array([216., 216., 216., 216.]))
    """
    x = floats(x, "x")
    weight = floats_like(weight, "weight", x, 5)
    grad_output = floats_like(grad_output, "grad_output", x)
    return _conv_transpose_backward(
        grad_output, x, weight, stride, padding, output_padding, groups, dilation, input_grad, precision
    )


@helper
def _conv_transpose(
    x: Array,
    weight: Array,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    activation: str,
    activation_args: tuple[float, ...],
    out: Array | None,
    precision: str,
) -> Array:
    window, shape, codes = _transposed_geometry(
        x.shape, weight.shape, stride, padding, output_padding, groups, dilation, precision
    )
    bias = optional_vector(bias, "bias", x, codes[0])
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
        disjoint(result, "weight", weight)
        disjoint(result, "bias", bias)
    act = fused_activation(activation, activation_args)
    _kernels.conv_transpose(x, weight, bias, result, window, act[0], act[1], act[2], codes[1])
    return result


@helper
def _conv_transpose_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    input_grad: bool,
    precision: str,
) -> ConvGrad:
    window, shape, codes = _transposed_geometry(
        x.shape, weight.shape, stride, padding, output_padding, groups, dilation, precision
    )
    if grad_output.shape != shape:
        fail("grad_output", grad_output.shape, shape)
    result = ConvGrad(gradient(x, flag(input_grad, "input_grad")), gradient(weight), np.empty(codes[0], x.dtype))
    _kernels.conv_transpose_backward(grad_output, x, weight, result.input, result.weight, result.bias, window, codes[1])
    return result


@operation
@doc(SHARED)
def im2col(
    x: Any,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: Any = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """Every window of x as a column, the taps of each channel one below the other.

    ::

        columns[n, (c, r, s), (i, j)] =
            x[n, c, i * stride - padding + r * dilation, j * stride - padding + s * dilation]

    torch.nn.functional.unfold, and the same for sequences and volumes.

    Parameters
    ----------
    x : array of shape (batch, channels, height, width), or without the batch
        float32 or float64; sequences and volumes likewise.
    kernel_size : int or tuple of ints
        A tuple of 1, 2 or 3 says of how many dimensions windows are; an int is for images (x of 5 dimensions: volumes).
    stride, dilation : int or tuple of ints
        Steps between windows and between a window's taps.
    padding : int, tuple of ints, tuple of pairs, "valid", "same" or "same_lower"
        Zeros around the images, as conv2d's.
    {out}

    Returns
    -------
    ndarray
        (batch, channels * taps, positions), windows row by row; without the batch if x is.

    {conv_raises}

    See Also
    --------
    col2im : the adjoint.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.im2col(np.arange(9.0).reshape(1, 1, 3, 3), 2)
    array([[[0., 1., 3., 4.],
            [1., 2., 4., 5.],
            [3., 4., 6., 7.],
            [4., 5., 7., 8.]]])
    >>> fastdl.im2col(np.arange(4.0).reshape(1, 1, 4), (2,))
    array([[[0., 1., 2.],
            [1., 2., 3.]]])
    """
    x = floats(x, "x")
    like = unfolded(kernel_size, x.shape)
    window = _unfold_window(with_batch(x.shape, "x", like), kernel_size, dilation, padding, stride)
    shape = without_batch((window.batch, window.channels * _taps(window), _positions(window)), x.shape, like)
    result = output(out, shape, x)
    if out is not None:
        disjoint(result, "x", x)
    _kernels.im2col(x, result, window)
    return result


@operation
@doc(SHARED)
def col2im(
    columns: Any,
    output_size: int | Pair,
    kernel_size: int | Pair,
    dilation: int | Pair = 1,
    padding: Any = 0,
    stride: int | Pair = 1,
    out: Array | None = None,
) -> Array:
    """The sum of columns back into images: the adjoint of im2col, and so its gradient.

    ::

        x[n, c, i * stride - padding + r * dilation, j * stride - padding + s * dilation] +=
            columns[n, (c, r, s), (i, j)]

    torch.nn.functional.fold, and the same for sequences and volumes.

    Parameters
    ----------
    columns : array of shape (batch, channels * taps, positions), or without the batch
        As im2col returns them; float32 or float64.
    output_size : int or tuple of ints
        The sizes of the images; a tuple of 1, 2 or 3 says of how many dimensions they are, an int is for images.
    kernel_size : int or tuple of ints
        The sizes of the windows.
    stride, dilation : int or tuple of ints
        Steps between windows and between a window's taps.
    padding : int, tuple of ints, tuple of pairs, "valid", "same" or "same_lower"
        Zeros around the images, as conv2d's.
    {out}

    Returns
    -------
    ndarray
        (batch, channels, height, width), or as many sizes as output_size has; without the batch if columns are.

    {conv_raises}

    See Also
    --------
    im2col : the adjoint.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdl
    >>> fastdl.col2im(np.ones((1, 4, 4)), 3, 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    columns = floats(columns, "columns")
    like = unfolded(output_size, (1, 1))
    found = with_batch(columns.shape, "columns", (1, 1, 1))
    size = triple(output_size, "output_size", 1, 1, like)
    bounded("output_size", size, "output_size", size)
    kernel = triple(kernel_size, "kernel_size", 1, 1, like)
    taps = kernel[0] * kernel[1] * kernel[2]
    if found[1] % taps != 0:
        fail("columns", columns.shape, ("batch", "a multiple of", taps, "positions"))
    images = volume_shape(like, found[0], found[1] // taps, size, 0)
    window = _unfold_window(images, kernel_size, dilation, padding, stride)
    if found[2] != _positions(window):
        fail("columns", columns.shape, (found[0], found[1], _positions(window)))
    result = output(out, without_batch(images, columns.shape, (1, 1, 1)), columns)
    if out is not None:
        disjoint(result, "columns", columns)
    _kernels.col2im(columns, result, window)
    return result


@helper
def _taps(window: Window) -> int:
    return window.kernel_depth * window.kernel_height * window.kernel_width


@helper
def _positions(window: Window) -> int:
    return window.out_depth * window.out_height * window.out_width


@cached_helper
def _geometry(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    data_format: str,
    algorithm: str,
    activation: str,
    activation_args: tuple[float, ...],
    precision: str,
) -> tuple[Window, tuple[int, ...], tuple[int, int], tuple[int, float, float]]:
    """The window (over x, or over x with the border that padding_mode makes), the shape of the result, and the numbers
    of algorithm and precision, and of the activation."""
    codes = choice(algorithm, "algorithm", ALGORITHMS), choice(precision, "precision", PRECISIONS)
    act = fused_activation(activation, activation_args)
    given, x = x, with_batch(x, "x", weight)
    last = channels_last(data_format, x)
    images, kernels = volume(x, last), volume(weight, 0)
    kernel, channels = kernels[2:], images[1]
    groups = triple(groups, "groups", 1, 1, (1, 1, 1))[2]
    if weight[0] % groups != 0:
        fail("groups", groups, ("a divisor of the out_channels", weight[0]))
    if weight[1] * groups != channels:
        fail(
            "weight",
            ("shape", weight, "and groups", groups, ", for", weight[1] * groups, "channels"),
            ("one for the", channels, "channels of x"),
        )
    if min(kernel[0], kernel[1], kernel[2]) < 1:
        fail("weight", weight, "a kernel of at least 1 x 1")
    steps, spread = triple(stride, "stride", 1, 1, x), triple(dilation, "dilation", 1, 1, x)
    around = pads(padding, "padding", x, kernel, steps, spread, images[2:])
    sizes = out_sizes(images[2:], kernel, steps, around, spread)
    shape = without_batch(volume_shape(x, x[0], weight[0], sizes, last), given, x)
    kind = choice(padding_mode, "padding_mode", PADDING_MODES)
    if kind != CONSTANT:
        _borders(x, weight, stride, padding, dilation, kind, data_format)  # refuses what it cannot make
        depth, height, width = _padded_sizes(images, around)
        images, around = (images[0], images[1], depth, height, width), (0, 0, 0, 0, 0, 0)
    return window(images, weight[0], sizes, kernel, steps, around, spread, groups, last), shape, codes, act


@cached_helper
def _transposed_geometry(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    precision: str,
) -> tuple[Window, tuple[int, ...], tuple[int, int]]:
    """The window over the result, of the convolution whose output x is; the shape of the result; its channels, and the
    number of the precision."""
    code = choice(precision, "precision", PRECISIONS)
    given, x = x, with_batch(x, "x", weight)
    images, kernels = volume(x, 0), volume(weight, 0)
    kernel, sizes = kernels[2:], images[2:]
    groups = triple(groups, "groups", 1, 1, (1, 1, 1))[2]
    if x[1] % groups != 0:
        fail("groups", groups, ("a divisor of the in_channels", x[1]))
    if weight[0] != x[1]:
        fail("weight", ("shape", weight, ", for", weight[0], "channels"), ("one for the", x[1], "channels of x"))
    if min(kernel[0], kernel[1], kernel[2]) < 1:
        fail("weight", weight, "a kernel of at least 1 x 1")
    if min(sizes[0], sizes[1], sizes[2]) < 1:
        fail("x", x, "at least one position")
    steps, spread = triple(stride, "stride", 1, 1, x), triple(dilation, "dilation", 1, 1, x)
    more = triple(output_padding, "output_padding", 0, 0, x)
    around = pads(padding, "padding", x, kernel, steps, spread)
    around_most = (max(around[0], around[3]), max(around[1], around[4]), max(around[2], around[5]))
    bounded("weight", kernel, "stride", steps)
    bounded("dilation", spread, "padding", around_most)
    full = (
        transposed_size(sizes[0], kernel[0], steps[0], around[0] + around[3], spread[0], more[0]),
        transposed_size(sizes[1], kernel[1], steps[1], around[1] + around[4], spread[1], more[1]),
        transposed_size(sizes[2], kernel[2], steps[2], around[2] + around[5], spread[2], more[2]),
    )
    channels = weight[1] * groups
    result = (x[0], channels, full[0], full[1], full[2])
    shape = without_batch(volume_shape(x, x[0], channels, full, 0), given, x)
    return window(result, x[1], sizes, kernel, steps, around, spread, groups, 0), shape, (channels, code)


@helper
def _large_images(weight: tuple[int, ...], dilation: Any, groups: int, data_format: str) -> tuple[int, ...]:
    """The shape of one image with more than 64 x 64 positions."""
    spread = triple(dilation, "dilation", 1, 1, weight)
    sizes = (1, 64 + weight[2] * spread[1], 64 + weight[3] * spread[2])
    return volume_shape(weight, 1, weight[1] * groups, sizes, channels_last(data_format, weight))


@cached_helper
def _unfold_window(shape: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Window:
    kernel, images = triple(kernel_size, "kernel_size", 1, 1, shape), volume(shape, 0)
    steps, spread = triple(stride, "stride", 1, 1, shape), triple(dilation, "dilation", 1, 1, shape)
    around = pads(padding, "padding", shape, kernel, steps, spread, images[2:])
    sizes = out_sizes(images[2:], kernel, steps, around, spread)
    positions = float(sizes[0]) * float(sizes[1]) * float(sizes[2])
    taps = float(kernel[0]) * float(kernel[1]) * float(kernel[2])
    if float(max(shape[0], 1)) * float(max(shape[1], 1)) * taps * positions >= 2.0**60:
        fail("kernel_size", ("columns of", kernel, "at", sizes, "positions"), "ones whose size in bytes fits 64 bits")
    return window(images, images[1], sizes, kernel, steps, around, spread, 1, 0)
