"""What has to agree between the places that describe an operation."""

from __future__ import annotations

import inspect

import pytest

import fastdl
from fastdl import reference
from fastdl._native import ffi, lib
from fastdl._operation import OPERATIONS
from fastdl._window import Window, window2d
from fastdl.conv import ALGORITHMS
from fastdl.linear import ACTIVATIONS
from fastdl.losses import REDUCTIONS
from tests.cases import all_cases


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_complete(name: str) -> None:
    function = OPERATIONS[name]
    assert getattr(fastdl, name) is function
    assert name in fastdl.__all__
    assert inspect.getdoc(function)
    assert name in reference.__all__
    assert inspect.signature(getattr(reference, name)) == inspect.signature(function)
    assert all_cases(name), "no cases"
    assert all_cases(name, "bench"), "nothing to time"


def test_reference_has_nothing_else() -> None:
    assert set(reference.__all__) == set(OPERATIONS)


def test_ids_of_cases_are_unique() -> None:
    ids = [case.id for case in all_cases()]
    assert len(ids) == len(set(ids))


def test_resnet50_has_23_convolutions() -> None:
    assert len(all_cases("conv2d", "batch8")) == 23


def test_window_has_the_fields_of_the_c_struct() -> None:
    fields = [name for name, _ in ffi.typeof("fdl_window2d").fields]
    window: Window = window2d((2, 4, 19, 23), 6, (3, 5), (2, 1), (1, 2), (3, 4), 2)
    assert dict(zip(fields, window, strict=True)) == {
        "batch": 2,
        "channels": 4,
        "height": 19,
        "width": 23,
        "out_channels": 6,
        "out_height": 8,
        "out_width": 11,
        "kernel_height": 3,
        "kernel_width": 5,
        "stride_height": 2,
        "stride_width": 1,
        "padding_height": 1,
        "padding_width": 2,
        "dilation_height": 3,
        "dilation_width": 4,
        "groups": 2,
    }


@pytest.mark.parametrize(
    ("enum", "names"), [("ACTIVATION", ACTIVATIONS), ("ALGORITHM", ALGORITHMS), ("REDUCTION", REDUCTIONS)]
)
def test_choices_are_the_values_of_the_c_enum(enum: str, names: tuple[str, ...]) -> None:
    """What choice() passes to a kernel is a position in these tuples."""
    constants = {name: getattr(lib, name) for name in dir(lib) if name.startswith(f"FDL_{enum}_")}
    assert constants == {f"FDL_{enum}_{name.upper()}": i for i, name in enumerate(names)}
