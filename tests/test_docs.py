"""Docstrings: the examples run, and what stands alone has all its parts."""

from __future__ import annotations

import doctest
import inspect
import re
from importlib.util import find_spec
from typing import Any

import pytest

import fastdl
from fastdl import distributed, models, nn, optim, training
from fastdl._docs import doc


def _named(*modules: tuple[str, Any], names: str = "") -> dict[str, Any]:
    """Functions and classes by name, each once."""
    found = {}
    for prefix, module in modules:
        for name in getattr(module, names, dir(module)):
            value = getattr(module, name)
            if (inspect.isfunction(value) or inspect.isclass(value)) and not name.startswith("_"):
                found.setdefault(id(value), (f"{prefix}.{name}", value))
    return dict(found.values())


PUBLIC = _named(
    ("fastdl", fastdl), ("models", models), ("nn", nn), ("optim", optim), ("optim.lr_scheduler", optim.lr_scheduler)
)
TRAINING = _named(("training", training), ("distributed", distributed), names="__all__")
PUBLIC |= TRAINING
RL: dict[str, Any] = {}
if all(map(find_spec, ("numba", "gymnasium", "matplotlib"))):  # which its examples use
    from fastdl import rl

    RL = _named(("rl", rl), ("rl.envs", rl.envs), ("rl.agents", rl.agents), names="__all__")
    PUBLIC |= RL
if find_spec("onnx"):
    from fastdl import onnx
    from fastdl.onnx import backend

    PUBLIC |= _named(("onnx", onnx), ("onnx.backend", backend), names="__all__")


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name: str) -> None:
    value = PUBLIC[name]
    tests = doctest.DocTestFinder().find(value, name, globs={})
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    output: list[str] = []
    for test in tests:
        runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)


@pytest.mark.parametrize("name", [*TRAINING, *(name for name in RL if not inspect.isabstract(RL[name]))])
def test_docstrings_describe_every_argument(name: str) -> None:
    value = PUBLIC[name]
    text = inspect.getdoc(value) or ""
    assert text.splitlines()[0].endswith((".", ":", "*"))
    assert not re.search(r"\{[a-z_]+\}", text), "a text was not filled in"
    if inspect.isclass(value) and issubclass(value, tuple | Exception):  # made by functions, which say more
        return
    described = {n for line in re.findall(r"^(\S.*)$", text, re.M) for n in line.split(" : ")[0].split(", ")}
    known = inspect.signature(value).parameters.values()
    undescribed = {p.name for p in known if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)} - described
    assert not undescribed


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
