"""Elementwise functions, and their gradients, as functions that compiled code calls."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_builtin,
    lower_getattr_generic,
    register_model,
    typeof_impl,
    unbox,
)

from fastdl.functional.activation.applied import MOST_PARAMETERS, apply, apply_backward
from fastdl.functional.verbs import number
from fastdl.numba.elementwise.function import Elementwise
from fastdl.numba.operations import Operation, _lower
from fastdl.numba.values import Number


class _Type(Operation):
    """The type of one of them, or of its gradient."""

    def __init__(self, of: Elementwise, backward: int) -> None:
        super().__init__(f"elementwise.{of.name}.{('forward', 'backward')[backward]}.{id(of):x}", of.function)
        self.of, self.backward = of, backward
        own = of.__signature__.parameters.values()
        grad = [inspect.Parameter("grad_output", inspect.Parameter.POSITIONAL_OR_KEYWORD)] if backward else []
        self.signature = inspect.Signature([*grad, *own])
        self.twin = self._write

    def _write(self, run: Any, *given: Any) -> Any:
        arrays, (*parameters, out) = given[: 1 + self.backward], given[1 + self.backward :]
        dtype = getattr(arrays[-1], "dtype", None)
        address: Any = 0
        if dtype in (np.float32, np.float64):
            known, code = self.of.address(self.backward, np.dtype(dtype)), run.code
            # An address of this process: Numba does not cache what depends on one.
            found = code.context.add_dynamic_addr(code.builder, known, info=self.name)
            address = Number(int, code.builder.ptrtoint(found, ir.IntType(64)))
        names = [parameter.name for parameter in self.of._parameters]
        values = [run.call(number, pair, {}) for pair in zip(parameters, names, strict=True)]
        values += [0.0] * (MOST_PARAMETERS - len(values))
        body = (apply, apply_backward)[self.backward]
        return run.call(body, (*arrays, self.of._first, address, *values, out), {})


def _type_of(of: Elementwise, backward: int) -> _Type:
    if backward not in of.types:
        found = of.types[backward] = _Type(of, backward)
        lower_builtin(found.name, types.VarArg(types.Any))(partial(_lower, found))
    return of.types[backward]


@register_model(_Type)
class _Model(models.OpaqueModel):
    pass


@typeof_impl.register(Elementwise)
def _typeof(value, context):
    return _type_of(value, 0)


@unbox(_Type)
def _unbox(type_, value, c):
    return NativeValue(c.context.get_dummy_value())


@infer_getattr
class _Attributes(AttributeTemplate):
    key = _Type

    def resolve_backward(self, type_: _Type) -> _Type:
        return _type_of(type_.of, 1)


@lower_getattr_generic(_Type)
def _attribute(context, builder, type_, value, name):
    return context.get_dummy_value()
