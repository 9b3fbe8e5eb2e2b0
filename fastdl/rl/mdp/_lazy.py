"""The kernels, imported with Numba when the first of them is used."""

from __future__ import annotations

import importlib
from typing import Any


class _Kernels:
    """fastdl.rl.mdp.kernels, as its attributes are asked for."""

    def __getattr__(self, name: str) -> Any:
        try:
            import numba  # noqa: F401
        except ImportError as error:
            raise ImportError('Numba is not installed: pip install "fastdl[rl]"') from error
        value = getattr(importlib.import_module("fastdl.rl.mdp.kernels"), name)
        setattr(self, name, value)
        return value


kernels: Any = _Kernels()


def share(function: Any, pieces: int, grain: int, *arguments: Any) -> None:
    """function(*arguments, begin, end) over range(pieces), on as many threads as fastdl.get_num_threads says and no
    more than there are `grain` pieces for. What the pieces are does not follow from the threads, so no result does."""
    kernels.share(function, pieces, grain, *arguments)
