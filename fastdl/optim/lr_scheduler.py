"""Learning-rate schedules with torch.optim.lr_scheduler's names, arguments and numbers.

A schedule sets the learning rate of every group of an optimizer when it is made, and anew at each step(), usually once
an epoch. Most change the rate that is set by a factor, so that several schedules of one optimizer work together, as a
change by hand does; the others compute it from the rate that the group began with, its "initial_lr".
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np

from fastdl._docs import doc
from fastdl.functional.verbs import ABOVE_ZERO, choice, fail, flag, integer, number
from fastdl.optim.optimizer import Optimizer, ParamGroup

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

SHARED = {
    "optimizer": """
        optimizer : Optimizer
            Whose learning rates are set.
    """,
    "last_epoch": """
        last_epoch : int
            -1 to begin; else the last step of a schedule that this one continues, with the optimizer as it was then.
    """,
    "gamma": """
        gamma : float
            The factor, at least 0.
    """,
    "cycle_momentum": """
        cycle_momentum : bool
            Move the momentum too (of optimizers with betas, the first of them), the other way round.
        base_momentum, max_momentum : float or list of floats
            The momentum where the rate is highest and where it is lowest; a list has one for each group.
    """,
    "raises": """
        Raises
        ------
        ValueError, TypeError
            For an argument out of its range. Nothing has changed then.
    """,
}


@contextmanager
def _all_or_nothing(*schedules: LRScheduler) -> Iterator[None]:
    """After an error, these schedules and their optimizer's groups are as they were."""
    groups = schedules[0].optimizer.param_groups
    before, attributes = [group._options for group in groups], [dict(vars(schedule)) for schedule in schedules]
    try:
        yield
    except BaseException:
        for group, options in zip(groups, before, strict=True):
            group._options = options
            group._optimizer._write(group)
        for schedule, own in zip(schedules, attributes, strict=True):
            vars(schedule).clear()
            vars(schedule).update(own)
        raise


@doc(SHARED)
class LRScheduler:
    """What all schedules are; for one of your own, a subclass.

    A subclass has a `get_lr()` that returns a list, the learning rate of each group of ``self.optimizer`` at step
    ``self.last_epoch``, from the rates that the groups began with, ``self.base_lrs``, or those that they have.

    Parameters
    ----------
    {optimizer}
    {last_epoch}

    Attributes
    ----------
    last_epoch : int
        The number of the last step, which begins as 0.
    base_lrs : list of floats
        The learning rates that the groups began with.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> class InverseRoot(optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [lr / (1 + self.last_epoch) ** 0.5 for lr in self.base_lrs]
    >>> optimizer = optim.SGD([np.ones(2)], lr=0.1)
    >>> schedule = InverseRoot(optimizer)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> optimizer.lr
    0.05
    """

    _not_saved: ClassVar[tuple[str, ...]] = ("optimizer", "_is_initial")
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        groups = _groups(optimizer)
        integer(last_epoch, "last_epoch", -1)
        if last_epoch != -1 and not all("initial_lr" in group for group in groups):
            fail("last_epoch", last_epoch, "-1, because no schedule was there before")
        with _all_or_nothing(self):
            if last_epoch == -1:
                self._begin()
            for group in groups:
                if "initial_lr" not in group:
                    group["initial_lr"] = group["lr"]
            self.base_lrs = [group["initial_lr"] for group in groups]
            self.last_epoch = last_epoch
            self._first_step()

    def get_lr(self) -> list[float]:
        """Return the learning rate of each group at step `last_epoch`; what subclasses define."""
        raise NotImplementedError(f"{type(self).__name__}.get_lr")

    def step(self) -> None:
        """Go on by one step, after the optimizer's, or at the end of an epoch: set the next learning rates."""
        with _all_or_nothing(self):
            self.last_epoch += 1
            self._set(self.get_lr())

    def get_last_lr(self) -> list[float]:
        """Return the learning rates that were set last, one for each group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to continue, as np.savez stores it, but the optimizer's state and functions."""
        return {name: value for name, value in vars(self).items() if name not in self._not_saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned. Learning rates are in the optimizer's state_dict.

        Parameters
        ----------
        state : mapping
            Such as a dict, or np.load of what np.savez stored.

        Raises
        ------
        ValueError, TypeError
            For what is missing or unknown, or of another kind or number of groups. Nothing has changed then.
        """
        vars(self).update(self._loaded(state))

    def _loaded(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes in a state, checked."""
        own = LRScheduler.state_dict(self)
        _refuse_other(state)
        if set(state) != set(own):
            fail("state", f"{sorted(state)}", f"{sorted(own)}")
        loaded = {name: np.asarray(state[name]).tolist() for name in own}
        for name, value in loaded.items():
            if _kind(value) is not _kind(own[name]):
                raise TypeError(f"state[{name!r}]: found {value!r}, expected something like {own[name]!r}")
        for name in ("base_lrs", "_last_lr"):
            if len(loaded.get(name, ())) != len(own.get(name, ())):
                fail(f"state[{name!r}]", f"{len(loaded[name])} groups", len(own[name]))
        return loaded

    def _begin(self) -> None:
        """What a subclass sets before all else, unless it continues another."""

    def _first_step(self) -> None:
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def _undo(self) -> None:
        """The first step."""
        self.last_epoch -= 1

    def _restart(self) -> None:
        """Step 0, in the middle of a SequentialLR."""
        self.last_epoch = 0
        self._set(self._first_lr())

    def _first_lr(self) -> list[float]:
        """The rates at step 0, from base_lrs."""
        return self.get_lr()

    def _set(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = self._rates()

    def _rates(self) -> list[float]:
        """Those that are set."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[float]:
        """Those that are set, times a factor."""
        return [rate * factor for rate in self._rates()]


class _ByFactors(LRScheduler):
    """A schedule whose rate is, at step 0, that of the group times _first_factor."""

    _first_factor: float = 1.0

    def _first_lr(self) -> list[float]:
        return [base * self._first_factor for base in self.base_lrs]


@doc(SHARED)
class StepLR(_ByFactors):
    """The rate times gamma every step_size steps.

    Parameters
    ----------
    {optimizer}
    step_size : int
        At least 1.
    {gamma}
    {last_epoch}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule, rates = optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5), []
    >>> for epoch in range(5):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = integer(step_size, "step_size", 1), number(gamma, "gamma", 0.0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        falls = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return self._scaled(self.gamma) if falls else self._rates()


@doc(SHARED)
class MultiStepLR(_ByFactors):
    """The rate times gamma at each of the milestones.

    Parameters
    ----------
    {optimizer}
    milestones : iterable of ints
        Numbers of steps; twice the same counts twice.
    {gamma}
    {last_epoch}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule, rates = optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.5), []
    >>> for epoch in range(5):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(integer(step, "milestones", 0) for step in _sequence(milestones, "milestones"))
        self.gamma = number(gamma, "gamma", 0.0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._scaled(self.gamma ** self.milestones.count(self.last_epoch))

    def _first_lr(self) -> list[float]:
        return [base * self.gamma ** self.milestones.count(0) for base in self.base_lrs]


@doc(SHARED)
class ConstantLR(_ByFactors):
    """The rate times factor for total_iters steps; then the rate itself.

    Parameters
    ----------
    {optimizer}
    factor : float
        Between 0 and 1.
    total_iters : int
        At least 1.
    {last_epoch}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule, rates = optim.lr_scheduler.ConstantLR(optimizer, 0.25, total_iters=2), []
    >>> for epoch in range(4):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.25, 0.25, 1.0, 1.0]
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        self.factor, self.total_iters = number(factor, "factor", 0.0, 1.0), integer(total_iters, "total_iters", 1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self._scaled(self.factor)
        if self.last_epoch != self.total_iters:
            return self._rates()
        return self._scaled(1 / self.factor) if self.factor else list(self.base_lrs)

    @property
    def _first_factor(self) -> float:  # type: ignore[override]
        return self.factor


@doc(SHARED)
class LinearLR(_ByFactors):
    """The rate times a factor that goes from start_factor to end_factor within total_iters steps, and stays: a warm-up.

    Parameters
    ----------
    {optimizer}
    start_factor : float
        Above 0 and at most 1.
    end_factor : float
        Between 0 and 1.
    total_iters : int
        At least 1.
    {last_epoch}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule, rates = optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2), []
    >>> for epoch in range(4):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = number(start_factor, "start_factor", ABOVE_ZERO, 1.0)
        self.end_factor = number(end_factor, "end_factor", 0.0, 1.0)
        self.total_iters = integer(total_iters, "total_iters", 1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self._scaled(self.start_factor)
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates()
        change = self.end_factor - self.start_factor
        return self._scaled(1 + change / (self.total_iters * self.start_factor + (self.last_epoch - 1) * change))

    @property
    def _first_factor(self) -> float:  # type: ignore[override]
        return self.start_factor


@doc(SHARED)
class ExponentialLR(_ByFactors):
    """The rate times gamma at every step.

    Parameters
    ----------
    {optimizer}
    {gamma}
    {last_epoch}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> for epoch in range(3):
    ...     schedule.step()
    >>> optimizer.lr
    0.125
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = number(gamma, "gamma", 0.0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._rates() if self._is_initial else self._scaled(self.gamma)


@doc(SHARED)
class PolynomialLR(_ByFactors):
    """Down to 0 within total_iters steps, as ``(1 - step / total_iters)**power``.

    Parameters
    ----------
    {optimizer}
    total_iters : int
        At least 1.
    power : float
        1 is a straight line.
    {last_epoch}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule, rates = optim.lr_scheduler.PolynomialLR(optimizer, total_iters=2, power=2.0), []
    >>> for epoch in range(4):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [1.0, 0.25, 0.0, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = integer(total_iters, "total_iters", 1), number(power, "power", 0.0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._rates()
        left, before = (1 - step / self.total_iters for step in (self.last_epoch, self.last_epoch - 1))
        return self._scaled((left / before) ** self.power)


@doc(SHARED)
class CosineAnnealingLR(_ByFactors):
    """Down to eta_min within T_max steps, along half a cosine; then up again, and so on.

    At step t, of a rate that nothing else changes::

        lr = eta_min + (initial_lr - eta_min) * (1 + cos(pi * t / T_max)) / 2

    Parameters
    ----------
    {optimizer}
    T_max : int
        At least 1.
    eta_min : float
        The lowest rate, at least 0.
    {last_epoch}

    {raises}

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule, rates = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4), []
    >>> for epoch in range(5):
    ...     rates.append(round(optimizer.lr, 4))
    ...     schedule.step()
    >>> rates
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = integer(T_max, "T_max", 1), number(eta_min, "eta_min", 0.0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates()
        angle, low = math.pi / self.T_max, self.eta_min
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # from the bottom, where the factor is 1 / 0
            rise = (1 - math.cos(angle)) / 2
            return [rate + (base - low) * rise for rate, base in zip(self._rates(), self.base_lrs, strict=True)]
        factor = (1 + math.cos(angle * self.last_epoch)) / (1 + math.cos(angle * (self.last_epoch - 1)))
        return [max(0.0, factor * (rate - low) + low) for rate in self._rates()]


@doc(SHARED)
class CosineAnnealingWarmRestarts(LRScheduler):
    """Down to eta_min along half a cosine, again and again: within T_0 steps, then each time T_mult times as many.

    At step t of a run of T steps::

        lr = eta_min + (initial_lr - eta_min) * (1 + cos(pi * t / T)) / 2

    Parameters
    ----------
    {optimizer}
    T_0 : int
        At least 1.
    T_mult : int
        At least 1.
    eta_min : float
        The lowest rate, at least 0.
    {last_epoch}

    {raises}

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule, rates = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 2, T_mult=2), []
    >>> for epoch in range(6):
    ...     rates.append(round(optimizer.lr, 4))
    ...     schedule.step()
    >>> rates
    [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464]
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0, self.T_mult = integer(T_0, "T_0", 1), integer(T_mult, "T_mult", 1)
        self.eta_min = number(eta_min, "eta_min", 0.0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        done, run = self.last_epoch, self.T_0
        if self.T_mult == 1:
            done %= run
        while done >= run:
            done, run = done - run, run * self.T_mult
        part = (1 + math.cos(math.pi * done / run)) / 2
        return [self.eta_min + (base - self.eta_min) * part for base in self.base_lrs]


@doc(SHARED)
class LambdaLR(LRScheduler):
    """The rate that the group began with times lr_lambda(step).

    Parameters
    ----------
    {optimizer}
    lr_lambda : function or list of functions
        From the number of the step to a factor; a list has one for each group.
    {last_epoch}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    >>> schedule.step()
    >>> optimizer.lr
    0.5
    """

    _not_saved = (*LRScheduler._not_saved, "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _for_each(lr_lambda, "lr_lambda", _groups(optimizer), "functions")
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeError(f"lr_lambda: found {function!r}, expected a function or one for each group")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [base * function(self.last_epoch) for base, function in pairs]


@doc(SHARED)
class MultiplicativeLR(LambdaLR):
    """The rate times lr_lambda(step), at every step.

    Parameters
    ----------
    {optimizer}
    lr_lambda : function or list of functions
        From the number of the step, from 1, to a factor; a list has one for each group.
    {last_epoch}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule = optim.lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.5)
    >>> for epoch in range(3):
    ...     schedule.step()
    >>> optimizer.lr
    0.125
    """

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._rates()
        pairs = zip(self._rates(), self.lr_lambdas, strict=True)
        return [rate * function(self.last_epoch) for rate, function in pairs]


class _WithMomentum(LRScheduler):
    """A schedule that may move the momentum the other way."""

    def _take_momentum(self, optimizer: Optimizer, cycle: bool, base: Any, most: Any) -> None:
        groups = _groups(optimizer)
        self.cycle_momentum = flag(cycle, "cycle_momentum")
        if cycle and not {"momentum", "betas"} & optimizer.defaults.keys():
            fail("cycle_momentum", True, "False, because the optimizer has neither momentum nor betas")
        self.base_momentums = _numbers(base, "base_momentum", groups)
        self.max_momentums = _numbers(most, "max_momentum", groups)

    def _set_momentums(self, momentums: list[float]) -> None:
        if not self.cycle_momentum:
            return
        for group, momentum in zip(self.optimizer.param_groups, momentums, strict=True):
            if "betas" in self.optimizer.defaults:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


@doc(SHARED)
class OneCycleLR(_WithMomentum):
    """One cycle: up from ``max_lr / div_factor`` to max_lr, and down to a final_div_factor of where it began.

    A step is a batch, not an epoch.

    Parameters
    ----------
    {optimizer}
    max_lr : float or list of floats
        The highest rate; a list has one for each group.
    total_steps : int, optional
        How many steps the cycle has.
    epochs, steps_per_epoch : int, optional
        Instead of total_steps, which is their product.
    pct_start : float
        The part of the steps that goes up, between 0 and 1.
    anneal_strategy : "cos" or "linear"
        Along half a cosine, or a straight line.
    {cycle_momentum}
    div_factor, final_div_factor : float
        Above 0.
    three_phase : bool
        Down in as many steps as up, to where it began, and only then to the end.
    {last_epoch}

    {raises}

    Notes
    -----
    Step ``total_steps`` may be made as well, as in torch; the rate is not below 0 there, where torch's line goes on.

    References
    ----------
    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates",
    arXiv:1708.07120.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)])
    >>> schedule = optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=10, anneal_strategy="linear")
    >>> rates = []
    >>> for batch in range(10):
    ...     rates.append(round(optimizer.lr, 2))
    ...     schedule.step()
    >>> rates
    [0.04, 0.52, 1.0, 0.86, 0.71, 0.57, 0.43, 0.29, 0.14, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = integer(epochs, "epochs", 1) * integer(steps_per_epoch, "steps_per_epoch", 1)
        if total_steps is None:
            fail("total_steps", None, "at least 1, or epochs and steps_per_epoch")
        self.total_steps = integer(total_steps, "total_steps", 1)
        self.pct_start = number(pct_start, "pct_start", 0.0, 1.0)
        self.linear = bool(choice(anneal_strategy, "anneal_strategy", ("cos", "linear")))
        self.three_phase = flag(three_phase, "three_phase")
        self.div_factor = number(div_factor, "div_factor", ABOVE_ZERO)
        self.final_div_factor = number(final_div_factor, "final_div_factor", ABOVE_ZERO)
        self.max_lrs = _numbers(max_lr, "max_lr", _groups(optimizer))
        self._take_momentum(optimizer, cycle_momentum, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            fail("step", f"{self.last_epoch} steps", f"at most total_steps, {self.total_steps}")
        momentums = zip(self.max_momentums, self.base_momentums, strict=True)
        self._set_momentums([self._between(most, least, most) for most, least in momentums])
        rates = zip(self.base_lrs, self.max_lrs, strict=True)
        return [max(0.0, self._between(low, high, low / self.final_div_factor)) for low, high in rates]

    def _begin(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.max_lrs, strict=True):
            group["initial_lr"] = rate / self.div_factor

    def _between(self, first: float, highest: float, last: float) -> float:
        """At this step, of what begins so, is so at the top, and ends so."""
        up = self.pct_start * self.total_steps - 1
        phases = [(up, first, highest), (self.total_steps - 1, highest, last)]
        if self.three_phase:
            phases[1:] = [(2 * up, highest, first), (self.total_steps - 1, first, last)]
        begin = 0.0
        while len(phases) > 1 and self.last_epoch > phases[0][0]:
            begin = phases.pop(0)[0]
        end, start, stop = phases[0]
        done = (self.last_epoch - begin) / (end - begin) if end != begin else 1.0
        return start + (stop - start) * (done if self.linear else (1 - math.cos(math.pi * done)) / 2)


@doc(SHARED)
class CyclicLR(_WithMomentum):
    """Up from base_lr to max_lr and down again, over and over, along straight lines.

    A step is a batch, not an epoch.

    Parameters
    ----------
    {optimizer}
    base_lr, max_lr : float or list of floats
        The lowest and the highest rate; a list has one for each group.
    step_size_up, step_size_down : int
        The steps up, and down (None: as many).
    mode : "triangular", "triangular2" or "exp_range"
        Cycles are equally high, half as high as the one before, or higher than base_lr by ``gamma**step``.
    gamma : float
        Of "exp_range", at least 0.
    scale_fn : function, optional
        Instead of a mode: from the number of the cycle, from 1, or of the step to the factor of the height.
    scale_mode : "cycle" or "iterations"
        Which of the two scale_fn takes.
    {cycle_momentum}
    {last_epoch}

    {raises}

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks", WACV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)])
    >>> schedule, rates = optim.lr_scheduler.CyclicLR(optimizer, 0.0, 1.0, step_size_up=2), []
    >>> for batch in range(6):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    """

    _not_saved = (*LRScheduler._not_saved, "scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        groups = _groups(optimizer)
        self._lowest = _numbers(base_lr, "base_lr", groups)
        self.max_lrs = _numbers(max_lr, "max_lr", groups)
        self.step_size_up = number(step_size_up, "step_size_up", ABOVE_ZERO)
        self.step_size_down = number(
            self.step_size_up if step_size_down is None else step_size_down, "step_size_down", ABOVE_ZERO
        )
        self.gamma = number(gamma, "gamma", 0.0)
        if scale_fn is None:
            choice(mode, "mode", ("triangular", "triangular2", "exp_range"))
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        elif not callable(scale_fn):
            raise TypeError(f"scale_fn: found {scale_fn!r}, expected a function")
        choice(scale_mode, "scale_mode", ("cycle", "iterations"))
        self.mode, self.scale_fn, self.scale_mode = str(mode), scale_fn, str(scale_mode)
        self._take_momentum(optimizer, cycle_momentum, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        total = self.step_size_up + self.step_size_down
        up = self.step_size_up / total
        cycle = math.floor(1 + self.last_epoch / total)
        x = 1 + self.last_epoch / total - cycle
        height = x / up if x <= up else (x - 1) / (up - 1)
        height *= self._scale(cycle if self.scale_mode == "cycle" else self.last_epoch)
        momentums = zip(self.base_momentums, self.max_momentums, strict=True)
        self._set_momentums([most - (most - least) * height for least, most in momentums])
        return [low + (high - low) * height for low, high in zip(self._lowest, self.max_lrs, strict=True)]

    def _begin(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._lowest, strict=True):
            group["lr"] = rate

    def _scale(self, x: float) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(x)
        return float({"triangular": 1.0, "triangular2": 0.5 ** (x - 1), "exp_range": self.gamma**x}[self.mode])


@doc(SHARED)
class ReduceLROnPlateau(LRScheduler):
    """The rate times factor whenever what is measured has not become better for some time.

    Parameters
    ----------
    {optimizer}
    mode : "min" or "max"
        Whether less is better, or more.
    factor : float
        At least 0 and below 1.
    patience : int
        For how many steps in a row it may be no better; at the next the rate falls.
    threshold : float
        By how much it has to be better than the best so far.
    threshold_mode : "rel" or "abs"
        As a part of the best, or as it is.
    cooldown : int
        For how many steps after that nothing is counted.
    min_lr : float or list of floats
        The lowest rate; a list has one for each group.
    eps : float
        A smaller change of the rate is not made.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> schedule, rates = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1), []
    >>> for loss in [3.0, 2.0, 2.1, 2.2, 1.0]:
    ...     schedule.step(loss)
    ...     rates.append(optimizer.lr)
    >>> rates
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        groups = _groups(optimizer)
        choice(mode, "mode", ("min", "max"))
        choice(threshold_mode, "threshold_mode", ("rel", "abs"))
        if not number(factor, "factor", 0.0) < 1:
            fail("factor", factor, "below 1")
        self.optimizer, self.mode, self.threshold_mode = optimizer, str(mode), str(threshold_mode)
        self.factor, self.patience = float(factor), integer(patience, "patience", 0)
        self.threshold, self.cooldown = number(threshold, "threshold", 0.0), integer(cooldown, "cooldown", 0)
        self.min_lrs, self.eps = _numbers(min_lr, "min_lr", groups), number(eps, "eps", 0.0)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._last_lr = self._rates()

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Go on by one step, after this was measured.

        Parameters
        ----------
        metrics : float
            Such as the loss on held-out data. NaN is no better than anything.
        """
        if isinstance(metrics, (bool, str)):
            raise TypeError(f"metrics: found {metrics!r}, expected a number")
        try:
            found = float(metrics)
        except (TypeError, ValueError):
            raise TypeError(f"metrics: found {type(metrics).__name__}, expected a number") from None
        with _all_or_nothing(self):
            self.last_epoch += 1
            better = self._is_better(found)
            self.best = found if better else self.best
            self.num_bad_epochs = 0 if better else self.num_bad_epochs + 1
            if self.cooldown_counter > 0:
                self.cooldown_counter -= 1
                self.num_bad_epochs = 0
            if self.num_bad_epochs > self.patience:
                lower = [max(r * self.factor, least) for r, least in zip(self._rates(), self.min_lrs, strict=True)]
                pairs = zip(self._rates(), lower, strict=True)
                self._set([new if old - new > self.eps else old for old, new in pairs])
                self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            self._last_lr = self._rates()

    def _is_better(self, found: float) -> bool:
        by = self.threshold if self.mode == "max" else -self.threshold
        wanted = self.best * (1 + by) if self.threshold_mode == "rel" else self.best + by
        return found > wanted if self.mode == "max" else found < wanted


class _Several(LRScheduler):
    """A schedule made of others."""

    _not_saved = (*LRScheduler._not_saved, "schedulers")

    def _take_schedulers(self, schedulers: Any, optimizer: Optimizer | None) -> None:
        self.schedulers: list[LRScheduler] = _sequence(schedulers, "schedulers")
        if not self.schedulers:
            fail("schedulers", "none", "at least one")
        for i, schedule in enumerate(self.schedulers):
            if not isinstance(schedule, LRScheduler):
                raise TypeError(f"schedulers[{i}]: found {type(schedule).__name__}, expected a schedule")
            if isinstance(schedule, ReduceLROnPlateau):
                fail(f"schedulers[{i}]", "ReduceLROnPlateau", "a schedule whose step takes nothing")
        self.optimizer = self.schedulers[0].optimizer if optimizer is None else optimizer
        _groups(self.optimizer)
        for i, schedule in enumerate(self.schedulers):
            if schedule.optimizer is not self.optimizer:
                fail(f"schedulers[{i}]", "one of another optimizer", "one of this")

    def _all(self) -> list[LRScheduler]:
        """This and all that it is made of."""
        inner = (s._all() if isinstance(s, _Several) else [s] for s in self.schedulers)
        return [self, *(s for several in inner for s in several)]

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to continue, as np.savez stores it; the schedules' own as "0.last_epoch" etc."""
        own = {f"{i}.{name}": value for i, s in enumerate(self.schedulers) for name, value in s.state_dict().items()}
        return super().state_dict() | own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        _refuse_other(state)
        if set(state) != set(self.state_dict()):
            fail("state", f"{sorted(state)}", f"{sorted(self.state_dict())}")
        with _all_or_nothing(*self._all()):
            for i, s in enumerate(self.schedulers):
                s.load_state_dict({name: state[f"{i}.{name}"] for name in s.state_dict()})
            super().load_state_dict({name: state[name] for name in LRScheduler.state_dict(self)})

    def _undo(self) -> None:
        for schedule in self.schedulers:
            schedule._undo()


@doc(SHARED)
class SequentialLR(_Several):
    """One schedule after another, each from its milestone on.

    Parameters
    ----------
    {optimizer}
    schedulers : list of schedules
        Of this optimizer, in the order in which they follow each other.
    milestones : list of ints
        The number of the step at which each but the first begins, at its own step 0.
    {last_epoch}

    {raises}

    Examples
    --------
    Warm-up, and then a cosine.

    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> warm_up = optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2)
    >>> cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    >>> schedule, rates = optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[2]), []
    >>> for epoch in range(7):
    ...     rates.append(round(optimizer.lr, 4))
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._take_schedulers(schedulers, optimizer)
        self.milestones = [integer(step, "milestones", 0) for step in _sequence(milestones, "milestones")]
        if len(self.milestones) != len(self.schedulers) - 1:
            found, expected = f"{len(self.milestones)}", f"{len(self.schedulers) - 1}, one between each two schedulers"
            fail("milestones", found, expected)
        if self.milestones != sorted(self.milestones):
            fail("milestones", self.milestones, "numbers in ascending order")
        with _all_or_nothing(*self._all()):
            self.last_epoch = integer(last_epoch, "last_epoch", -1) + 1
            self._start(undo=True)

    def step(self) -> None:
        """Go on by one step, after the optimizer's, or at the end of an epoch: set the next learning rates."""
        with _all_or_nothing(*self._all()):
            self.last_epoch += 1
            active = bisect_right(self.milestones, self.last_epoch)
            schedule = self.schedulers[active]
            if active and self.milestones[active - 1] == self.last_epoch:
                schedule._restart()
            else:
                schedule.step()
            self._last_lr = schedule.get_last_lr()

    def _start(self, undo: bool) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        if undo:
            self._undo()
        first = self.schedulers[bisect_right(self.milestones, 0)]
        first._first_step()
        self._last_lr = first.get_last_lr()

    def _first_step(self) -> None:
        self.last_epoch = 0
        self._start(undo=False)

    def _restart(self) -> None:
        self.last_epoch = 0
        first = self.schedulers[bisect_right(self.milestones, 0)]
        first._restart()
        self._last_lr = first.get_last_lr()


@doc(SHARED)
class ChainedScheduler(_Several):
    """Several schedules at once: each step is a step of every one, in their order.

    Parameters
    ----------
    schedulers : list of schedules
        Of one optimizer.
    optimizer : Optimizer, optional
        Theirs.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import optim
    >>> optimizer = optim.SGD([np.ones(2)], lr=1.0)
    >>> several = [
    ...     optim.lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=2),
    ...     optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    ... ]
    >>> schedule, rates = optim.lr_scheduler.ChainedScheduler(several), []
    >>> for epoch in range(4):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [0.5, 0.25, 0.25, 0.125]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._take_schedulers(schedulers, optimizer)
        self._last_lr = self._rates()

    def step(self) -> None:
        """Go on by one step, after the optimizer's, or at the end of an epoch: set the next learning rates."""
        with _all_or_nothing(*self._all()):
            for schedule in self.schedulers:
                schedule.step()
            self._last_lr = self._rates()

    def _first_step(self) -> None:
        for schedule in self.schedulers:
            schedule._first_step()
        self._last_lr = self._rates()

    def _restart(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for schedule in self.schedulers:
            schedule.last_epoch = -1
        self._first_step()


def _groups(optimizer: Optimizer) -> list[ParamGroup]:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: found {type(optimizer).__name__}, expected one of fastdl.optim")
    return optimizer.param_groups


def _sequence(values: Any, argument: str) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{argument}: found {values!r}, expected a list")
    return list(values)


def _for_each(value: Any, argument: str, groups: list[ParamGroup], what: str) -> list[Any]:
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(groups)
    if len(values) != len(groups):
        fail(argument, f"{len(values)} {what}", f"one for each of {len(groups)} groups")
    return values


def _numbers(value: float | Sequence[float], argument: str, groups: list[ParamGroup]) -> list[float]:
    return [number(v, argument, 0.0) for v in _for_each(value, argument, groups, "numbers")]


def _refuse_other(state: Any) -> None:
    if not isinstance(state, Mapping):
        raise TypeError(f"state: found {type(state).__name__}, expected a dict")


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)
