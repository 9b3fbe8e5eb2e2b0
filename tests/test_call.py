"""csrc/binding/call.c, the way in from Python: what it refuses, hands on and remembers, and that nothing leaks."""

from __future__ import annotations

import gc
import inspect
import math
import re
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import fastdl
from fastdl import _kernels
from fastdl._call import remember, shortcut
from fastdl._kernels import Window
from fastdl.functional import verbs

_X = np.ones((2, 3), np.float32)
_RELU = (1, 0.0, 0.0)
_RECORDS = np.zeros(3, [("a", "i1"), ("b", "f4")])
_READ_ONLY = np.ones((2, 3), np.float32)
_READ_ONLY.flags.writeable = False
_WINDOW = Window(*[1] * len(Window._fields))


@pytest.mark.parametrize(
    ("kernel", "arguments"),
    [
        ("elementwise", (_X, _X)),
        ("elementwise", (_X, _X, 6, *_RELU, 0)),
        ("elementwise", (None, _X, 6, *_RELU)),
        ("elementwise", ([1.0], _X, 6, *_RELU)),
        ("elementwise", (_X, _X.astype(np.float64), 6, *_RELU)),
        ("elementwise", (_X.astype(">f4"), _X, 6, *_RELU)),
        ("elementwise", (_X.astype(np.float16), _X, 6, *_RELU)),
        ("elementwise", (_X.T, _X, 6, *_RELU)),
        ("elementwise", (_X, _X.T, 6, *_RELU)),
        ("elementwise", (_X, _READ_ONLY, 6, *_RELU)),
        ("elementwise", (_X, _X, 6.0, *_RELU)),
        ("elementwise", (_X, _X, None, *_RELU)),
        ("cross_entropy", (_X, np.zeros(2, np.int32), np.zeros(1, np.float32), 2, 3, 1)),
        ("copy", ([1.0], _X, np.array([[6, 1, 1]]), 1)),
        ("copy", (_X.astype(np.float64), _X.astype(np.int64), np.array([[6, 1, 1]]), 1)),
        ("copy", (_X.astype(">f4"), _X, np.array([[6, 1, 1]]), 1)),
        ("copy", (_RECORDS["b"], _X[0], np.array([[3, 1, 1]]), 1)),
        ("copy", (_X, _X.T, np.array([[6, 1, 1]]), 1)),
        ("im2col", (_X, _X, _WINDOW[1:])),
        ("im2col", (_X, _X, list(_WINDOW))),
        ("im2col", (_X, _X, _WINDOW._replace(height=1.5))),
        ("sgd_step", (_X, _X, None, 6, 1, "0.1", 0.0, 0.0, 0.0, 0, 0)),
    ],
)
def test_kernels_refuse_what_they_cannot_read(kernel: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(_kernels, kernel)(*arguments)
    assert (_X == 1).all()


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(OverflowError, match=r"^elementwise: size is not an int of 64 bits$"):
        _kernels.elementwise(_X, _X, 2**63, *_RELU)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], _X, 6, *_RELU), "x is not an array"),
        ((_X, _X.T, 6, *_RELU), "y is not a C-contiguous array of the dtype that the kernel takes"),
        ((_X, _X, 6.0, *_RELU), "size is not an int of 64 bits"),
        ((_X, _X, 6, 1, "0", 0.0), "alpha is not a number"),
    ],
)
def test_kernels_name_the_parameter(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=f"^elementwise: {message}$"):
        _kernels.elementwise(*arguments)


def test_a_status_becomes_its_exception() -> None:
    with pytest.raises(ValueError, match=r"^target: found"):
        fastdl.cross_entropy(_X, [5, 0] @ np.eye(2, dtype=int))


_VERBS: list[tuple[str, tuple[Any, ...]]] = [
    ("floats", (_X, "x")),
    ("floats", (_X, "x", 2)),
    ("floats_like", (_X, "x", _X)),
    ("floats_like", (_X, "x", _X, 2)),
    ("bools", (_X > 0, "x", (2, 3))),
    ("optional_vector", (_X[0], "x", _X, 3)),
    ("optional_vector", (None, "x", _X, 3)),
    ("optional_like", (_X, "x", _X, (2, 3))),
    ("optional_like", (None, "x", _X, (2, 3))),
    ("linear_weight", (_X, _X)),
    ("linear_weight", (fastdl.pack_linear_weight(_X), _X)),
    ("conv_weight", (_X, _X, 2, 1, "NCHW")),
    ("matrices", (_X, "x")),
    ("matrices", (_X, "x", _X)),
    ("matrices", (_X.T, "x", _X)),
    ("operands", (_X, "x", _X, "y")),
    ("operands", (_X[:, None], "x", _X[0], "y")),
    ("operands", (_X[:, :1], "x", _X[:0, None], "y")),
    ("operands", (_X, "x", 2, "y")),
    ("operands", (math.nan, "x", _X[0], "y")),
    ("operands", (np.float64(0.5), "x", np.ones(()), "y")),
    ("output", (None, (2, 3), _X)),
    ("output", (None, (), _X)),
    ("output", (_X, (2, 3), _X)),
    ("in_place", (_X, "x")),
    ("optional_in_place", (_X, "x", _X)),
    ("optional_in_place", (None, "x", _X)),
    ("gradient", (_X,)),
    ("gradient", (_X, True)),
    ("gradient", (_X, False)),
    ("disjoint", (_X, "x", None)),
    ("disjoint", (_X[0], "x", _X[1])),
    ("same_or_disjoint", (_X, "x", _X)),
    ("same_or_disjoint", (_X, "x", _X[:])),
    ("choice", ("b", "x", ("a", "b"))),
    ("choice", ("".join(["b", "b"]), "x", ("a", "bb"))),
    ("number", (0.5, "x")),
    ("number", (1, "x")),
    ("number", (np.float32(0.5), "x", 0.0, 1.0)),
    ("number", (math.inf, "x", 0.0, math.inf)),
    ("integer", (-3, "x")),
    ("integer", (3, "x", 0)),
    ("integer", (np.int32(3), "x", 0, 5)),
    ("flag", (True, "x")),
    ("flag", (np.False_, "x")),
]


@pytest.mark.parametrize(("verb", "arguments"), _VERBS)
def test_a_shortcut_gives_what_the_verb_gives(verb: str, arguments: tuple[Any, ...]) -> None:
    quick = getattr(verbs, verb)
    short, full = quick(*arguments), quick.__self__(*arguments)
    assert type(short) is type(full)
    if verb in ("output", "gradient"):  # new arrays, of unknown values
        assert (short.shape, short.dtype) == (full.shape, full.dtype)
        assert (short is arguments[0]) == (full is arguments[0])
    elif isinstance(short, np.ndarray):
        assert short is full is arguments[0]
    else:
        assert repr(short) == repr(full)


_NO_NUMBERS = [True, np.True_, "a", None, np.ones(3), np.ones(()), 1j, object()]


@pytest.mark.parametrize("value", _NO_NUMBERS)
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^eps: found .*, expected a finite number$"):
        verbs.number(value, "eps")
    with pytest.raises(TypeError, match=r"^groups: found .*, expected an int$"):
        verbs.integer(value, "groups")
    if not isinstance(value, (bool, np.bool_)):
        with pytest.raises(TypeError, match=r"^training: found .*, expected True or False$"):
            verbs.flag(value, "training")
    if not isinstance(value, str):
        with pytest.raises(TypeError, match=r"^mode: found .*, expected one of a, b$"):
            verbs.choice(value, "mode", ("a", "b"))


@pytest.mark.parametrize(
    ("verb", "value", "bounds", "expected"),
    [
        ("number", math.nan, (-math.inf, math.inf), "a number"),
        ("number", math.inf, (), "a finite number"),
        ("number", 10**400, (), "a finite number"),
        ("number", -0.5, (0.0,), "a finite number of at least 0"),
        ("number", -0.5, (0.0, math.inf), "a number of at least 0"),
        ("number", 0, (verbs.ABOVE_ZERO,), "a finite number above 0"),
        ("number", np.float16(1.5), (0.0, 1.0), "a number between 0 and 1"),
        ("integer", 2**63, (), "an int of 64 bits"),
        ("integer", -1, (0,), "at least 0 and less than 2**63"),
        ("integer", np.int8(7), (1, 6), "at least 1 and at most 6"),
    ],
)
def test_numbers_outside_their_bounds_are_refused(
    verb: str, value: Any, bounds: tuple[Any, ...], expected: str
) -> None:
    with pytest.raises(ValueError, match=rf"^n: found .*, expected {re.escape(expected)}$"):
        getattr(verbs, verb)(value, "n", *bounds)


@pytest.mark.parametrize(("verb", "arguments"), [("floats", ()), ("floats", (1, 2, 3, 4)), ("output", (None,))])
def test_a_shortcut_leaves_wrong_calls_to_the_verb(verb: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=rf"{verb}\(\)"):
        getattr(verbs, verb)(*arguments)


@pytest.mark.parametrize("verb", sorted({verb for verb, _ in _VERBS}))
def test_a_shortcut_has_the_signature_and_docstring_of_its_verb(verb: str) -> None:
    quick = getattr(verbs, verb)
    full = inspect.signature(quick.__self__).parameters.values()
    assert [(p.name, p.default) for p in inspect.signature(quick).parameters.values()] == [
        (p.name, p.default) for p in full
    ]
    assert inspect.getdoc(quick) == inspect.getdoc(quick.__self__)


def test_kernels_have_signatures() -> None:
    assert list(inspect.signature(_kernels.elementwise).parameters) == ["x", "y", "size", "activation", "alpha", "beta"]


def test_there_are_no_other_shortcuts() -> None:
    def other() -> None: ...

    with pytest.raises(LookupError, match="other"):
        shortcut(other)


def test_remembers_by_value_and_type() -> None:
    calls: list[tuple[Any, ...]] = []

    def function(*arguments: Any) -> Any:
        calls.append(arguments)
        return [len(calls)]

    recall = remember(function)
    large = 10**6
    different = [
        (),
        (1,),
        (1.0,),
        (True,),
        (np.int64(1),),
        ("1",),
        (None,),
        ((1, 1),),
        ((1.0, 1),),
        ((1, (1,)),),
        (((1, 1),),),
        (1, 1),
        (large,),
        (2**70,),
    ]
    results = [recall(*arguments) for arguments in different]
    assert calls == different
    for arguments, result in zip(different, results, strict=True):
        assert recall(*arguments) is result
    assert recall(int("1000000")) is results[different.index((large,))]
    assert len(calls) == len(different)
    for _ in range(2):  # what has no hash is passed on
        recall([1])
    assert len(calls) == len(different) + 2


def test_forgets_no_more_than_it_must() -> None:
    calls = []

    def function(*shape: int) -> tuple[int, ...]:
        calls.append(shape)
        return shape

    recall = remember(function)
    shapes = [(8, 2**i, 7 * j, 7 * j) for i in range(10) for j in range(1, 9)]
    for _ in range(3):
        for shape in shapes:
            assert recall(*shape) == shape
    assert len(calls) == len(shapes)
    for i in range(10_000):
        assert recall(i) == (i,)


def test_mistakes_are_not_remembered() -> None:
    def function(x: int) -> None:
        raise ValueError(x)

    recall = remember(function)
    for _ in range(2):
        with pytest.raises(ValueError, match="3"):
            recall(3)


class _Counted(np.ndarray):
    pass


def test_references_are_counted() -> None:
    x, weight, bias, out = (np.ones(shape, np.float32) for shape in ((1, 1, 8, 8), (4, 1, 3, 3), (4,), (1, 4, 8, 8)))
    wrong = np.ones(5, np.float32)
    counted = [x, weight, bias, out, wrong, None, x.dtype, fastdl.conv2d.__defaults__]

    def calls() -> None:
        fastdl.conv2d(x, weight, bias, padding=1)
        fastdl.conv2d(x, weight, bias, padding=1, residual=out, activation="relu")
        fastdl.conv2d(x, weight, bias, padding=1, out=out)
        fastdl.conv2d(x, weight, bias, padding=[1, 1])
        fastdl.relu(x.view(_Counted))
        fastdl.sgd_step(bias, bias.copy(), np.zeros_like(bias), momentum=0.5)
        for mistake in ({"bias": wrong}, {"bias": bias, "out": x}, {"padding": 1.0}, {"weight": None}):
            with pytest.raises((TypeError, ValueError)):
                fastdl.conv2d(**({"x": x, "weight": weight} | mistake))
        with pytest.raises(TypeError):
            _kernels.elementwise(x, out, None, *_RELU)

    for _ in range(3):
        calls()
    gc.collect()
    gc.disable()  # what other tests left, and it frees meanwhile, refers to None as well
    try:
        before = [sys.getrefcount(thing) for thing in counted]
        for _ in range(50):
            calls()
        after = [sys.getrefcount(thing) for thing in counted]
    finally:
        gc.enable()
    assert all(abs(a - b) < 25 for a, b in zip(after, before, strict=True)), (before, after)


@pytest.mark.usefixtures("threads")
def test_large_work_lets_other_threads_run() -> None:
    x = np.ones(1 << 24, np.float32)
    out = np.empty_like(x)
    fastdl.relu(x, out=out)
    done, counted = threading.Event(), [0]

    def count() -> None:
        while not done.is_set():
            counted[0] += 1
            time.sleep(0)  # hands the interpreter back

    fastdl.set_num_threads(1)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)  # nobody is asked to hand it over
    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = counted[0]
        for _ in range(20):
            fastdl.relu(x, out=out)
        assert counted[0] > before
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()
