"""What of a recurrent layer's results goes on to the next layer."""

from __future__ import annotations

from typing import Any

from fastdl._backend import functions
from fastdl.functional.verbs import Array, fail, floats
from fastdl.nn.module import Module

__all__ = ["LastState"]


class LastState(Module):
    """The hidden state after the last step of each sequence, of the topmost layer of a recurrent network.

    With `lengths`, each sequence's own last step. Of both directions, one after the other in the last dimension: the
    backward one's last step is the first of the sequence. For the whole output there is `Output()`.

    Examples
    --------
    A classifier of sequences:

    >>> import numpy as np
    >>> from fastdl import nn
    >>> net = nn.Sequential(nn.LSTM(3, 8, bidirectional=True), nn.LastState(), nn.Linear(16, 2))
    >>> net(np.ones((7, 5, 3), np.float32)).shape
    (5, 2)
    """

    def forward(self, x: tuple[Array, Any]) -> Array:
        """x: (output, state) as an RNN, LSTM or GRU returns it. Returns (batch, hidden size of all directions)."""
        if not isinstance(x, tuple) or len(x) != 2:
            fail("x", type(x).__name__, "(output, state), as nn.RNN, nn.LSTM and nn.GRU return it")
        output, state = x
        pair = isinstance(state, tuple)
        h: Array = state[0] if pair else state
        directions = output.shape[-1] // h.shape[-1] if h.shape[-1] else 1
        self.save_for_backward(h.shape, directions, pair)
        return functions().cat(tuple(h[-directions:]), -1)  # type: ignore[no-any-return]

    def backward(self, grad_output: Any, input_grad: bool = True) -> tuple[None, Any]:
        shape, directions, pair = self.saved
        grad_output = floats(grad_output, "grad_output")
        last = grad_output.reshape(*shape[1:-1], directions, shape[-1])
        last = last.swapaxes(0, -2)  # (directions, batch, hidden), or without a batch
        grad = functions().pad(last, (0, 0) * (len(shape) - 1) + (shape[0] - directions, 0))
        return None, (grad, None) if pair else grad
