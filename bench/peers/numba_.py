"""fastdl's kernels written in Numba: fastdl.use_backend("numba")."""

from __future__ import annotations

from typing import Any

import fastdl
from bench.peers import Call, fastdl_


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    return _on_numba(fastdl_.prepare(operation, arguments, threads))


def together(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    return _on_numba(fastdl_.together(operation, arguments, threads))


def _on_numba(call: Call | None) -> Call | None:
    def run() -> Any:
        with fastdl.use_backend("numba"):
            return call()  # type: ignore[misc]

    run.within = call  # type: ignore[attr-defined]  # where the backend is chosen around many calls
    return run if call else None
