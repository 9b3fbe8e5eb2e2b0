"""The operations of fastdl in plain NumPy: the same names, the same signatures, written to be read.

This is the oracle of the tests (which run it in float64) and the NumPy side of the measurements. It does not check
its arguments, and computes in whatever dtype it is given.
"""

from fastdl.reference.activations import (
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    softmax,
    softmax_backward,
)
from fastdl.reference.conv import col2im, conv2d, conv2d_backward, im2col
from fastdl.reference.linear import linear, linear_backward
from fastdl.reference.losses import cross_entropy, cross_entropy_backward
from fastdl.reference.optim import sgd_step
from fastdl.reference.pooling import max_pool2d, max_pool2d_backward

__all__ = [
    "col2im",
    "conv2d",
    "conv2d_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "im2col",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "relu",
    "relu_backward",
    "sgd_step",
    "softmax",
    "softmax_backward",
]
