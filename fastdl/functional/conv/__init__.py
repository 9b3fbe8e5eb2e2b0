"""Convolution, its transpose, and the im2col / col2im pair."""

from fastdl.functional.conv.conv import *
