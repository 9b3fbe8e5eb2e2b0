"""The functions, a family a file: check the arguments, allocate, call a kernel. All of them are in `fastdl` itself.

Names of arguments are those of torch.nn.functional, but for one: what torch calls `input` is called x here (layers take
either). To take both names would cost each call more than a small one has to spend.
"""

from fastdl.functional.activation.elementwise import *
from fastdl.functional.conv.conv import *
from fastdl.functional.explain import *
from fastdl.functional.linear import *
from fastdl.functional.loss import *
from fastdl.functional.normalization import *
from fastdl.functional.padding import *
from fastdl.functional.pooling.max import *
from fastdl.functional.recurrent.sequence import *
from fastdl.functional.regularization import *
