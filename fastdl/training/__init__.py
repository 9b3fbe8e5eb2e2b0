"""Training on programs: `fit`, what it measures and leaves behind. docs/training.md shows it."""

from fastdl.training import metrics as metrics
from fastdl.training.evaluate import evaluate as evaluate
from fastdl.training.fit import fit as fit
from fastdl.training.history import History as History
from fastdl.training.metrics import *

__all__ = ["History", "evaluate", "fit", "metrics", *metrics.__all__]
