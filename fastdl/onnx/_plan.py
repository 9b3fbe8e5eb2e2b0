"""How a graph is computed for inputs of given shapes: what follows from constants and shapes is computed once, what is
left is cut into programs, with NumPy between them where there are no kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from fastdl._recording import set_recorder
from fastdl.functional.verbs import Array, floats
from fastdl.onnx._fusions import fuse
from fastdl.onnx._graph import Graph
from fastdl.onnx._table import FLOATS, Node
from fastdl.program import Program, RecordError, record

FOLDED = 1 << 30
"""Bytes that constants may have that are computed from others; what would be beyond is computed at each call."""


@dataclass
class Evaluated:
    """A graph of which the constant part is computed."""

    nodes: list[Node]
    constants: dict[str, Any]
    sorts: dict[int, str] = field(default_factory=dict)
    """By a node's id: "kernels", "view", "numpy", or "varying", if sizes differ from call to call."""
    ranks: dict[str, int] = field(default_factory=dict)
    """How many dimensions there are, of what has as many in every call."""


def evaluate(graph: Graph, given: Mapping[str, Any] | None, constants: Mapping[str, Any] | None = None) -> Evaluated:
    """Compute what follows from constants; with inputs given, also from their shapes, and find out for every other node
    what can compute it."""
    env: dict[str, Any] = {**graph.constants, **(constants or {}), **(given or {})}
    known = {*graph.constants, *(constants or {})}
    varying: set[str] = {name for name, value in (given or {}).items() if not isinstance(value, np.ndarray)}
    found = Evaluated([], {}, ranks={n: v.ndim for n, v in (given or {}).items() if isinstance(v, np.ndarray)})
    budget = FOLDED
    waiting = list(reversed(graph.nodes))
    left = Counter(name for node in graph.nodes for name in node.uses)
    left.update(output.name for output in graph.outputs)
    while waiting:
        node = waiting.pop()
        row = node.operator
        if row.name == "If" and node.inputs[0] in known:
            waiting += reversed(_branch(node, bool(np.all(env[node.inputs[0]])), env, known, left))
            continue
        constant = not row.random and all(name in known for name in node.uses)
        if given is not None and row.of_shape and node.inputs[0] not in varying:
            constant = True
        if constant:
            outputs = _call(node, env)
            fresh = sum(
                v.nbytes
                for v in outputs
                if isinstance(v, np.ndarray)
                and not any(np.may_share_memory(v, env[n]) for n in node.uses if isinstance(env[n], np.ndarray))
            )
            if fresh <= budget and all(isinstance(v, np.ndarray) for v in outputs):
                budget -= fresh
                for name, value in zip(node.outputs, outputs, strict=False):
                    env[name] = value if value.flags.owndata and value.base is None else np.array(value)
                    known.add(name)
                _drop(node, env, left, known)
                continue
        found.nodes.append(node)
        if given is not None:
            if not constant:
                outputs = _call(node, env)
            sort = _sort(node, env, known, varying)
            found.sorts[id(node)] = sort
            for name, value in zip(node.outputs, outputs, strict=False):
                env[name] = value
                if sort != "varying" and isinstance(value, np.ndarray):
                    found.ranks[name] = value.ndim
            if sort == "varying":
                varying.update(node.outputs)
            _drop(node, env, left, known)
    found.constants = {name: env[name] for name in known if name in env}
    return found


def _call(node: Node, env: dict[str, Any]) -> tuple[Any, ...]:
    return node(env.__getitem__)


def _drop(node: Node, env: dict[str, Any], left: Counter[str], known: set[str]) -> None:
    """Forget what nobody takes any more."""
    for name in node.uses:
        left[name] -= 1
        if left[name] <= 0 and name not in known:
            env.pop(name, None)


def _branch(node: Node, taken: bool, env: dict[str, Any], known: set[str], left: Counter[str]) -> list[Node]:
    """The nodes of the branch that is always taken, under names of their own."""
    from fastdl.onnx._table import find

    graph: Graph = node.attributes["then_branch" if taken else "else_branch"]
    own = {*graph.constants, *(name for n in graph.nodes for name in n.outputs)}
    prefix = f"{''.join(node.outputs[:1])}\0"  # what no file has

    def change(name: str) -> str:
        return prefix + name if name in own else name

    for name, value in graph.constants.items():
        env[prefix + name] = value
        known.add(prefix + name)
    identity = find("", "Identity", 1)
    assert identity is not None
    nodes = [n.with_names(change) for n in graph.nodes]
    nodes = [_inner(n, change) for n in nodes]
    for output, name in zip(graph.outputs, node.outputs, strict=False):
        nodes.append(Node(f"{node.name}/{name}", identity, (change(output.name),), (name,), {}))
    left.update(name for n in nodes for name in n.uses)
    return nodes


def _inner(node: Node, change: Callable[[str], str]) -> Node:
    """A node whose subgraphs take names from outside that have changed."""
    if not node.captured:
        return node
    attributes = {k: _renamed(v, change) if isinstance(v, Graph) else v for k, v in node.attributes.items()}
    return Node(node.name, node.operator, node.inputs, node.outputs, attributes, node.captured)


def _renamed(graph: Graph, change: Callable[[str], str]) -> Graph:
    own = {*graph.constants, *(i.name for i in graph.inputs), *(name for n in graph.nodes for name in n.outputs)}

    def outer(name: str) -> str:
        return name if name in own else change(name)

    nodes = [_inner(n.with_names(outer), outer) for n in graph.nodes]
    outputs = [o._replace(name=outer(o.name)) for o in graph.outputs]
    return Graph(graph.inputs, outputs, nodes, graph.constants, tuple(map(outer, graph.captured)))


def _sort(node: Node, env: dict[str, Any], known: set[str], varying: set[str]) -> str:
    row = node.operator
    names = node.inputs
    sized = all(names[i] in known for i in row.sizes if i < len(names) and names[i])
    if row.varying or not sized or any(name in varying for name in node.uses):
        return "varying"
    values = [env[name] if name else None for name in names]
    if row.view:
        return "view" if values and isinstance(values[0], np.ndarray) and values[0].dtype in FLOATS else "numpy"
    fixed = all(names[i] in known for i in row.fixed if i < len(names) and names[i])
    if not fixed or row.random or node.captured:
        return "numpy"
    if callable(row.kernels):
        return "kernels" if row.kernels(node, *values) else "numpy"
    if row.kernels and isinstance(values[0], np.ndarray) and values[0].dtype in FLOATS:
        return "kernels"
    return "numpy"


def interpret(graph: Graph, given: Mapping[str, Any], outer: Mapping[str, Any]) -> list[Any]:
    """What a graph returns, node by node: branches, and bodies of loops."""
    env = {**outer, **graph.constants, **given}
    for node in graph.nodes:
        for name, value in zip(node.outputs, _call(node, env), strict=False):
            env[name] = value
    return [env[output.name] for output in graph.outputs]


@dataclass
class Step:
    """A part of a plan: nodes in their order, as a program or by themselves."""

    nodes: list[Node]
    kernels: bool
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    program: Program | None = None
    reason: str = ""
    """Why it has no program, although all of its nodes have kernels."""

    def function(self, constants: Mapping[str, Any]) -> Callable[..., tuple[Any, ...]]:
        used = {name for node in self.nodes for name in node.uses}
        fixed = {name: constants[name] for name in used if name in constants}

        def compute(*arrays: Array) -> tuple[Any, ...]:
            env = dict(fixed)
            env.update(zip(self.inputs, arrays, strict=True))
            for node in self.nodes:
                env.update(zip(node.outputs, _call(node, env), strict=False))
            return tuple(floats(v, "output") if (v := env[n]).dtype in FLOATS else v for n in self.outputs)

        return compute


class Plan:
    """A graph for inputs of certain shapes and dtypes."""

    def __init__(self, graph: Graph, base: Evaluated, given: Mapping[str, Array]) -> None:
        self._known = graph.constants, base.constants
        self._alone = all(t.shape is not None and all(isinstance(n, int) for n in t.shape) for t in graph.inputs)
        """Whether no other shapes can come, for which constants would have to be kept as they are."""
        self.names = [t.name for t in graph.inputs]
        self.outputs = [t.name for t in graph.outputs]
        known = Graph(graph.inputs, graph.outputs, base.nodes, base.constants)
        with np.errstate(all="ignore"):
            found = evaluate(known, given)
            nodes = fuse(_used(found.nodes, self.outputs), found.constants, self.outputs, found.sorts, found.ranks)
            nodes = _used(nodes, self.outputs)
        used = {name for n in nodes for name in n.uses} | set(self.outputs)
        self.constants = {name: value for name, value in found.constants.items() if name in used}
        self.steps = _cut(nodes, found.sorts, self.names, self.constants, self.outputs)
        varying = {name for n in nodes if found.sorts[id(n)] == "varying" for name in n.outputs}
        self._loose = [name in varying for name in self.outputs]
        """Whether an output may be an input or something of a branch's own in one call, and not in another."""
        self._kept: set[int] = set()
        self.lock = Lock()
        self._ready = False
        self.only: Any = None
        """The program, where it takes the inputs and returns the outputs."""

    def run(self, arrays: Sequence[Array]) -> list[Any]:
        """The outputs, of inputs in their order."""
        with self.lock:
            if self.only is not None:
                try:
                    return list(self.only(*arrays))
                except RuntimeError:
                    if not self.only.stale:
                        raise
            with np.errstate(all="ignore"):
                return self._run(arrays)

    def _run(self, arrays: Sequence[Array]) -> list[Any]:
        env: dict[str, Any] = dict(zip(self.names, arrays, strict=True))

        def get(name: str) -> Any:  # (a dict of all would hold on to constants that are let go of)
            return env[name] if name in env else self.constants[name]

        for step in self.steps:
            given = [env[name] for name in step.inputs] if step.kernels else []
            if step.program is None and step.kernels and not step.reason:
                self._record(step, given)
            if step.program is not None:
                env.update(zip(step.outputs, self._replayed(step.program, given), strict=True))
            else:
                for node in step.nodes:
                    env.update(zip(node.outputs, node(get), strict=False))
        found = [get(name) for name in self.outputs]
        if not self._ready:
            self._kept = {_owner(v) for v in self.constants.values() if isinstance(v, np.ndarray)}
        taken, copied = {*self._kept, *map(_owner, arrays)}, False
        for i, value in enumerate(found):
            if self._loose[i] or not isinstance(value, np.ndarray):
                found[i], copied = own(value), True
            elif (owner := _owner(value)) in taken or not value.flags.writeable:
                found[i], copied = np.array(value), True
            else:
                taken.add(owner)
        if not self._ready:
            self._ready = True
            if not copied:
                self._shortcut()
        return found

    @staticmethod
    def _replayed(program: Program, given: Sequence[Array]) -> Any:
        if program.sealed and program.stale:
            raise RuntimeError(
                "model: found another instruction-set level than that for which its weights were packed, expected the "
                "same: load it again"
            )
        return program(*given)

    def _record(self, step: Step, given: list[Array]) -> None:
        before = set_recorder(None)
        try:
            step.program = record(step.function(self.constants), *given, verify=False, freeze=True)
            if self._alone and not any(s.kernels and s.program is None for s in self.steps):
                for other in self.steps:
                    if other.program is not None:
                        other.program.seal(self._release)
        except RecordError as error:
            step.reason = str(error)
        finally:
            set_recorder(before)

    def explain(self, time: bool = False) -> list[str]:
        """A part for each step."""
        parts = []
        for i, step in enumerate(self.steps):
            names = ", ".join(f"{n} {name}" for name, n in Counter(x.operator.name for x in step.nodes).items())
            where = "a program of" if step.program is not None else "NumPy:"
            parts.append(f"step {i}, {where} {names}")
            if step.reason:
                parts.append(f"  not recorded, because of {step.reason}")
            if step.program is not None:
                parts += [str(step.program.explain(time)), ""]
        return parts or ["no steps: the outputs are constants or inputs"]

    @property
    def flops(self) -> int:
        """Floating-point operations of the programs' kernels in a run."""
        return sum(
            int(row[3]) for step in self.steps if step.program is not None for row in step.program.explain().rows
        )

    def _release(self, places: set[int]) -> None:
        """Forget constants of which a program has made its own. Others that are read by NumPy, too, stay."""
        read = {name for step in self.steps if step.program is None for node in step.nodes for name in node.uses}
        read.update(self.outputs)
        for constants in (self.constants, *self._known):
            for name, value in list(constants.items()):
                if name not in read and isinstance(value, np.ndarray) and value.ctypes.data in places:
                    del constants[name]

    def _shortcut(self) -> None:
        """Where all is one program that takes the inputs as they come, calls go straight to it."""
        if len(self.steps) == 1:
            (step,) = self.steps
            if step.program is not None and step.inputs == self.names and step.outputs == self.outputs:
                self.only = step.program


def own(value: Any) -> Any:
    """A result that is nobody else's: a copy, of each array in a list."""
    if isinstance(value, np.ndarray):
        return np.array(value)
    return [own(v) for v in value] if isinstance(value, list) else value


def _owner(array: Array) -> int:
    """What tells arrays apart that do not lie in each other's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return id(array)


def _used(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    """Those whose outputs somebody takes."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            found.append(node)
            wanted.update(node.uses)
    return found[::-1]


def _cut(
    nodes: list[Node], sorts: dict[int, str], inputs: Iterable[str], constants: Mapping[str, Any], outputs: list[str]
) -> list[Step]:
    """Programs as long as they can be, and what runs between them."""
    steps: list[Step] = []
    ready = {*inputs, *constants}
    remaining = nodes
    while remaining:
        taken, here = [], set(ready)
        for node in remaining:
            if sorts[id(node)] in ("kernels", "view") and here.issuperset(node.uses):
                taken.append(node)
                here.update(node.outputs)
        kernels = any(sorts[id(n)] == "kernels" for n in taken)
        if not kernels:
            taken = _without_kernels(remaining, sorts, ready)
        steps.append(Step(taken, kernels))
        ready.update(name for n in taken for name in n.outputs)
        ids = {id(n) for n in taken}
        remaining = [n for n in remaining if id(n) not in ids]
    later: set[str] = set(outputs)
    for step in reversed(steps):
        made = {name for n in step.nodes for name in n.outputs}
        used = list(dict.fromkeys(name for n in step.nodes for name in n.uses))
        order = {name: i for i, name in enumerate(inputs)}
        step.inputs = sorted(
            (name for name in used if name not in made and name not in constants),
            key=lambda n: order.get(n, len(order)),
        )
        wanted = [name for name in outputs if name in made]
        step.outputs = list(
            dict.fromkeys([*wanted, *(name for n in step.nodes for name in n.outputs if name in later and name)])
        )
        later.update(step.inputs)
    return steps


def _without_kernels(remaining: list[Node], sorts: dict[int, str], ready: set[str]) -> list[Node]:
    """What runs by itself now: nodes without kernels, and views that such nodes wait for."""
    here, taken = set(ready), []
    for node in remaining:
        if sorts[id(node)] != "kernels" and here.issuperset(node.uses):
            taken.append(node)
            here.update(node.outputs)
    if all(sorts[id(n)] == "view" for n in taken):
        return taken
    needed: set[str] = set()
    kept: list[Node] = []
    for node in reversed(taken):
        if sorts[id(node)] != "view" or needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.uses)
    return kept[::-1]


__all__ = ["FOLDED", "Evaluated", "Plan", "Step", "evaluate", "interpret", "own"]
