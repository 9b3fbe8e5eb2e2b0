"""What a recurrent network promises beyond each case: pieces, padding, what is saved, dropout's mask, ONNX's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _kernels, reference
from fastdl.functional.verbs import array_table
from tests.cases.case import flat
from tests.support import DTYPES

_GATES = {"rnn": 1, "lstm": 4, "gru": 3}
_STEPS, _BATCH, _SIZE, _HIDDEN = 7, 3, 5, 9

operations = pytest.mark.parametrize("operation", _GATES)


def _network(operation: str, layers: int = 1, directions: int = 1, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """x, weights, and the states before the first step by name."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    rows = _GATES[operation] * _HIDDEN
    weights: list[Any] = []
    for unit in range(layers * directions):
        size = _SIZE if unit < directions else directions * _HIDDEN
        weights += [draw(rows, size) / 3, draw(rows, _HIDDEN) / 3, draw(rows), draw(rows)]
    state = lambda: draw(layers * directions, _BATCH, _HIDDEN)  # noqa: E731
    states = {"h0": state()} | ({"c0": state()} if operation == "lstm" else {})
    return draw(_STEPS, _BATCH, _SIZE), tuple(weights), states


def _same(found: Any, wanted: Any, rtol: float = 1e-11) -> None:
    for a, b in zip(flat([found]), flat([wanted]), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13 if rtol else 0)


@operations
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("truncate", [1, 3, 7, 10])
def test_truncation_is_separate_calls(operation: str, reverse: bool, truncate: int) -> None:
    """One piece after another (from the end, in reverse), given the states: outputs, and the pieces' gradients."""
    x, weights, states = _network(operation, layers=2)
    forward, backward = getattr(fastdl, operation), getattr(fastdl, f"{operation}_backward")
    options: dict[str, Any] = {"num_layers": 2, "reverse": reverse}
    rng = np.random.default_rng(1)
    grad_output = rng.standard_normal((_STEPS, _BATCH, _HIDDEN))
    grad_last = {f"grad_{name[0]}_n": rng.standard_normal(value.shape) for name, value in states.items()}
    y, *last, saved = forward(x, weights, **states, **options, return_saved=True)
    whole = backward(grad_output, x, weights, saved, **states, **grad_last, **options, truncate=truncate)
    pieces = [np.arange(start, min(start + truncate, _STEPS)) for start in range(0, _STEPS, truncate)]
    pieces = [np.sort(_STEPS - 1 - steps) if reverse else steps for steps in pieces]
    before, found = states, []
    for i, steps in enumerate(pieces):
        part, *after, kept = forward(x[steps], weights, **before, **options, return_saved=True)
        _same(part, y[steps])
        grads = grad_last if i == len(pieces) - 1 else {}
        found.append(backward(grad_output[steps], x[steps], weights, kept, **before, **grads, **options))
        before = dict(zip(states, after, strict=True))
    _same(tuple(before.values()), tuple(last))
    for steps, piece in zip(pieces, found, strict=True):
        _same(whole.input[steps], piece.input)
    _same(whole.h0, found[0].h0)
    for grad, *parts in zip(whole.weights, *(piece.weights for piece in found), strict=True):
        _same(grad, sum(parts))


@operations
def test_truncation_counts_the_steps_of_each_sequence(operation: str) -> None:
    """Its gradient is the same whatever else is in the batch, from either end."""
    x, weights, states = _network(operation, directions=2)
    lengths = np.array([4, 7, 5])
    grad_output = np.random.default_rng(1).standard_normal((_STEPS, _BATCH, 2 * _HIDDEN))
    backward = getattr(fastdl, f"{operation}_backward")

    def gradient(steps: int, samples: slice, ends: Any) -> Any:
        given = {name: value[:, samples] for name, value in states.items()}
        part = x[:steps, samples]
        options = {"bidirectional": True, "lengths": ends} | given
        *_, saved = getattr(fastdl, operation)(part, weights, **options, return_saved=True)
        return backward(grad_output[:steps, samples], part, weights, saved, **options, truncate=2)

    together = gradient(_STEPS, slice(None), lengths)
    for b, length in enumerate(lengths):
        alone = gradient(int(length), slice(b, b + 1), None)
        _same(together.input[:length, b], alone.input[:, 0])
        _same(together.h0[:, b], alone.h0[:, 0])


@operations
@pytest.mark.parametrize("reverse", [False, True])
def test_more_than_is_made_at_once(operation: str, reverse: bool) -> None:
    """W x of so many rows is made a few steps at a time: outputs, and through what is saved, gradients."""
    rng = np.random.default_rng(0)
    steps, batch, size, hidden = 7, 1024, 3, 256
    rows = _GATES[operation] * hidden
    x, grad_output = rng.standard_normal((steps, batch, size)), rng.standard_normal((steps, batch, hidden))
    weights = rng.standard_normal((rows, size)), rng.standard_normal((rows, hidden)) / 16
    options = {"reverse": reverse, "lengths": rng.integers(1, steps + 1, batch), "return_saved": True}
    results = []
    for module in (fastdl, reference):
        *outputs, saved = getattr(module, operation)(x, weights, **options)
        backward = getattr(module, f"{operation}_backward")
        given = {name: value for name, value in options.items() if name != "return_saved"}
        results.append((*outputs, backward(grad_output, x, weights, saved, **given)))
    _same(*results, rtol=1e-9)


@operations
@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_is_not_read(operation: str, dtype: Any, level: str) -> None:
    """What lies past the ends may be anything, and gets no gradient; outputs there are 0."""
    x, weights, states = _network(operation, layers=2, directions=2, dtype=dtype)
    lengths = np.array([2, 7, 4], np.int32)
    past = np.arange(_STEPS)[:, None] >= lengths
    forward, backward = getattr(fastdl, operation), getattr(fastdl, f"{operation}_backward")
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "lengths": lengths} | states
    grad_output = np.random.default_rng(1).standard_normal((_STEPS, _BATCH, 2 * _HIDDEN)).astype(dtype)
    results = []
    for filling in (0, np.nan):
        x[past], grad_output[past] = filling, filling
        y, *last, saved = forward(x, weights, **options, return_saved=True)
        grads = backward(grad_output, x, weights, saved, **options)
        assert not y[past].any()
        assert not grads.input[past].any()
        results.append((y, *last, *grads))
    _same(results[1], results[0], rtol=0)
    assert all(np.isfinite(a).all() for a in flat(results[0]))


@operations
def test_lengths_in_any_order(operation: str) -> None:
    x, weights, states = _network(operation, directions=2)
    lengths, order = np.array([5, 1, 7]), [2, 0, 1]
    options = {"bidirectional": True}
    forward = getattr(fastdl, operation)
    y, *last = forward(x, weights, **states, **options, lengths=lengths)
    moved = {name: value[:, order] for name, value in states.items()}
    z, *others = forward(x[:, order], weights, **moved, **options, lengths=lengths[order].astype(np.uint8))
    _same(z, y[:, order])
    _same(tuple(others), tuple(state[:, order] for state in last))


@operations
def test_lengths_of_any_dtype(operation: str) -> None:
    """In the reference too, whose arithmetic with them is NumPy's."""
    x, weights, _ = _network(operation)
    y, *_, saved = getattr(fastdl, operation)(x, weights, reverse=True, return_saved=True)
    wanted = getattr(fastdl, f"{operation}_backward")(y, x, weights, saved, reverse=True)
    options: dict[str, Any] = {"lengths": np.full(_BATCH, _STEPS, np.uint8), "reverse": True, "truncate": 300}
    for module in (fastdl, reference):
        _same(getattr(module, f"{operation}_backward")(y, x, weights, saved, **options), wanted)


def test_infinite_cell_state() -> None:
    """It stays, and what is given on is finite: without peepholes nothing multiplies it with 0."""
    x, weights, states = _network("lstm")
    states["c0"][0, 1, 3] = np.inf
    for module in (fastdl, reference):
        y, _, c_n = module.lstm(x, weights, **states)
        assert np.isfinite(y).all()
        assert np.isinf(c_n).sum() == 1


@operations
def test_more_steps_than_memory_holds(operation: str) -> None:
    """Of no sequences: the arrays are empty, so that NumPy makes them."""
    weights = np.zeros((_GATES[operation], 1), np.float32), np.zeros((_GATES[operation], 1), np.float32)
    for shape, batch_first in (((2**60, 0, 1), False), ((0, 2**60, 1), True)):
        with pytest.raises(MemoryError, match="scratch"):
            getattr(fastdl, operation)(np.empty(shape, np.float32), weights, batch_first=batch_first)


@operations
def test_cell_without_inputs(operation: str) -> None:
    _, weights, states = _network(operation)
    weights = (weights[0][:, :0], *weights[1:])
    before = [state[0] for state in states.values()]
    for given in (before, [state[0] for state in before]):
        x = given[0][..., :0]
        found = [flat([getattr(m, f"{operation}_cell")(x, *given, *weights)]) for m in (fastdl, reference)]
        _same(*found)
        backward = [
            getattr(m, f"{operation}_cell_backward")(given[0], x, *given, *weights) for m in (fastdl, reference)
        ]
        _same(*backward)


@operations
@pytest.mark.parametrize("lengths", [None, (2, 7, 4)])
def test_saving(operation: str, lengths: Any) -> None:
    """Changes no result, and takes as much as the documentation says."""
    x, weights, states = _network(operation, layers=2, directions=2)
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True} | states
    options["lengths"] = None if lengths is None else np.array(lengths)
    forward = getattr(fastdl, operation)
    *results, saved = forward(x, weights, **options, return_saved=True)
    _same(tuple(results), forward(x, weights, **options), rtol=0)
    rows = sum(lengths) if lengths else _STEPS * _BATCH
    assert saved.shape == (4 * rows * {"rnn": 1, "lstm": 6, "gru": 5}[operation] * _HIDDEN,)
    if operation == "gru":
        *_, saved = forward(x, weights, **options, linear_before_reset=False, return_saved=True)
        assert saved.shape == (4 * rows * 4 * _HIDDEN,)


@operations
def test_backward_twice(operation: str) -> None:
    """What was saved is not used up."""
    x, weights, states = _network(operation)
    y, *_, saved = getattr(fastdl, operation)(x, weights, **states, return_saved=True)
    first, second = (getattr(fastdl, f"{operation}_backward")(y, x, weights, saved, **states) for _ in range(2))
    _same(first, second, rtol=0)


@operations
def test_steps_are_those_of_the_cell(operation: str) -> None:
    x, weights, states = _network(operation)
    y, *last = getattr(fastdl, operation)(x, weights, **states)
    now: tuple[Any, ...] = tuple(state[0] for state in states.values())
    for t in range(_STEPS):
        found = getattr(fastdl, f"{operation}_cell")(x[t], *now, *weights)
        now = found if isinstance(found, tuple) else (found,)
        _same(now[0], y[t])
    _same(now, tuple(state[0] for state in last))


@operations
@pytest.mark.parametrize("directions", [1, 2])
def test_dropout_between_layers_is_that_of_dropout(operation: str, directions: int) -> None:
    """Row by row, with the offsets that lstm's documentation states."""
    x, weights, _ = _network(operation, layers=3, directions=directions)
    p, seed, offset, width = 0.3, 5, 2**32 - 7, directions * _HIDDEN
    forward, each = getattr(fastdl, operation), 4 * directions
    both: dict[str, Any] = {"bidirectional": directions == 2}
    y, *_ = forward(x, weights, num_layers=3, dropout=p, training=True, seed=seed, offset=offset, **both)
    z = x
    for layer in range(3):
        z, *_ = forward(z, weights[layer * each : (layer + 1) * each], **both)
        for row in range(_STEPS * _BATCH if layer < 2 else 0):
            t, b = divmod(row, _BATCH)
            start = offset + (layer * _STEPS * _BATCH + row) * -(-width // 4)
            z[t, b] = fastdl.dropout(z[t, b], p, seed=seed, offset=start)
    _same(y, z)


def _onnx_inputs(operator: str, directions: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = {"RNN": 1, "LSTM": 4, "GRU": 3}[operator] * _HIDDEN
    shapes = {"W": (rows, _SIZE), "R": (rows, _HIDDEN), "B": (2 * rows,)}
    if operator == "LSTM":
        shapes["P"] = (3 * _HIDDEN,)
    return {name: rng.standard_normal((directions, *shape)) for name, shape in shapes.items()}


@pytest.mark.parametrize("operator", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("directions", [1, 2])
def test_weights_to_onnx_and_back(operator: str, directions: int) -> None:
    inputs = _onnx_inputs(operator, directions)
    for given in (inputs, {name: inputs[name] for name in ("W", "R")}):
        weights, peepholes = fastdl.weights_from_onnx(operator, **given)
        assert len(weights) == directions * (4 if "B" in given else 2)
        assert (peepholes is None) == ("P" not in given)
        back = fastdl.weights_to_onnx(operator, weights, directions == 2, peepholes)
        assert back.keys() == given.keys()
        for name, value in given.items():
            np.testing.assert_array_equal(back[name], value)


def test_order_of_onnx_gates() -> None:
    """i, o, f, c and z, r, h there; i, f, g, o and r, z, n here; peepholes i, o, f there, i, f, o here."""
    W, R = np.arange(4.0).reshape(1, 4, 1), np.zeros((1, 4, 1))
    weights, peepholes = fastdl.weights_from_onnx("LSTM", W, R, P=np.arange(3.0)[None])
    assert weights[0].ravel().tolist() == [0, 2, 3, 1]
    assert peepholes is not None
    assert peepholes[0].tolist() == [0, 2, 1]
    weights, _ = fastdl.weights_from_onnx("GRU", W[:, :3], R[:, :3])
    assert weights[0].ravel().tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("operator", "changed", "message"),
    [
        ("lstm", {}, "operator: found 'lstm', expected one of RNN, LSTM, GRU"),
        ("GRU", {"P": np.zeros((1, 27))}, "P: found peepholes, expected none for GRU"),
        ("LSTM", {"R": np.zeros((1, 36, 8))}, r"R: found \(1, 36, 8\), expected"),
        ("LSTM", {"B": np.zeros((1, 36))}, r"B: found .*\(1, 36\).*, expected"),
        ("LSTM", {"P": np.zeros((2, 27))}, r"P: found \(2, 27\), expected \(1, 27\)"),
    ],
)
def test_mistakes_in_onnx_weights(operator: str, changed: dict[str, Any], message: str) -> None:
    inputs = _onnx_inputs(operator.upper(), 1) | changed
    with pytest.raises(ValueError, match=message):
        fastdl.weights_from_onnx(operator, **inputs)


@operations
def test_lengths_may_be_a_list(operation: str) -> None:
    x, weights, states = _network(operation)
    forward = getattr(fastdl, operation)
    expected = forward(x, weights, **states, lengths=np.array([3, 7, 1]))
    _same(forward(x, weights, **states, lengths=[3, 7, 1]), expected, 0)
    _same(forward(x, weights, **states, lengths=(3, np.int32(7), 1)), expected, 0)
    with pytest.raises(TypeError, match=r"^lengths\[1\]: found 7\.0, expected an int$"):
        forward(x, weights, **states, lengths=[3, 7.0, 1])


@operations
@pytest.mark.parametrize("wrong", [0, -1, _STEPS + 1, 2**62])
def test_kernels_check_lengths_where_they_use_them(operation: str, wrong: int) -> None:
    """Whoever calls them, and whatever has become of the array since it was looked at."""
    x, weights, _ = _network(operation)
    lengths = np.array([3, wrong, 1])
    sizes = (_STEPS, _BATCH, _SIZE, _HIDDEN, _HIDDEN, 1, 1, 0, 0, 1, 0, 0)
    r = _kernels.Recurrence(_kernels.RECURRENT_NAMES.index({"rnn": "rnn_tanh"}.get(operation, operation)), *sizes)
    y, h_n, c_n = (
        np.full(shape, 7.0) for shape in ((_STEPS, _BATCH, _HIDDEN), (1, _BATCH, _HIDDEN), (_BATCH, _HIDDEN))
    )
    with pytest.raises(ValueError, match=r"^lengths: found one outside the sequences, expected 1 <= length <= steps$"):
        _kernels.recurrent(x, array_table(weights, weights, 0), lengths, None, None, y, h_n, c_n, None, r, 1.0, 0, 0)
    assert (y == 7).all()
    assert (h_n == 7).all()
