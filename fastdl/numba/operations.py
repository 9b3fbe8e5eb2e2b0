"""The operations as functions that compiled code calls.

Numba asks for the type of a call (`Operation.get_call_type`) and later for its code (`_lower`); both are the body,
read over values of these types (interpreter.py). A call with an argument that may be None is two calls, one of which
is made."""

from __future__ import annotations

import hashlib
import inspect
from functools import cached_property, partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.core.imputils import lower_constant
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, Signature, infer_global
from numba.extending import lower_builtin, register_model

import fastdl
from fastdl import program
from fastdl.functional import _operation
from fastdl.numba import cache, clipping, symbols, twins, verbs  # noqa: F401
from fastdl.numba.boundary import from_numba, to_numba
from fastdl.numba.code import Code, Ended
from fastdl.numba.interpreter import Interpreter
from fastdl.numba.values import Unsupported

REGISTERED: set[str] = set()
"""The names of what compiled code can call."""


class Operation(types.Callable):
    """The type of one function of fastdl."""

    def __init__(self, name: str, function: Any) -> None:
        self.body, self.twin = _operation.plain(function), twins.TWINS.get(function)
        self.results: dict[Any, Any] = {}
        super().__init__(name=f"fastdl.{name}")

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.body)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        try:
            bound = self.signature.bind(*args, **kws)
        except TypeError as error:
            raise TypingError(f"{self.name}: {error}") from None
        given = []
        for name, parameter in self.signature.parameters.items():
            given.append(bound.arguments.get(name, types.Omitted(parameter.default)))
        pysig = inspect.Signature(  # by position, as Numba calls it; what has no default is given
            [
                inspect.Parameter(
                    p.name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=None if p.kind is p.KEYWORD_ONLY and p.default is p.empty else p.default,
                )
                for p in self.signature.parameters.values()
            ]
        )
        return Signature(self.result(tuple(given)), tuple(given), None, pysig=pysig)

    def result(self, given: tuple[Any, ...]) -> Any:
        """The type of what is returned."""
        key = tuple((a.value, type(a.value)) if isinstance(a, types.Omitted) else a for a in given)
        if key not in self.results:
            self.results[key] = self._result(given)
        return self.results[key]

    def _result(self, given: tuple[Any, ...]) -> Any:
        for i, option in enumerate(given):
            if isinstance(option, types.Optional):
                found = [self.result((*given[:i], either, *given[i + 1 :])) for either in (types.none, option.type)]
                if found[0] != found[1]:
                    name = list(self.signature.parameters)[i]
                    message = f"{name}: found a value that may be None, expected None or none that may be"
                    raise TypingError(f"{self.name}: {message}")
                return found[0]
        context = cpu_target.target_context.subtarget(enable_nrt=True)
        context.refresh()
        module = ir.Module()
        try:
            return self.write(context, module, "trial", given)
        except Unsupported as found:
            raise TypingError(f"{self.name}: {found}") from None
        except NotImplementedError as found:
            raise TypingError(f"{self.name}: found {found}, expected what compiled code can do") from None

    def write(self, context: Any, module: Any, name: str, given: tuple[Any, ...], result: Any = None) -> Any:
        """Write the function into a module, with all that Numba expects of one; without `result`, only to see what is
        returned."""
        function_type = context.call_conv.get_function_type(result or types.none, given)
        function = ir.Function(module, function_type, name)
        function.linkage = "linkonce_odr"
        code = Code(context, function)
        run = Interpreter(code)
        values = context.call_conv.decode_arguments(code.builder, given, function)
        names = list(self.signature.parameters)
        lifted = [from_numba(code, t, value, n) for t, value, n in zip(given, values, names, strict=True)]
        try:
            returned = self.twin(run, *lifted) if self.twin else run.run(self.body, tuple(lifted), {})
            result_type, value = to_numba(code, returned)
        except Ended:
            raise Unsupported(code.impossible or "no result") from None
        except Exception:
            if code.impossible:
                raise Unsupported(code.impossible) from None
            raise
        if result is None:
            return result_type
        if context.enable_nrt:
            context.nrt.incref(code.builder, result_type, value)
            code.release()
        context.call_conv.return_value(code.builder, context.get_return_value(code.builder, result_type, value))
        code.finish()
        return function

    def get_call_signatures(self) -> tuple[tuple[Any, ...], bool]:
        return (), False

    def get_impl_key(self, sig: Any) -> str:
        return self.name

    @property
    def key(self) -> Any:
        return self.name


class Refused(types.Callable):
    """The type of what cannot be called in compiled code."""

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        raise TypingError(f"{self.name}: found a call in compiled code, expected one in Python")

    def get_call_signatures(self) -> tuple[tuple[Any, ...], bool]:
        return (), False

    def get_impl_key(self, sig: Any) -> str:
        return self.name


@register_model(Refused)
@register_model(Operation)
class _OperationModel(models.OpaqueModel):
    pass


@lower_constant(Refused)
@lower_constant(Operation)
def _constant(context, builder, type_, value):
    return context.get_dummy_value()


def _call(context: Any, builder: Any, operation: Operation, result: Any, given: tuple[Any, ...], args: Any) -> Any:
    for i, option in enumerate(given):
        if isinstance(option, types.Optional):
            return _either(context, builder, operation, result, given, args, i)
    identity = repr([(a.value if isinstance(a, types.Omitted) else str(a)) for a in given])
    name = f"{operation.name} {cache.FINGERPRINT} {hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    module = builder.module
    function = module.globals.get(name) or operation.write(context, module, name, given, result)
    cache.mark(context, module)
    in_parallel_loop = "__numba_parfor_gufunc" in builder.function.name
    if in_parallel_loop:
        before = symbols.keep_to_one_thread(builder, ir.IntType(64)(1))
    status, value = context.call_conv.call_function(builder, function, result, given, args)
    if in_parallel_loop:
        symbols.keep_to_one_thread(builder, before)
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)
    return value


def _either(
    context: Any, builder: Any, operation: Operation, result: Any, given: tuple[Any, ...], args: Any, i: int
) -> Any:
    """The call with an argument that may be None."""
    option: Any = given[i]
    held = context.make_helper(builder, option, args[i])
    kept = cgutils.alloca_once(builder, context.get_value_type(result))
    both = (option.type, held.data), (types.none, context.get_dummy_value())
    with builder.if_else(cgutils.as_bool_bit(builder, held.valid)) as sides:
        for side, (type_, value) in zip(sides, both, strict=True):
            with side:
                types_, values = (*given[:i], type_, *given[i + 1 :]), [*args[:i], value, *args[i + 1 :]]
                builder.store(_call(context, builder, operation, result, types_, values), kept)
    return builder.load(kept)


def _lower(operation: Operation, context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _call(context, builder, operation, sig.return_type, tuple(sig.args), list(args))


def _register(function: Any) -> None:
    operation = Operation(function.__name__, function)
    infer_global(function, operation)
    REGISTERED.add(function.__name__)
    lower_builtin(operation.name, types.VarArg(types.Any))(partial(_lower, operation))


_CLIPPING = [getattr(clipping, name) for name in clipping.__all__]
for _function in [*_operation.OPERATIONS.values(), *_operation.HELPERS, *_CLIPPING]:
    if getattr(fastdl, getattr(_function, "__name__", ""), None) is _function:
        _register(_function)
for _name, _function in (vars(fastdl) | {name: getattr(program, name) for name in program.__all__}).items():
    if inspect.isfunction(_function) and _name not in REGISTERED and not _name.startswith("_"):
        infer_global(_function, Refused(f"fastdl.{_name}"))


@infer_global(float)
class _FloatOfArray(AbstractTemplate):
    """float(loss), of an array without dimensions."""

    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], types.Array) and args[0].ndim == 0 and not kws:
            return Signature(types.float64, args, None)
        return None


@lower_builtin(float, types.Array)
def _float_of_array(context, builder, sig, args):
    (array_type,) = sig.args
    array = context.make_array(array_type)(context, builder, args[0])
    value = context.unpack_value(builder, array_type.dtype, array.data)
    return context.cast(builder, value, array_type.dtype, types.float64)
