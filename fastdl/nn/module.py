"""The base class of layers and networks."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from fastdl import _files
from fastdl._backend import functions
from fastdl._recording import replaced, touch, writing
from fastdl.functional.verbs import Array, fail
from fastdl.nn import _saved
from fastdl.nn._saved import is_grad_enabled, no_grad

if TYPE_CHECKING:
    from fastdl.nn.summary import Summary

__all__ = ["IncompatibleKeys", "Module", "is_grad_enabled", "no_grad"]


Self = TypeVar("Self", bound="Module")


Rng: TypeAlias = "np.random.Generator | int | None"  # in words: numpy.random is slow to import


class IncompatibleKeys(NamedTuple):
    """What load_state_dict found too few, and too many."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _writable(value: Any) -> Any:
    """A copy of a parameter that is read-only for a frozen program: pickles would be so for ever."""
    return value.copy() if isinstance(value, np.ndarray) and not value.flags.writeable else value


class Module:
    """A layer or a network of layers. torch.nn.Module.

    A subclass names its parameters and writes `forward` and `backward`; everything else is here. Attributes that are
    Modules are its children; their parameters are named "child.parameter", as in torch.

    Notes
    -----
    **Forward and backward.** `forward` keeps what backward needs by `save_for_backward`; `backward(grad_output,
    input_grad=True)` takes it from `saved`, gives the gradients of parameters to `set_grads` and returns that of the
    input. Without input_grad, which the first layer of a network does not need, what it returns means nothing.

    A backward belongs to the last forward that has not had one: a layer or a network that is called several times (a
    siamese network, a cell in a loop, one layer in two places) is answered as often, in reverse order. The gradients
    of a run of backwards add up. The first forward after a backward begins a new pass: what still waits then is
    dropped, and the next backward replaces the gradients. After `zero_grad` they add up over all passes, as in torch.

    **Memory.** What was saved goes with its backward. Of calls of a layer or network that have none, the last
    `max_forwards` are kept, in eval mode the last one, inside of `no_grad()` none. (Calls inside of a call are part of
    it.) Training and eval mode do not see each other's: a validation in between takes nothing away.

    Arrays are kept, not copied. One that was written over in between, by a later layer that works in place, say, is a
    RuntimeError in backward: three elements of each array are looked at always, all of them in the first two passes
    of a layer in each mode.

    **Threads** may share a network in inference: what is saved is each thread's own. Copies and pickles hold the
    parameters, and neither what was saved nor gradients.

    Examples
    --------
    A layer of one's own:

    >>> import numpy as np
    >>> from fastdl.nn import Module
    >>> class Scale(Module):
    ...     parameter_names = ("weight",)
    ...
    ...     def __init__(self, features):
    ...         self.weight = np.ones(features, np.float32)
    ...
    ...     def forward(self, x):
    ...         self.save_for_backward(x)
    ...         return x * self.weight
    ...
    ...     def backward(self, grad_output, input_grad=True):
    ...         (x,) = self.saved
    ...         self.set_grads(weight=(grad_output * x).sum(0))
    ...         return grad_output * self.weight
    >>> layer = Scale(2)
    >>> y = layer(np.array([[1, 2], [3, 4]], np.float32))
    >>> layer.backward(np.ones_like(y))
    array([[1., 1.],
           [1., 1.]], dtype=float32)
    >>> layer.grads
    {'weight': array([4., 6.], dtype=float32)}
    """

    parameter_names: tuple[str, ...] = ()
    """Attributes that are parameters: arrays, or None."""
    buffer_names: tuple[str, ...] = ()
    """Attributes that belong to the state as well, but are not trained: arrays, or None."""
    elementwise: bool = False
    """Whether each element of the result depends on the same element of the input only."""
    training: bool = True
    """Whether layers that differ in training and inference do as in training."""
    max_forwards: int = 4
    """How many calls of this module in training may wait for their backward; of more, the oldest are dropped."""
    forward: Callable[..., Any]
    backward: Callable[..., Any]

    _memories: _saved.Memories
    _grads: Mapping[str, Array] = MappingProxyType({})
    _grads_of: int = 0
    """The number of the pass that they were found in."""
    _passes: tuple[int, int] = (0, 0)
    """The newest pass that was answered since the last forward, and the newest before that."""
    _accumulate: bool = False
    _frozen: frozenset[str] = frozenset()

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        if "_prepared" not in cls.__dict__:
            with _PREPARING:
                _prepare(cls)
        module = super().__new__(cls)
        module.__dict__["_memories"] = _saved.Memories()
        return module

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, _CONTAINERS):
            self._refuse_modules_in(name, value)
        if name in self.parameter_names and not (value is None or isinstance(value, np.ndarray)):
            raise TypeError(f"{type(self).__name__}.{name}: found {type(value).__name__}, expected an array or None")
        changes = isinstance(value, (Module, *_CONTAINERS)) or isinstance(self.__dict__.get(name), Module)
        before = self.__dict__.get(name, self)
        super().__setattr__(name, value)
        if changes:
            tree_changed()
        known = name in self.parameter_names or name in self.buffer_names
        if known and before is not self and before is not value:
            replaced(self, before)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        tree_changed()

    def __getstate__(self) -> dict[str, Any]:
        return {name: _writable(value) for name, value in vars(self).items() if name not in _TRANSIENT}

    # What a layer of one's own calls.

    def save_for_backward(self, *values: Any) -> None:
        """Keep these for backward, which finds them in `saved`.

        Parameters
        ----------
        *values
            Anything. Arrays are not copied, also those in tuples, lists and dicts: see Module about memory.
        """
        _saved.save(self, values)

    @property
    def saved(self) -> tuple[Any, ...]:
        """What the forward saved that backward is now of.

        Raises
        ------
        RuntimeError
            Where there is no such forward, or an array has been written over since.
        """
        return _saved.saved(self)

    def set_grads(self, **grads: Array) -> None:
        """Give the gradients of this layer's own parameters, inside of backward.

        Parameters
        ----------
        **grads : array
            By the names in `parameter_names`, in the shapes of the parameters. One of a parameter that is None or
            frozen is dropped.

        Raises
        ------
        ValueError
            For a name that is not among `parameter_names`, or a gradient that has not the parameter's shape.
        """
        memory = _saved.memory_of_backward(self)
        adding = memory.backward is not None and (memory.adding or self._accumulate)
        found = dict(self._grads) if adding else {}
        for name, grad in grads.items():
            if name not in self.parameter_names:
                fail(f"{type(self).__name__}.set_grads", repr(name), f"one of {list(self.parameter_names)}")
            parameter = getattr(self, name)
            if parameter is None or name in self._frozen:
                continue
            if (grad.shape if isinstance(grad, np.ndarray) else np.shape(grad)) != parameter.shape:
                fail(f"{type(self).__name__}.set_grads: {name}", np.shape(grad), parameter.shape)
            found[name] = functions().add(found[name], grad) if name in found else grad
        number = memory.backward.number if memory.backward is not None else 0
        self.__dict__["_grads_of"] = max(number, self._grads_of) if adding else number
        self.__dict__["_grads"] = found

    # Gradients.

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients that the backwards since the last forward found, by the names of parameters().

        Frozen parameters, and those of layers that had no part in it, have none. They are what Optimizer.step takes.
        """
        names: dict[int, str] = {}
        frozen, oldest = set(), self._passes[1]
        parts: list[tuple[int, Array]] = []
        for prefix, module in self.named_modules():
            for own in module.parameter_names:
                array = getattr(module, own)
                if array is None:
                    continue
                key = id(array)
                if key not in names:
                    names[key] = f"{prefix}.{own}" if prefix else own
                if own in module._frozen:
                    frozen.add(key)
                elif own in module._grads and (
                    module._grads_of > oldest or module._accumulate or module._grads_of == 0
                ):
                    parts.append((key, module._grads[own]))
        sums: dict[int, Array] = {}
        for key, grad in parts:
            if key not in frozen:
                sums[key] = functions().add(sums[key], grad) if key in sums else grad
        return {name: sums[key] for key, name in names.items() if key in sums}

    def zero_grad(self, accumulate: bool = True) -> None:
        """Forget the gradients, and from now on add up those of all passes until the next zero_grad(), as in torch.

        A network on which this was never called has the gradients of the last pass only.

        Parameters
        ----------
        accumulate : bool
            False goes back to that.

        Examples
        --------
        A step for several batches:

        >>> import numpy as np
        >>> from fastdl import nn, optim
        >>> net, loss = nn.Linear(3, 2, rng=0), nn.MSELoss()
        >>> optimizer = optim.SGD(net.parameters(), lr=0.1)
        >>> net.zero_grad()
        >>> for _ in range(4):
        ...     value = loss(net(np.ones((5, 3), np.float32)), np.zeros((5, 2), np.float32))
        ...     _ = net.backward(loss.backward(), input_grad=False)
        >>> _ = optimizer.step(net.grads, grad_scale=1 / 4)
        """
        for module in self.modules():
            touch(module)
            module.__dict__["_accumulate"] = accumulate
            module.__dict__["_grads"] = {}

    def requires_grad_(self: Self, requires_grad: bool = True, *names: str) -> Self:
        """Freeze (False) or thaw the parameters of this module and all below it, or those of `names` only.

        A frozen parameter gets no gradient: it is not in `grads`, so that optimizers leave it as it is. What backward
        returns is the same. Frozen are the parameters of modules, by name: another array put there is frozen too.

        Parameters
        ----------
        requires_grad : bool
            False freezes.
        *names : str
            As in parameters(), or the other names of what is tied; all if none are given.

        Returns
        -------
        Module
            This one.

        Raises
        ------
        ValueError
            For a name that no parameter has.

        Examples
        --------
        >>> from fastdl import nn
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> _ = net[0].requires_grad_(False)
        >>> _ = net.requires_grad_(False, "2.bias")
        """
        known = {name: (module, own) for name, module, own, _ in self._named_arrays(False, every_name=True)}
        for name in names:
            if name not in known:
                fail("names", repr(name), f"among {list(known)}")
        for module, own in known.values() if not names else map(known.__getitem__, names):
            frozen = module._frozen - {own} if requires_grad else module._frozen | {own}
            touch(module)
            module.__dict__["_frozen"] = frozen
        return self

    # Parameters and the state.

    def parameters(self) -> dict[str, Array]:
        """The parameters themselves, not copies, by torch's names; one that is in several places once, as the first."""
        seen: dict[int, None] = {}
        found = {}
        for name, _, _, array in self._named_arrays(False):
            if id(array) not in seen:
                seen[id(array)] = None
                found[name] = array
        return found

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """The pairs of parameters()."""
        yield from self.parameters().items()

    def buffers(self) -> dict[str, Array]:
        """What belongs to the state but is not trained, such as running statistics, by torch's names."""
        kept = {id(module.__dict__.get(own)) for module in self.modules() for own in module.buffer_names}
        return {name: array for name, _, _, array in self._named_arrays(True) if id(array) in kept}

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters and buffers, by torch's names; one that is in several places under each name."""
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy into the parameters and buffers what state_dict() of this class, or of the same torch network, returned.

        They keep their dtype: what is float16, bfloat16 or float64 is converted, rounded where it has to be. Every key
        and shape is checked first: after an error nothing has changed.

        Parameters
        ----------
        state : mapping of str to array
            torch's tensors will do. What np.load returns is one; for a file's name there is `load`.
        strict : bool
            Whether keys that are missing or unexpected are an error.

        Returns
        -------
        IncompatibleKeys
            (missing_keys, unexpected_keys); with strict, both empty.

        Raises
        ------
        ValueError
            For missing and unexpected keys, and shapes that differ, each named.
        TypeError
            If `state` is no mapping.
        """
        if not isinstance(state, Mapping):
            hint = "; load(path) reads a file" if isinstance(state, (str, os.PathLike)) else ""
            raise TypeError(f"state: found {type(state).__name__}, expected a mapping of names to arrays{hint}")
        own = self._state()
        keys = IncompatibleKeys(
            [name for name in own if name not in state], [name for name in state if name not in own]
        )
        problems = [f"missing {name!r}" for name in keys.missing_keys] if strict else []
        problems += [f"unexpected {name!r}" for name in keys.unexpected_keys] if strict else []
        values = {name: _files.unwrapped(state[name], name) for name in own if name in state}
        for name, value in values.items():
            if value.shape != own[name].shape:
                problems.append(f"{name!r}: found shape {value.shape}, expected {own[name].shape}")
            if value.dtype.kind not in ("f" if own[name].dtype.kind == "f" else "iu"):
                expected = "a floating-point one" if own[name].dtype.kind == "f" else "integers"
                problems.append(f"{name!r}: found dtype {value.dtype}, expected {expected}")
        if problems:
            raise ValueError("state: " + "; ".join(problems))
        with writing(own.values()):
            for name, value in values.items():
                np.copyto(own[name], value, casting="same_kind")
        return keys

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state_dict to a file: `.safetensors` if it is named so, else NumPy's `.npz`.

        Parameters
        ----------
        path : str or path
            Of the file, under exactly this name. One that is there is replaced in one step, when all is written.

        See Also
        --------
        fastdl.save_file, fastdl.save_checkpoint

        Examples
        --------
        >>> import tempfile, os
        >>> from fastdl import nn
        >>> path = os.path.join(tempfile.mkdtemp(), "layer.npz")
        >>> nn.Linear(3, 2).save(path)
        >>> nn.Linear(3, 2).load(path)
        IncompatibleKeys(missing_keys=[], unexpected_keys=[])
        """
        _files.write(path, self._state())

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> IncompatibleKeys:
        """load_state_dict of a file that `save`, np.savez, or torch by safetensors, wrote.

        Parameters
        ----------
        path : str or path
            Of the file.
        strict : bool
            Whether keys that are missing or unexpected are an error.

        Returns
        -------
        IncompatibleKeys
            (missing_keys, unexpected_keys); with strict, both empty.

        Raises
        ------
        ValueError
            As load_state_dict, and for a file that is not of that kind.
        OSError
            For a file that cannot be read.
        """
        return self.load_state_dict(_files.read(path)[0], strict)

    def to(self: Self, dtype: Any) -> Self:
        """Convert the parameters and floating-point buffers to float32 or float64: new arrays, for a new optimizer.

        Those that are in several places stay one. Gradients are forgotten.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Returns
        -------
        Module
            This one.
        """
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype: found {dtype}, expected float32 or float64")
        converted: dict[int, Array] = {}
        for _, module, own, array in list(self._named_arrays(True)):
            if array.dtype.kind == "f":
                setattr(module, own, converted.setdefault(id(array), array.astype(dtype)))
        for module in self.modules():
            module.__dict__["_grads"] = {}
        return self

    # Modes.

    def train(self: Self, mode: bool = True) -> Self:
        """Set this module and all below it to training, or to inference.

        Parameters
        ----------
        mode : bool
            False is eval().

        Returns
        -------
        Module
            This one.

        Raises
        ------
        TypeError
            For what is not a bool.
        """
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(f"mode: found {mode!r}, expected True or False")
        for module in self.modules():
            touch(module)
            module.training = bool(mode)
        return self

    def eval(self: Self) -> Self:
        """Set this module and all below it to inference. It stays differentiable."""
        return self.train(False)

    # The tree.

    def children(self) -> dict[str, Module]:
        """The modules right below this one, by name."""
        found = {}
        for name, value in vars(self).items():
            if isinstance(value, Module):
                found[name] = value
            elif isinstance(value, _CHANGING) and value and name not in _TRANSIENT:  # something may have come into it
                self._refuse_modules_in(name, value)
        return found

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The pairs of children()."""
        yield from self.children().items()

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """The pairs (name, module) of this module, whose name is empty, and all below it, each once.

        Examples
        --------
        >>> from fastdl import nn
        >>> [name for name, _ in nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh())).named_modules()]
        ['', '0', '1', '1.0']
        """
        yield "", self
        yield from self._below()

    def apply(self: Self, function: Callable[[Module], Any]) -> Self:
        """Call a function with all modules below this one, and then with this one.

        Parameters
        ----------
        function : callable
            Of one module; what it returns is not used.

        Returns
        -------
        Module
            This one.

        Examples
        --------
        >>> from fastdl import nn
        >>> def start(module):
        ...     if isinstance(module, nn.Linear):
        ...         module.bias[...] = 0
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).apply(start)
        """
        for child in self.children().values():
            child.apply(function)
        function(self)
        return self

    def bind(self, *inputs: Any, freeze: bool = True) -> Any:
        """Inference as a program: what this module does in eval mode with inputs like these, in one call of C.

        Parameters
        ----------
        *inputs : array, or what forward takes
            Examples: later ones have to have their shapes and dtypes.
        freeze : bool
            Whether batch-norms become part of the layers before them, and weights are packed once: results differ from
            this module's by rounding. Parameters are read-only then as long as the program lives, but for training and
            load_state_dict, which it sees. Without it results are the same to the last bit.

        Returns
        -------
        fastdl.Program
            Called like this module. It sees what is written into parameters later (training, load_state_dict), and
            refuses to run where one is replaced.

        See Also
        --------
        fastdl.record : What makes it, and what can be recorded.

        Examples
        --------
        >>> import numpy as np
        >>> from fastdl import nn
        >>> net = nn.Sequential(nn.Linear(3, 4, rng=0), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2, rng=1))
        >>> x = np.ones((1, 3), np.float32)
        >>> infer = net.bind(x)
        >>> bool(np.allclose(infer(x), net.eval()(x)))
        True
        """
        from fastdl.program import record

        def infer(*inputs: Any) -> Any:
            modes = [(module, module.training) for module in self.modules()]
            for module, _ in modes:
                touch(module)
            try:
                with no_grad():
                    return self.eval()(*inputs)
            finally:
                for module, mode in modes:
                    module.__dict__["training"] = mode

        return record(infer, *inputs, freeze=freeze)

    def features(self, x: Any, names: Iterable[str], **options: Any) -> dict[str, Any]:
        """What modules inside of this one return, by name, when it is called with x.

        Parameters
        ----------
        x : array
            What forward is given, with `options` as its keywords.
        names : iterable of str
            Of the modules, as named_modules() has them; "" is this module itself. Of one that is called several
            times it is the last result.

        Returns
        -------
        dict
            The results by name, in the order of `names`.

        Raises
        ------
        ValueError
            For a name that no module has, or one that forward does not call.

        Examples
        --------
        >>> import numpy as np
        >>> from fastdl import nn
        >>> net = nn.Sequential({"conv": nn.Conv2d(1, 4, 3), "act": nn.ReLU(), "pool": nn.MaxPool2d(2)})
        >>> maps = net.features(np.ones((1, 1, 8, 8), np.float32), ["act", "pool"])
        >>> {name: a.shape for name, a in maps.items()}
        {'act': (1, 4, 6, 6), 'pool': (1, 4, 3, 3)}
        """
        names = [names] if isinstance(names, str) else list(names)
        places = dict(self._places())
        for name in names:
            if name not in places:
                fail("names", repr(name), f"among {list(places)}")
        wanted = {id(places[name]) for name in names}
        copied = any(getattr(module, "inplace", False) for module in self.modules())
        found: dict[int, Any] = {}

        def keep(module: Module, inputs: tuple[Any, ...], result: Any) -> None:
            if id(module) in wanted:
                found[id(module)] = result.copy() if copied and isinstance(result, np.ndarray) else result

        with _saved.watching(keep):
            self(x, **options)
        for name in names:
            if id(places[name]) not in found:
                fail("names", f"{name!r}, which forward does not call", "one that it calls")
        return {name: found[id(places[name])] for name in names}

    def summary(self, *input_shapes: tuple[int, ...], dtype: Any = None) -> Summary:
        """A table of what this network and all in it return, hold and cost, as text.

        Forward is called once with zeros, in eval mode and without saving; nothing of the network changes.

        Parameters
        ----------
        *input_shapes : tuple of int
            The shape of each of forward's inputs, batch and all.
        dtype : dtype, optional
            Of the inputs; that of the first parameter if None.

        Returns
        -------
        Summary
            A str of lines. For each module: the shapes of its results; its own parameters, those that are in several
            places where they come first; floating-point operations, of which a multiply-add is two; the memory of
            its results, as far as they are new; and, of what stands in Sequentials, the elements of the input that
            a unit sees in each spatial dimension, up to a head (see fastdl.receptive_field). "?" are operations of a
            layer of one's own. A module that is called several times has the operations and memory of all calls.

        Examples
        --------
        >>> from fastdl import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        >>> print(net.summary((1, 3, 8, 8)))
        layer         output        parameters   flops   memory  receptive field
        ------------------------------------------------------------------------
        Sequential    (1, 10)
          0: Conv2d   (1, 8, 6, 6)         224  15,552  1.1 KiB            3 x 3
          1: ReLU     (1, 8, 6, 6)           0     288  1.1 KiB            3 x 3
          2: Flatten  (1, 288)               0       0      0 B
          3: Linear   (1, 10)            2,890   5,760     40 B
        ------------------------------------------------------------------------
        total                            3,114  21,600  2.3 KiB
        parameters: 12.2 KiB
        """
        from fastdl.nn.summary import summarize

        return summarize(self, input_shapes, dtype)

    def extra_repr(self) -> str:
        """What stands between the parentheses of repr, or on lines of its own before the children."""
        return ""

    def __repr__(self) -> str:
        return _repr(self, [f"({name}): {child!r}" for name, child in self.children().items()])

    def _begin_pass(self, number: int) -> None:
        """The first backward after a forward, which is of the pass of that number."""
        if number > self._passes[0]:
            self.__dict__["_passes"] = (number, self._passes[0])

    def _below(self) -> list[tuple[str, Module]]:
        """named_modules without this one, remembered until a module gets or loses another."""
        tree = _Tree.version
        below: list[tuple[str, Module]]
        version, below, changing = self.__dict__.get("_walked", (None, [], []))
        if version is not tree:
            found: dict[int, tuple[str, Module]] = {}
            self._collect("", found)
            below = list(found.values())[1:]
            modules = [module for _, module in below]
            changing = [module for module in modules if module._may_change()]  # not self, which could then not be freed
            self.__dict__["_walked"] = tree, below, changing
        else:
            for module in changing:
                module.children()  # which refuses what has come into a list
            if self._may_change():
                self.children()
        return below

    def _may_change(self) -> bool:
        """Whether something that this module holds could get modules in it unseen."""
        return any(isinstance(value, _CHANGING) for name, value in vars(self).items() if name not in _TRANSIENT)

    def _collect(self, prefix: str, found: dict[int, tuple[str, Module]]) -> None:
        """This module and all below it into `found`, by their ids."""
        if id(self) not in found:
            found[id(self)] = prefix, self
            for name, child in self.children().items():
                child._collect(f"{prefix}.{name}" if prefix else name, found)

    def _places(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, as often as they are found."""
        yield prefix, self
        for name, child in self.children().items():
            yield from child._places(f"{prefix}.{name}" if prefix else name)

    def _named_arrays(self, buffers: bool, every_name: bool = False) -> Iterator[tuple[str, Module, str, Array]]:
        """The parameters, and buffers too, that are not None: (name, module, its own name for it, array)."""
        for prefix, module in self._places() if every_name else self.named_modules():
            for own in module.parameter_names + (module.buffer_names if buffers else ()):
                array = getattr(module, own)
                if array is not None:
                    yield f"{prefix}.{own}" if prefix else own, module, own, array

    def _state(self) -> dict[str, Array]:
        return {name: array for name, _, _, array in self._named_arrays(True, every_name=True)}

    def _refuse_modules_in(self, name: str, value: Any) -> None:
        if any(isinstance(v, Module) for v in _within(value)):
            kind, found = "ModuleDict" if isinstance(value, dict) else "ModuleList", type(value).__name__
            raise TypeError(
                f"{type(self).__name__}.{name}: found modules in a {found}, expected an nn.{kind} "
                f"(what is in a {found} would not be trained, saved or loaded)"
            )


class _Tree:
    """All modules, with what is in them."""

    version: object = object()
    """Another one after each change."""


def tree_changed() -> None:
    """Call it after a module got, or lost, another one."""
    _Tree.version = object()


_PREPARING = RLock()
_TRANSIENT = ("_memories", "_grads", "_passes", "_walked")
"""Attributes that are of this object alone."""
_CHANGING = (list, dict, set, deque)
_CONTAINERS = (*_CHANGING, tuple)


def _prepare(cls: type[Module]) -> None:
    """Wrap the forward and backward of a class and its bases, once."""
    for base in reversed(cls.__mro__):
        if issubclass(base, Module) and "_prepared" not in base.__dict__:
            for name, wrap in ("forward", _saved.recorded), ("backward", _saved.answered):
                if callable(base.__dict__.get(name)):
                    setattr(base, name, wrap(base.__dict__[name]))
            base._prepared = True  # type: ignore[attr-defined]


def _within(value: Any) -> Iterable[Any]:
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, _CONTAINERS):
            yield from _within(item)
        else:
            yield item


def _repr(module: Module, children: list[str]) -> str:
    """As torch prints it: one line if there are no children, else each on lines of its own, indented."""
    extra = module.extra_repr().split("\n") if module.extra_repr() else []
    name = type(module).__name__
    if not children and len(extra) <= 1:
        return f"{name}({''.join(extra)})"
    lines = [line.replace("\n", "\n  ") for line in extra + children]
    return f"{name}(\n  " + "\n  ".join(lines) + "\n)"
