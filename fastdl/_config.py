"""The library's knobs: instruction-set level and number of threads, and what they are now."""

from __future__ import annotations

import os
import platform

from fastdl import _kernels
from fastdl._native import ffi, lib

__all__ = [
    "active_isa",
    "get_num_threads",
    "set_num_threads",
    "show_config",
    "supported_isas",
    "use_isa",
]


def _levels() -> list[str]:
    names: list[str] = []
    while (name := lib.fdl_level_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


LEVELS = _levels()
"""Instruction-set levels that this build has, best first."""


def supported_isas() -> list[str]:
    """The levels that this CPU and operating system can run, best first."""
    return [name for i, name in enumerate(LEVELS) if lib.fdl_level_supported(i)]


def use_isa(name: str) -> None:
    """Make every kernel run at that instruction-set level ("v4", "v3", "v2", "neon"), for the whole process.

    The environment variable FASTDL_ISA does the same at import. Raises ValueError for a name that this build
    does not have or this CPU cannot run.
    """
    supported = supported_isas()
    if name not in supported:
        reason = "not supported by this CPU" if name in LEVELS else "unknown"
        raise ValueError(f"isa: found {name!r} ({reason}), expected one of {', '.join(supported)}")
    lib.fdl_use_level(LEVELS.index(name))


def active_isa() -> str:
    """The level that runs now, as the code of that level itself reports it."""
    return ffi.string(_kernels.compiled_level()).decode()


def set_num_threads(threads: int) -> None:
    """Use at most that many threads; FASTDL_NUM_THREADS, else OMP_NUM_THREADS, set it at import."""
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads: found {threads!r}, expected an int")
    if not 1 <= threads <= 4096:
        raise ValueError(f"threads: found {threads}, expected 1 to 4096")
    lib.fdl_set_num_threads(threads)


def get_num_threads() -> int:
    return lib.fdl_get_num_threads()


def show_config() -> dict[str, object]:
    """What was built, what this machine supports and what is in use, as a dict."""
    from fastdl import __version__

    return {
        "fastdl": __version__,
        "machine": platform.machine(),
        "isa": active_isa(),
        "isa supported": supported_isas(),
        "isa built": list(LEVELS),
        "threads": get_num_threads(),
        "openmp": bool(lib.fdl_has_openmp()),
    }


def _from_environment() -> None:
    supported = supported_isas()
    if not supported:
        raise ImportError(f"fastdl needs a CPU with one of the instruction-set levels {', '.join(LEVELS)}")
    use_isa(os.environ.get("FASTDL_ISA") or supported[0])
    if threads := os.environ.get("FASTDL_NUM_THREADS"):
        if not threads.isdecimal():
            raise ValueError(f"FASTDL_NUM_THREADS: found {threads!r}, expected a number")
        set_num_threads(int(threads))


_from_environment()
