"""What recurrent networks and their cells share: their kinds, their text, and the sizes of a network, checked."""

from __future__ import annotations

from typing import Any

from fastdl import _kernels
from fastdl._kernels import RECURRENT_GRU as GRU
from fastdl._kernels import RECURRENT_GRU_RESET_FIRST as GRU_RESET_FIRST
from fastdl._kernels import RECURRENT_LSTM as LSTM
from fastdl._kernels import Recurrence
from fastdl.functional._operation import cached_helper, helper
from fastdl.functional.verbs import (
    Array,
    disjoint,
    fail,
    flag,
    integer,
    number,
    optional_writable,
    total_steps,
    with_batch,
)

NONLINEARITIES = tuple(name.removeprefix("rnn_") for name in _kernels.RECURRENT_NAMES if name.startswith("rnn_"))
"""Of an RNN; their places are those of its kinds."""
GATES = (1, 1, 4, 3, 3)
"""By kind: the blocks of rows of the weights."""
_SAVED = (0, 0, 5, 4, 3)
"""By kind: what backward needs of a step beyond h', in multiples of hidden: the gates, and c', or R_n h + d_n."""

Sizes = tuple[Recurrence, tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Of a network, and the shapes of its output, its h and its c."""
_BATCHED = (1, 1, 1)
"""A shape with as many dimensions as sequences have with a batch."""

TEXT = {
    "x": """
x : array_like of float32 or float64
    Sequences, (steps, batch, in), or with `batch_first` (batch, steps, in); at least one step. One sequence may be
    (steps, in): then states and results have no batch either.
""",
    "weights": """
weights : sequence of arrays
    The arrays of all layers, in torch's order (that of ``module.parameters()``): for each layer, and for each of its
    directions, weight_ih (gates * hidden, in), weight_hh (gates * hidden, out), then, if there are any, bias_ih and
    bias_hh (gates * hidden,), then, if there is one, an LSTM's projection weight_hr (out, hidden). All sizes follow
    from them. `gates` is 4 for an LSTM, 3 for a GRU and 1 for an RNN, and `out` is hidden unless there is a projection.
    What a layer gives on, its directions side by side, is the input of the next.
""",
    "h0": """
h0 : array_like, optional
    The outputs before the first step, (num_layers * directions, batch, out); zeros by default.
""",
    "c0": """
c0 : array_like, optional
    The cells before the first step, (num_layers * directions, batch, hidden); zeros by default.
""",
    "options": """
num_layers : int
    How many layers are stacked.
bidirectional : bool
    Whether each layer has a second direction, which goes from the end to the beginning.
batch_first : bool
    Whether the batch is the first dimension of `x` and of the output.
reverse : bool
    Whether the only direction goes from the end to the beginning.
lengths : array_like or sequence of int, optional
    The length of each sequence, between 1 and steps, in any order. What lies past the end of a sequence is not read,
    and the output there is 0.
""",
    "peepholes": """
peepholes : sequence of arrays, optional
    For each layer and direction an array (3 * hidden,) of the parts (i, f, o).
""",
    "linear_before_reset": """
linear_before_reset : bool
    Whether the reset gate is applied to the product R_n * h, as torch does; else to h before it, which is the paper's
    form and the ONNX operator's default.
""",
    "nonlinearity": """
nonlinearity : {"tanh", "relu"}
    What is applied to the sum.
""",
    "dropout": """
dropout : float
    The probability, in [0, 1], with which what each layer but the last gives on is dropped, if `training`.
training : bool
    Whether anything is dropped.
seed, offset : int
    Which random numbers: those of `fastdl.dropout` with this seed. Row (layer, step, sample) has the mask of the offset
    ``offset + ((layer * steps + step) * batch + sample) * ceil(directions * out / 4)``.
""",
    "return_saved": """
return_saved : bool
    Whether to return what the backward needs as well (inside Numba a literal).
""",
    "output": """
output : array
    The last layer's output of all steps, (steps, batch, directions * out), or batch first.
h_n : array
    The outputs after the last step of each sequence, shaped as `h0`.
""",
    "saved": """
saved : array
    With `return_saved` only: what the backward needs, in a layout of its own.
""",
    "backward": """
grad_output : array_like
    The loss' gradient in `output`, shaped as it.
{x}
{weights}
saved : array
    What the forward returned with `return_saved`.
{h0}
""",
    "grad_h_n": """
grad_h_n : array_like, optional
    The loss' gradient in `h_n`; zeros by default.
""",
    "truncate": """
truncate : int
    k > 0 cuts the gradients of the states every k steps, where the number of steps done divides by k, as if the
    forward had been called for one piece after another and given the states; 0 does not cut them [1]_.
input_grad : bool
    Whether the gradient in `x` is wanted; without it, `input` is an empty array.
state_grad_norms : array, optional
    (num_layers * directions, steps), filled with the norm, over batch and hidden, of the loss' whole gradient in the
    output of each step.
""",
    "truncate_source": """
.. [1] R. J. Williams and J. Peng, "An efficient gradient-based algorithm for on-line training of recurrent network
   trajectories", Neural Computation 2(4), 1990.
""",
    "errors": """
TypeError, ValueError
    For an array or an option that does not fit; the message names it, what was found and what was expected.
""",
    "cell": """
x : array_like of float32 or float64
    What the step reads, (batch, in) or (in,).
h : array_like
    The state before it, (batch, hidden) or (hidden,).
""",
    "cell_weights": """
weight_ih : array_like
    (gates * hidden, in): 4 gates of an LSTM, in the order i, f, g, o; 3 of a GRU, r, z, n; 1 of an RNN.
weight_hh : array_like
    (gates * hidden, hidden).
bias_ih, bias_hh : array_like, optional
    (gates * hidden,).
""",
    "cell_out": """
out : array, optional
    Where the result is put: an array like `h`, which shares no memory with an argument.
""",
    "cell_backward": """
grad_output : array_like
    The loss' gradient in the state after the step, shaped as it.
""",
}
"""What the docstrings below share."""


@helper
def gru_kind(linear_before_reset: bool) -> int:
    return GRU if flag(linear_before_reset, "linear_before_reset") else GRU_RESET_FIRST


@cached_helper
def recurrence(
    kind: int,
    x_shape: tuple[int, ...],
    shapes: Any,
    peepholes: int,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    reverse: bool,
) -> Sizes:
    """The sizes, all of them checked. shapes: of the weights and then that many peepholes, vectors as (size, 0)."""
    layers = integer(num_layers, "num_layers", 1, 2**30)
    directions = 2 if flag(bidirectional, "bidirectional") else 1
    gates = GATES[kind]
    flag(reverse, "reverse")
    flag(batch_first, "batch_first")
    full = with_batch(x_shape, "x", _BATCHED)
    one = len(x_shape) == 2
    batch, steps = (full[0], full[1]) if batch_first or one else (full[1], full[0])
    if bidirectional and reverse:
        fail("reverse", "True with bidirectional", "one of the two")
    if steps < 1:
        fail("x", x_shape, "at least 1 step")
    count = len(shapes) - peepholes
    each = count // (layers * directions)
    most = 5 if kind == LSTM else 4
    if count != each * layers * directions or each < 2 or each > most or (each == 3 and kind != LSTM):
        fail(
            "weights",
            (count, "arrays"),
            (
                "for each of",
                layers * directions,
                "layers and directions 2 or, with biases, 4 (LSTM: 1 more to project)",
            ),
        )
    if peepholes not in (0, layers * directions):
        fail("peepholes", (peepholes, "arrays"), (layers * directions, "arrays"))
    biases, projection = each >= 4, each % 2
    hidden, size = shapes[0][0] // gates, shapes[1][1]
    if hidden < 1 or size < 1:
        fail("weights", ("weight_ih and weight_hh of", shapes[0], shapes[1]), "at least 1 unit")
    if not projection and size != hidden:
        fail("weights[1]", shapes[1], (gates * hidden, hidden))
    for i in range(len(shapes)):
        which = i % each
        if i >= count:
            expected = 3 * hidden, 0
        elif which == 0:
            expected = gates * hidden, full[2] if i // each < directions else directions * size
        elif which == 1:
            expected = gates * hidden, size
        elif which < 4 and biases:
            expected = gates * hidden, 0
        else:
            expected = size, hidden
        if shapes[i] != expected:
            fail("weights", ("as array", i, "(then the peepholes) the shape", shapes[i]), expected)
    r = Recurrence(
        kind,
        steps,
        batch,
        full[2],
        hidden,
        size,
        layers,
        directions,
        int(reverse),
        int(batch_first and not one),
        int(biases),
        projection,
        int(peepholes > 0),
    )
    rows, width = layers * directions, directions * size
    if one:
        return r, (steps, width), (rows, size), (rows, hidden)
    sequence = (batch, steps, width) if batch_first else (steps, batch, width)
    return r, sequence, (rows, batch, size), (rows, batch, hidden)


@helper
def saved_size(r: Recurrence, lengths: Any) -> int:
    return r.layers * r.directions * _rows(r, lengths) * (_SAVED[r.kind] * r.hidden + r.output)


@helper
def _rows(r: Recurrence, lengths: Any) -> int:
    """The steps of all sequences together."""
    if lengths is None:
        return r.steps * r.batch
    return total_steps(lengths, r.steps * r.batch)


@helper
def grad_norms(state_grad_norms: Any, r: Recurrence, x: Array, grad_output: Array, saved: Array) -> Array | None:
    """In memory of its own, or None."""
    norms = optional_writable(state_grad_norms, "state_grad_norms", (r.layers * r.directions, r.steps), x)
    disjoint(grad_output, "state_grad_norms", norms)
    disjoint(x, "state_grad_norms", norms)
    disjoint(saved, "state_grad_norms", norms)
    return norms


@helper
def check_backward(r: Recurrence, output: tuple[int, ...], grad_output: Array, saved: Array, lengths: Any) -> None:
    if grad_output.shape != output:
        fail("grad_output", grad_output.shape, output)
    if saved.shape[0] != saved_size(r, lengths):
        fail("saved", saved.shape, (saved_size(r, lengths),))


@helper
def kept(dropout: float, training: bool) -> float:
    """The probability with which a number is kept."""
    p = number(dropout, "dropout", 0.0, 1.0)
    return 1.0 - p if flag(training, "training") else 1.0
