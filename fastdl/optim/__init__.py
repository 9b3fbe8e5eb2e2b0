"""Optimizers with torch.optim's names and arguments, over arrays; learning-rate schedules; clipping of gradients.

    optimizer = optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=1000)
    ...
    optimizer.step(net.grads, max_norm=1.0)
    schedule.step()

The step functions that they are made of, such as adam_step, are in `fastdl` itself.
"""

from typing import TYPE_CHECKING, Any

from fastdl.optim.adam import Adam, AdamW, NAdam
from fastdl.optim.adaptive import Adadelta, Adagrad, RMSprop
from fastdl.optim.clipping import clip_grad_norm_, clip_grad_value_
from fastdl.optim.momentum import SGD, Lion
from fastdl.optim.optimizer import Optimizer, ParamGroup

if TYPE_CHECKING:
    from fastdl.optim import lr_scheduler

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "NAdam",
    "Optimizer",
    "ParamGroup",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lr_scheduler",
]


def __getattr__(name: str) -> Any:
    if name != "lr_scheduler":  # which takes as long to import as a family of functions
        raise AttributeError(f"module 'fastdl.optim' has no attribute {name!r}")
    from importlib import import_module

    return import_module("fastdl.optim.lr_scheduler")
