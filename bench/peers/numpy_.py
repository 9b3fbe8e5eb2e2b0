"""fastdl.reference, which is plain NumPy."""

from __future__ import annotations

from typing import Any

import threadpoolctl

from bench.peers import Call, positional
from fastdl import reference


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call:
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    return positional(getattr(reference, operation), arguments)
