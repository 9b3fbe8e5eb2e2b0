"""Loads the compiled library, which holds two modules: fastdl._native, cffi's, and fastdl._call, csrc/binding/call.c.

Its OpenMP runtime is to give up its core soon when there is nothing to do. libgomp's threads by default spin for
milliseconds between two parallel regions. On a machine whose cores are shared that costs far more than it saves: the
thread that would work waits for the one that spins. Unless the user has said how to wait, spin for some tens of
microseconds. libgomp reads the variable once, when it is loaded, which may be now; the environment is left as it was.
"""

import importlib.util
import os
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec

if importlib.util.find_spec("fastdl._native") is None:
    raise ImportError(
        f"fastdl is not built here: {os.path.dirname(__file__)} is its source folder. Install it with "
        "`pip install -e .` (or `pip install .`) from the folder above, or import an installed fastdl from elsewhere"
    )

_unset = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
if _unset:
    os.environ["GOMP_SPINCOUNT"] = "2000"
try:
    from fastdl import _native
finally:
    if _unset:
        del os.environ["GOMP_SPINCOUNT"]

_loader = ExtensionFileLoader("fastdl._call", _native.__file__)
_call = _loader.create_module(ModuleSpec("fastdl._call", _loader, origin=_native.__file__))
_loader.exec_module(_call)
sys.modules["fastdl._call"] = _call
