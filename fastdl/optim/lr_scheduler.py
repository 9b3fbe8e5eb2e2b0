"""Learning-rate schedules with torch.optim.lr_scheduler's names and arguments.

A schedule sets the learning rate of every group of an optimizer when it is made, and anew at each step(), usually
once an epoch: to a function of the number of steps and of the rate that the group began with (its "initial_lr").
One follows another by SequentialLR.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastdl.functional.verbs import choice, fail
from fastdl.optim.optimizers import Optimizer


class LRScheduler:
    """A subclass says what the learning rate is: rate(group's number, its initial rate, steps done)."""

    rate: Callable[[int, float, int], float]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        """last_epoch: -1 to begin; else the steps done, less 1, by a schedule that this one continues."""
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: found {type(optimizer).__name__}, expected one of fastdl.optim")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if "initial_lr" not in group:
                if last_epoch != -1:
                    fail("last_epoch", last_epoch, "-1, because no schedule was there before")
                group["initial_lr"] = group["lr"]
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def step(self) -> None:
        """One epoch more."""
        self.go_to(self.last_epoch + 1)

    def go_to(self, epoch: int) -> None:
        """Set what belongs to that many steps."""
        rates = [self.rate(i, base, epoch) for i, base in enumerate(self.base_lrs)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.last_epoch = epoch

    def get_last_lr(self) -> list[float]:
        """The learning rates that are set, one for each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What np.savez stores; the learning rates themselves are in the optimizer's."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state: Any) -> None:
        """Continue from what state_dict() returned: sets the learning rates, too."""
        if set(state) != set(self.state_dict()) or len(state["base_lrs"]) != len(self.base_lrs):
            fail("state", f"{sorted(state)}", f"{sorted(self.state_dict())}, of {len(self.base_lrs)} groups")
        self.base_lrs = [float(rate) for rate in state["base_lrs"]]
        self.go_to(int(state["last_epoch"]))


class StepLR(LRScheduler):
    """The rate times gamma every step_size steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if not step_size >= 1:
            fail("step_size", step_size, "at least 1")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, group: int, base: float, epoch: int) -> float:  # type: ignore[override]
        return base * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """The rate times gamma at each of the milestones."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, group: int, base: float, epoch: int) -> float:  # type: ignore[override]
        return base * self.gamma ** bisect_right(self.milestones, epoch)


class ExponentialLR(LRScheduler):
    """The rate times gamma at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, group: int, base: float, epoch: int) -> float:  # type: ignore[override]
        return base * self.gamma**epoch


class CosineAnnealingLR(LRScheduler):
    """Down to eta_min within T_max steps, along half a cosine; then up again, and so on."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if not T_max >= 1:
            fail("T_max", T_max, "at least 1")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, group: int, base: float, epoch: int) -> float:  # type: ignore[override]
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class LinearLR(LRScheduler):
    """Warm-up: a factor that goes from start_factor to end_factor within total_iters steps, and stays."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            fail("start_factor", start_factor, "above 0 and at most 1")
        if not 0 <= end_factor <= 1:
            fail("end_factor", end_factor, "at least 0 and at most 1")
        if not total_iters >= 1:
            fail("total_iters", total_iters, "at least 1")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, group: int, base: float, epoch: int) -> float:  # type: ignore[override]
        done = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ConstantLR(LRScheduler):
    """The rate times factor for total_iters steps; then the rate itself."""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            fail("factor", factor, "at least 0 and at most 1")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, group: int, base: float, epoch: int) -> float:  # type: ignore[override]
        return base * self.factor if epoch < self.total_iters else base


class LambdaLR(LRScheduler):
    """The rate times lr_lambda(steps done); one function, or one for each group."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            fail("lr_lambda", f"{len(self.lr_lambdas)} functions", f"one for each of {groups} groups")
        super().__init__(optimizer, last_epoch)

    def rate(self, group: int, base: float, epoch: int) -> float:  # type: ignore[override]
        return base * self.lr_lambdas[group](epoch)


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to max_lr and down to a final_div_factor of where it began, in total_steps (or
    epochs steps_per_epoch) steps; the momentum (or beta1) the other way, between max_momentum and base_momentum.
    Smith and Topin, arXiv:1708.07120."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        if total_steps is None or not total_steps >= 1:
            fail("total_steps", total_steps, "at least 1, or epochs and steps_per_epoch")
        if not 0 <= pct_start <= 1:
            fail("pct_start", pct_start, "at least 0 and at most 1")
        self.linear = bool(choice(anneal_strategy, "anneal_strategy", ("cos", "linear")))
        self.option = next((name for name in ("betas", "momentum") if name in optimizer.defaults), "")
        if cycle_momentum and not self.option:
            fail("cycle_momentum", True, "False, because the optimizer has neither momentum nor betas")
        self.cycle_momentum, self.total_steps, self.div_factor = cycle_momentum, total_steps, div_factor
        self.final_div_factor = final_div_factor
        groups = len(optimizer.param_groups)
        self.max_lrs = _for_each(max_lr, "max_lr", groups)
        self.max_momenta = _for_each(max_momentum, "max_momentum", groups)
        self.base_momenta = _for_each(base_momentum, "base_momentum", groups)
        # Each phase: the step it ends at, and how far up the rate is there, of (first, highest, last).
        up = pct_start * total_steps - 1
        phases = [(up, 1), (2 * pct_start * total_steps - 2, 0), (total_steps - 1, 2)]
        self.phases = phases if three_phase else [phases[0], phases[2]]
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, self.max_lrs, strict=True):
                group["initial_lr"] = rate / div_factor
        super().__init__(optimizer, last_epoch)

    def go_to(self, epoch: int) -> None:
        if epoch > self.total_steps:
            fail("step", f"{epoch} steps", f"at most total_steps, {self.total_steps}")
        super().go_to(epoch)
        if not self.cycle_momentum:
            return
        for i, group in enumerate(self.optimizer.param_groups):
            most, least = self.max_momenta[i], self.base_momenta[i]
            value = self._between((most, least, most), epoch)
            group[self.option] = (value, group["betas"][1]) if self.option == "betas" else value

    def rate(self, group: int, base: float, epoch: int) -> float:  # type: ignore[override]
        return self._between((base, self.max_lrs[group], base / self.final_div_factor), epoch)

    def _between(self, levels: tuple[float, float, float], epoch: int) -> float:
        """(first, highest, last) at that step."""
        begin, start = 0.0, levels[0]
        for end, level in self.phases:
            if epoch <= end or end == self.phases[-1][0]:
                break
            begin, start = end, levels[level]
        done = (epoch - begin) / (end - begin)
        part = done if self.linear else (1 - math.cos(math.pi * done)) / 2
        return start + (levels[level] - start) * part


class SequentialLR:
    """One schedule after another: each begins at its milestone, counted in steps. Warm-up and cosine, for example:

    SequentialLR(o, [LinearLR(o, 0.1, total_iters=5), CosineAnnealingLR(o, 95)], milestones=[5])
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if not schedulers or any(s.optimizer is not optimizer for s in schedulers):
            fail("schedulers", f"{len(schedulers)}, or ones of another optimizer", "at least one of this optimizer")
        if len(milestones) != len(schedulers) - 1:
            fail("milestones", f"{len(milestones)}", f"{len(schedulers) - 1}, one between each two schedulers")
        self.optimizer, self.schedulers, self.milestones = optimizer, list(schedulers), list(milestones)
        self.go_to(last_epoch + 1)

    def step(self) -> None:
        """One epoch more."""
        self.go_to(self.last_epoch + 1)

    def go_to(self, epoch: int) -> None:
        active = bisect_right(self.milestones, epoch)
        self.schedulers[active].go_to(epoch - (self.milestones[active - 1] if active else 0))
        self.last_epoch = epoch

    def get_last_lr(self) -> list[float]:
        """The learning rates that are set, one for each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What np.savez stores: the schedules' own as "0.last_epoch" and so on."""
        own = {f"{i}.{name}": value for i, s in enumerate(self.schedulers) for name, value in s.state_dict().items()}
        return {"last_epoch": self.last_epoch} | own

    def load_state_dict(self, state: Any) -> None:
        """Continue from what state_dict() returned."""
        if set(state) != set(self.state_dict()):
            fail("state", f"{sorted(state)}", f"{sorted(self.state_dict())}")
        for i, scheduler in enumerate(self.schedulers):
            scheduler.load_state_dict({name: state[f"{i}.{name}"] for name in scheduler.state_dict()})
        self.go_to(int(state["last_epoch"]))


def _for_each(value: float | Sequence[float], argument: str, groups: int) -> list[float]:
    values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value] * groups
    if len(values) != groups:
        fail(argument, f"{len(values)} numbers", f"one for each of {groups} groups")
    return values
