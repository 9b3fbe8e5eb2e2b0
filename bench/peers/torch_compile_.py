"""PyTorch, compiled: what torch_.py calls, through torch.compile as one graph, which needs a C++ compiler.

Preparation takes seconds to minutes. What cannot be traced as one graph, gradients that autograd makes, is not here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from bench.peers import Call, torch_


def prepare(operation: str, arguments: dict[str, Any], threads: int) -> Call | None:
    eager = torch_.prepare(operation, arguments, threads)
    if eager is None or operation.endswith("_step"):  # of an optimizer: a step works in place, and tracing makes one
        return None
    torch._dynamo.reset()  # or the eighth operation would be one recompilation too many
    compiled = torch.compile(lambda: eager(), fullgraph=True, dynamic=False)
    try:
        compiled()
    except TorchDynamoException:
        return None
    return compiled
