"""Fast deep-learning kernels for CPUs over NumPy arrays."""

from typing import TYPE_CHECKING

from fastdl import _library  # noqa: F401  isort: skip  (first)
from fastdl import _implementation, _threadpoolctl
from fastdl import optim as optim
from fastdl._config import *
from fastdl._elementwise import *
from fastdl._implementation import *
from fastdl.functional import *
from fastdl.optim.adam import *
from fastdl.optim.adaptive import *
from fastdl.optim.clipping import *
from fastdl.optim.momentum import *

__version__ = "0.1.0"
_threadpoolctl.announce()
_implementation.from_environment()

if TYPE_CHECKING:
    from fastdl import distributed as distributed
    from fastdl import models as models
    from fastdl import nn as nn
    from fastdl import onnx as onnx
    from fastdl import training as training
    from fastdl._files import load_file as load_file
    from fastdl._files import save_file as save_file
    from fastdl.checkpoint import *
    from fastdl.nn.receptive_field import *
    from fastdl.program import *
else:
    # Layers and programs take half of the time that an import takes: they are imported when they are first used.
    _LATER = {
        **dict.fromkeys(("distributed", "models", "nn", "training"), ""),
        **dict.fromkeys(("ReceptiveField", "receptive_field"), ".nn.receptive_field"),
        **dict.fromkeys(("load_file", "save_file"), "._files"),
        **dict.fromkeys(("load_checkpoint", "save_checkpoint"), ".checkpoint"),
        **dict.fromkeys(("Program", "RecordError", "Recorded", "record", "recorded"), ".program"),
    }

    def __getattr__(name):
        from importlib import import_module

        if name == "onnx":  # which needs the extra of that name, so that it is not listed
            return import_module("fastdl.onnx")
        if name not in _LATER:
            raise AttributeError(f"module 'fastdl' has no attribute {name!r}")
        place = _LATER[name]
        found = getattr(import_module(f"fastdl{place}"), name) if place else import_module(f"fastdl.{name}")
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *_LATER})
