"""np.matmul alone, for linear layers without bias and activation."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import threadpoolctl

from bench.peers import Call


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    if operation != "linear" or arguments.get("bias") is not None or arguments.get("activation", "none") != "none":
        return None
    return functools.partial(np.matmul, arguments["x"], arguments["weight"].T)
