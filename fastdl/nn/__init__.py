"""Layers: the functions of fastdl with parameters, and what backward needs, remembered. A family a file."""

from fastdl._backend import backend as backend
from fastdl.nn.activation import *
from fastdl.nn.attention import *
from fastdl.nn.compile import *
from fastdl.nn.container import *
from fastdl.nn.conv import *
from fastdl.nn.dropout import *
from fastdl.nn.embedding import *
from fastdl.nn.flatten import *
from fastdl.nn.fold import *
from fastdl.nn.gradcheck import *
from fastdl.nn.linear import *
from fastdl.nn.loss import *
from fastdl.nn.module import *
from fastdl.nn.normalization import *
from fastdl.nn.padding import *
from fastdl.nn.pooling import *
from fastdl.nn.recurrent import *
from fastdl.nn.resize import *
from fastdl.nn.states import *
