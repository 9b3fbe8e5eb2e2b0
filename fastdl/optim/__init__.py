"""Optimizers with torch.optim's names and arguments, over arrays, and their step functions; learning-rate schedules.

optimizer = optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=1000)
...
optimizer.step(net.grads, max_norm=1.0)
schedule.step()
"""

from fastdl.optim import lr_scheduler
from fastdl.optim.clipping import clip_grad_norm_, clip_grad_value_
from fastdl.optim.optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, Lion, NAdam, Optimizer, ParamGroup, RMSprop

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
