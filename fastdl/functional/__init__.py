"""The functions, a family a file or a folder: check the arguments, allocate, call a kernel. All are in `fastdl` itself.

Names of arguments are those of torch.nn.functional, but for one: what torch calls `input` is called x here (layers take
either). To take both names would cost each call more than a small one has to spend.
"""

from fastdl.functional.activation.elementary import *
from fastdl.functional.activation.glu import *
from fastdl.functional.activation.piecewise import *
from fastdl.functional.activation.prelu import *
from fastdl.functional.activation.smooth import *
from fastdl.functional.activation.softmax import *
from fastdl.functional.arithmetic import *
from fastdl.functional.arrays import *
from fastdl.functional.attention import *
from fastdl.functional.conv.columns import *
from fastdl.functional.conv.conv import *
from fastdl.functional.conv.packing import *
from fastdl.functional.conv.transpose import *
from fastdl.functional.explain import *
from fastdl.functional.linear import *
from fastdl.functional.loss import *
from fastdl.functional.matmul import *
from fastdl.functional.normalization import *
from fastdl.functional.padding import *
from fastdl.functional.policy.categorical import *
from fastdl.functional.policy.normal import *
from fastdl.functional.policy.returns import *
from fastdl.functional.pooling.avg import *
from fastdl.functional.pooling.lp import *
from fastdl.functional.pooling.max import *
from fastdl.functional.pooling.unpool import *
from fastdl.functional.recurrent.cell import *
from fastdl.functional.recurrent.lstm import *
from fastdl.functional.recurrent.onnx import *
from fastdl.functional.recurrent.rnn import *
from fastdl.functional.reduction import *
from fastdl.functional.regularization import *
from fastdl.functional.resize import *
