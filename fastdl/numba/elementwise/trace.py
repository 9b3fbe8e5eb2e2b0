"""What a scalar Python function computes, as an expression, and its derivative.

The function is called with symbols in place of numbers. What it does with them is noted: arithmetic, functions of
`math` and NumPy, `np.where`. Where it asks whether a condition holds, it is called again for the other answer, and the
two become one `where`. The derivative is taken along (dual numbers: Wengert, "A simple automatic derivative evaluation
program", 1964), on the same expressions.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MOST_WAYS = 64
"""Through a function with conditions."""
FUNCTIONS = frozenset(
    {"exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan", "erf", "sigmoid"}
) | {"softplus", "absolute", "sign", "floor", "ceil", "rint"}
"""Of one number, which expressions may have."""
CONDITIONS = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!="}


class Graph:
    """Expressions, each once: (operation, operands...), by number."""

    def __init__(self) -> None:
        self.nodes: list[tuple[Any, ...]] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def add(self, *node: Any) -> int:
        key = (*node, math.copysign(1, node[1])) if node[0] == "number" else node  # 0.0 and -0.0 are two
        if node[0] == "number" and node[1] != node[1]:
            key = ("nan",)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return found

    def number(self, value: float) -> int:
        return self.add("number", float(value))

    def is_number(self, node: int, value: float | None = None) -> bool:
        return self.nodes[node][0] == "number" and (value is None or self.nodes[node][1] == value)


class Traced:
    """A number (or, `holds`, a condition) that a traced function works with."""

    __array_priority__ = 1000
    __slots__ = ("graph", "holds", "node", "ways")

    def __init__(self, graph: Graph, node: int, ways: Ways, holds: bool = False) -> None:
        self.graph, self.node, self.ways, self.holds = graph, node, ways, holds

    def _make(self, name: str, *operands: Any) -> Traced:
        nodes = [self._node(operand, name) for operand in operands]
        return Traced(self.graph, self.graph.add(name, *nodes), self.ways, name in CONDITIONS or name in _LOGIC)

    def _node(self, operand: Any, name: str) -> int:
        if isinstance(operand, Traced):
            return operand.node
        if isinstance(operand, (int, float, np.integer, np.floating, np.bool_)):
            return self.graph.number(float(operand))
        raise TypeError(f"elementwise: found {type(operand).__name__} as an operand of {name}, expected a number")

    def __bool__(self) -> bool:
        condition = self if self.holds else self._make("not_equal", self, 0.0)
        return self.ways.choose(condition.node)

    def __float__(self) -> float:
        raise TypeError("elementwise: found that a number is converted by float(), expected arithmetic on it")

    __int__ = __index__ = __float__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise TypeError(f"elementwise: found np.{ufunc.__name__}.{method}, or options of it, expected plain calls")
        return call(ufunc.__name__, inputs)

    def __array_function__(self, function: Any, kinds: Any, inputs: Any, options: Any) -> Any:
        if function not in (np.where, np.clip) or options:
            raise TypeError(f"elementwise: found np.{function.__name__}, expected functions of single numbers")
        return call(function.__name__, inputs)


def _binary(name: str, swapped: bool = False) -> Callable[[Traced, Any], Traced]:
    def method(self: Traced, other: Any) -> Traced:
        return call(name, (other, self) if swapped else (self, other))

    return method


def _unary(name: str) -> Callable[[Traced], Traced]:
    return lambda self: call(name, (self,))


for _method, _name in {
    **{"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power"},
    **{"mod": "remainder", "floordiv": "floor_divide", "and": "logical_and", "or": "logical_or"},
}.items():
    setattr(Traced, f"__{_method}__", _binary(_name))
    setattr(Traced, f"__r{_method}__", _binary(_name, swapped=True))
for _method, _name in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}.items():
    setattr(Traced, f"__{_method}__", _binary(_name))
Traced.__eq__ = _binary("equal")  # type: ignore[method-assign, assignment]
Traced.__ne__ = _binary("not_equal")  # type: ignore[method-assign, assignment]
Traced.__hash__ = None  # type: ignore[assignment]
for _method, _name in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "logical_not"}.items():
    setattr(Traced, f"__{_method}__", _unary(_name))
for _method, _name in {"floor": "floor", "ceil": "ceil"}.items():
    setattr(Traced, f"__{_method}__", _unary(_name))

_LOGIC = frozenset({"logical_and", "logical_or", "logical_not"})
_ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide", "power", "negative", "where"})
_NAMES = {
    **{"true_divide": "divide", "abs": "absolute", "fabs": "absolute", "expit": "sigmoid", "atan": "arctan"},
    **{"pow": "power", "float_power": "power"},
}
"""Of NumPy, SciPy and math, where it is another here."""


def _composed(name: str, a: Any) -> Any:
    """What is written in terms of others; None: it is none of that."""
    x = a[0]
    if name == "positive":
        return x
    if name == "square":
        return x * x
    if name == "reciprocal":
        return 1.0 / x
    if name in ("maximum", "fmax"):
        return call("where", (call("greater_equal", a), *a))
    if name in ("minimum", "fmin"):
        return call("where", (call("less_equal", a), *a))
    if name == "clip":
        return call("minimum", (call("maximum", a[:2]), a[2]))
    if name == "logaddexp":
        return call("maximum", a) + call("log1p", (call("exp", (-call("absolute", (x - a[1],)),)),))
    scales = {
        "exp2": ("exp", math.log(2), 1),
        "log2": ("log", 1, 1 / math.log(2)),
        "log10": ("log", 1, 1 / math.log(10)),
    }
    if name in scales:
        function, inner, outer = scales[name]
        return call(function, (x * inner,)) * outer
    return None


def call(name: str, operands: Sequence[Any]) -> Any:
    """A function of traced numbers."""
    name = _NAMES.get(name, name)
    first = next(operand for operand in operands if isinstance(operand, Traced))
    composed = _composed(name, tuple(operands))
    if composed is not None:
        return composed
    if name not in FUNCTIONS | _ARITHMETIC | _LOGIC and name not in CONDITIONS:
        raise TypeError(f"elementwise: found {name}, expected arithmetic, np.where, or one of {sorted(FUNCTIONS)}")
    return first._make(name, *operands)


class Ways:
    """The answers to conditions on one way through a function."""

    def __init__(self, given: Sequence[bool]) -> None:
        self._given, self.asked = list(given), list[int]()

    def choose(self, condition: int) -> bool:
        at = len(self.asked)
        self.asked.append(condition)
        return self._given[at] if at < len(self._given) else True


class _Functions:
    """A module of functions of numbers, for traced ones."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return _either(getattr(self._module, name), name)


def _either(function: Any, name: str) -> Any:
    """A function for numbers, traced or not."""

    def either(*operands: Any) -> Any:
        if any(isinstance(operand, Traced) for operand in operands):
            return call(name, operands)
        return function(*operands)

    return either if callable(function) else function


def _traceable(function: types.FunctionType, modules: Sequence[types.ModuleType], made: dict[Any, Any]) -> Any:
    """The function with these modules, whose functions cannot work with traced numbers, exchanged, in what it calls as
    well."""
    if function in made:
        return made[function]
    names: dict[str, Any] = dict(function.__globals__)
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    found = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells or None)
    found.__kwdefaults__ = function.__kwdefaults__
    made[function] = found

    def exchanged(value: Any) -> Any:
        if any(value is module for module in modules):
            return _Functions(value)
        name = str(getattr(value, "__name__", ""))
        if callable(value) and any(value is getattr(module, name, None) for module in modules):
            return _either(value, name)
        if isinstance(value, types.FunctionType) and not value.__module__.startswith(("numpy", "scipy", "fastdl")):
            return _traceable(value, modules, made)
        return value

    for name in function.__code__.co_names:
        if name in names:
            names[name] = exchanged(names[name])
    for cell, own in zip(cells, function.__closure__ or (), strict=True):
        cell.cell_contents = exchanged(own.cell_contents)
    return found


def trace(function: Callable[..., Any], parameters: int, *modules: types.ModuleType) -> tuple[Graph, int]:
    """The expression that function(x, p0, p1, ...) computes, with so many parameters after x. modules: besides `math`,
    whose functions it may use."""
    graph, made = Graph(), 0
    names = [graph.add("x")] + [graph.add("parameter", i) for i in range(parameters)]
    traceable: Any = function
    if isinstance(function, types.FunctionType):
        traceable = _traceable(function, (math, *modules), {})

    def follow(given: list[bool]) -> int:
        nonlocal made
        made += 1
        if made > MOST_WAYS:
            raise ValueError(f"elementwise: found more than {MOST_WAYS} ways through the function, expected fewer")
        ways = Ways(given)
        result = traceable(*(Traced(graph, name, ways) for name in names))
        if not isinstance(result, (Traced, int, float, np.integer, np.floating)):
            raise TypeError(f"elementwise: found that the function returns {type(result).__name__}, expected a number")
        node = result.node if isinstance(result, Traced) else graph.number(float(result))
        for at in range(len(ways.asked) - 1, len(given) - 1, -1):
            other = follow([*given, *[True] * (at - len(given)), False])
            node = graph.add("where", ways.asked[at], node, other)
        return node

    return graph, follow([])


# ---- the derivative ----


class _Derivatives:
    """Of the expressions of a graph in x, as expressions of the same; None: it is 0."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self._known = graph, dict[int, "int | None"]()

    def of(self, node: int) -> int | None:
        if node not in self._known:
            name, *operands = self.graph.nodes[node]
            if name in ("number", "parameter") or name in CONDITIONS or name in _LOGIC:
                self._known[node] = None
            else:
                self._known[node] = self._derive(name, node, operands)
        return self._known[node]

    def _derive(self, name: str, y: int, a: list[int]) -> int | None:
        g, number = self.graph, self.graph.number
        if name == "x":
            return number(1)
        if name == "where":
            one, other = self.of(a[1]), self.of(a[2])
            if one is None and other is None:
                return None
            return g.add("where", a[0], number(0) if one is None else one, number(0) if other is None else other)
        d = [self.of(operand) for operand in a]
        if all(each is None for each in d):
            return None
        if name in ("add", "subtract"):
            if d[1] is None:
                return d[0]
            if d[0] is None:
                return d[1] if name == "add" else g.add("negative", d[1])
            return g.add(name, d[0], d[1])
        if name == "multiply":
            return self._sum(self._product(d[0], a[1]), self._product(d[1], a[0]))
        if name == "divide":
            of_second = None if d[1] is None else g.add("negative", g.add("multiply", y, d[1]))
            over = self._sum(d[0], of_second)
            return None if over is None else g.add("divide", over, a[1])
        if name == "negative":
            return g.add("negative", d[0])
        if name == "power":
            lower = g.add("power", a[0], g.add("subtract", a[1], number(1)))
            if g.is_number(a[1]):
                lower = g.add("power", a[0], number(g.nodes[a[1]][1] - 1))
            of_first = self._product(d[0], g.add("multiply", a[1], lower))
            return self._sum(of_first, self._product(d[1], g.add("multiply", y, g.add("log", a[0]))))
        slope = self._slope(name, a[0], y)
        return None if slope is None else self._product(d[0], slope)

    def _sum(self, a: int | None, b: int | None) -> int | None:
        return b if a is None else a if b is None else self.graph.add("add", a, b)

    def _product(self, d: int | None, factor: int) -> int | None:
        if d is None:
            return None
        return factor if self.graph.is_number(d, 1) else self.graph.add("multiply", d, factor)

    def _slope(self, name: str, x: int, y: int) -> int | None:
        """Of a function of one number."""
        add, number = self.graph.add, self.graph.number
        one = number(1)
        square = add("multiply", x, x)
        slopes: dict[str, Callable[[], int]] = {
            "exp": lambda: y,
            "expm1": lambda: add("exp", x),
            "log": lambda: add("divide", one, x),
            "log1p": lambda: add("divide", one, add("add", one, x)),
            "sqrt": lambda: add("divide", number(0.5), y),
            "sin": lambda: add("cos", x),
            "cos": lambda: add("negative", add("sin", x)),
            "tan": lambda: add("add", one, add("multiply", y, y)),
            "sinh": lambda: add("cosh", x),
            "cosh": lambda: add("sinh", x),
            "tanh": lambda: add("subtract", one, add("multiply", y, y)),
            "arctan": lambda: add("divide", one, add("add", one, square)),
            "erf": lambda: add("multiply", number(2 / math.sqrt(math.pi)), add("exp", add("negative", square))),
            "sigmoid": lambda: add("multiply", y, add("subtract", one, y)),
            "softplus": lambda: add("sigmoid", x),
            "absolute": lambda: add("sign", x),
        }
        return slopes[name]() if name in slopes else None  # floor, ceil, rint, sign


def derivative(graph: Graph, node: int) -> int:
    found = _Derivatives(graph).of(node)
    return graph.number(0) if found is None else found


# ---- as source ----


def source(graph: Graph, results: Sequence[int]) -> tuple[list[str], list[str], list[str]]:
    """Lines that compute the expressions, each once; the names of the results; and those of the arguments of sines and
    cosines. Numbers are in the dtype of x by `like`."""
    needed: set[int] = set()
    waiting = list(results)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            name, *operands = graph.nodes[node]
            waiting += operands if name not in ("number", "parameter") else []
    lines = []
    for node in sorted(needed):  # operands come before what they are in
        lines.append(f"v{node} = {_written(graph, node)}")
    turned = {graph.nodes[node][1] for node in needed if graph.nodes[node][0] in ("sin", "cos")}
    return lines, [f"v{node}" for node in results], [f"v{node}" for node in sorted(turned)]


_SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}


def _written(graph: Graph, node: int) -> str:
    name, *operands = graph.nodes[node]
    if name == "x":
        return "x"
    if name == "number":
        value = operands[0]
        return (
            f"like({value!r}, x)"
            if math.isfinite(value)
            else f"like({'-' * (value < 0)}{'nan' if value != value else 'inf'}, x)"
        )
    if name == "parameter":
        return f"like(parameters[{operands[0]}], x)"
    v = [f"v{operand}" for operand in operands]
    if name in _SYMBOLS:
        return f"{v[0]} {_SYMBOLS[name]} {v[1]}"
    if name in CONDITIONS:
        return f"{v[0]} {CONDITIONS[name]} {v[1]}"
    if name == "negative":
        return f"-{v[0]}"
    if name in _LOGIC:
        return f"not {v[0]}" if name == "logical_not" else f"{v[0]} {name.removeprefix('logical_')} {v[1]}"
    if name == "where":
        return f"select({v[0]}, {v[1]}, {v[2]})"
    if name == "power":
        exponent = graph.nodes[operands[1]]
        n = exponent[1] if exponent[0] == "number" else 0.5
        if n == int(n) and 1 <= abs(n) <= 8:
            product = " * ".join([v[0]] * int(abs(n)))
            return product if n > 0 else f"like(1.0, x) / ({product})"
        return f"power({v[0]}, {v[1]})"
    return f"{name}({v[0]})"
