"""Recurrent networks, over sequences and a step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastdl._backend import functions
from fastdl.functional.recurrent import NONLINEARITIES, bound_step, cell_kind
from fastdl.functional.verbs import Array, choice, fail, floats, natural, probability
from fastdl.nn._parameters import float_dtype, size_of, within_root
from fastdl.nn.module import Module, Rng

__all__ = ["GRU", "LSTM", "RNN", "BoundCell", "GRUCell", "LSTMCell", "Output", "RNNCell", "gradient_norms"]


class _Recurrent(Module):
    """A stack of layers over whole sequences: what RNN, LSTM and GRU share.

    layer(x, state=None, lengths=None) returns (output, state after the last step), as torch. x: (steps, batch, in),
    with batch_first (batch, steps, in), or one sequence (steps, in), whose results have no batch either. state: h0, or
    an LSTM's (h0, c0); None is zeros. lengths: (batch,), what torch gives as a packed sequence.
    backward(grad_output, grad_state=None): of both results; either, or a part of an LSTM's, may be None, which is 0.
    It also sets `state_grad`, the gradient of the initial state, in the form of that state.

    truncate: k > 0 cuts the states' gradients every k steps. rng: a numpy Generator or a seed, for the initial values
    and for the seed of dropout, whose `offset` moves on with every forward in training. Outside training forward keeps
    nothing, and there is no backward. Inside nn.Sequential, nn.Output follows.
    """

    function: str
    gates: int
    state_names: tuple[str, ...] = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: Any = np.float32,
        rng: Rng = None,
        truncate: int = 0,
        **options: Any,
    ) -> None:
        self.input_size, self.hidden_size = size_of(input_size, "input_size"), _units(hidden_size)
        self.output_size = size_of(proj_size, "proj_size") or self.hidden_size
        if proj_size >= hidden_size:
            fail("proj_size", proj_size, ("less than hidden_size,", hidden_size))
        if size_of(num_layers, "num_layers") < 1:
            fail("num_layers", num_layers, "at least 1")
        self.truncate = natural(truncate, "truncate")
        self.options = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": batch_first, **options}
        self.options["dropout"] = probability(dropout, "dropout")
        self.directions = 2 if bidirectional else 1
        rng, dtype = np.random.default_rng(rng), float_dtype(dtype)
        self.parameter_names: tuple[str, ...] = ()
        for layer in range(num_layers):
            width = self.directions * self.output_size if layer else self.input_size
            for suffix in (f"_l{layer}", f"_l{layer}_reverse")[: self.directions]:
                shapes = _recurrent_shapes(self.gates, width, self.hidden_size, self.output_size, bias)
                if proj_size:
                    shapes["weight_hr"] = self.output_size, self.hidden_size
                for name, shape in shapes.items():
                    setattr(self, name + suffix, within_root(shape, self.hidden_size, dtype, rng))
                    self.parameter_names += (name + suffix,)
        self.seed, self.offset = int(rng.integers(2**63 - 1)), 0
        self.state_grad: Any = None

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Array, Any]:
        x = floats(x, "x")
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            fail("x", x.shape, ("(steps, batch,", self.input_size, ") or (steps,", self.input_size, ")"))
        one = x.ndim == 2
        if one:
            x = np.expand_dims(x, self._batch)
        states = tuple(self._with_batch(s, f"{name}0", one) for name, s in self._parts(state, "state"))
        options = self.options | {"lengths": lengths, "training": self.training, "seed": self.seed}
        options["offset"] = self.offset
        function = getattr(functions(), self.function)
        output, *after = function(x, self._weights(), *states, **options, return_saved=self.training)
        self.save_for_backward()
        if self.training:
            self.save_for_backward(x, after.pop(), states, options, output.shape, one)
            rows = (self.options["num_layers"] - 1) * x.shape[0] * x.shape[1]
            self.offset += rows * -(-output.shape[2] // 4)
        if one:
            output, after = output.squeeze(self._batch), [s.squeeze(1) for s in after]
        return output, self._joined(after)

    def backward(self, grad_output: Any, grad_state: Any = None, input_grad: bool = True) -> Array:
        grad, one = self._gradients(grad_output, grad_state, input_grad), self.saved[-1]
        self.set_grads(**dict(zip(self.parameter_names, grad.weights, strict=True)))
        states = grad[2 : 2 + len(self.state_names)]
        self.state_grad = self._joined([s.squeeze(1) for s in states] if one else states)
        return grad.input.squeeze(self._batch) if one and input_grad else grad.input

    def _gradients(
        self, grad_output: Any, grad_state: Any, input_grad: bool, state_grad_norms: Array | None = None
    ) -> Any:
        """What the function's backward returns, with a batch."""
        x, saved, states, options, shape, one = self._kept()
        if grad_output is None:
            grad_output = np.zeros(shape, x.dtype)
        elif one:
            grad_output = np.expand_dims(floats(grad_output, "grad_output", 2), self._batch)
        grads = tuple(self._with_batch(s, f"grad_{name}_n", one) for name, s in self._parts(grad_state, "grad_state"))
        options = options | {"truncate": self.truncate, "input_grad": input_grad, "state_grad_norms": state_grad_norms}
        backward = getattr(functions(), f"{self.function}_backward")
        return backward(grad_output, x, self._weights(), saved, *states, *grads, **options)

    def _kept(self) -> tuple[Any, ...]:
        if not self.saved:
            raise RuntimeError(f"{type(self).__name__}.backward: forward was called in eval mode, and kept nothing")
        return self.saved

    @property
    def _batch(self) -> int:
        """Where x has its batch."""
        return 0 if self.options["batch_first"] else 1

    def _weights(self) -> tuple[Array, ...]:
        return tuple(getattr(self, name) for name in self.parameter_names)

    def _parts(self, state: Any, argument: str) -> list[tuple[str, Any]]:
        """The arrays that make up a state, or None, by name."""
        return list(zip(self.state_names, _split_state(state, argument, len(self.state_names)), strict=True))

    def _joined(self, states: Any) -> Any:
        return states[0] if len(self.state_names) == 1 else tuple(states)

    def _with_batch(self, state: Any, argument: str, one: bool) -> Any:
        return floats(state, argument, 2)[:, None] if one and state is not None else state


class RNN(_Recurrent):
    """fastdl.rnn. torch.nn.RNN."""

    function, gates = "rnn", 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        rng: Rng = None,
        truncate: int = 0,
    ) -> None:
        choice(nonlinearity, "nonlinearity", NONLINEARITIES)
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(*sizes, dtype=dtype, rng=rng, truncate=truncate, nonlinearity=nonlinearity)


class LSTM(_Recurrent):
    """fastdl.lstm. torch.nn.LSTM. Its states are pairs (h, c)."""

    function, gates, state_names = "lstm", 4, ("h", "c")


class GRU(_Recurrent):
    """fastdl.gru. torch.nn.GRU. linear_before_reset: as gru's."""

    function, gates = "gru", 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        rng: Rng = None,
        truncate: int = 0,
        linear_before_reset: bool = True,
    ) -> None:
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(*sizes, dtype=dtype, rng=rng, truncate=truncate, linear_before_reset=linear_before_reset)


class Output(Module):
    """The output of a recurrent layer without the states, for the next layer of a Sequential."""

    def forward(self, x: tuple[Array, Any]) -> Array:
        return x[0]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        return grad_output


def gradient_norms(layer: _Recurrent, grad_output: Any, grad_state: Any = None) -> Array:
    """How gradients vanish or explode: the norm, over batch and hidden units, of the loss' gradient in the hidden state
    of each step, as (num_layers directions, steps).

    layer: an RNN, LSTM or GRU after a forward in training, before its backward; the other arguments are as its
    backward's. Its grads stay as they are.
    """
    x = layer._kept()[0]
    shape = layer.options["num_layers"] * layer.directions, x.shape[1 - layer._batch]
    norms = np.zeros(shape, x.dtype)
    layer._gradients(grad_output, grad_state, False, norms)
    return norms


class _Cell(Module):
    """One step: what RNNCell, LSTMCell and GRUCell share. Over sequences, the layers above are faster.

    cell(x, state=None) returns the next state: h, or an LSTM's (h, c). x: (batch, in) or (in,); state None is zeros.
    backward(grad_output): of what forward returned, in that form; sets `state_grad`, the gradient of `state`.
    rng: a numpy Generator or a seed, for the initial values.
    """

    parameter_names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    function: str
    gates: int
    states: int = 1
    max_forwards = 1024  # a step is small, and there are many

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Rng = None,
        **options: Any,
    ) -> None:
        self.input_size, self.hidden_size = size_of(input_size, "input_size"), _units(hidden_size)
        self.options = options
        rng, dtype = np.random.default_rng(rng), float_dtype(dtype)
        shapes = _recurrent_shapes(self.gates, self.input_size, self.hidden_size, self.hidden_size, bias)
        for name in self.parameter_names:
            setattr(self, name, within_root(shapes[name], hidden_size, dtype, rng) if name in shapes else None)
        self.state_grad: Any = None

    def forward(self, x: Any, state: Any = None) -> Any:
        x = floats(x, "x")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            fail("x", x.shape, ("(batch,", self.input_size, ") or (", self.input_size, ",)"))
        parts = _split_state(state, "state", self.states)
        states = [np.zeros((*x.shape[:-1], self.hidden_size), x.dtype) if s is None else s for s in parts]
        self.save_for_backward(x, *states)
        return getattr(functions(), self.function)(x, *states, *self._weights(), **self.options)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, *states = self.saved
        grad_h, *grad_c = _split_state(grad_output, "grad_output", self.states)
        if grad_h is None:
            grad_h = np.zeros_like(states[0])
        backward = getattr(functions(), f"{self.function}_backward")
        grad = backward(grad_h, x, *states, *self._weights(), *grad_c, **self.options)
        self.set_grads(**{name: getattr(grad, name) for name in self.parameter_names})
        self.state_grad = grad.h if self.states == 1 else (grad.h, grad.c)
        return grad.input

    def bind(self, batch: int = 1) -> BoundCell:
        """This cell for streaming, with the parameters that it has now."""
        return BoundCell(self, size_of(batch, "batch"))

    def _weights(self) -> tuple[Any, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh  # type: ignore[attr-defined]


class RNNCell(_Cell):
    """fastdl.rnn_cell. torch.nn.RNNCell."""

    function, gates = "rnn_cell", 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        choice(nonlinearity, "nonlinearity", NONLINEARITIES)
        super().__init__(input_size, hidden_size, bias, dtype, rng, nonlinearity=nonlinearity)


class LSTMCell(_Cell):
    """fastdl.lstm_cell. torch.nn.LSTMCell. Its states are pairs (h, c)."""

    function, gates, states = "lstm_cell", 4, 2

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = np.float32, rng: Rng = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype, rng)


class GRUCell(_Cell):
    """fastdl.gru_cell. torch.nn.GRUCell. linear_before_reset: as gru_cell's."""

    function, gates = "gru_cell", 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Rng = None,
        linear_before_reset: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype, rng, linear_before_reset=linear_before_reset)


class BoundCell:
    """A cell that steps over arrays of its own: nothing is allocated and nothing checked.

        stream = cell.bind()
        for sample in sensor:
            h = stream(sample)  # copies into stream.x, steps, and returns stream.h, which the next step overwrites

    x: (batch, in), what the next step reads. h and, of an LSTM, c: (batch, hidden), the states, which may be set too.
    step(): reads x and replaces the states. The arrays are written, never exchanged for others.
    The parameters are those that the cell had when it was bound: after a change, bind it again.
    """

    def __init__(self, cell: _Cell, batch: int) -> None:
        dtype = cell._weights()[0].dtype
        self.x = np.zeros((batch, cell.input_size), dtype)
        states = [np.zeros((batch, cell.hidden_size), dtype) for _ in range(cell.states)]
        self.h = states[0]
        if len(states) == 2:
            self.c = states[1]
        self._states = states
        self.step: Callable[[], None] = _stepper(cell, self.x, states)

    def __call__(self, x: Any) -> Array:
        np.copyto(self.x, x)
        self.step()
        return self.h

    def reset(self) -> None:
        """Back to states of zeros."""
        for state in self._states:
            state.fill(0)


def _stepper(cell: _Cell, x: Array, states: list[Array]) -> Callable[[], None]:
    """What makes a step with these arrays."""
    import fastdl

    weights = [None if a is None else a.copy() for a in cell._weights()]
    if functions() is fastdl:
        h, c = states if len(states) == 2 else (states[0], None)
        return bound_step(cell_kind(cell.function, **cell.options), x, h, c, *weights)  # type: ignore[arg-type]
    function, options = getattr(functions(), cell.function), dict(cell.options)

    def step() -> None:
        result = function(x, *states, *weights, **options)
        for state, value in zip(states, result if len(states) == 2 else (result,), strict=True):
            state[...] = value

    return step


def _units(hidden_size: Any) -> int:
    if size_of(hidden_size, "hidden_size") < 1:
        fail("hidden_size", hidden_size, "at least 1")
    return int(hidden_size)


def _recurrent_shapes(gates: int, width: int, hidden: int, output: int, bias: bool) -> dict[str, tuple[int, ...]]:
    """The parameters of one layer in one direction, or of a cell."""
    rows = gates * hidden
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, output)}
    return shapes | ({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {})


def _split_state(state: Any, argument: str, count: int) -> tuple[Any, ...]:
    """The arrays of a state: one, or a pair."""
    if state is None:
        return (None,) * count
    if count == 1:
        return (state,)
    if not isinstance(state, (tuple, list)) or len(state) != count:
        found = f"{len(state)} values" if isinstance(state, (tuple, list)) else type(state).__name__
        raise TypeError(f"{argument}: found {found}, expected a pair (h, c)")
    return tuple(state)
