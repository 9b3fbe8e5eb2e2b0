"""Pooling: the largest, the average or the norm of every window, and of a given number of windows (adaptive)."""

from fastdl.functional.pooling.avg import *
from fastdl.functional.pooling.lp import *
from fastdl.functional.pooling.max import *
from fastdl.functional.pooling.unpool import *
