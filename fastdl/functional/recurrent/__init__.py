"""Recurrent networks: rnn, lstm and gru over sequences, the cells that they are made of, and each one's backward."""

from fastdl.functional.recurrent.sequence import *
