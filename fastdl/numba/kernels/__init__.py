"""The kernels of csrc/fastdl.h once more, written in Numba: for fastdl.use_backend("numba").

Families and files are those of csrc/kernels/; product.py is the matrix product that linear, convolution and recurrent
networks are made of, vmath.py has the elementary functions. A kernel that is not here runs on fastdl.reference, which
has them all.
"""

from __future__ import annotations

from fastdl.numba.kernels import (  # noqa: F401  (which enter their kernels)
    activation,
    arithmetic,
    arrays,
    attention,
    conv,
    linear,
    loss,
    normalization,
    optim,
    padding,
    policy,
    pooling,
    product,
    recurrent,
    regularization,
    resize,
    softmax,
)
from fastdl.numba.kernels._kernel import KERNELS, call  # noqa: F401
