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
from fastdl._native import ffi, lib

SIGNATURES = _kernels.SIGNATURES
KERNELS = {getattr(_kernels, name): name for name, parameters in SIGNATURES.items() if parameters}
"""The functions that bodies call."""


def _symbol(name: str, dtype: str) -> str:
    declared = hashlib.sha256(repr(SIGNATURES[name]).encode()).hexdigest()[:8]
    return f"fastdl {__version__} {name} {dtype} {declared}"


for _index, (_name, _dtype) in enumerate((name, dtype) for name in SIGNATURES for dtype in ("float32", "float64")):
    llvmlite.binding.add_symbol(_symbol(_name, _dtype), lib.fdl_address(_index))


def _other(name: str) -> str:
    """A function of fastdl.h that is no kernel."""
    symbol = f"fastdl {__version__} {name}"
    llvmlite.binding.add_symbol(symbol, int(ffi.cast("intptr_t", ffi.addressof(lib, f"fdl_{name}"))))
    return symbol


_KEEP, _MISTAKE = _other("keep_to_one_thread"), _other("mistake")


def keep_to_one_thread(builder: Any, on: Any) -> Any:
    """Whether this thread's kernels are to use no other from now on; what was before."""
    int64 = ir.IntType(64)
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(int64, [int64]), _KEEP)
    return builder.call(function, [on])


def mistake(builder: Any) -> Any:
    """The address of this thread's words for a message."""
    function_type = ir.FunctionType(ir.IntType(64).as_pointer(), [])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, _MISTAKE), [])


def call(builder: Any, name: str, dtype: str, arguments: list[Any]) -> Any:
    """The status of a kernel."""
    function_type = ir.FunctionType(ir.IntType(32), [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, _symbol(name, dtype)), arguments)
