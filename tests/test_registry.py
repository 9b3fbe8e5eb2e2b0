"""What has to agree between the places that describe an operation."""

from __future__ import annotations

import inspect

import pytest

import fastdl
from fastdl import reference
from fastdl._native import ffi, lib
from fastdl.functional._operation import OPERATIONS
from fastdl.functional._window import Window
from fastdl.functional.activation import ACTIVATIONS
from fastdl.functional.conv import ALGORITHMS
from fastdl.functional.loss import ELEMENTWISE, REDUCTIONS
from fastdl.functional.padding import MODES
from fastdl.optim._table import METHODS
from tests.cases import all_cases


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_complete(name: str) -> None:
    function = OPERATIONS[name]
    assert getattr(fastdl, name) is function
    assert inspect.getdoc(function)
    assert inspect.signature(getattr(reference, name)) == inspect.signature(function)
    assert all_cases(name), "no cases"
    assert all_cases(name, "bench"), "nothing to time"


def test_reference_has_nothing_else() -> None:
    assert {name for name, value in vars(reference).items() if inspect.isfunction(value)} == set(OPERATIONS)


def test_ids_of_cases_are_unique() -> None:
    ids = [case.id for case in all_cases()]
    assert len(ids) == len(set(ids))


def test_resnet50_has_23_convolutions() -> None:
    assert len(all_cases("conv2d", "batch8")) == 23


def test_window_has_the_fields_of_the_c_struct() -> None:
    assert tuple(name for name, _ in ffi.typeof("fdl_window").fields) == Window._fields


@pytest.mark.parametrize(
    ("enum", "names"),
    [
        ("ACTIVATION", ACTIVATIONS),
        ("ALGORITHM", ALGORITHMS),
        ("LOSS", ELEMENTWISE),
        ("REDUCTION", REDUCTIONS),
        ("PAD", MODES),
        ("OPTIMIZER", METHODS),
    ],
)
def test_choices_are_the_values_of_the_c_enum(enum: str, names: tuple[str, ...]) -> None:
    """What choice() passes to a kernel is a position in these tuples."""
    constants = {name: getattr(lib, name) for name in dir(lib) if name.startswith(f"FDL_{enum}_")}
    assert constants == {f"FDL_{enum}_{name.upper()}": i for i, name in enumerate(names)}
