"""Optimizers as classes: parameters, their state and options, and one call of a kernel for each group of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from itertools import pairwise
from math import inf
from operator import is_
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

import fastdl
from fastdl._backend import functions
from fastdl.functional.verbs import Array, fail, floats_like, in_place, view
from fastdl.optim import steps
from fastdl.optim._table import DTYPES, FIELDS, Arrays, Table, addresses, clip_factor, total_norm

Options = dict[str, Any]


class ParamGroup(MutableMapping[str, Any]):
    """Parameters that share options: a mapping of "params" (a list) and the options by name.

    An option may be set at any time; a value that is not right raises ValueError and changes nothing.
    """

    def __init__(self, optimizer: Optimizer, params: dict[str, Array], options: Options) -> None:
        self.named, self._optimizer, self._options = params, optimizer, options
        optimizer._check(options)
        needed = {
            name: bool(options[optimizer.optional_states[name]]) if name in optimizer.optional_states else True
            for name in optimizer.states
        }
        self.state = {
            param: {name: optimizer._new_state(name, array, options) for name in needed if needed[name]}
            for param, array in params.items()
        }
        self._tables: list[tuple[list[str], Table]] = []
        """One for each dtype; at least one, which counts the steps."""
        for dtype in DTYPES:
            chosen = [name for name, array in params.items() if array.dtype == dtype]
            if chosen or (dtype == DTYPES[-1] and not self._tables):
                states = ([self.state[p][name] for p in chosen] if needed[name] else None for name in needed)
                columns = ([params[p] for p in chosen], None, *states)
                self._tables.append((chosen, Table(dtype, columns, optimizer.method)))
                self._tables[-1][1].options.mu_product = 1.0
        self._write()

    @property
    def tables(self) -> list[Table]:
        return [table for _, table in self._tables]

    @property
    def steps(self) -> int:
        """The number of steps done."""
        return self.tables[0].options.step

    @property
    def mu_product(self) -> float:
        """NAdam's."""
        return self.tables[0].options.mu_product

    def count(self, steps: int, mu_product: float) -> None:
        for table in self.tables:
            table.options.step, table.options.mu_product = steps, mu_product

    def replace(self, options: Options) -> None:
        """Set all options at once."""
        self._optimizer._check(options)
        for state, option in self._optimizer.optional_states.items():
            exists = any(state in own for own in self.state.values())
            if self.state and bool(options[option]) != exists and not (exists and option == "momentum"):
                fail(option, options[option], f"a value that has {'' if exists else 'no '}use for {state}, as before")
        self._options = options
        self._write()

    def _write(self) -> None:
        """Into the C structs."""
        values = {name: value for name, value in self._options.items() if name in FIELDS}
        if "betas" in self._options:
            values["beta1"], values["beta2"] = self._options["betas"]
        for table in self.tables:
            for name, value in values.items():
                setattr(table.options, name, value)

    def __getitem__(self, name: str) -> Any:
        return list(self.named.values()) if name == "params" else self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
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


class Optimizer:
    """Parameters, and the states and options of a step function such as adam_step.

    params: a list of arrays, a dict by name such as net.parameters(), or, for options that differ, a list of groups:
    [{"params": ..., "lr": 0.1}, {"params": ...}]. They are updated in place.
    param_groups: the groups; their values may change between steps. state: the states by parameter and name.
    """

    step_function: str
    method: str
    states: tuple[str, ...]
    """The names of the arrays kept for each parameter, in the order in which the kernel takes them."""
    optional_states: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Those that only some options need: which."""
    check: Callable[..., None]
    """The check of the options that are its arguments."""

    def __init__(self, params: Arrays | list[dict[str, Any]], **defaults: Any) -> None:
        self.defaults = defaults
        self.param_groups: list[ParamGroup] = []
        self.params: dict[str, Array] = {}
        """All parameters by name; the names in a list are their positions in it, as text."""
        self._last: list[Any] = []
        self._check(defaults)
        given: Any = params if isinstance(params, (Mapping, np.ndarray)) else list(params)
        groups = given if isinstance(given, list) and given and isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """More parameters: {"params": list or dict of arrays, "lr": ..., ...}; what is not given is the default."""
        options = {name: value for name, value in param_group.items() if name != "params"}
        if "params" not in param_group or not options.keys() <= self.defaults.keys():
            fail("param_group", list(param_group), f"params, and perhaps {', '.join(self.defaults)}")
        named = _named(param_group["params"], len(self.params))
        if twice := named.keys() & self.params.keys():
            fail("param_group", f"another parameter named {min(twice)!r}", "a name of its own")
        named = {name: in_place(param, f"params[{name!r}]") for name, param in named.items()}
        params = self.params | named
        _refuse_shared(params)
        self.param_groups.append(ParamGroup(self, named, self.defaults | options))
        self.params, self._last = params, []
        tables = [table for group in self.param_groups for table in group._tables]
        place = {name: i for i, name in enumerate(params)}
        self._tables = [(table, [place[name] for name in names]) for names, table in tables]
        self._calls = [table.call for table, _ in self._tables]
        self._expected = [(param.dtype, param.shape) for param in params.values()]
        written = [*params.values(), *(a for own in self.state.values() for a in own.values())]
        written = [a for a in written if a.size]
        starts = addresses(written)
        order = np.argsort(starts)
        self._starts = starts[order]
        self._ends = self._starts + np.array([a.nbytes for a in written], np.int64)[order]
        self._sizes = np.array([param.nbytes for param in params.values()], np.int64)

    @property
    def state(self) -> dict[str, dict[str, Array]]:
        return {name: own for group in self.param_groups for name, own in group.state.items()}

    @property
    def lr(self) -> float:
        """The learning rate (of the first group); setting it sets that of every group."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    @property
    def steps(self) -> int:
        """The number of steps done (by the first group)."""
        return self.param_groups[0].steps

    def step(
        self,
        grads: Arrays,
        grad_scale: float = 1.0,
        max_norm: float | None = None,
        clip_value: float | None = None,
    ) -> float | None:
        """Update every parameter, in place. grads: a list in the order of params, or a dict by the same names.

        Gradients count as multiplied by grad_scale, then scaled so that their norm (of all of them as one vector) is
        at most max_norm, as clip_grad_norm_ does, then limited to [-clip_value, clip_value]; they are not changed.
        With max_norm, returns the norm, after grad_scale. Everything is checked before the first parameter changes.
        """
        plain = max_norm is None and clip_value is None and grad_scale == 1
        module = functions()
        if plain and module is fastdl:
            given: Any = grads if type(grads) is list else self._ordered(grads)
            if len(given) != len(self._last) or not all(map(is_, given, self._last)):
                self._take(given)
            for kernel, options, table, count in self._calls:
                kernel(options, table, count)
            return None
        arrays = self._take(grads)
        steps._check(1, 0, 0, grad_scale, inf if clip_value is None else clip_value)
        norm = None
        if max_norm is not None:
            if not max_norm >= 0:
                fail("max_norm", max_norm, "at least 0")
            norm = grad_scale * total_norm(table for table, places in self._tables if places)
            grad_scale = grad_scale * clip_factor(norm, max_norm)
        clip_value = inf if clip_value is None else clip_value
        if module is fastdl:
            for table, _ in self._tables:
                table.options.grad_scale, table.options.clip_value = grad_scale, clip_value
                table.step()
                table.options.grad_scale, table.options.clip_value = 1.0, inf
        else:
            self._step_by(module, dict(zip(self.params, arrays, strict=True)), grad_scale, clip_value)
        return norm

    def bind(self, grads: Arrays) -> Callable[[], None]:
        """A function that makes a step with these very gradients, whatever they hold by then: nothing is checked or
        prepared again. Options may change between its calls."""
        given = self._ordered(grads)
        arrays, places = self._checked(given)
        for array, grad, name in zip(arrays, given, self.params, strict=True):
            if array is not grad:
                fail(f"grads[{name!r}]", "what would have to be copied", "a C-contiguous array")
        calls = [table.bound(places[chosen]) for table, chosen in self._tables]
        alive = (self, arrays)

        def step(calls: Any = calls, alive: Any = alive) -> None:
            for kernel, options, table, count in calls:
                kernel(options, table, count)

        return step

    def state_dict(self) -> dict[str, Any]:
        """What np.savez stores: of group i "groups.i.steps", its options, "groups.i.lr" and so on (NAdam:
        "groups.i.mu_product" too), and copies of the states as "exp_avg.parameter"."""
        saved: dict[str, Any] = {}
        for i, group in enumerate(self.param_groups):
            values = {"steps": group.steps, **group._options}
            if self.method == "nadam":
                values["mu_product"] = group.mu_product
            saved |= {f"groups.{i}.{name}": value for name, value in values.items()}
        return saved | {name: array.copy() for name, array in self._named_states().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what state_dict() returned. After an error nothing has changed."""
        arrays, expected = self._named_states(), self.state_dict()
        optional = {f"groups.{i}.initial_lr" for i in range(len(self.param_groups))}
        if set(state) | optional != set(expected) | optional:
            unexpected, missing = set(state) - set(expected), set(expected) - set(state)
            fail("state", f"unexpected {sorted(unexpected)}", f"also {sorted(missing)}")
        values = {name: view(state[name], name) for name in arrays}
        for name, value in values.items():
            if (value.shape, value.dtype) != (arrays[name].shape, arrays[name].dtype):
                fail(name, (value.shape, value.dtype), (arrays[name].shape, arrays[name].dtype))
        loaded: list[tuple[ParamGroup, Options]] = []
        for i, group in enumerate(self.param_groups):
            prefix = f"groups.{i}."
            options = {k.removeprefix(prefix): np.asarray(v).tolist() for k, v in state.items() if k.startswith(prefix)}
            loaded.append((group, {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}))
        before = [(group, group._options, group.steps, group.mu_product) for group in self.param_groups]
        try:
            for group, options in loaded:
                group.count(options.pop("steps"), options.pop("mu_product", 1.0))
                group.replace(options)
        except (TypeError, ValueError):
            for group, options, steps_done, mu_product in before:
                group.count(steps_done, mu_product)
                group.replace(options)
            raise
        for name, value in values.items():
            np.copyto(arrays[name], value)

    def _named_states(self) -> dict[str, Array]:
        return {f"{state}.{name}": array for name, own in self.state.items() for state, array in own.items()}

    def _check(self, options: Options) -> None:
        steps._check(1, options["lr"], options.get("weight_decay", 0), 1, inf)
        if options.get("initial_lr", 0) < 0:
            fail("initial_lr", options["initial_lr"], "at least 0")
        given = dict(options)
        if "betas" in options:
            if len(options["betas"]) != 2:
                fail("betas", options["betas"], "two numbers")
            given["beta1"], given["beta2"] = options["betas"]
        names = self.check.__code__.co_varnames[: self.check.__code__.co_argcount]
        self.check(**{name: given[name] for name in names})

    def _new_state(self, name: str, param: Array, options: Options) -> Array:
        return np.zeros_like(param)

    def _ordered(self, grads: Arrays) -> list[Any]:
        """In the order of the parameters."""
        if type(grads) is dict or isinstance(grads, Mapping):
            if len(grads) != len(self.params) or not all(map(grads.__contains__, self.params)):
                fail("grads", f"gradients of {list(grads)}", f"of {list(self.params)}")
            return [grads[name] for name in self.params]
        given = list(grads)
        if isinstance(grads, np.ndarray) or len(given) != len(self.params):
            fail("grads", f"gradients of {list(_named(grads, 0))}", f"of {list(self.params)}")
        return given

    def _take(self, grads: Arrays) -> list[Array]:
        """Make these the gradients of the next step: at no cost if they are the very arrays of the last."""
        given = self._ordered(grads)
        if len(given) == len(self._last) and all(map(is_, given, self._last)):
            return given
        arrays, places = self._checked(given)
        for table, chosen in self._tables:
            table.set_grads(places[chosen])
        self._grads = arrays  # alive as long as their addresses are in use
        self._last = arrays if all(map(is_, given, arrays)) else []
        return arrays

    def _checked(self, given: list[Any]) -> tuple[list[Array], Array]:
        """Gradients that kernels can read, and their addresses."""
        arrays = [
            grad
            if type(grad) is np.ndarray and grad.dtype is dtype and grad.shape == shape and grad.flags.c_contiguous
            else self._converted(i, grad)
            for i, (grad, (dtype, shape)) in enumerate(zip(given, self._expected, strict=True))
        ]
        places = addresses(arrays)
        if self._starts.size:
            # Of what a step writes, the last that begins before a gradient ends must itself end before it begins.
            before = np.searchsorted(self._starts, places + self._sizes) - 1
            overlaps = (before >= 0) & (self._ends[before] > places) & (self._sizes > 0)
            if overlaps.any():
                name = list(self.params)[int(overlaps.argmax())]
                fail(f"grads[{name!r}]", "an array that overlaps the result", "one that does not")
        return arrays, places

    def _converted(self, i: int, grad: Any) -> Array:
        name, param = list(self.params.items())[i]
        grad = floats_like(grad, f"grads[{name!r}]", param)
        if grad.shape != param.shape:
            fail(f"grads[{name!r}]", f"shape {grad.shape}", f"shape {param.shape}")
        return grad

    def _step_by(self, module: Any, grads: dict[str, Array], grad_scale: float, clip_value: float) -> None:
        """The same by the step function of another module, parameter by parameter."""
        update = getattr(module, self.step_function)
        for group in self.param_groups:
            accepted = getattr(steps, self.step_function).__code__.co_varnames
            options = {k: v for k, v in {"step": group.steps + 1, **group._options}.items() if k in accepted}
            mu_product = group.mu_product
            for name, param in group.named.items():
                extra = group.state[name]
                if self.method == "nadam":
                    extra = extra | {"mu_product": np.array(group.mu_product, param.dtype)}
                update(param, grads[name], **extra, **options, grad_scale=grad_scale, clip_value=clip_value)
                mu_product = float(extra.get("mu_product", 1.0))
            group.count(group.steps + 1, mu_product)


class SGD(Optimizer):
    """Stochastic gradient descent, by sgd_step. torch.optim.SGD."""

    step_function, method, states = "sgd_step", "sgd", ("momentum_buffer",)
    optional_states: ClassVar[Mapping[str, str]] = {"momentum_buffer": "momentum"}
    check = staticmethod(steps._check_sgd)

    def __init__(
        self,
        params: Arrays | list[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )


class Adagrad(Optimizer):
    """adagrad_step. torch.optim.Adagrad."""

    step_function, method, states = "adagrad_step", "adagrad", ("state_sum",)
    check = staticmethod(steps._check_adagrad)

    def __init__(
        self,
        params: Arrays | list[dict[str, Any]],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
    ) -> None:
        if not initial_accumulator_value >= 0:
            fail("initial_accumulator_value", initial_accumulator_value, "at least 0")
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            maximize=maximize,
        )

    def _new_state(self, name: str, param: Array, options: Options) -> Array:
        return np.full_like(param, options["initial_accumulator_value"])


class RMSprop(Optimizer):
    """rmsprop_step. torch.optim.RMSprop."""

    step_function, method, states = "rmsprop_step", "rmsprop", ("square_avg", "grad_avg", "momentum_buffer")
    optional_states: ClassVar[Mapping[str, str]] = {"grad_avg": "centered", "momentum_buffer": "momentum"}
    check = staticmethod(steps._check_rmsprop)

    def __init__(
        self,
        params: Arrays | list[dict[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )


class Adam(Optimizer):
    """adam_step. torch.optim.Adam."""

    step_function, method, states = "adam_step", "adam", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    optional_states: ClassVar[Mapping[str, str]] = {"max_exp_avg_sq": "amsgrad"}
    check = staticmethod(steps._check_adam)

    def __init__(
        self,
        params: Arrays | list[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            decoupled_weight_decay=decoupled_weight_decay,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay. torch.optim.AdamW."""

    def __init__(
        self,
        params: Arrays | list[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay=True)


class Adadelta(Optimizer):
    """adadelta_step. torch.optim.Adadelta."""

    step_function, method, states = "adadelta_step", "adadelta", ("square_avg", "acc_delta")
    check = staticmethod(steps._check_adadelta)

    def __init__(
        self,
        params: Arrays | list[dict[str, Any]],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)


class NAdam(Optimizer):
    """nadam_step. torch.optim.NAdam."""

    step_function, method, states = "nadam_step", "nadam", ("exp_avg", "exp_avg_sq")
    check = staticmethod(steps._check_nadam)

    def __init__(
        self,
        params: Arrays | list[dict[str, Any]],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )


class Lion(Optimizer):
    """lion_step. Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023; torch has none."""

    step_function, method, states = "lion_step", "lion", ("exp_avg",)
    check = staticmethod(steps._check_betas)

    def __init__(
        self,
        params: Arrays | list[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize)


def _named(arrays: Any, first: int) -> dict[str, Array]:
    if isinstance(arrays, np.ndarray):
        raise TypeError("found one array, expected a list or a dict of arrays")
    if isinstance(arrays, Mapping):
        return dict(arrays)
    return {str(i): array for i, array in enumerate(arrays, first)}


def _refuse_shared(params: dict[str, Array]) -> None:
    held = sorted((a.__array_interface__["data"][0], a.nbytes, name) for name, a in params.items() if a.size)
    for (start, size, _), (next_start, _, name) in pairwise(held):
        if start + size > next_start:
            fail(f"params[{name!r}]", "memory shared with another parameter", "memory of its own")
