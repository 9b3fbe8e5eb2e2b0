"""Which implementation of the kernels is called: that in C, that in Numba or that in NumPy.

All that fastdl computes ends in calls of the kernels that csrc/fastdl.h declares. A backend is another implementation
of these: a function that is called instead of each, with the kernel's name, the dtype (0: float32, 1: float64) and what
it was given. So checks, allocation, layers and optimizers are the same for all backends, and the one in C pays nothing
(binding/call.c asks, for recorders too, whether there is anybody to be called instead).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from fastdl._call import get_backend, set_backend, set_thread_backend
from fastdl._library import COMPILED

__all__ = ["active_backend", "available_backends", "use_backend"]


class _Later:
    """A backend whose module is imported when the first kernel is called."""

    def __init__(self, module: str) -> None:
        self._module, self._call = module, None

    def __call__(self, kernel: str, dtype: int, given: tuple[Any, ...]) -> None:
        call: Any = self._call
        if call is None:
            call = self._call = import_module(self._module).call
        call(kernel, dtype, given)


_BACKENDS: dict[str, Any] = {"numba": _Later("fastdl.numba.kernels"), "numpy": _Later("fastdl.reference.kernels")}
if COMPILED:
    _BACKENDS = {"c": None, **_BACKENDS}


def _has_numba() -> bool:
    return bool(sys.modules.get("numba")) or find_spec("numba") is not None  # the latter takes its time


def _backend(name: str) -> Any:
    if not isinstance(name, str) or name not in ("c", "numba", "numpy"):
        raise ValueError(f"backend: found {name!r}, expected 'c', 'numba' or 'numpy'")
    if name not in _BACKENDS:
        raise ValueError("backend: found 'c', expected 'numba' or 'numpy': fastdl was installed without a compiler")
    if name == "numba" and not _has_numba():
        raise ModuleNotFoundError(
            "backend: found no Numba for 'numba', expected `pip install \"fastdl[numba]\"`", name="numba"
        )
    return _BACKENDS[name]


class _Use:
    """What use_backend did, to be undone."""

    def __init__(self, undo: Callable[[], Any]) -> None:
        self._undo = undo

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        self._undo()


def use_backend(name: Literal["c", "numba", "numpy"], thread: bool = False) -> _Use:
    """Let every function of fastdl run on one implementation of its kernels.

    At import it is "c" (without a compiler at install time "numba", or "numpy" where there is no Numba), or what the
    environment variable FASTDL_BACKEND says. It takes effect at once; used as the
    context of a ``with`` block, what was before is put back at its end. Arguments, checks, layers and optimizers are
    the same for all; results agree within rounding. A kernel that "numba" does not have runs on "numpy".

    Numba compiles a kernel for a dtype when it is first called, and keeps that on disk (NUMBA_CACHE_DIR says where).
    Programs, and calls inside Numba functions, go on with C. A cell that was bound is used by the backend that it was
    bound with, and so is what "numpy" saves of a recurrent network for its backward.

    Parameters
    ----------
    name : {"c", "numba", "numpy"}
        The kernels in C; those of ``fastdl.numba.kernels``, which need no compiler at install time; `fastdl.reference`.
    thread : bool
        Only for the calling thread, which has it instead of what the process has.

    Returns
    -------
    context manager
        Which need not be used.

    Raises
    ------
    ValueError
        The name is none of these, or "c" where there was no compiler.
    ModuleNotFoundError
        Numba is not installed.

    See Also
    --------
    active_backend : which one it is.

    Examples
    --------
    >>> import fastdl
    >>> import numpy as np
    >>> with fastdl.use_backend("numpy"):
    ...     fastdl.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    backend = _backend(name)
    if not isinstance(thread, bool):
        raise TypeError(f"thread: found {thread!r}, expected True or False")
    set_ = set_thread_backend if thread else set_backend
    before = set_(backend)
    return _Use(lambda: set_(before))


def active_backend() -> str:
    """The backend that calls of this thread run on.

    Returns
    -------
    str
        "c", "numba" or "numpy", as of `use_backend`.

    Examples
    --------
    >>> import fastdl
    >>> fastdl.active_backend() in ("c", "numba", "numpy")
    True
    """
    backend = get_backend()
    return next(name for name, known in _BACKENDS.items() if known is backend)


def available_backends() -> list[str]:
    """The backends that this installation has, the fastest first.

    Returns
    -------
    list of str
        Of "c", "numba" and "numpy".

    Examples
    --------
    >>> import fastdl
    >>> "numpy" in fastdl.available_backends()
    True
    """
    return [name for name in _BACKENDS if name != "numba" or _has_numba()]


def from_environment() -> None:
    """The backend that FASTDL_BACKEND asks for, else the fastest."""
    name = os.environ.get("FASTDL_BACKEND") or available_backends()[0]
    if name == "c" and COMPILED:
        return
    try:
        use_backend(name)  # type: ignore[arg-type]
    except (ValueError, ModuleNotFoundError):
        expected = ", ".join(available_backends())
        raise ValueError(f"FASTDL_BACKEND: found {name!r}, expected one of {expected}") from None
