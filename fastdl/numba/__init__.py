"""fastdl's operations inside a user's @njit function, under their public names.

Numba finds `register` through the numba_extensions entry point, so nothing has to be imported. Each operation is a
type of its own (operations.py), whose call is compiled from the operation's Python body: read (interpreter.py) over
what is known while compiling and what is not (values.py, boundary.py), it leaves the instructions that depend on values
(code.py), which call the kernels by name (symbols.py). What Python's and NumPy's functions are in compiled code is in
twins.py, and what a few verbs are in verbs.py; how mistakes become exceptions in mistakes.py, when cached code is
compiled anew in cache.py. Programs are in programs.py.
"""

from __future__ import annotations

try:
    import numba  # noqa: F401
except ImportError:
    raise ImportError('Numba is not installed: pip install "fastdl[numba]"') from None


def register() -> None:
    """Teach Numba about fastdl. Called by Numba itself; calling it again does nothing."""
    from fastdl._library import COMPILED

    if not COMPILED:  # there are no symbols to link to
        return
    from fastdl.numba import operations, programs  # noqa: F401
