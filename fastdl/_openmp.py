"""Loads the compiled library with an OpenMP runtime that gives up its core soon when there is nothing to do.

libgomp's threads by default spin for milliseconds between two parallel regions. On a machine whose cores are shared
that costs far more than it saves: the thread that would work waits for the one that spins. Unless the user has said
how to wait, spin for some tens of microseconds. libgomp reads the variable once, when it is loaded, which may be now;
the environment is left as it was.
"""

import os

_unset = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
if _unset:
    os.environ["GOMP_SPINCOUNT"] = "2000"
try:
    from fastdl import _native  # noqa: F401
finally:
    if _unset:
        del os.environ["GOMP_SPINCOUNT"]
