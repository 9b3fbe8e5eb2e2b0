"""Activations and the elementary functions they are made of, each with its backward."""

from fastdl.functional.activation.elementary import *
from fastdl.functional.activation.glu import *
from fastdl.functional.activation.piecewise import *
from fastdl.functional.activation.prelu import *
from fastdl.functional.activation.smooth import *
from fastdl.functional.activation.softmax import *
