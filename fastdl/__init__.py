"""Fast deep-learning kernels for CPUs over NumPy arrays."""

from fastdl import _library  # noqa: F401  isort: skip  (first)
from fastdl import _threadpoolctl
from fastdl import nn as nn
from fastdl import optim as optim
from fastdl._config import *
from fastdl.functional import *
from fastdl.nn.receptive_field import *
from fastdl.optim.adam import *
from fastdl.optim.adaptive import *
from fastdl.optim.clipping import *
from fastdl.optim.momentum import *

__version__ = "0.1.0"
_threadpoolctl.announce()
