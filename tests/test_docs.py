"""Docstrings: the examples run, and what stands alone has all its parts."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import pytest

import fastdl
from fastdl import nn, optim
from fastdl._docs import doc


def _public() -> dict[str, Any]:
    found = {}
    for prefix, module in (
        ("fastdl", fastdl),
        ("nn", nn),
        ("optim", optim),
        ("optim.lr_scheduler", optim.lr_scheduler),
    ):
        for name, value in vars(module).items():
            if (inspect.isfunction(value) or inspect.isclass(value)) and not name.startswith("_"):
                found.setdefault(id(value), (f"{prefix}.{name}", value))
    return dict(found.values())


PUBLIC = _public()


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name: str) -> None:
    value = PUBLIC[name]
    tests = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    output: list[str] = []
    for test in tests:
        runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)


def test_shared_text_is_indented_and_complete() -> None:
    @doc({"x": "x : array\n    The input."}, y="y\n\n{x}")
    def function() -> None:
        """Summary.

        Parameters
        ----------
        {y}
        """

    assert inspect.getdoc(function) == "Summary.\n\nParameters\n----------\ny\n\nx : array\n    The input."
    with pytest.raises(KeyError, match="unused"):
        doc(unused="text")(function)
    with pytest.raises(KeyError, match="missing"):
        doc()(type("T", (), {"__doc__": "{missing}"}))
