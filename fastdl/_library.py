"""Loads the compiled library, which holds two modules: fastdl._native, cffi's, and fastdl._call, of binding/call.c; or,
in an install without a compiler, what stands in for them (_pure.py)."""

import importlib.util
import os
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec

COMPILED = importlib.util.find_spec("fastdl._native") is not None
"""Whether the kernels in C are there."""

if COMPILED:
    from fastdl import _native

    _loader = ExtensionFileLoader("fastdl._call", _native.__file__)
    _call = _loader.create_module(ModuleSpec("fastdl._call", _loader, origin=_native.__file__))
    _loader.exec_module(_call)
    sys.modules["fastdl._call"] = _call
elif importlib.util.find_spec("fastdl._kernels") is not None:
    from fastdl import _pure

    sys.modules["fastdl._native"], sys.modules["fastdl._call"] = _pure.native, _pure.call
else:
    raise ImportError(
        f"fastdl is not built here: {os.path.dirname(__file__)} is its source folder. Install it with "
        "`pip install -e .` (or `pip install .`) from the folder above, or import an installed fastdl from elsewhere"
    )
