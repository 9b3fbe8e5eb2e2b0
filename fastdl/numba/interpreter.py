"""The bodies of operations, helpers and verbs, read as Python and compiled as they are read.

A body runs here once for each combination of argument types, over values of which some are known (types, dtypes,
dimensions, literals) and some not (values.py). What is known is settled on the spot: a branch on it is taken or left,
a loop over it is run through, a call with nothing else in it is made. Of what is not known, code is written (code.py);
a branch on it has both its sides compiled, and what they leave in the variables is joined. So an operation becomes
the few instructions that depend on values, without type inference and without a function for each verb.

Only the Python that bodies are written in is read; anything else is a NotImplementedError, which the tests would see.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import operator
import types as python_types
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastdl.functional._operation import plain
from fastdl.numba import symbols
from fastdl.numba.code import Code, Ended
from fastdl.numba.twins import ARITHMETIC, TWINS, attribute, differ, method
from fastdl.numba.values import (
    ArrayValue,
    Conflict,
    ListValue,
    Memory,
    Number,
    Sources,
    Unsupported,
    is_known,
    is_table,
    joined,
    python_type,
    sources_of,
    text,
    type_name,
)

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class _Frame:
    """A call: its variables, and where it has returned what."""

    def __init__(self, function: Any, variables: dict[str, Any]) -> None:
        self.function, self.variables = function, variables
        self.returns: list[tuple[Any, Any]] = []
        self.sources: Sources = frozenset()  # of what decides where it returns


@cache
def _syntax(function: Any) -> ast.FunctionDef:
    """A function's source, read."""
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    first = last = code.co_firstlineno - 1
    while not lines[last].startswith("def "):
        last += 1
    while last + 1 < len(lines) and (lines[last + 1].strip() == "" or lines[last + 1][0] in " )"):
        last += 1
    definition = ast.parse("".join(lines[first : last + 1])).body[0]
    assert isinstance(definition, ast.FunctionDef)
    return definition


class Interpreter:
    def __init__(self, code: Code) -> None:
        self.code = code

    # ---- calls ----

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if type(function).__hash__ is not None:
            if function in symbols.KERNELS:
                return self.code.kernel(symbols.KERNELS[function], args)
            twin = TWINS.get(function)
            if twin is not None:
                return twin(self, *args, **kwargs)
        if is_known(args) and all(map(is_known, kwargs.values())):
            return self._made_now(function, args, kwargs)
        body = plain(function)
        if isinstance(body, python_types.FunctionType) and body.__module__.startswith("fastdl."):
            return self.run(body, args, kwargs)
        if isinstance(function, type) and hasattr(function, "_fields"):
            return function(*args, **kwargs)
        raise NotImplementedError(f"{function} of what is not known")

    def _made_now(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            found = function(*args, **kwargs)
            if isinstance(found, np.ndarray) and not is_table(found):
                return self.code.array_of(found.ravel().tolist(), found.dtype, found.shape)
            return found.item() if isinstance(found, np.generic) else found
        except (TypeError, ValueError) as error:
            body = plain(function)
            if isinstance(body, python_types.FunctionType) and body.__module__.startswith("fastdl."):
                return self.run(body, args, kwargs)  # which comes to the mistake, and beyond it
            self.code.fail(type(error).__name__, str(error))

    def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a Python function returns."""
        frame = _Frame(function, _bound(function, args, kwargs))
        before = self.code.returned_before
        try:
            if self._block(_syntax(function).body, frame):
                frame.returns.append((self.code.builder.block, None))
        finally:
            self.code.returned_before = before
        if not frame.returns:
            raise Ended
        return self._joined(frame.returns, frame.sources)

    def _joined(self, ends: list[tuple[Any, Any]], sources: Sources) -> Any:
        """Go on after these blocks, with the value that each comes with."""
        blocks = [block for block, _ in ends]
        if len(ends) == 1:
            self.code.builder.position_at_end(blocks[0])
            return ends[0][1]
        self.code.merge(blocks)
        return self.code.phi([value for _, value in ends], blocks, sources)

    # ---- statements: whether what comes after one is reached ----

    def _block(self, statements: list[ast.stmt], frame: _Frame) -> bool:
        try:
            return all(self._statement(statement, frame) for statement in statements)
        except Ended:
            return False

    def _statement(self, node: ast.stmt, frame: _Frame) -> bool:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Pass():  # a docstring
                return True
            case ast.Expr(value=value):
                self.value(value, frame)
            case ast.Assign(targets=targets, value=value):
                found = self.value(value, frame)
                for target in targets:
                    self._assign(target, found, frame)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, self.value(value, frame), frame)
            case ast.AugAssign(target=target, op=op, value=value):
                loaded = ast.copy_location(_loaded(target), target)
                both = self.value(loaded, frame), self.value(value, frame)
                into = both[0] if isinstance(both[0], ArrayValue) else None
                self._assign(target, self._binary(_OPERATORS[type(op)], *both, into), frame)
            case ast.If(test=test, body=body, orelse=orelse):
                return self._branch(self.value(test, frame), body, orelse, frame)
            case ast.For(target=target, iter=iterable, body=body):
                for item in self.items(self.value(iterable, frame)):
                    self._assign(target, item, frame)
                    if not self._block(body, frame):
                        return False
            case ast.Return(value=value):
                found = None if value is None else self.value(value, frame)
                frame.returns.append((self.code.builder.block, found))
                frame.sources |= sources_of(*self.code.conditions)
                self.code.returned_before += 1
                return False
            case ast.Raise(exc=ast.Call(func=ast.Name(id=kind), args=[message])):
                self.code.fail(kind, self.value(message, frame))
            case ast.Try(body=body):  # what is caught cannot be raised by values of the types that reach here
                return self._block(body, frame)
            case _:
                raise NotImplementedError(ast.unparse(node))
        return True

    def _branch(self, condition: Any, body: list[ast.stmt], orelse: list[ast.stmt], frame: _Frame) -> bool:
        condition = self.code.truth(condition)
        if not isinstance(condition, Number):
            return self._block(body if condition else orelse, frame)
        before, ends = frame.variables, []
        for statements in self._sides(condition, body, orelse):
            frame.variables = _copied(before)
            if self._block(statements, frame):
                ends.append((self.code.builder.block, frame.variables))
        if not ends:
            return False
        blocks = [block for block, _ in ends]
        if len(ends) == 1:
            self.code.builder.position_at_end(blocks[0])
            frame.variables = ends[0][1]
            return True
        self.code.merge(blocks)
        first, second = (variables for _, variables in ends)
        frame.variables = {
            name: self.code.phi([first[name], second[name]], blocks, condition.sources)
            for name in first
            if name in second
        }
        return True

    def _sides(self, condition: Number, *sides: Any) -> Any:
        """Both sides of a branch, each where its code is to be written."""
        code = self.code
        blocks = [code.block() for _ in sides]
        code.builder.cbranch(condition.ir, *blocks)
        for block, side in zip(blocks, sides, strict=True):
            code.builder.position_at_end(block)
            with code.within(condition):
                yield side

    def _assign(self, target: ast.expr, value: Any, frame: _Frame) -> None:
        match target:
            case ast.Name(id=name):
                frame.variables[name] = value
            case ast.Tuple(elts=targets):
                for each, item in zip(targets, self.items(value), strict=True):
                    self._assign(each, item, frame)
            case ast.Subscript(value=base, slice=index):
                table, at = self.value(base, frame), self.value(index, frame)
                if not is_table(table):
                    raise NotImplementedError(ast.unparse(target))
                if is_known(at):
                    table[at] = value
                else:  # row, column
                    for i in range(len(table)):
                        here = self.code.is_index(at[0], i, len(table))
                        table[i, at[1]] = self.code.select(here, value, table[i, at[1]])
            case _:
                raise NotImplementedError(ast.unparse(target))

    # ---- expressions ----

    def value(self, node: ast.expr, frame: _Frame) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._name(name, frame)
            case ast.Attribute(value=base, attr=name):
                return attribute(self.code, self.value(base, frame), name)
            case ast.Call():
                return self._call(node, frame)
            case ast.Tuple(elts=items):
                return tuple(self._spread(items, frame))
            case ast.List(elts=items):
                return self._spread(items, frame)
            case ast.Subscript(value=base, slice=index):
                return self.subscript(self.value(base, frame), self.value(index, frame))
            case ast.Slice(lower=lower, upper=upper, step=step):
                return slice(*(part and self.value(part, frame) for part in (lower, upper, step)))
            case ast.BinOp(left=left, op=op, right=right):
                return self._binary(_OPERATORS[type(op)], self.value(left, frame), self.value(right, frame))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.code.invert(self.value(operand, frame))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                found = self.value(operand, frame)
                return (
                    self.call(np.negative, (found,), {})
                    if python_type(found) is np.ndarray
                    else self.code.negative(found)
                )
            case ast.BoolOp(op=ast.And(), values=values):
                return self.code.every(self.value(v, frame) for v in values)
            case ast.BoolOp(values=values):
                return self.code.some(self.value(v, frame) for v in values)
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compare(left, ops, others, frame)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._either(self.code.truth(self.value(test, frame)), body, orelse, frame)
            case ast.JoinedStr(values=parts):
                return joined(self.value(part, frame) for part in parts)
            case ast.FormattedValue(value=value, conversion=conversion, format_spec=None):
                return text(self.value(value, frame), conversion == ord("r"))
            case ast.GeneratorExp() | ast.ListComp():
                return self._comprehension(node, frame)
        raise NotImplementedError(ast.unparse(node))

    def _name(self, name: str, frame: _Frame) -> Any:
        if name in frame.variables:
            return frame.variables[name]
        found = frame.function.__globals__
        return found[name] if name in found else getattr(builtins, name)

    def _spread(self, nodes: list[ast.expr], frame: _Frame) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self.items(self.value(node.value, frame))
            else:
                found.append(self.value(node, frame))
        return found

    def items(self, value: Any) -> list[Any]:
        """What a loop over it goes through."""
        if isinstance(value, Conflict):
            raise self.code.needs_literal(value.sources)
        if isinstance(value, ListValue):
            raise Unsupported(f"{sorted(value.sources)[0]}: found {type_name(value)}, expected a tuple")
        if isinstance(value, (ArrayValue, Memory, Number)):
            raise NotImplementedError(f"a loop over a {type(value).__name__}")
        return list(value)

    def _call(self, node: ast.Call, frame: _Frame) -> Any:
        args = tuple(self._spread(node.args, frame))
        kwargs = {str(keyword.arg): self.value(keyword.value, frame) for keyword in node.keywords}
        if isinstance(node.func, ast.Attribute):
            base = self.value(node.func.value, frame)
            found = method(self.code, base, node.func.attr)
            if found is not None:
                return found(*args, **kwargs)
            return self.call(attribute(self.code, base, node.func.attr), args, kwargs)
        return self.call(self.value(node.func, frame), args, kwargs)

    def _binary(self, op: Any, a: Any, b: Any, into: ArrayValue | None = None) -> Any:
        if isinstance(a, Conflict) or isinstance(b, Conflict):
            raise self.code.needs_literal(sources_of(a, b))
        if python_type(a) is str and op is operator.add:
            return joined((a, b))
        if isinstance(a, (tuple, list)) or isinstance(b, (tuple, list)):
            if isinstance(b, Number):
                name = sorted(b.sources or {"an argument"})[0]
                raise Unsupported(f"{name}: found a length known at run time only, expected an int or a tuple")
            return op(a, b)
        if isinstance(a, ArrayValue) or isinstance(b, ArrayValue):
            return ARITHMETIC[op](self, a, b, out=into)
        return self.code.arithmetic(op, a, b)

    def _compare(self, left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr], frame: _Frame) -> Any:
        def each() -> Any:
            a = self.value(left, frame)
            for op, other in zip(ops, others, strict=True):
                b = self.value(other, frame)
                match op:
                    case ast.Is() | ast.IsNot():
                        if isinstance(a, Conflict) or isinstance(b, Conflict):
                            raise self.code.needs_literal(sources_of(a, b))
                        yield (a is b) is isinstance(op, ast.Is)
                    case ast.In():
                        yield self.code.some(self.code.compare(operator.eq, a, item) for item in self.items(b))
                    case ast.NotIn():
                        yield self.code.every(self.code.compare(operator.ne, a, item) for item in self.items(b))
                    case ast.NotEq() if isinstance(a, ArrayValue):
                        yield differ(self, a, b)
                    case _:
                        yield self.code.compare(_COMPARISONS[type(op)], a, b)
                a = b

        found = list(each()) if len(ops) == 1 else each()
        return found[0] if isinstance(found, list) else self.code.every(found)

    def _either(self, condition: Any, body: ast.expr, orelse: ast.expr, frame: _Frame) -> Any:
        if not isinstance(condition, Number):
            return self.value(body if condition else orelse, frame)
        ends = []
        for side in self._sides(condition, body, orelse):
            try:
                found = self.value(side, frame)
            except Ended:
                continue
            ends.append((self.code.builder.block, found))
        if not ends:
            raise Ended
        return self._joined(ends, condition.sources)

    def _comprehension(self, node: ast.GeneratorExp | ast.ListComp, frame: _Frame) -> list[Any]:
        (generator,) = node.generators
        if generator.ifs:
            raise NotImplementedError(ast.unparse(node))
        inner, found = _Frame(frame.function, dict(frame.variables)), []
        for item in self.items(self.value(generator.iter, frame)):
            self._assign(generator.target, item, inner)
            found.append(self.value(node.elt, inner))
        return found

    def subscript(self, base: Any, index: Any) -> Any:
        match base:
            case Conflict():
                raise self.code.needs_literal(base.sources)
            case Memory():
                return self.code.load(base, index)
            case ArrayValue():
                return self._part(base, index)
        if isinstance(index, Number):
            return self.code.item(base, index)
        if isinstance(index, slice) and not is_known((index.start, index.stop)):
            raise Unsupported(f"{sorted(sources_of(index.start, index.stop))}: expected literals")
        if not is_known(index):
            raise NotImplementedError("a part of what is not known")
        try:
            return base[index]
        except IndexError:  # as the check before it would have said at run time
            raise Unsupported(self.code.last_mistake) from None

    def _part(self, array: ArrayValue, index: Any) -> ArrayValue:
        """array[start:stop], of the first dimension of an array in C order."""
        if not isinstance(index, slice) or index.step is not None or array.layout != "C" or not array.ndim:
            raise NotImplementedError("a part of an array other than its first rows")
        code = self.code
        start = index.start or 0
        rows = code.arithmetic(operator.sub, array.shape[0] if index.stop is None else index.stop, start)
        skipped = code.arithmetic(operator.mul, start, code.strides(array)[0])
        data = array.data if skipped == 0 else code.builder.gep(array.data, [code.ir(skipped, int)])
        return ArrayValue(
            array.dtype, (rows, *array.shape[1:]), None, data, array.meminfo, array.parent, "C", array.mutable
        )


def _bound(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, defaults included."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if len(args) > len(names):
        raise TypeError(f"{function.__name__} takes {len(names)} arguments, got {len(args)}")
    defaults = function.__defaults__ or ()
    found = dict(zip(names[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True))
    return found | (function.__kwdefaults__ or {}) | dict(zip(names, args, strict=False)) | kwargs


def _copied(variables: dict[str, Any]) -> dict[str, Any]:
    """Variables for one side of a branch: tables are written, everything else is replaced."""
    return {name: value.copy() if is_table(value) else value for name, value in variables.items()}


def _loaded(target: ast.expr) -> Any:
    match target:
        case ast.Name(id=name):
            return ast.Name(id=name, ctx=ast.Load())
        case ast.Subscript(value=base, slice=index):
            return ast.Subscript(value=base, slice=index, ctx=ast.Load())
    raise NotImplementedError(ast.unparse(target))
