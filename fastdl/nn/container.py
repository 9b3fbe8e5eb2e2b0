"""Networks of layers: one after another, beside each other, in lists and dicts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, TypeVar, overload

import numpy as np

from fastdl._backend import functions
from fastdl.functional.verbs import Array, fail
from fastdl.nn._layer import Layer
from fastdl.nn.module import Module, _repr, tree_changed

__all__ = ["Concat", "Identity", "ModuleDict", "ModuleList", "Residual", "Sequential"]

Self = TypeVar("Self", bound="_Modules")
Listed = TypeVar("Listed", bound="_Listed")


class _Modules(Module):
    """What holds modules by name, in an order. A Module that is assigned to an attribute is held as well."""

    _modules: dict[str, Module]
    """Never changed, but replaced by another."""

    def children(self) -> dict[str, Module]:
        return dict(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __getattr__(self, name: str) -> Module:
        held: Mapping[str, Module] = self.__dict__.get("_modules", {})
        if name not in held:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return held[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self._hold({**self._modules, name: value}.items())
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._modules:
            self._hold((n, module) for n, module in self._modules.items() if n != name)
        else:
            super().__delattr__(name)

    def _called(self, name: Any) -> str:
        """The name, checked."""
        if not str(name) or "." in str(name):
            fail("layers", f"the name {name!r}", "one that is not empty and has no dot")
        return str(name)

    def _hold(self, named: Iterable[tuple[Any, Any]]) -> None:
        """These modules and no others."""
        held: dict[str, Module] = {}
        for name, module in named:
            held[self._called(name)] = _module(module, name)
        self.__dict__["_modules"] = held
        tree_changed()


class _Routing:
    """What hands keywords on to the modules in it."""


class _Listed(_Modules):
    """What holds modules by position too."""

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int | str) -> Module: ...
    @overload
    def __getitem__(self: Listed, index: slice) -> Listed: ...
    def __getitem__(self: Listed, index: int | str | slice) -> Module | Listed:
        if isinstance(index, slice):
            return self._sliced(dict(list(self._modules.items())[index]))
        return self._modules[self._name_of(index)]

    def __setitem__(self, index: int | str, module: Module) -> None:
        self._hold({**self._modules, self._name_of(index): module}.items())

    def __delitem__(self, index: int | str | slice) -> None:
        names = list(self._modules)
        gone = names[index] if isinstance(index, slice) else [self._name_of(index)]
        self._renumber([(name, module) for name, module in self._modules.items() if name not in gone])

    def append(self: Listed, module: Module) -> Listed:
        """Add a module at the end."""
        return self.insert(len(self), module)

    def extend(self: Listed, modules: Iterable[Module]) -> Listed:
        """Add several at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self: Listed, index: int, module: Module) -> Listed:
        """Add a module before that position. Names that are positions move on, others stay."""
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
            raise TypeError(f"index: found {index!r}, expected an int")
        if not -len(self) <= index <= len(self):
            raise IndexError(f"index: found {index}, expected between {-len(self)} and {len(self)}")
        named = list(self._modules.items())
        named.insert(int(index), ("", _module(module, index)))
        self._renumber(named)
        return self

    def _sliced(self: Listed, named: dict[str, Module]) -> Listed:
        """A part of this."""
        part: Listed = self.__new__(type(self))
        part.__dict__.update({k: v for k, v in self.__getstate__().items() if k != "_modules"})
        part._hold(named.items())
        return part

    def _renumber(self, named: list[tuple[str, Module]]) -> None:
        """Hold these: numbers, and what has no name, are called by their position."""
        words = {name for name, _ in named if name and not name.isdigit()}
        self._hold((name if name in words else i, module) for i, (name, module) in enumerate(named))

    def _name_of(self, index: int | str) -> str:
        names = list(self._modules)
        if isinstance(index, str):
            if index not in self._modules:
                raise KeyError(f"{index!r}: not among {names}")
            return index
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
            raise TypeError(f"index: found {index!r}, expected an int, a slice or a name")
        if not -len(names) <= index < len(names):
            raise IndexError(f"index: found {index}, expected between {-len(names)} and {len(names) - 1}")
        return names[index]


class Sequential(_Routing, _Listed, Layer):
    """Layers one after another: each is given what the one before returned. torch.nn.Sequential.

    Parameters
    ----------
    *layers : Module
        The layers, named by their positions; or one dict of named layers. A layer may come several times.

    Notes
    -----
    Keywords of a call go to the layers whose forward takes them by name, at any depth: `net(x, lengths=lengths)`.
    After a recurrent layer, which returns (output, state), comes `Output()` or `LastState()`.

    A layer is had by position or name, a part of the network by a slice; all share the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> net = nn.Sequential({"fc1": nn.Linear(3, 4), "act": nn.ReLU(), "fc2": nn.Linear(4, 2)})
    >>> net["fc1"] is net[0] is net.fc1
    True
    >>> net[:2](np.ones((5, 3), np.float32)).shape
    (5, 4)
    >>> recurrent = nn.Sequential(nn.GRU(3, 4), nn.LastState(), nn.Linear(4, 2))
    >>> recurrent(np.ones((7, 2, 3), np.float32), lengths=np.array([7, 5])).shape
    (2, 2)
    """

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        self._hold(_given(layers))

    def forward(self, x: Any, **options: Any) -> Any:
        routes = _routes(self, options)
        for name, layer in self._modules.items():
            x = layer(x, **routes[name]) if routes else layer(x)
        return x

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        first = next(iter(self._modules), None)
        for name, layer in reversed(self._modules.items()):
            grad_output = back(layer, grad_output, input_grad or name != first)
        return grad_output


class Concat(_Routing, _Listed):
    """Modules side by side: each is given x, and their results are joined along dimension `dim`.

    Parameters
    ----------
    *modules : Module
        The modules, or one dict of named ones. `Identity()` hands on x itself, as in DenseNet.
    dim : int
        The dimension in which their results may differ: 1, channels.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> block = nn.Concat(nn.Identity(), nn.Conv2d(3, 5, 3, padding=1))
    >>> block(np.ones((2, 3, 8, 8), np.float32)).shape
    (2, 8, 8, 8)
    """

    def __init__(self, *modules: Module | Mapping[str, Module], dim: int = 1) -> None:
        self._hold(_given(modules))
        if not self._modules:
            fail("modules", "none", "at least one")
        self.dim = dim

    def forward(self, x: Any, **options: Any) -> Array:
        routes = _routes(self, options)
        sizes: list[int] = []
        self.save_for_backward(x, sizes)  # x, so that a module that works in place is found out
        results = [module(x, **routes.get(name, {})) for name, module in self._modules.items()]
        y: Array = functions().cat(tuple(results), self.dim)
        sizes += [result.shape[self.dim] for result in results]
        return y

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        _, sizes = self.saved
        parts = functions().cat_backward(grad_output, tuple(sizes), self.dim)
        total: Any = None
        for module, part in zip(reversed(self._modules.values()), reversed(parts), strict=True):
            grad = back(module, part, input_grad)
            total = grad if total is None or not input_grad else functions().add(total, grad)
        return total

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Residual(_Routing, Module):
    """x plus what a module makes of it.

    Parameters
    ----------
    module : Module
        Its result has to have the shape of what it is added to.
    shortcut : Module, optional
        What x goes through on the way past, where the shapes differ; x itself if None.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import nn
    >>> block = nn.Residual(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU()), nn.Conv2d(4, 8, 1))
    >>> block(np.ones((2, 4, 6, 6), np.float32)).shape
    (2, 8, 6, 6)

    References
    ----------
    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 3.2.
    """

    def __init__(self, module: Module, shortcut: Module | None = None) -> None:
        self.module = _module(module, "module")
        self.shortcut = None if shortcut is None else _module(shortcut, "shortcut")

    def forward(self, x: Any, **options: Any) -> Array:
        routes = _routes(self, options)
        self.save_for_backward(x)  # so that a module that works in place is found out
        y = self.module(x, **routes.get("module", {}))
        past = x if self.shortcut is None else self.shortcut(x, **routes.get("shortcut", {}))
        if y.shape != past.shape:
            hint = "" if self.shortcut is not None else " (a shortcut, Residual(module, shortcut), may change it)"
            fail("x", f"shape {past.shape} beside the module", f"{y.shape}, which the module returns{hint}")
        result: Array = functions().add(y, past)
        return result

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        _ = self.saved
        past = grad_output if self.shortcut is None else back(self.shortcut, grad_output, input_grad)
        grad = back(self.module, grad_output, input_grad)
        return functions().add(grad, past) if input_grad else grad


class Identity(Layer):
    """Returns x itself. torch.nn.Identity.

    Parameters
    ----------
    *arguments, **options
        Anything: not used, so that it can stand in for any layer.

    Examples
    --------
    >>> from fastdl import nn
    >>> nn.Identity(54, unused=0.1)
    Identity()
    """

    elementwise = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, grad_output: Any, input_grad: bool = True) -> Any:
        return grad_output


class ModuleList(_Listed):
    """A list of modules, which are children of the module that holds it. torch.nn.ModuleList.

    It has no forward: the module that holds it calls them, and their backwards in reverse order.

    Examples
    --------
    >>> from fastdl import nn
    >>> layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))
    >>> len(layers), len(layers[1:]), list(layers.append(nn.ReLU()).children())
    (4, 3, ['0', '1', '2', '3', '4'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._hold(enumerate(modules))

    def __add__(self, modules: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *modules])

    def _sliced(self, named: dict[str, Module]) -> ModuleList:
        return ModuleList(named.values())

    def __repr__(self) -> str:
        groups: list[tuple[int, int, str]] = []
        for i, text in enumerate(map(repr, self)):
            if groups and groups[-1][2] == text:
                groups[-1] = groups[-1][0], i, text
            else:
                groups.append((i, i, text))
        return _repr(
            self,
            [f"({a}): {text}" if a == b else f"({a}-{b}): {b - a + 1} x {text}" for a, b, text in groups],
        )


class ModuleDict(_Modules):
    """A dict of modules, which are children of the module that holds it. torch.nn.ModuleDict.

    Examples
    --------
    >>> from fastdl import nn
    >>> heads = nn.ModuleDict({"policy": nn.Linear(8, 4), "value": nn.Linear(8, 1)})
    >>> list(heads), "value" in heads
    (['policy', 'value'], True)
    >>> list(heads.parameters())
    ['policy.weight', 'policy.bias', 'value.weight', 'value.bias']
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self._hold(dict(modules).items())

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self._hold({**self._modules, name: module}.items())

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return self._modules.values()

    def items(self) -> ItemsView[str, Module]:
        """The pairs of both."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add these, in place of those that have their names."""
        for name, module in dict(modules).items():
            self[name] = module

    def pop(self, name: str) -> Module:
        """Remove a module and return it."""
        module = self._modules[name]
        self._hold((n, m) for n, m in self._modules.items() if n != name)
        return module

    def clear(self) -> None:
        """Remove all."""
        self._hold(())


def back(module: Module, grad: Any, input_grad: bool = True) -> Any:
    """A module's backward. A tuple of gradients, of what returned a tuple, is given as one is or one by one, as that
    backward takes them; input_grad only where it is taken."""
    several, skips = _backward_form(type(module).backward)
    options = {"input_grad": False} if skips and not input_grad else {}
    return (
        module.backward(*grad, **options) if several and isinstance(grad, tuple) else module.backward(grad, **options)
    )


@functools.lru_cache(256)
def _backward_form(backward: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether a backward takes several gradients by position, and whether it takes input_grad."""
    positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = list(inspect.signature(backward).parameters.values())[1:]
    grads = sum(p.kind in positional and p.name != "input_grad" for p in parameters)
    return grads > 1, any(p.name == "input_grad" or p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters)


@functools.lru_cache(256)
def _keywords(forward: Callable[..., Any]) -> frozenset[str]:
    """What a forward takes by name beside its input."""
    by_name = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = list(inspect.signature(forward).parameters.values())[2:]
    return frozenset(p.name for p in parameters if p.kind in by_name)


def _takes(module: Module, name: str) -> bool:
    """Whether a module's forward takes that keyword, or one of those that it gives keywords to."""
    if isinstance(module, _Routing):
        return any(_takes(child, name) for child in module.children().values())
    return name in _keywords(type(module).forward)


def _routes(parent: Module, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The keywords for each child; nothing if there are none."""
    if not options:
        return {}
    children = parent.children()
    routes = {name: {k: v for k, v in options.items() if _takes(child, k)} for name, child in children.items()}
    taken: set[str] = set().union(*routes.values())
    for name in options:
        if name not in taken:
            raise TypeError(f"{name}: found a keyword that no layer of this {type(parent).__name__} takes")
    return routes


def _given(modules: tuple[Any, ...]) -> Iterable[tuple[Any, Any]]:
    """Modules as arguments, or one dict of them, as pairs of name and module."""
    return modules[0].items() if len(modules) == 1 and isinstance(modules[0], Mapping) else enumerate(modules)


def _module(module: Any, name: Any) -> Module:
    if not isinstance(module, Module):
        hint = ", a class: expected one that is made, with ()" if isinstance(module, type) else ", expected a Module"
        found = module.__name__ if isinstance(module, type) else type(module).__name__
        raise TypeError(f"layers: found {found} as {str(name)!r}{hint}")
    return module
