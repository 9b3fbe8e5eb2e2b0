"""Fast deep-learning kernels for CPUs over NumPy arrays."""

from fastdl import _openmp  # noqa: F401  isort: skip  (first: it loads _native)
from fastdl import nn, optim
from fastdl._config import (
    active_isa,
    get_num_threads,
    set_num_threads,
    show_config,
    supported_isas,
    use_isa,
)
from fastdl.activations import (
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    softmax,
    softmax_backward,
)
from fastdl.conv import Conv2dGrad, col2im, conv2d, conv2d_backward, im2col
from fastdl.linear import LinearGrad, linear, linear_backward
from fastdl.losses import cross_entropy, cross_entropy_backward
from fastdl.optim import sgd_step
from fastdl.pooling import max_pool2d, max_pool2d_backward

__version__ = "0.1.0"
__all__ = [
    "Conv2dGrad",
    "LinearGrad",
    "active_isa",
    "col2im",
    "conv2d",
    "conv2d_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "get_num_threads",
    "im2col",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "nn",
    "optim",
    "relu",
    "relu_backward",
    "set_num_threads",
    "sgd_step",
    "show_config",
    "softmax",
    "softmax_backward",
    "supported_isas",
    "use_isa",
]
