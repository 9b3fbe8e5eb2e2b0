"""The operations of fastdl in plain NumPy: the same names, the same signatures, written to be read.

This is the oracle of the tests (which run it in float64) and the NumPy side of the measurements. It does not check
its arguments, and computes in whatever dtype it is given.
"""

from fastdl.reference.activation import *
from fastdl.reference.arithmetic import *
from fastdl.reference.arrays import *
from fastdl.reference.attention import *
from fastdl.reference.conv import *
from fastdl.reference.linear import *
from fastdl.reference.loss import *
from fastdl.reference.matmul import *
from fastdl.reference.normalization import *
from fastdl.reference.optim import *
from fastdl.reference.padding import *
from fastdl.reference.policy import *
from fastdl.reference.pooling import *
from fastdl.reference.recurrent import *
from fastdl.reference.reduction import *
from fastdl.reference.regularization import *
from fastdl.reference.resize import *
