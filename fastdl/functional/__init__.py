"""The functions, a family a file: check the arguments, allocate, call a kernel. All of them are in `fastdl` itself."""

from fastdl.functional.activation import *
from fastdl.functional.conv import *
from fastdl.functional.explain import *
from fastdl.functional.linear import *
from fastdl.functional.loss import *
from fastdl.functional.normalization import *
from fastdl.functional.padding import *
from fastdl.functional.pooling import *
from fastdl.functional.recurrent import *
from fastdl.functional.regularization import *
