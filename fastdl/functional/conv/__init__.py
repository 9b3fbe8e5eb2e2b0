"""Convolution, its transpose, and the im2col / col2im pair."""

from fastdl.functional.conv.columns import *
from fastdl.functional.conv.conv import *
from fastdl.functional.conv.packing import *
from fastdl.functional.conv.transpose import *
