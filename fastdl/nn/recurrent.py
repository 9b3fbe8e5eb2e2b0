"""Recurrent networks, over sequences and a step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from fastdl._backend import functions
from fastdl._docs import doc
from fastdl.functional.recurrent._shared import NONLINEARITIES
from fastdl.functional.recurrent.cell import cell_kind, step_in_place
from fastdl.functional.verbs import Array, fail, flag, floats, natural, view, zeros
from fastdl.nn._arguments import blame_input, example, float_dtype, one_of, real, size_of
from fastdl.nn._layer import Layer, RandomLayer
from fastdl.nn._parameters import PARAMETERS, generator, within_root
from fastdl.nn.module import Module, Rng

__all__ = ["GRU", "LSTM", "RNN", "BoundCell", "GRUCell", "LSTMCell", "Output", "RNNCell", "gradient_norms"]

_SHARED = {
    **PARAMETERS,
    "sizes": """
input_size, hidden_size : int
    The features of a step, and the units; there is at least one unit.
num_layers : int
    How many layers stand on each other, at least 1.""",
    "stack": """
bias : bool
    Whether products have biases.
batch_first : bool
    Whether input and output are (batch, steps, features) in place of (steps, batch, features).
dropout : float
    The probability with which what each layer but the last gives on is dropped in training.
bidirectional : bool
    Whether a second direction goes from the end to the beginning; its output stands after the first one's.""",
    "more": """
{dtype}
{rng}
    It also draws the seed of dropout.
truncate : int
    Above 0: gradients of states are cut every so many steps.""",
    "stack_notes": """
Attributes
----------
weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_ih_l1, ... : array
    Named as in torch, with ``_reverse`` for the second direction. All start uniform in
    ``[-1, 1] / sqrt(hidden_size)``.
state_grad : array or tuple of array
    After backward, the gradient of the state that forward was given, in its form.
seed, offset : int
    The key and the position of the generator of dropout, as of Dropout: both are pickled, and a copy has its own.

Notes
-----
``layer(x, state=None, lengths=None)`` returns (output, state after the last step). x is (steps, batch, input_size), or
one sequence (steps, input_size), whose results have no batch either. The state is None for zeros, or
{state}.
lengths is (batch,) integers: how many steps each sequence has, in any order; what lies beyond is not read, and the
output there is 0. torch has packed sequences for it.

``layer.backward(grad_output, grad_state=None)`` takes the gradients of both results; either may be None, which is 0.
It works in training and in inference. Inside of Sequential, Output drops the state.""",
    "cell_parameters": """
input_size, hidden_size : int
    The features of the input, and the units; there is at least one unit.
bias : bool
    Whether products have biases.""",
    "cell_notes": """
Attributes
----------
weight_ih, weight_hh, bias_ih, bias_hh : array or None
    All start uniform in ``[-1, 1] / sqrt(hidden_size)``.
state_grad : array or tuple of array
    After backward, the gradient of the state that forward was given, in its form.

Notes
-----
``cell(x, state=None)`` returns the next state: {state}. x is (batch, input_size) or (input_size,), and a state None is
zeros. ``cell.bind()`` makes steps without allocation, for streaming.""",
}


def _about(state: str) -> dict[str, str]:
    """The shared text with what a state is."""
    return {name: text.replace("{state}", state) for name, text in _SHARED.items()}


_H = _about("h, (num_layers * directions, batch, hidden_size)")
_HC = _about("a pair (h, c), each (num_layers * directions, batch, hidden_size), h with proj_size if there is one")
_CELL_H, _CELL_HC = _about("h, (batch, hidden_size) or (hidden_size,)"), _about("a pair (h, c)")


State = TypeVar("State")
"""A hidden state h, or an LSTM's (h, c)."""


class _Recurrent(RandomLayer, Generic[State]):
    """A stack of layers over whole sequences: what RNN, LSTM and GRU share."""

    gates: int
    mode: str
    """The network, as torch names it."""
    states: int = 1

    def _describe(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        dtype: Any,
        rng: Rng,
        truncate: int,
    ) -> None:
        self.input_size, self.hidden_size = size_of(input_size, "input_size"), size_of(hidden_size, "hidden_size", 1)
        self.proj_size = size_of(proj_size, "proj_size")
        if proj_size >= hidden_size:
            fail("proj_size", proj_size, ("less than hidden_size,", hidden_size))
        self.num_layers, self.bias = size_of(num_layers, "num_layers", 1), flag(bias, "bias")
        self.batch_first, self.bidirectional = flag(batch_first, "batch_first"), flag(bidirectional, "bidirectional")
        self.dropout, self.truncate = real(dropout, "dropout", 0.0, 1.0), natural(truncate, "truncate")
        self.output_size, self.directions = self.proj_size or self.hidden_size, 2 if bidirectional else 1
        random, dtype = generator(rng), float_dtype(dtype)
        names: tuple[str, ...] = ()
        for layer in range(self.num_layers):
            width = self.directions * self.output_size if layer else self.input_size
            for suffix in (f"_l{layer}", f"_l{layer}_reverse")[: self.directions]:
                shapes = _recurrent_shapes(self.gates, width, self.hidden_size, self.output_size, bias)
                if proj_size:
                    shapes["weight_hr"] = self.output_size, self.hidden_size
                for name, shape in shapes.items():
                    setattr(self, name + suffix, within_root(shape, self.hidden_size, dtype, random))
                    names += (name + suffix,)
        self.parameter_names = names
        self._seed(int(random.integers(2**63 - 1)))
        self.state_grad: Any = None

    def _options(self) -> dict[str, Any]:
        """What the function and its gradient are given by name, in training and not."""
        return {
            "num_layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "training": self.training,
            "seed": self.seed,
            "offset": self.offset,
        }

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Array, State]:
        x = floats(x, "x")
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            fail("x", x.shape, f"(steps, batch, {self.input_size}) or (steps, {self.input_size})")
        states = _split_state(state, "state", self.states)
        options = self._options() | {"lengths": lengths}
        weights = self._weights()
        try:
            output, *after = getattr(functions(), self.function)(
                x, weights, *states, **options, return_saved=self.training
            )
        except (TypeError, ValueError):
            blame_input(x, weights[0].dtype, self.input_size, -1)
            raise
        # Inference is not slowed down by what only its gradient needs: that is computed again if it comes to it.
        saved = after.pop() if self.training else None
        self.save_for_backward(x, saved, states, options, output.shape)
        if self.training:
            rows, width = output.size // output.shape[-1], output.shape[-1]
            self.offset += (self.num_layers - 1) * rows * -(-width // 4)
        return output, self._joined(after)

    def backward(self, grad_output: Any, grad_state: Any = None, input_grad: bool = True) -> Array:
        grad = self._gradients(grad_output, grad_state, input_grad)
        self.set_grads(**dict(zip(self.parameter_names, grad.weights, strict=True)))
        self.state_grad = self._joined(grad[2 : 2 + self.states])
        return grad.input  # type: ignore[no-any-return]

    def _gradients(
        self, grad_output: Any, grad_state: Any, input_grad: bool, state_grad_norms: Array | None = None
    ) -> Any:
        """What the function's backward returns."""
        x, saved, states, options, shape = self.saved
        weights = self._weights()
        if saved is None:
            saved = getattr(functions(), self.function)(x, weights, *states, **options, return_saved=True)[-1]
        if grad_output is None:
            grad_output = zeros(shape, x)
        grads = _split_state(grad_state, "grad_state", self.states)
        options = options | {"truncate": self.truncate, "input_grad": input_grad, "state_grad_norms": state_grad_norms}
        backward = getattr(functions(), self.function_backward)
        return backward(grad_output, x, weights, saved, *states, *grads, **options)

    def _weights(self) -> tuple[Array, ...]:
        return tuple([getattr(self, name) for name in self.parameter_names])

    def _joined(self, states: Any) -> State:
        return states[0] if self.states == 1 else tuple(states)  # type: ignore[return-value]

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, "state_grad": None}

    def extra_repr(self) -> str:
        usual = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0}
        return f"{self.input_size}, {self.hidden_size}" + _unusual(self, usual | {"bidirectional": False})


def _unusual(layer: Layer, usual: dict[str, Any]) -> str:
    """The attributes that are not as usual, for extra_repr."""
    return "".join(f", {name}={getattr(layer, name)}" for name, value in usual.items() if getattr(layer, name) != value)


@doc(
    _H, example(">>> y, h = nn.RNN(4, 8)(np.ones((7, 3, 4), np.float32))\n>>> y.shape, h.shape\n((7, 3, 8), (1, 3, 8))")
)
class RNN(_Recurrent[Array], function="rnn", gates=1):
    """Elman's recurrent network over sequences, of which each layer computes at each step::

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)

    Parameters
    ----------
    {sizes}
    nonlinearity : {"tanh", "relu"}
        In place of tanh.
    {stack}
    {more}

    {stack_notes}

    See Also
    --------
    fastdl.rnn, torch.nn.RNN

    {example}
    """

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
        self.nonlinearity = one_of(nonlinearity, "nonlinearity", NONLINEARITIES)
        self.mode = f"RNN_{nonlinearity.upper()}"
        sizes = input_size, hidden_size, num_layers
        self._describe(*sizes, bias, batch_first, dropout, bidirectional, 0, dtype, rng, truncate)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"nonlinearity": self.nonlinearity}


@doc(
    _HC,
    example(
        """
>>> lstm = nn.LSTM(4, 8, bidirectional=True)
>>> y, (h, c) = lstm(np.ones((7, 3, 4), np.float32), lengths=[7, 2, 5])
>>> y.shape, h.shape
((7, 3, 16), (2, 3, 8))
"""
    ),
)
class LSTM(_Recurrent["tuple[Array, Array]"], function="lstm", mode="LSTM", gates=4, states=2):
    """Long short-term memory over sequences, of which each layer computes at each step, with ``*`` element by element::

        i, f, g, o = the four parts of W_ih x + b_ih + W_hh h + b_hh
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    Parameters
    ----------
    {sizes}
    {stack}
    proj_size : int
        Above 0: h is projected to so many numbers, fewer than hidden_size, by a further weight ``weight_hr``.
    {more}

    {stack_notes}

    See Also
    --------
    fastdl.lstm, torch.nn.LSTM

    References
    ----------
    Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.

    {example}
    """

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
    ) -> None:
        sizes = input_size, hidden_size, num_layers
        self._describe(*sizes, bias, batch_first, dropout, bidirectional, proj_size, dtype, rng, truncate)


@doc(
    _H,
    example(
        ">>> y, h = nn.GRU(4, 8, num_layers=2)(np.ones((7, 3, 4), np.float32))\n"
        ">>> y.shape, h.shape\n"
        "((7, 3, 8), (2, 3, 8))"
    ),
)
class GRU(_Recurrent[Array], function="gru", mode="GRU", gates=3):
    """Gated recurrent units over sequences, of which each layer computes at each step, with ``*`` element by element::

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    Parameters
    ----------
    {sizes}
    {stack}
    {more}
    linear_before_reset : bool
        False: ``n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)``, as in the original paper and in Keras with
        reset_after=False.

    {stack_notes}

    See Also
    --------
    fastdl.gru, torch.nn.GRU

    References
    ----------
    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.

    {example}
    """

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
        self.linear_before_reset = flag(linear_before_reset, "linear_before_reset")
        sizes = input_size, hidden_size, num_layers
        self._describe(*sizes, bias, batch_first, dropout, bidirectional, 0, dtype, rng, truncate)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"linear_before_reset": self.linear_before_reset}


class Output(Module):
    """The output of a recurrent layer without the state, for the next layer of a Sequential.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> net = nn.Sequential(nn.GRU(4, 5), nn.Output(), nn.Linear(5, 2))
    >>> net(np.ones((7, 3, 4), np.float32)).shape
    (7, 3, 2)
    """

    def __init__(self) -> None:
        pass

    def forward(self, x: tuple[Array, Any]) -> Array:
        return x[0]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        return grad_output


def gradient_norms(layer: RNN | LSTM | GRU, grad_output: Any, grad_state: Any = None) -> Array:
    """How gradients vanish or explode: the norm of the loss' gradient in the hidden state of each step.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        After a forward, before its backward. Its grads stay as they are.
    grad_output, grad_state
        As for its backward.

    Returns
    -------
    (num_layers * directions, steps) array
        Norms over batch and hidden units.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> layer = nn.RNN(4, 8, rng=0)
    >>> y, h = layer(np.ones((30, 1, 4), np.float32))
    >>> norms = nn.gradient_norms(layer, None, np.ones_like(h))
    >>> norms.shape, bool(norms[0, 0] < 1e-3 * norms[0, -1])
    ((1, 30), True)
    """
    x = layer.saved[0]
    steps = x.shape[1 if layer.batch_first and x.ndim == 3 else 0]
    norms = np.zeros((layer.num_layers * layer.directions, steps), x.dtype)
    layer._gradients(grad_output, grad_state, False, norms)
    return norms


class _Cell(Layer, Generic[State]):
    """One step: what RNNCell, LSTMCell and GRUCell share."""

    parameter_names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    gates: int
    states: int = 1
    max_forwards = 1024  # a step is small, and there are many
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None

    def _describe(self, input_size: int, hidden_size: int, bias: bool, dtype: Any, rng: Rng) -> None:
        self.input_size, self.hidden_size = size_of(input_size, "input_size"), size_of(hidden_size, "hidden_size", 1)
        self.bias = flag(bias, "bias")
        random, dtype = generator(rng), float_dtype(dtype)
        shapes = _recurrent_shapes(self.gates, self.input_size, self.hidden_size, self.hidden_size, bias)
        for name in self.parameter_names:
            setattr(self, name, within_root(shapes[name], hidden_size, dtype, random) if name in shapes else None)
        self.state_grad: Any = None

    def _options(self) -> dict[str, Any]:
        return {}

    def forward(self, x: Any, state: Any = None) -> State:
        x = floats(x, "x")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            fail("x", x.shape, f"(batch, {self.input_size}) or ({self.input_size},)")
        parts = _split_state(state, "state", self.states)
        states = [zeros((*x.shape[:-1], self.hidden_size), x) if s is None else s for s in parts]
        try:
            after: State = getattr(functions(), self.function)(x, *states, *self._weights(), **self._options())
        except (TypeError, ValueError):
            blame_input(x, self.weight_ih.dtype, self.input_size, -1)
            raise
        self.save_for_backward(x, *states)
        return after

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        x, *states = self.saved
        grad_h, *grad_c = _split_state(grad_output, "grad_output", self.states)
        if grad_h is None:
            grad_h = zeros(states[0].shape, states[0])
        backward = getattr(functions(), self.function_backward)
        grad = backward(grad_h, x, *states, *self._weights(), *grad_c, **self._options())
        self.set_grads(**{name: getattr(grad, name) for name in self.parameter_names})
        self.state_grad = grad.h if self.states == 1 else (grad.h, grad.c)
        return grad.input  # type: ignore[no-any-return]

    def bind(self, batch: int = 1) -> BoundCell:  # type: ignore[override]
        """This cell for streaming."""
        return BoundCell(self, size_of(batch, "batch"))

    def _weights(self) -> tuple[Any, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, "state_grad": None}

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + _unusual(self, {"bias": True})


@doc(_CELL_H, example(">>> nn.RNNCell(4, 8)(np.ones((3, 4), np.float32)).shape\n(3, 8)"))
class RNNCell(_Cell[Array], function="rnn_cell", gates=1):
    """One step of Elman's recurrent network: ``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``.

    Over sequences, RNN is faster.

    Parameters
    ----------
    {cell_parameters}
    nonlinearity : {"tanh", "relu"}
        In place of tanh.
    {dtype}
    {rng}

    {cell_notes}

    See Also
    --------
    fastdl.rnn_cell, torch.nn.RNNCell

    {example}
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = np.float32,
        rng: Rng = None,
    ) -> None:
        self.nonlinearity = one_of(nonlinearity, "nonlinearity", NONLINEARITIES)
        self._describe(input_size, hidden_size, bias, dtype, rng)

    def _options(self) -> dict[str, Any]:
        return {"nonlinearity": self.nonlinearity}

    def extra_repr(self) -> str:
        return super().extra_repr() + _unusual(self, {"nonlinearity": "tanh"})


@doc(
    _CELL_HC,
    example(">>> h, c = nn.LSTMCell(4, 8)(np.ones((3, 4), np.float32))\n>>> h.shape, c.shape\n((3, 8), (3, 8))"),
)
class LSTMCell(_Cell["tuple[Array, Array]"], function="lstm_cell", gates=4, states=2):
    """One step of long short-term memory, with ``*`` element by element::

        i, f, g, o = the four parts of W_ih x + b_ih + W_hh h + b_hh
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    Over sequences, LSTM is faster.

    Parameters
    ----------
    {cell_parameters}
    {dtype}
    {rng}

    {cell_notes}

    See Also
    --------
    fastdl.lstm_cell, torch.nn.LSTMCell

    {example}
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = np.float32, rng: Rng = None
    ) -> None:
        self._describe(input_size, hidden_size, bias, dtype, rng)


@doc(_CELL_H, example(">>> nn.GRUCell(4, 8)(np.ones((3, 4), np.float32)).shape\n(3, 8)"))
class GRUCell(_Cell[Array], function="gru_cell", gates=3):
    """One step of gated recurrent units, with ``*`` element by element::

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    Over sequences, GRU is faster.

    Parameters
    ----------
    {cell_parameters}
    {dtype}
    {rng}
    linear_before_reset : bool
        False: ``n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)``.

    {cell_notes}

    See Also
    --------
    fastdl.gru_cell, torch.nn.GRUCell

    {example}
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Rng = None,
        linear_before_reset: bool = True,
    ) -> None:
        self.linear_before_reset = flag(linear_before_reset, "linear_before_reset")
        self._describe(input_size, hidden_size, bias, dtype, rng)

    def _options(self) -> dict[str, Any]:
        return {"linear_before_reset": self.linear_before_reset}


class BoundCell:
    """A cell that steps over arrays of its own, so that a step allocates nothing: what ``cell.bind(batch)`` returns.

    A step is a frozen program (fastdl.record): the cell's weights are packed once, again where fastdl changed them
    (training, load_state_dict), and are read-only for all else meanwhile. Where one is replaced, bind again.

    Attributes
    ----------
    x : (batch, input_size) array
        What the next step reads.
    h, c : (batch, hidden_size) array
        The state; c of an LSTM only. To assign to x, h or c copies into these arrays, which are never exchanged.
    step : callable
        ``step()`` reads x and replaces the state.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> stream = nn.GRUCell(4, 8).bind()
    >>> for sample in np.ones((10, 4), np.float32):
    ...     h = stream(sample)  # copies into stream.x, steps, and returns stream.h, which the next step overwrites
    >>> stream.h = np.zeros((1, 8), np.float32)
    >>> stream.reset()  # the same
    """

    __slots__ = ("_cell", "_shapes", "_states", "_x", "step")
    step: Callable[[], None]

    def __init__(self, cell: _Cell[Any], batch: int) -> None:
        dtype = cell.weight_ih.dtype
        states = [np.zeros((batch, cell.hidden_size), dtype) for _ in range(cell.states)]
        self.__setstate__((cell, np.zeros((batch, cell.input_size), dtype), states))

    def __call__(self, x: Any) -> Array:
        if type(x) is np.ndarray and x.dtype is self._x.dtype and x.shape in self._shapes:
            self._x[...] = x
        else:
            _assign(self._x, x, "x")
        self.step()
        return self._states[0]

    def reset(self) -> None:
        """Back to a state of zeros."""
        for state in self._states:
            state.fill(0)

    @property
    def x(self) -> Array:
        return self._x

    @x.setter
    def x(self, value: Any) -> None:
        _assign(self._x, value, "x")

    @property
    def h(self) -> Array:
        return self._states[0]

    @h.setter
    def h(self, value: Any) -> None:
        _assign(self._states[0], value, "h")

    @property
    def c(self) -> Array:
        if len(self._states) < 2:
            raise AttributeError(f"c: found a bound {type(self._cell).__name__}, expected an LSTMCell")
        return self._states[1]

    @c.setter
    def c(self, value: Any) -> None:
        _assign(self.c, value, "c")

    def __getstate__(self) -> tuple[_Cell[Any], Array, list[Array]]:
        return self._cell, self._x, self._states

    def __setstate__(self, state: tuple[_Cell[Any], Array, list[Array]]) -> None:
        self._cell, self._x, self._states = state
        shape = self._x.shape
        self._shapes = (shape, shape[1:]) if shape[0] == 1 else (shape,)
        self.step = _stepper(*state)


def _assign(array: Array, value: Any, argument: str) -> None:
    """Copy what has the shape and dtype of a bound cell's array into it; numbers in a list have no dtype."""
    if isinstance(value, (list, tuple)):
        value = np.array(value, array.dtype)
    value = view(value, argument)
    if value.dtype != array.dtype:
        raise TypeError(f"{argument}: found dtype {value.dtype}, expected {array.dtype}, the bound cell's")
    if value.shape != array.shape and not (array.shape[0] == 1 and value.shape == array.shape[1:]):
        fail(argument, ("shape", value.shape), array.shape)
    np.copyto(array, value)


def _stepper(cell: _Cell[Any], x: Array, states: list[Array]) -> Callable[[], None]:
    """What makes a step with these arrays."""
    import fastdl
    from fastdl.program import record

    if functions() is fastdl:
        h, c = states if len(states) == 2 else (states[0], None)
        kind = cell_kind(cell.function, **cell._options())

        def in_place() -> None:
            step_in_place(kind, x, h, c, *cell._weights())

        return record(in_place, freeze=True, verify=False)
    function = getattr(functions(), cell.function)

    def step() -> None:
        result = function(x, *states, *cell._weights(), **cell._options())
        for state, value in zip(states, result if len(states) == 2 else (result,), strict=True):
            state[...] = value

    return step


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
