"""Recurrent networks: rnn, lstm and gru over sequences, and the cells that they are made of.

The formulas, which stand with the functions, are those of torch.nn.RNN, LSTM and GRU.
"""

from fastdl.functional.recurrent.cell import *
from fastdl.functional.recurrent.lstm import *
from fastdl.functional.recurrent.onnx import *
from fastdl.functional.recurrent.rnn import *
