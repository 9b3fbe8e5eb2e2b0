"""Loads the compiled library, which holds two modules: fastdl._native, cffi's, and fastdl._call, of binding/call.c."""

import importlib.util
import os
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec

if importlib.util.find_spec("fastdl._native") is None:
    raise ImportError(
        f"fastdl is not built here: {os.path.dirname(__file__)} is its source folder. Install it with "
        "`pip install -e .` (or `pip install .`) from the folder above, or import an installed fastdl from elsewhere"
    )

from fastdl import _native

COMPILED = True
"""Whether the kernels in C are there."""

_loader = ExtensionFileLoader("fastdl._call", _native.__file__)
_call = _loader.create_module(ModuleSpec("fastdl._call", _loader, origin=_native.__file__))
_loader.exec_module(_call)
sys.modules["fastdl._call"] = _call
