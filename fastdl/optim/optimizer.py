"""What all optimizers are: parameters, their states and options, and one call of a kernel for each group of them.

A subclass says what a step does by `update`, a function such as adam_step; everything else follows from that function
and from the options that the constructor hands on:

    def sign_step(param, grad, momentum_buffer, lr, momentum):
        momentum_buffer *= momentum
        momentum_buffer += grad
        param -= lr * np.sign(momentum_buffer)

    class SignDescent(Optimizer):
        update = staticmethod(sign_step)

        def __init__(self, params, lr=1e-3, momentum=0.9):
            super().__init__(params, {"lr": lr, "momentum": momentum})
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from math import inf
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastdl import _kernels
from fastdl._backend import DEFAULT, functions
from fastdl._call import find_overlap, get_diversion, take_gradients
from fastdl._docs import doc
from fastdl._recording import hold, is_frozen, owner_of, replaced, touch, writing
from fastdl.functional._operation import OPERATIONS
from fastdl.functional.verbs import Array, fail, floats_like, in_place, number, view
from fastdl.optim._shared import SHARED
from fastdl.optim._table import DTYPES, FIELDS, SCALARS, Arrays, Table, addresses, clip, method_of

Options: TypeAlias = "dict[str, Any]"
Params: TypeAlias = "Arrays | Iterable[Mapping[str, Any]]"
Grads: TypeAlias = "Mapping[str, Array | None] | Iterable[Array | None]"

_GIVEN = ("param", "grad", "grad_scale", "clip_value")
"""Arguments of a step function that are neither states nor options."""


_ONE = np.ones(1)
_RATES = ("lr", "initial_lr")
"""Options of every optimizer, which schedules set at every step, so that there is no more to their check."""


class ParamGroup(MutableMapping[str, Any]):
    """Parameters that share options: a mapping of "params" (a list) and the options by name.

    An option may be set at any time; a value that is not right is refused, and changes nothing. An element of
    `Optimizer.param_groups`, and made by it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> group = optim.SGD([np.ones(3)], lr=0.1).param_groups[0]
    >>> group["lr"] = 0.05
    >>> group["lr"], len(group["params"])
    (0.05, 1)
    >>> group["lr"] = -1
    Traceback (most recent call last):
        ...
    ValueError: lr: found -1, expected a finite number of at least 0
    """

    def __init__(self, optimizer: Optimizer, params: dict[str, Array], options: Options) -> None:
        optimizer.check(options)
        self.named, self._optimizer, self._options = params, optimizer, options
        self.state: dict[str, dict[str, Array]] = {name: {} for name in params}

    def replace(self, options: Options) -> None:
        """Set all options at once."""
        if any(options[name] is not self._options.get(name) for name in options if name not in _RATES):
            self._optimizer.check(options)
        _check_rates(options)
        self._options = options
        self._optimizer._write(self)

    def __getitem__(self, name: str) -> Any:
        return list(self.named.values()) if name == "params" else self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise TypeError("params: a parameter group keeps its own; add_param_group adds more")
        if name not in self._options and name != "initial_lr":
            raise KeyError(f"{name}: expected one of {', '.join(self._options)}")
        self.replace(self._options | {name: value})

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name}: options of a parameter group stay")

    def __iter__(self) -> Iterator[str]:
        return iter(["params", *self._options])

    def __len__(self) -> int:
        return 1 + len(self._options)

    def __repr__(self) -> str:
        return f"ParamGroup({len(self.named)} params, {self._options})"


class _Tables:
    """What is derived from an optimizer's parameters, states and options: made when a step needs it, never stored."""

    def __init__(self, optimizer: Optimizer) -> None:
        params = optimizer.params
        self.places = {name: i for i, name in enumerate(params)}
        self.needed = {id(group): optimizer._needed(group._options) for group in optimizer.param_groups}
        method = method_of(optimizer.update.__name__) if optimizer._has_kernel else None
        self.of_group: list[tuple[ParamGroup, Table]] = []
        for group in optimizer.param_groups:
            needed = self.needed[id(group)]
            for dtype in DTYPES:
                names = [name for name, array in group.named.items() if array.dtype == dtype]
                if not names:
                    continue
                columns = {
                    state: [group.state[name][state] for name in names] if state in needed else None
                    for state in (() if method is None else optimizer._states)
                }
                arrays, places = [params[name] for name in names], [self.places[name] for name in names]
                step = _kernels.OPTIMIZER_CLIP if method is None else method
                self.of_group.append((group, Table(dtype, arrays, step, places, columns)))
        self.all = [table for _, table in self.of_group]
        self.owners = frozenset(id(owner_of(array)) for array in params.values())
        """The ids of the arrays whose memory parameters are."""
        self.looks = [table.look for table in self.all]
        self.calls = [table.call for table in self.all]
        states = [array for group in optimizer.param_groups for own in group.state.values() for array in own.values()]
        written = [array for array in (*params.values(), *states) if array.size]
        starts = addresses(written)
        order = np.argsort(starts)
        self._starts = starts[order]
        self._ends = self._starts + np.array([a.nbytes for a in written], np.int64)[order]
        self.grads: tuple[Array | None, ...] = ()
        """Alive as long as their addresses are in use."""

    def refuse_overlaps(self) -> None:
        """Of gradients with anything that a step writes."""
        for table in self.all:
            _, places, rows, _ = table.look
            row = find_overlap(rows, self._starts, self._ends, table.dtype.itemsize)
            if row >= 0:
                name = list(self.places)[row if places is None else int(places[row])]
                fail(f"grads[{name!r}]", "an array that overlaps the result", "one that does not")


@doc(SHARED)
class Optimizer:
    """What all optimizers are; for one of your own, a subclass.

    A subclass has an `update`, a function that makes one step of one parameter in place: ``update(param, grad,
    <states>, <options>)``. Arguments that are named like options in `defaults` are options; all others are states,
    arrays like the parameter, zeros before its first step, kept for each parameter. One named ``step`` is the number
    of the parameter's step, from 1. The function is tried with arrays of one element whenever an option but the
    learning rate is set, so what it refuses is refused then. Parameter groups, schedules, clipping, state_dict and
    pickling come with the class.

    Parameters
    ----------
    {params}
    defaults : dict
        The options, for groups that do not say otherwise. Schedules need ``lr``.

    Attributes
    ----------
    param_groups : list of ParamGroup
        The groups, whose options may be changed between steps.
    params : dict of arrays
        All parameters by name; the names in a list are their positions in it, as text.
    state : dict of dicts of arrays
        What is kept of each parameter, by its name and that of the state, such as ``state["weight"]["exp_avg"]``:
        the memory that steps read and write, so that it can be changed in place.
    lr : float
        The learning rate of the first group; setting it sets that of every group.

    {class_raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> def sign_step(param, grad, momentum_buffer, lr, momentum):
    ...     momentum_buffer *= momentum
    ...     momentum_buffer += grad
    ...     param -= lr * np.sign(momentum_buffer)
    >>> class SignDescent(optim.Optimizer):
    ...     update = staticmethod(sign_step)
    ...
    ...     def __init__(self, params, lr=1e-3, momentum=0.9):
    ...         super().__init__(params, dict(lr=lr, momentum=momentum))
    >>> x = np.array([1.0, -2.0])
    >>> optimizer = SignDescent([x], lr=0.5)
    >>> schedule = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    >>> for _ in range(2):
    ...     optimizer.step([2 * x])
    ...     schedule.step()
    >>> x, optimizer.lr
    (array([ 0.25, -1.25]), 0.125)
    """

    update: ClassVar[Callable[..., None]]
    """The step function."""
    optional_states: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """States that are needed only where an option is true or not 0: which option."""
    initial_states: ClassVar[Mapping[str, float | str]] = MappingProxyType({})
    """What states hold before the first step, if it is not 0: a number, or the option that says it."""

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        if not hasattr(self, "update"):
            raise TypeError(f"{type(self).__name__}: expected a subclass that has an update, its step function")
        self.defaults = dict(defaults)
        self._states = tuple(name for name in self._arguments if name not in _GIVEN and name not in self.defaults)
        """The names of the states, in the order in which update takes them."""
        self.param_groups: list[ParamGroup] = []
        self.params: dict[str, Array] = {}
        self._names: dict[str, str] = {}
        """Every name, in the order in which a list of gradients is given, and the first name of the same array."""
        self._given: dict[str, tuple[tuple[int, ...], Any]] = {}
        """The shape and dtype that each parameter has to keep."""
        self._ready: _Tables | None = None
        self.check(self.defaults)
        given: Any = params if isinstance(params, Mapping) else _listed(params)
        if not given:
            fail("params", "no parameters", "at least one")
        groups = given if isinstance(given, list) and isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "update" in vars(cls):
            cls._arguments = tuple(inspect.signature(cls.update).parameters)
            name = cls.update.__name__
            cls._has_kernel = OPERATIONS.get(name) is cls.update and method_of(name) is not None

    _arguments: ClassVar[tuple[str, ...]] = ()
    """Of update."""
    _has_kernel: ClassVar[bool] = False

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters.

        Parameters
        ----------
        param_group : dict
            "params", a list or a dict of arrays, and options; those that are not given are the defaults. In a list,
            parameters are named by their positions, counted on from those that there are.

        Raises
        ------
        ValueError, TypeError
            For an unknown option, a name or memory that is another parameter's, and as the constructor does.

        Examples
        --------
        >>> import numpy as np
        >>> from fastdl import optim
        >>> optimizer = optim.SGD([np.ones(3)], lr=0.1)
        >>> optimizer.add_param_group({"params": [np.ones(2)], "lr": 0.01})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.01]
        """
        if not isinstance(param_group, Mapping):
            raise TypeError(f"param_group: found {type(param_group).__name__}, expected a dict")
        options = {name: value for name, value in param_group.items() if name != "params"}
        if "params" not in param_group or not options.keys() <= self.defaults.keys():
            fail("param_group", list(param_group), f"params, and perhaps {', '.join(self.defaults)}")
        given = _named(param_group["params"], len(self._names))
        if twice := given.keys() & self._names.keys():
            fail("param_group", f"another parameter named {min(twice)!r}", "a name of its own")
        first = {id(array): name for name, array in self.params.items()}
        names = {name: first.setdefault(id(array), name) for name, array in given.items()}
        with writing(given.values()):
            new = {name: in_place(given[name], f"params[{name!r}]") for name in given if names[name] == name}
        _refuse_shared(self.params | new)
        self.param_groups.append(ParamGroup(self, new, self.defaults | options))
        self._given |= {name: (array.shape, array.dtype) for name, array in new.items()}
        self.params, self._names, self._ready = self.params | new, self._names | names, None
        replaced(self)

    @property
    def state(self) -> dict[str, Mapping[str, Array]]:
        if self._ready is None:
            self._prepare()
        return {name: MappingProxyType(own) for group in self.param_groups for name, own in group.state.items()}

    @property
    def lr(self) -> float:
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def step(
        self,
        grads: Grads,
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        clip_value: float | None = None,
    ) -> float | None:
        """Make one step: update every parameter that has a gradient, in place.

        Parameters
        ----------
        grads : dict or list of arrays
            The gradients, like the parameters: a dict by the parameters' names, such as ``net.grads``, or a list in
            their order. They are not changed. A parameter whose gradient is None, or not in the dict, is left as it
            is, its states and the number of its steps included. Of an array that was given to the constructor under
            two names, the gradients are added, unless they are one array.
        grad_scale : float
            What gradients are multiplied by, first.
        max_norm : float, optional
            Then they are scaled so that their norm, of all of them as one vector, is at most this, as
            `clip_grad_norm_` does.
        clip_value : float, optional
            Then their elements are limited to [-clip_value, clip_value].

        Returns
        -------
        float or None
            With max_norm, the norm of the gradients, after grad_scale and before the rest.

        Raises
        ------
        ValueError, TypeError
            For a gradient of no parameter, of another shape or dtype than its parameter, or that shares memory with
            what is written; for a parameter that was resized or made read-only since it was given. No parameter has
            changed then.

        Examples
        --------
        >>> import numpy as np
        >>> from fastdl import optim
        >>> params = {"weight": np.ones(2), "bias": np.zeros(1)}
        >>> optimizer = optim.SGD(params, lr=0.1)
        >>> optimizer.step({"weight": np.array([3.0, 4.0])}, max_norm=1.0)
        5.0
        >>> params["weight"].round(6), params["bias"]
        (array([0.94, 0.92]), array([0.]))
        """
        if self._ready is not None and not is_frozen(self._ready.owners):
            return self._step(grads, grad_scale, max_norm, clip_value)
        with writing(self.params.values()):
            return self._step(grads, grad_scale, max_norm, clip_value)

    def bind(self, grads: Grads) -> Callable[[], None]:
        """Make a function that makes a step with these very gradients, whatever they hold by then.

        Parameters
        ----------
        grads : dict or list of arrays
            As `step` takes them; C-contiguous, because they are not copied.

        Returns
        -------
        function
            It takes nothing. Options may change between its calls. If a parameter or a gradient was resized or moved
            in memory since, it raises ValueError, and nothing has changed.

        Examples
        --------
        >>> import numpy as np
        >>> from fastdl import optim
        >>> x, grad = np.zeros(2), np.zeros(2)
        >>> step = optim.SGD([x], lr=1.0).bind([grad])
        >>> for _ in range(3):
        ...     grad[:] = x - 1
        ...     step()
        >>> x
        array([1., 1.])
        """
        arrays = self._ordered(grads)
        ready: _Tables | None = None
        looks: list[Callable[[], int]] = []
        calls: list[Callable[[], int]] = []

        def take() -> None:
            nonlocal ready, looks, calls
            for array, taken, name in zip(arrays, self._take(arrays, changed=True), self.params, strict=True):
                if array is not taken:
                    fail(f"grads[{name!r}]", "what would have to be copied", "a C-contiguous array")
            ready = self._ready or self._prepare()
            tables = [table.copy() for table in ready.all]
            looks = [partial(take_gradients, arrays, *table.look) for table in tables]
            calls = [partial(kernel, *arguments) for kernel, *arguments in (table.call for table in tables)]

        def step() -> None:
            if get_diversion() is not None:
                self.step(arrays)
                return
            with writing(self.params.values()) if ready is None or is_frozen(ready.owners) else nullcontext():
                if self._ready is not ready:
                    take()
                for look in looks:
                    if look():
                        take()
                        break
                for call in calls:
                    call()

        def step_by_update() -> None:
            self.step(arrays)

        with writing(self.params.values()):
            take()
        return step if self._has_kernel else step_by_update

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to continue, as np.savez stores it.

        Returns
        -------
        dict
            Copies of the states, as "exp_avg.weight", and the options of group i, as "groups.0.lr".

        Examples
        --------
        >>> import numpy as np
        >>> from fastdl import optim
        >>> list(optim.SGD({"w": np.ones(3)}, momentum=0.9).state_dict())[-3:]
        ['groups.0.maximize', 'momentum_buffer.w', 'step.w']
        """
        saved = {f"groups.{i}.{k}": v for i, group in enumerate(self.param_groups) for k, v in group._options.items()}
        states = {f"{state}.{name}": array for name, own in self.state.items() for state, array in own.items()}
        return saved | {name: array.copy() for name, array in states.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned. Where the states are the same, programs that make steps do so too.

        Parameters
        ----------
        state : mapping
            Such as a dict, or np.load of what np.savez stored. States may have another floating-point dtype.

        Raises
        ------
        ValueError, TypeError
            For what is missing, unknown, of another shape, or an option out of its range. Nothing has changed then.

        Examples
        --------
        >>> import numpy as np
        >>> from fastdl import optim
        >>> first, second = (optim.Adam([np.ones(3)], lr=lr) for lr in (0.1, 0.2))
        >>> first.step([np.ones(3)])
        >>> second.load_state_dict(first.state_dict())
        >>> second.lr, int(second.state["0"]["step"])
        (0.1, 1)
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: found {type(state).__name__}, expected a dict")
        if self._ready is None:
            self._prepare()
        options: list[Options] = []
        unexpected = dict.fromkeys(state)
        missing: list[str] = []
        arrays: list[tuple[ParamGroup, str, str, Array]] = []
        for i, group in enumerate(self.param_groups):
            prefix, known = f"groups.{i}.", dict.fromkeys((*group._options, "initial_lr"))
            own = {k: state[prefix + k] for k in known if prefix + k in state}
            missing += [prefix + k for k in group._options if k not in own and k != "initial_lr"]
            options.append({k: _plain(v) for k, v in own.items()})
            needed = self._needed(group._options | options[-1])
            for name, param in group.named.items():
                for kind in self._states:
                    key = f"{kind}.{name}"
                    if key in state:
                        arrays.append((group, name, kind, _state_like(state[key], key, kind, param)))
                        unexpected.pop(key)
                    elif kind in needed:
                        missing.append(key)
            for k in own:
                unexpected.pop(prefix + k)
        if missing or unexpected:
            fail("state", f"unexpected {sorted(unexpected)}", f"also {sorted(missing)}")
        for new in options:
            self.check(new)
        before = {(name, kind) for group in self.param_groups for name, own in group.state.items() for kind in own}
        same = all(
            self._needed(group._options) == self._needed(new)
            for group, new in zip(self.param_groups, options, strict=True)
        )
        if same and {(name, kind) for _, name, kind, _ in arrays} == before:
            for group, name, kind, array in arrays:  # into those that programs know
                group.state[name][kind][...] = array
            for group, new in zip(self.param_groups, options, strict=True):
                group._options = new
                self._write(group)
            return
        for group, new in zip(self.param_groups, options, strict=True):
            group._options = new
            group.state = {name: {} for name in group.named}
        for group, name, kind, array in arrays:
            group.state[name][kind] = array
        self._prepare()

    def check(self, options: Options) -> None:
        """Refuse options that are not right: what `update`, tried on arrays of one element, refuses.

        Parameters
        ----------
        options : dict
            All options of a group.

        Raises
        ------
        ValueError, TypeError
            For an option that is not right.
        """
        _check_rates(options)
        given = {name: options[name] for name in self._arguments if name in options}
        for name in self._needed(options):
            given[name] = 1 if name == "step" else _ONE.reshape(()).copy() if name in SCALARS else _ONE.copy()
        with nullcontext() if self._has_kernel else np.errstate(all="ignore"):
            self.update(param=_ONE.copy(), grad=_ONE.copy(), **given)

    def __getstate__(self) -> dict[str, Any]:
        if self._ready is None:
            self._prepare()
        return vars(self) | {"_ready": None}

    def __repr__(self) -> str:
        groups = "".join(f"\n  {i}: {group!r}" for i, group in enumerate(self.param_groups))
        return f"{type(self).__name__}({groups}\n)"

    def _step(self, grads: Grads, grad_scale: float, max_norm: float | None, clip_value: float | None) -> float | None:
        plain = max_norm is None and clip_value is None and grad_scale == 1
        module = functions()
        if plain and module is DEFAULT and self._has_kernel and get_diversion() is None:
            ready = self._ready
            given = (
                tuple(grads)
                if ready is not None and type(grads) is list and len(grads) == len(self.params)
                else self._ordered(grads)
            )
            if ready is None:
                ready = self._prepare()
            for look in ready.looks:
                if take_gradients(given, *look):
                    self._take(given, changed=True)
                    ready = self._ready or ready
                    break
            for kernel, options, table, count in ready.calls:
                kernel(options, table, count)
            return None
        number(grad_scale, "grad_scale", 0.0)
        if max_norm is not None:
            number(max_norm, "max_norm", 0.0, inf)
        if clip_value is not None:
            number(clip_value, "clip_value", 0.0, inf)
        if self._ready is None:
            self._prepare()
        touch(self)
        arrays = self._take(self._ordered(grads))
        ready = self._ready or self._prepare()
        limit = inf if clip_value is None else clip_value
        norm = None if max_norm is None else clip(ready.all, max_norm, 2.0, grad_scale, limit)
        if module is DEFAULT and self._has_kernel:
            hold(self, arrays)
            for table in ready.all:
                if norm is None and not plain:
                    table.scale(grad_scale, limit)
                try:
                    table.step()
                finally:
                    if not plain:
                        table.scale()
        else:
            if norm is not None:
                grad_scale = ready.all[0].options.grad_scale if ready.all else 1.0
                for table in ready.all:
                    table.scale()
            function = getattr(module, self.update.__name__) if self._has_kernel else self.update
            for group in self.param_groups:
                for name, param in group.named.items():
                    grad = arrays[ready.places[name]]
                    if grad is not None:
                        self._update(function, param, grad, group.state[name], group._options, grad_scale, limit)
        return None if norm is None else float(norm[0]) if ready.all else 0.0

    def _needed(self, options: Options) -> list[str]:
        """The states that a step with these options needs."""
        optional = self.optional_states
        return [name for name in self._states if name not in optional or options[optional[name]]]

    def _initial(self, state: str, options: Options) -> float:
        value = self.initial_states.get(state, 0.0)
        return options[value] if isinstance(value, str) else value

    def _update(
        self,
        function: Callable[..., None],
        param: Array,
        grad: Array,
        states: Mapping[str, Array],
        options: Options,
        grad_scale: float,
        clip_value: float,
    ) -> None:
        """One step of one parameter by a step function."""
        needed = {name: states[name] for name in self._needed(options)}
        numbers = {name: needed[name] for name in SCALARS if name in needed and name != "step"}
        given = needed | {name: np.array(value, param.dtype) for name, value in numbers.items()}
        if "step" in given:
            given["step"] = int(states["step"]) + 1
        given |= {name: value for name, value in options.items() if name in self._arguments}
        if "grad_scale" in self._arguments:
            given |= {"grad_scale": grad_scale, "clip_value": clip_value}
        elif grad_scale != 1 or clip_value != inf:
            grad = np.clip(grad_scale * grad, -clip_value, clip_value)
        function(param=param, grad=grad, **given)
        if "step" in needed:
            needed["step"] += 1
        for name, value in numbers.items():
            value[...] = given[name]

    def _write(self, group: ParamGroup) -> None:
        """The options of a group into the structs of its tables."""
        if self._ready is None or not self._has_kernel:
            return
        if self._needed(group._options) != self._ready.needed[id(group)]:
            self._ready = None  # it needs other states, which it gets at the next step
            replaced(self)
            return
        values = {name: value for name, value in group._options.items() if name in FIELDS}
        if "betas" in group._options:
            values["beta1"], values["beta2"] = group._options["betas"]
        for owner, table in self._ready.of_group:
            if owner is group:
                for name, value in values.items():
                    setattr(table.options, name, value.item() if isinstance(value, np.generic) else value)

    def _prepare(self) -> _Tables:
        """Check the parameters, make the states that are needed, and the tables of all of that."""
        for group in self.param_groups:
            initial = {name: self._initial(name, group._options) for name in self._needed(group._options)}
            scalars = {
                name: np.full(len(group.named), value, SCALARS[name][1])
                for name, value in initial.items()
                if name in SCALARS
            }
            with writing(group.named.values()):
                for name, param in group.named.items():
                    in_place(param, f"params[{name!r}]")
            for i, (name, param) in enumerate(group.named.items()):
                if self._given[name] != (found := (param.shape, param.dtype)):
                    fail(f"params[{name!r}]", found, f"{self._given[name]}, as when it was given")
                own = group.state[name]
                for state, value in initial.items():
                    if state not in own and state in SCALARS:
                        own[state] = scalars[state][i : i + 1].reshape(())
                    elif state not in own:
                        own[state] = _new_state(state, param, value)
                for state, array in own.items():
                    own[state] = array[...] if array.flags.owndata else array  # a view cannot be resized
        _refuse_shared(self.params)
        self._ready = ready = _Tables(self)
        replaced(self)
        for group in self.param_groups:
            self._write(group)
        return ready

    def _ordered(self, grads: Grads) -> tuple[Any, ...]:
        """In the order of the parameters."""
        if isinstance(grads, Mapping):
            if not all(map(self._names.__contains__, grads)):
                unknown = [name for name in grads if name not in self._names]
                fail("grads", f"gradients of {unknown}", f"of {list(self._names)}")
            given = list(map(grads.get, self._names))
        else:
            given = _listed(grads, "grads")
            if len(given) != len(self._names):
                fail("grads", f"{len(given)} gradients", f"{len(self._names)}, one for each parameter, or None")
        if len(self._names) == len(self.params):
            return tuple(given)
        by_name: dict[str, Any] = dict.fromkeys(self.params)
        for (name, first), grad in zip(self._names.items(), given, strict=True):
            before = by_name[first]
            if before is None or grad is None or grad is before:
                by_name[first] = grad if before is None else before
            else:
                by_name[first] = self._converted(first, before) + self._converted(name, grad)
        return tuple(by_name.values())

    def _take(self, given: tuple[Any, ...], changed: bool = False) -> tuple[Array | None, ...]:
        """Make these the gradients of the next step, whatever they are; or refuse them. changed: since they were last
        looked at for what they overlap."""
        ready = self._ready or self._prepare()
        arrays, found = given, [table.take(given) for table in ready.all]
        if 3 in found:
            ready = self._prepare()
        try:
            if max(found, default=0) > 1:
                named = zip(self.params, given, strict=True)
                arrays = tuple(None if grad is None else self._converted(name, grad) for name, grad in named)
                for table in ready.all:
                    table.take(arrays)
            if changed or any(found):
                ready.refuse_overlaps()
        except (TypeError, ValueError):
            for table in ready.all:
                table.forget()
            raise
        ready.grads = arrays
        return arrays

    def _converted(self, name: str, grad: Any) -> Array:
        param = self.params[self._names[name]]
        converted = floats_like(grad, f"grads[{name!r}]", param)
        if converted.shape != param.shape:
            fail(f"grads[{name!r}]", f"shape {converted.shape}", f"shape {param.shape}")
        return converted


def _check_rates(options: Options) -> None:
    for name in _RATES:
        if name in options:
            number(options[name], name, 0.0)


def _new_state(name: str, param: Array, value: float) -> Array:
    if name in SCALARS:
        return np.array(value, SCALARS[name][1])
    return (np.full_like(param, value) if value else np.zeros(param.shape, param.dtype))[...]


def _state_like(value: Any, key: str, name: str, param: Array) -> Array:
    """A copy of a stored state as that of `param`."""
    array = view(value, key) if hasattr(value, "__array_interface__") else np.asarray(value)
    shape, dtype = ((), np.dtype(SCALARS[name][1])) if name in SCALARS else (param.shape, param.dtype)
    if array.shape != shape:
        fail(key, f"shape {array.shape}", f"shape {shape}")
    if array.dtype.kind not in ("f" if dtype.kind == "f" else "iu"):
        raise TypeError(f"{key}: found dtype {array.dtype}, expected {dtype}")
    return np.array(array, dtype, order="C")


def _plain(value: Any) -> Any:
    """A stored option as it was."""
    value = np.asarray(value).tolist()
    return tuple(value) if isinstance(value, list) else value


def _listed(arrays: Any, argument: str = "params") -> list[Any]:
    if isinstance(arrays, np.ndarray) or hasattr(arrays, "parameters") or not isinstance(arrays, Iterable):
        found = "one array" if isinstance(arrays, np.ndarray) else type(arrays).__name__
        such = ", such as its parameters()" if hasattr(arrays, "parameters") else ""
        raise TypeError(f"{argument}: found {found}, expected a list or a dict of arrays{such}")
    return list(arrays)


def _named(arrays: Any, first: int) -> dict[str, Array]:
    if isinstance(arrays, Mapping):
        return dict(arrays)
    listed = _listed(arrays)
    if listed and all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in listed):
        return dict(listed)  # net.named_parameters()
    return {str(i): array for i, array in enumerate(listed, first)}


def _refuse_shared(params: dict[str, Array]) -> None:
    held = sorted((a.__array_interface__["data"][0], a.nbytes, name) for name, a in params.items() if a.size)
    for (start, size, _), (next_start, _, name) in pairwise(held):
        if start + size > next_start:
            fail(f"params[{name!r}]", "memory shared with another parameter", "memory of its own")
