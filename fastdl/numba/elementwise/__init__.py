"""Elementwise functions of a user's own: what fastdl.elementwise makes."""

from fastdl._library import COMPILED
from fastdl.numba.elementwise.function import Elementwise

if COMPILED:
    from fastdl.numba.elementwise import types as types  # what compiled code knows of them

__all__ = ["Elementwise"]
