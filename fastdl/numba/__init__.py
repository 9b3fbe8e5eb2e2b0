"""fastdl's operations inside a user's @njit function, under their public names.

Numba finds `register` through the numba_extensions entry point, so nothing has to be imported. Three steps, all
driven by what exists already:

1. every kernel's address is entered as a symbol, which compiled and cached code links against by name
   (pointers baked into the code would break cache=True);
2. every function of _kernels.py gets an overload that calls that symbol (symbols.py, from SIGNATURES);
3. every @operation gets its own Python body as its overload, compiled, with Numba versions of the few verbs of
   fastdl/functional/verbs that the bodies are written in (verbs/).
"""

from __future__ import annotations


def register() -> None:
    """Teach Numba about fastdl. Called by Numba itself; calling it again does nothing."""
    from fastdl._library import COMPILED

    if not COMPILED:  # there are no symbols to link to
        return
    from fastdl.numba import operations, programs, symbols, verbs  # noqa: F401
