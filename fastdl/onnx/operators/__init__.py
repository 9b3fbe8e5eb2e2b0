"""The operators, a family a file: functions on arrays, which run as they are and are recorded as they are."""

from fastdl.onnx.operators import (  # noqa: F401
    activation,
    arithmetic,
    control,
    conv,
    image,
    indexing,
    linear,
    loss,
    normalization,
    pooling,
    quantization,
    randomness,
    recurrent,
    reduction,
    sequence,
    shape,
    training,
)
