"""What convolution and its transpose share: the names of their options, their gradients and their text."""

from __future__ import annotations

from typing import Literal, NamedTuple

from fastdl import _kernels
from fastdl.functional.verbs import Array

Algorithm = Literal["auto", "direct", "im2col", "pointwise", "rows", "winograd_2x2", "winograd", "depthwise", "batched"]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Precision = Literal["default", "fast", "exact"]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")  # as those of pad
ALGORITHMS = _kernels.ALGORITHM_NAMES
PRECISIONS = _kernels.PRECISION_NAMES

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
    "bias": """
        bias : array of shape (out_channels,), optional
            Of x's dtype.
    """,
    "padding_mode": """
        padding_mode : {"zeros", "reflect", "replicate", "circular"}
            What stands in the border instead of zeros, as `pad` makes it.
    """,
    "algorithm": """
        algorithm : str
            "auto" chooses (explain_conv2d tells what and why); else one by name, a ValueError where it does not apply:
            "direct" packs cache-sized tiles of x on the fly; "im2col" builds the matrix of columns and multiplies [1];
            "pointwise" is the one product that a 1 x 1 kernel is, or one as large as the image; "rows" reads shifted
            rows of a padded copy; "batched" computes as many images side by side as a vector has lanes;
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
    "residual": """
        residual : array, optional
            As the result; added before the activation.
    """,
    "out": """
        out : ndarray, optional
            Where the result goes, in place of a new array: C-contiguous, of its shape and dtype, sharing no memory with
            the inputs.
    """,
    "conv_returns": """
        Returns
        -------
        ndarray
            As x, with out_channels and the sizes
            ``(size + padding - dilation * (kernel - 1) - 1) // stride + 1``, padding counted before and after.
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
    "conv_gradients": """
        ::

            input  = sum over filters and taps of weight * grad_output, to where x was read
            weight = sum over batch and positions of grad_output * x, where x was read
            bias   = sum over batch and positions of grad_output

        That of residual is grad_output itself.
    """,
    "grads": """
        Returns
        -------
        ConvGrad
            (input, weight, bias): the gradients, of the shapes of x and weight, and (out_channels,).
    """,
    "transposed_window": """
        stride, dilation : int or tuple of ints
            Steps between the places of neighbouring inputs, and between a kernel's taps.
        padding : int, tuple of ints, or tuple of pairs
            Positions that are cut off: a number for all dimensions, one for each, or (before, after) for each.
        output_padding : int or tuple of ints
            Positions that are added at the end; less than stride or dilation.
        groups : int
            Into how many parts input and output channels are divided.
    """,
    "transposed_returns": """
        Returns
        -------
        ndarray
            As x, with out_channels and the sizes
            ``(size - 1) * stride - padding + dilation * (kernel - 1) + output_padding + 1``, padding before and after.
    """,
    "transposed_source": """
        References
        ----------
        Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.
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
