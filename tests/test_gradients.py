"""Each backward against finite differences of its forward, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdl
from tests.cases import Case, all_cases
from tests.cases.case import flat
from tests.support import parameters

_STEP = 1e-6


def _differentiable() -> list[Case]:
    """Small, because near a kink (x = 0 of relu) a difference is not a derivative: few elements, few near misses."""
    return [
        case
        for case in all_cases()
        if case.backward
        and not case.tags & {"special", "large"}
        and not case.backward.parameters.keys() & {"truncate", "input_grad"}  # not the derivative, or not all of it
        and case.flops < 1e6
        and max(_sizes(case)) < 10_000
    ]


def _sizes(case: Case) -> list[int]:
    return [array.size for array in flat(case.make(np.float64).values())]


@pytest.mark.parametrize("case", parameters(_differentiable()))
def test_backward_is_the_derivative(case: Case) -> None:
    """The slope of sum(grad_output f(x)), over all results that have a gradient, along a random direction in each
    input in turn."""
    assert case.backward
    arguments = case.make(np.float64, np.random.default_rng(1))
    backward = case.backward.make(np.float64, np.random.default_rng(1))
    directions = np.random.default_rng(2)

    def loss(name: str, place: int | None, shift: Any) -> tuple[float, float]:
        value = arguments[name]
        shifted = value + shift if place is None else (*value[:place], value[place] + shift, *value[place + 1 :])
        found = case.run(arguments | {name: shifted})
        terms = [backward[grad] * y for grad, y in zip(case.backward.grads, found, strict=False)]
        return sum(t.sum() for t in terms), sum(np.abs(t).sum() for t in terms)

    grads = case.backward.run(backward)[: len(case.backward.shapes) - len(case.backward.updates)]
    for (name, place), grad in zip(case.differentiable(arguments), grads, strict=True):
        if arguments[name] is None:  # no bias: nothing to differentiate in
            continue
        direction = directions.standard_normal(grad.shape)
        above, magnitude = loss(name, place, _STEP * direction)
        below, _ = loss(name, place, -_STEP * direction)
        slope, expected = (above - below) / (2 * _STEP), (grad * direction).sum()
        # The difference of two sums keeps their rounding, divided by the step; the rest is curvature.
        rounding = np.finfo(float).eps * magnitude / _STEP
        assert abs(slope - expected) <= 4 * rounding + 1e-6 * np.linalg.norm(grad * direction), name


@pytest.mark.parametrize("case", parameters(c for c in all_cases("im2col") if "large" not in c.tags))
def test_col2im_is_the_adjoint_of_im2col(case: Case) -> None:
    """<im2col(x), c> = <x, col2im(c)>, which makes each the other's gradient."""
    arguments = case.make(np.float64)
    x = arguments.pop("x")
    columns = fastdl.im2col(x, **arguments)
    c = np.random.default_rng(1).standard_normal(columns.shape)
    images = fastdl.col2im(c, output_size=x.shape[2:], **arguments)
    assert (columns * c).sum() == pytest.approx((x * images).sum(), rel=1e-12)
