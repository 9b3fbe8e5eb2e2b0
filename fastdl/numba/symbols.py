"""The C kernels as symbols, which compiled and cached code links against by name.

A name says the library's version and the kernel's own declaration, so that code compiled for another never calls this
one; what sees to it that such code is compiled anew is in cache.py."""

from __future__ import annotations

import hashlib
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils

from fastdl import __version__, _kernels
from fastdl._native import lib

SIGNATURES = _kernels.SIGNATURES
KERNELS = {getattr(_kernels, name): name for name, parameters in SIGNATURES.items() if parameters}
"""The functions that bodies call."""


def _symbol(name: str, dtype: str) -> str:
    declared = hashlib.sha256(repr(SIGNATURES[name]).encode()).hexdigest()[:8]
    return f"fastdl {__version__} {name} {dtype} {declared}"


for _index, (_name, _dtype) in enumerate((name, dtype) for name in SIGNATURES for dtype in ("float32", "float64")):
    llvmlite.binding.add_symbol(_symbol(_name, _dtype), lib.fdl_address(_index))


def call(builder: Any, name: str, dtype: str, arguments: list[Any]) -> Any:
    """The status of a kernel."""
    function_type = ir.FunctionType(ir.IntType(32), [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, _symbol(name, dtype)), arguments)
