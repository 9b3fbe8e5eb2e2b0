"""Networks of any shape: modules as the nodes of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastdl._backend import functions
from fastdl.functional.verbs import Array, fail, is_int
from fastdl.functional.verbs import zeros as zeros_like
from fastdl.nn._layer import Layer
from fastdl.nn.container import Concat, Identity, Residual, Sequential, _module, _Modules, _routes, _Routing, back
from fastdl.nn.dropout import _Dropout
from fastdl.nn.flatten import Flatten, Unflatten
from fastdl.nn.module import Module, _repr

__all__ = ["Add", "Cat", "Graph"]

Source: TypeAlias = "str | tuple[str, int]"
"""Where a value comes from: a node or an input, or one of the results of a node that returns several."""


class _Node(NamedTuple):
    name: str
    child: str
    """The name of the first node that has its module, by which the module is held."""
    sources: tuple[Source, ...]
    last: tuple[str, ...] = ()
    """What no later node uses, nor the result."""


class Graph(_Routing, _Modules):
    """Modules that take each other's results by name: residual blocks, several inputs and results, shared layers.

    Parameters
    ----------
    *nodes : tuple (name, module, input, input, ...)
        A module, and the names of the nodes or inputs whose results it is called with. Without any, it is called with
        the result of the node before it, the first with all inputs. Of a node that returns several things,
        ``(name, i)`` is one of them. A module that stands at several nodes is one: its gradients add up.
    inputs : str or tuple of str
        The names of what the graph is called with, in the order of the arguments.
    outputs : str or tuple, optional
        The node whose result is the graph's, by default the last; several in a tuple are returned as a tuple.

    Raises
    ------
    ValueError, TypeError
        At once for a name that is not known or not the only one, for a cycle, for nodes and inputs that nothing uses,
        and for a module that works in place on what is used after it.

    Notes
    -----
    Modules are children by the names of their nodes (that of the first, if there are several), which may have dots in
    them: a parameter of ``("layer1.0.conv1", nn.Conv2d(...))`` is ``layer1.0.conv1.weight``, as in a graph ``"0"``
    within a graph ``"layer1"``.

    Nodes may come in any order; they are computed in that in which they stand, as far as their inputs are there.
    Backward goes through them in reverse order; what a value gets from several users is added up in that order, so
    that results are the same to the last bit each time. It returns the gradient of the input, a tuple for several.

    Keywords of a call that are no inputs go to the modules whose forward takes them by name.

    See Also
    --------
    Add, Cat : Where branches meet.
    Sequential, Residual, Concat : For the simplest shapes.

    Examples
    --------
    A block of a residual network:

    >>> import numpy as np
    >>> from fastdl import nn
    >>> block = nn.Graph(
    ...     ("conv1", nn.Conv2d(4, 8, 3, stride=2, padding=1)),
    ...     ("relu", nn.ReLU()),
    ...     ("conv2", nn.Conv2d(8, 8, 3, padding=1)),
    ...     ("downsample", nn.Conv2d(4, 8, 1, stride=2), "x"),
    ...     ("sum", nn.Add(), "conv2", "downsample"),
    ... )
    >>> block(np.ones((2, 4, 6, 6), np.float32)).shape
    (2, 8, 3, 3)
    >>> list(block.parameters())[:2]
    ['conv1.weight', 'conv1.bias']

    Two inputs that go through one layer, and two results:

    >>> embed = nn.Linear(5, 3)
    >>> twins = nn.Graph(
    ...     ("left", embed, "a"),
    ...     ("right", embed, "b"),
    ...     ("both", nn.Cat(), "left", "right"),
    ...     inputs=("a", "b"), outputs=("left", "both"),
    ... )
    >>> left, both = twins(np.ones((2, 5), np.float32), np.zeros((2, 5), np.float32))
    >>> both.shape, list(twins.parameters())
    ((2, 6), ['left.weight', 'left.bias'])
    """

    inputs: tuple[str, ...]
    outputs: Any

    def __init__(self, *nodes: Any, inputs: str | tuple[str, ...] = "x", outputs: Any = None) -> None:
        self.inputs = _names_of_inputs(inputs)
        found, modules = _given(nodes, self.inputs)
        self.outputs = found[-1].name if outputs is None else outputs
        results = _results(self.outputs)
        _check(found, self.inputs, results)
        self._nodes = _ordered(found, self.inputs, results)
        self._held(modules)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        given = self._inputs(inputs, options)
        routes = _routes(self, options)
        values: dict[str, Any] = dict(given)
        forms = {name: _form(value) for name, value in given.items()}
        self.save_for_backward(forms)
        for name, child, sources, last in self._nodes:
            result = self._modules[child](*[_of(values, source) for source in sources], **routes.get(child, {}))
            values[name], forms[name] = result, _form(result)
            for gone in last:
                del values[gone]
        results = [_of(values, source) for source in _results(self.outputs)]
        return tuple(results) if _are_several(self.outputs) else results[0]

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        (forms,) = self.saved
        grads: dict[str, Any] = {}
        results = _results(self.outputs)
        given = grad_output if _are_several(self.outputs) else (grad_output,)
        if not isinstance(given, (tuple, list)) or len(given) != len(results):
            found = f"{len(given)} gradients" if isinstance(given, (tuple, list)) else type(given).__name__
            fail("grad_output", found, f"a tuple of {len(results)}, of which some may be None")
        for source, grad in zip(results, given, strict=True):
            _give(grads, source, grad, forms)
        for name, child, sources, _ in reversed(self._nodes):
            grad, module = _complete(grads.pop(name, None), forms[name]), self._modules[child]
            wanted = input_grad or any(_name(source) not in self.inputs for source in sources)
            of_sources = back(module, grad, wanted)
            if not isinstance(of_sources, tuple):
                of_sources = of_sources, getattr(module, "state_grad", None)  # of a recurrent layer's state, if given
            elif len(sources) == 1 and isinstance(_of(forms, sources[0]), tuple):
                of_sources = (of_sources,)
            for source, grad in zip(sources, of_sources, strict=False):
                _give(grads, source, grad, forms)
        of_inputs = tuple(grads.get(name) for name in self.inputs)
        return of_inputs if len(of_inputs) > 1 else of_inputs[0]

    def __iter__(self) -> Iterator[str]:
        return (node.name for node in self._nodes)

    def __getitem__(self, name: str) -> Module:
        for node in self._nodes:
            if node.name == name:
                return self._modules[node.child]
        raise KeyError(f"{name!r}: not among {list(self)}")

    def nodes(self) -> list[tuple[str, Module, list[str]]]:
        """The nodes in the order in which they are computed: name, module, and the names of what it is called with."""
        return [(node.name, self._modules[node.child], list(map(_name, node.sources))) for node in self._nodes]

    def results(self) -> list[str]:
        """The names of the nodes that are the result."""
        return list(map(_name, _results(self.outputs)))

    def extra_repr(self) -> str:
        return f"inputs={self.inputs!r}, outputs={self.outputs!r}"

    def __repr__(self) -> str:
        lines = []
        for name, child, sources, _ in self._nodes:
            module = repr(self._modules[child]) if name == child else f"that of {child!r}"
            lines.append(f"({name}): {module} <- {', '.join(map(_said, sources))}")
        return _repr(self, lines)

    def _hold(self, named: Iterable[tuple[Any, Any]]) -> None:
        """Other modules at the same nodes."""
        modules = dict(named)
        if modules.keys() != self._modules.keys():
            fail("Graph", f"modules {list(modules)}", f"those of its nodes, {list(self._modules)}")
        self._held(modules)

    def _held(self, modules: Mapping[str, Module]) -> None:
        self._memory = _checked_memory(self._nodes, modules, self.inputs, set(self.results()))
        super()._hold(modules.items())

    def _called(self, name: Any) -> str:
        return str(name)

    def _inputs(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """By name, those that are given by name taken out of `options`."""
        given = dict(zip(self.inputs, inputs, strict=False))
        for name in self.inputs[len(inputs) :]:
            if name in options:
                given[name] = options.pop(name)
        if len(inputs) > len(self.inputs) or len(given) < len(self.inputs):
            raise TypeError(
                f"Graph: found {max(len(inputs), len(given))} inputs, expected {len(self.inputs)}: "
                f"{', '.join(self.inputs)}"
            )
        return given


class Add(Layer):
    """The sum of what it is called with, arrays of one shape: where branches of a Graph meet.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> nn.Add()(np.ones(2), np.ones(2), np.ones(2))
    array([3., 3.])
    """

    elementwise = True

    def forward(self, x: Any, *others: Any) -> Any:
        self.save_for_backward(1 + len(others))
        for other in others:
            if np.shape(other) != np.shape(x):
                fail("x", f"shapes {np.shape(x)} and {np.shape(other)}", "one shape")
            x = functions().add(x, other)
        return x

    def backward(self, grad_output: Any, input_grad: bool = True) -> tuple[Any, ...]:
        (count,) = self.saved
        return tuple([grad_output] * count)


class Cat(Layer):
    """What it is called with side by side along a dimension: where branches of a Graph meet. fastdl.cat, torch.cat.

    Parameters
    ----------
    dim : int
        The dimension in which sizes may differ: 1, channels.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> nn.Cat()(np.ones((2, 3)), np.ones((2, 1))).shape
    (2, 4)
    """

    def __init__(self, dim: int = 1) -> None:
        if not is_int(dim):
            raise TypeError(f"dim: found {dim!r}, expected an int")
        self.dim = dim

    def forward(self, *arrays: Any) -> Array:
        y: Array = functions().cat(arrays, self.dim)
        self.save_for_backward(tuple([np.shape(array)[self.dim] for array in arrays]))
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> tuple[Array, ...]:
        (sizes,) = self.saved
        grads: tuple[Array, ...] = functions().cat_backward(grad_output, sizes, self.dim)
        return grads

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


# The form of a graph.


def _names_of_inputs(inputs: Any) -> tuple[str, ...]:
    names = (inputs,) if isinstance(inputs, str) else tuple(inputs) if isinstance(inputs, (tuple, list)) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"inputs: found {inputs!r}, expected a name, or several in a tuple")
    if len(set(names)) < len(names):
        fail("inputs", inputs, "names that differ")
    return names


def _given(nodes: tuple[Any, ...], inputs: tuple[str, ...]) -> tuple[list[_Node], dict[str, Module]]:
    """The nodes as they were given, and their modules by the names that these are held by."""
    found: list[_Node] = []
    modules: dict[str, Module] = {}
    held: dict[int, str] = {}
    if not nodes:
        fail("nodes", "none", "at least one")
    for node in nodes:
        if not isinstance(node, (tuple, list)) or len(node) < 2 or not isinstance(node[0], str):
            raise TypeError(f"nodes: found {node!r}, expected a tuple (name, module, input, ...)")
        name, module, *sources = node
        if not name or not all(name.split(".")):
            fail("nodes", f"the name {name!r}", "one that is not empty, nor a part of it between dots")
        if name in inputs or any(name == other.name for other in found):
            fail("nodes", f"the name {name!r} twice", "a name of its own for each node and input")
        child = held.setdefault(id(_module(module, name)), name)
        modules[child] = module
        sources = sources or ([found[-1].name] if found else list(inputs))
        found.append(_Node(name, child, tuple(_source(source, f"nodes: {name}") for source in sources)))
    for name in modules:
        for other in modules:
            if other.startswith(name + "."):
                fail("nodes", f"{name!r} and {other!r}", "no name that is the beginning of another one")
    return found, modules


def _source(given: Any, argument: str) -> Source:
    if isinstance(given, str):
        return given
    if isinstance(given, (tuple, list)) and len(given) == 2 and isinstance(given[0], str) and is_int(given[1]):
        return given[0], int(given[1])
    raise TypeError(f"{argument}: found {given!r}, expected the name of a node or an input, or (name, index)")


def _name(source: Source) -> str:
    return source if isinstance(source, str) else source[0]


def _said(source: Source) -> str:
    return source if isinstance(source, str) else f"{source[0]}[{source[1]}]"


def _are_several(outputs: Any) -> bool:
    return not isinstance(outputs, str) and not (len(outputs) == 2 and is_int(outputs[1]))


def _results(outputs: Any) -> list[Source]:
    if not isinstance(outputs, (str, tuple, list)) or not outputs:
        raise TypeError(f"outputs: found {outputs!r}, expected the name of a node, or several in a tuple")
    return [_source(output, "outputs") for output in (outputs if _are_several(outputs) else [outputs])]


def _check(nodes: list[_Node], inputs: tuple[str, ...], results: list[Source]) -> None:
    """Every name is known, and everything is of use."""
    known = [*inputs, *(node.name for node in nodes)]
    for node in nodes:
        for source in node.sources:
            if _name(source) not in known:
                fail("nodes", f"{_name(source)!r} as an input of {node.name!r}", f"one of {known}")
    for source in results:
        if _name(source) not in known:
            fail("outputs", repr(_name(source)), f"one of {known}")
    used = {_name(source) for source in results}
    by_name = {node.name: node for node in nodes}
    waiting = list(used)
    while waiting:
        node = by_name.get(waiting.pop(), _Node("", "", ()))
        new = {_name(source) for source in node.sources} - used
        used |= new
        waiting += new
    if unused := [name for name in known if name not in used]:
        what = "inputs" if set(unused) <= set(inputs) else "nodes"
        fail(what, f"{unused}, which no output follows from", "what is used")


def _ordered(nodes: list[_Node], inputs: tuple[str, ...], results: list[Source]) -> tuple[_Node, ...]:
    """In the order in which they are computed, with what ends with each."""
    there, waiting, ordered = set(inputs), list(nodes), []
    while waiting:
        node = next((n for n in waiting if all(_name(source) in there for source in n.sources)), None)
        if node is None:
            fail("nodes", f"a cycle: {' <- '.join(_cycle(waiting))}", "none")
        waiting.remove(node)
        there.add(node.name)
        ordered.append(node)
    kept = {_name(source) for source in results}
    for i in reversed(range(len(ordered))):
        ended = dict.fromkeys(_name(source) for source in ordered[i].sources)
        ordered[i] = ordered[i]._replace(last=tuple(name for name in ended if name not in kept))
        kept |= ended.keys()
    return tuple(ordered)


def _cycle(nodes: list[_Node]) -> list[str]:
    """Nodes that wait for each other, the first of which is the last too."""
    by_name = {node.name: node for node in nodes}
    path = [nodes[0].name]
    while path[-1] not in path[:-1]:
        path.append(next(_name(s) for s in by_name[path[-1]].sources if _name(s) in by_name))
    return path[path.index(path[-1]) :]


class _Memory(NamedTuple):
    """What a module does to the memory of what it is called with, by position."""

    written: frozenset[int]
    """Over which it writes."""
    shared: frozenset[int]
    """In which its results may lie."""


def _checked_memory(
    nodes: tuple[_Node, ...], modules: Mapping[str, Module], inputs: tuple[str, ...], results: set[str]
) -> _Memory:
    """What the graph does to its inputs' memory. Nothing is used after a module has worked in place on it."""
    places = {name: {name} for name in inputs}
    """The names of the memory that each value may lie in."""
    written: set[str] = set()
    for i, node in enumerate(nodes):
        of = [places[_name(source)] for source in node.sources]
        memory = _memory_of(modules[node.child], len(of))
        for position in memory.written:
            lost = {name for name, place in places.items() if place & of[position]}
            others = {_name(s) for j, s in enumerate(node.sources) if j != position}
            later = {other.name: {_name(s) for s in other.sources} for other in nodes[i + 1 :]}
            for user, names in {node.name: others, **later, "the result": results}.items():
                if names & lost:
                    source = _name(node.sources[position])
                    found = f"{node.name!r}, which works in place on {source!r}, before {user!r}, which uses it too"
                    fail("nodes", found, "inplace=False")
            written |= of[position]
        places[node.name] = set().union(*(of[j] for j in memory.shared)) or {node.name}
    shared = set().union(*(places[name] for name in results))
    positions = [frozenset(i for i, name in enumerate(inputs) if name in names) for names in (written, shared)]
    return _Memory(*positions)


def _memory_of(module: Module, count: int) -> _Memory:
    """count: what it is called with."""
    none, first = frozenset[int](), frozenset({0} if count else ())
    if isinstance(module, Graph):
        return module._memory
    if isinstance(module, (Concat, Residual)):
        written = any(_memory_of(child, 1).written for child in module.children().values())
        return _Memory(first if written else none, none)
    if isinstance(module, Sequential):
        for child in module:
            memory = _memory_of(child, 1)
            if memory.written or not memory.shared:
                return memory
        return _Memory(none, first)
    if getattr(module, "inplace", False):
        return _Memory(first, first)
    views = isinstance(module, _VIEWS) or (isinstance(module, Add) and count == 1)
    return _Memory(none, first if views else none)


_VIEWS = Identity, Flatten, Unflatten, _Dropout
"""What may return its input's own memory."""


# Values and gradients.


def _of(values: Mapping[str, Any], source: Source) -> Any:
    if isinstance(source, str):
        return values[source]
    name, index = source
    value = values[name]
    if not isinstance(value, tuple) or not -len(value) <= index < len(value):
        found = f"{len(value)} results" if isinstance(value, tuple) else "one result"
        fail(f"Graph: {_said(source)}", f"{found} of {name!r}", "more")
    return value[index]


def _form(value: Any) -> Any:
    """The shape and dtype of an array, of each in a tuple; None of something else."""
    if isinstance(value, tuple):
        return tuple([_form(part) for part in value])
    return [value.shape, value.dtype] if isinstance(value, np.ndarray) else None


def _give(grads: dict[str, Any], source: Source, grad: Any, forms: Mapping[str, Any]) -> None:
    """Add what a user of a value found to the value's gradient."""
    name = _name(source)
    if not isinstance(source, str):
        parts = [None] * len(forms[name])
        parts[source[1]] = grad
        grad = tuple(parts)
    grads[name] = _sum(grads[name], grad) if name in grads else grad


def _sum(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, tuple):
        return tuple([_sum(a, b) for a, b in zip(one, other, strict=True)])
    return functions().add(one, other)


def _complete(grad: Any, form: Any) -> Any:
    """A gradient; zeros for an array that has none. Parts of a tuple may be None."""
    if grad is None and isinstance(form, list):
        return zeros_like(form[0], np.empty(0, form[1]))
    return (None,) * len(form) if grad is None and isinstance(form, tuple) else grad
