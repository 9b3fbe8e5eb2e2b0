"""What has to agree between the places that describe an operation."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import fastdl
from fastdl import _kernels, reference
from fastdl._native import ffi, lib
from fastdl.functional._operation import OPERATIONS
from tests.cases import all_cases


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_is_complete(name: str) -> None:
    function = OPERATIONS[name]
    assert getattr(fastdl, name) is function
    assert inspect.getdoc(function)
    assert inspect.signature(getattr(reference, name)) == inspect.signature(function)
    assert all_cases(name), "no cases"
    assert all_cases(name, "bench"), "nothing to time"


@pytest.mark.parametrize("name", OPERATIONS)
def test_types_are_told(name: str) -> None:
    """Nothing is Any, and where a literal decides what is returned, there is an overload for each."""
    function = OPERATIONS[name]
    signature = inspect.signature(function)
    annotations = [parameter.annotation for parameter in signature.parameters.values()]
    assert not [a for a in (*annotations, signature.return_annotation) if re.search(r"\bAny\b", a)]
    decided = [parameter for parameter in signature.parameters if parameter.startswith("return_")]
    if decided and sys.version_info >= (3, 11):
        overloads = [inspect.signature(each) for each in typing.get_overloads(function)]
        assert [each.parameters[decided[0]].annotation for each in overloads] == ["Literal[False]", "Literal[True]"]
        assert [list(each.parameters) for each in overloads] == [list(signature.parameters)] * 2
        assert len({each.return_annotation for each in overloads}) == 2
    if not decided:
        assert not re.search(r"\||\.\.\.", signature.return_annotation)


def test_reference_has_nothing_else() -> None:
    assert {name for name, value in vars(reference).items() if inspect.isfunction(value)} == set(OPERATIONS)


def test_ids_of_cases_are_unique() -> None:
    ids = [case.id for case in all_cases()]
    assert len(ids) == len(set(ids))


def test_resnet50_has_23_convolutions() -> None:
    assert len(all_cases("conv2d", "batch8")) == 23


@pytest.mark.parametrize(
    "struct", [_kernels.Window, _kernels.Recurrence, _kernels.Optimizer], ids=lambda struct: struct.__name__
)
def test_structs_are_those_of_the_compiler(struct: Any) -> None:
    fields = ffi.typeof(f"fdl_{struct.__name__.lower()}").fields
    assert tuple(name for name, _ in fields) == struct._fields
    kinds = {"int64_t": int, "double": float}
    assert [kinds[field.type.cname] for _, field in fields] == list(get_type_hints(struct).values())


def test_constants_are_those_of_the_compiler() -> None:
    constants = {name.removeprefix("FDL_"): getattr(lib, name) for name in dir(lib) if name.startswith("FDL_")}
    statuses = {name for name in constants if name.split("_")[0] in ("OK", "OUT", "BAD", "BUSY", "STALE")}
    assert {name: getattr(_kernels, name) for name in constants.keys() - statuses} == {
        name: value for name, value in constants.items() if name not in statuses
    }
    for name in statuses - {"OK"}:
        with pytest.raises((ValueError, RuntimeError, MemoryError), match=r"^\w+: (found .*, expected|out of memory)"):
            _kernels.raise_status(constants[name])


@pytest.mark.parametrize("names", [name for name in dir(_kernels) if name.endswith("_NAMES")])
def test_names_are_in_the_order_of_the_constants(names: str) -> None:
    for i, name in enumerate(getattr(_kernels, names)):
        assert getattr(_kernels, names.replace("NAMES", name.upper())) == i


ROOT = Path(__file__).parents[1]


def _texts() -> dict[str, str]:
    """What is written by hand besides tests, benchmarks, README, and what ONNX calls things, by its path."""
    kinds = {".c", ".h", ".in", ".md", ".py", ".pyi", ".rst", ".toml", ".txt", ".yml"}
    files = (path for path in ROOT.rglob("*") if path.suffix in kinds and path.is_file())
    texts = {str(path.relative_to(ROOT)): path for path in files}
    names = r"(tests|bench|build|dist|\..*|.*\.egg-info|fastdl/onnx)/|README\.md|docs/onnx\.md|fastdl/_kernels\.pyi?$"
    apart = re.compile(rf"{names}|.*/\.venv/")
    return {name: path.read_text(encoding="utf-8") for name, path in texts.items() if not apart.match(name)}


@pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="without the sources")
def test_an_activation_touches_five_files() -> None:
    """One with an option a sixth, for what fuses it, and a seventh is its version in Numba, if there is to be one. Its
    kind stands once, in fastdl.h, besides its formulas; those of limits, applied in registers, in fused.h too."""
    texts = _texts()
    for name in ("mish", "softsign", "logsigmoid", "softshrink", "tanhshrink"):
        function = getattr(fastdl, name)
        themes = {function.__module__.rpartition(".")[2]}
        themes |= {"elementwise"} if len(inspect.signature(function).parameters) > 2 else set()
        assert {path for path, text in texts.items() if name in text.lower()} <= {
            "csrc/fastdl.h",
            "csrc/vector/activation.h",
            "fastdl/reference/activation.py",
            "fastdl/nn/activation.py",
            "fastdl/numba/kernels/activation.py",
            *(f"fastdl/functional/activation/{theme}.py" for theme in themes),
        }, name
    for kind in set(_kernels.ACTIVATION_NAMES) - {"none", "relu", "relu6", "hardtanh"}:
        named = re.compile(rf"FDL_ACTIVATION_{kind.upper()}\b|\b(ACTIVATION|GRADIENT|X)\({kind.upper()}\)")
        found = {path: len(named.findall(text)) for path, text in texts.items() if named.search(text)}
        assert found == {"csrc/fastdl.h": 1, "csrc/vector/activation.h": 3}, kind
