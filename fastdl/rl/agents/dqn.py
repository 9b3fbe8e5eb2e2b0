"""Deep Q-learning: values of discrete actions by a network, learned from what was seen before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastdl
from fastdl import nn, optim, record
from fastdl.rl._numba import borrowing
from fastdl.rl.agents import _collect
from fastdl.rl.agents._agent import Agent, Clock, described, options_of
from fastdl.rl.agents._networks import Parameters, mlp
from fastdl.rl.agents._programs import Bound, run_program
from fastdl.rl.agents._replay import batch_of, draw, replay_of, reprioritize, store
from fastdl.rl.agents.history import History
from fastdl.rl.environment import Environment, call_step
from fastdl.rl.random import integers, random

Array = np.ndarray[Any, Any]

__all__ = ["DQN", "Dueling"]

_SLICE = 1000
"""Steps between two looks at Ctrl-C and callbacks."""


class Dueling(nn.Module):
    """Values of actions from a state's value and the actions' advantages (Wang et al. 2016)::

        y[:, a] = x[:, 0] + x[:, 1 + a] - mean(x[:, 1:])

    Parameters
    ----------
    actions : int
        How many there are; x has one column more.
    dtype : numpy.float32 or numpy.float64

    Examples
    --------
    >>> import numpy as np
    >>> from fastdl import rl
    >>> rl.agents.Dueling(2)(np.array([[1, 2, 4]], np.float32))
    array([[0., 2.]], dtype=float32)
    """

    buffer_names = ("matrix",)

    def __init__(self, actions: int, dtype: Any = np.float32) -> None:
        self.matrix = np.hstack([np.ones((actions, 1)), np.eye(actions) - 1 / actions]).astype(dtype)

    def forward(self, x: Any) -> Array:
        self.save_for_backward(x)
        return fastdl.linear(x, self.matrix)

    def backward(self, grad_output: Any, input_grad: bool = True) -> Array:
        (x,) = self.saved
        return fastdl.linear_backward(grad_output, x, self.matrix).input


@borrowing
def _learn(
    count: int,
    before: int,
    act: int,
    values: int,
    target_values: int,
    update: int,
    reset_at: int,
    step_at: int,
    max_steps: int,
    worlds: Any,
    scale: Any,
    now: Any,
    after: Any,
    outputs: Any,
    replay: Any,
    batch: Any,
    next_values: Any,
    next_target_values: Any,
    parameters: Any,
    target_parameters: Any,
    exploration: Any,
    start: int,
    every: int,
    renew: int,
    gamma: float,
    double: bool,
    alpha: float,
    beta: float,
    rest: int,
    episodes: Any,
    losses: Any,
) -> Any:
    """Take `count` steps in each of N environments, of which `before` were made, and learn on the way.

    Parameters
    ----------
    act, values, target_values, update : addresses of programs
        Of N observations; of B, by the network and by the one of before; of a batch's update.
    now, after : (N, O), R
        Normalised observations; `now` holds those of the environments.
    outputs : (N, A), next_values, next_target_values : (B, A), R
    parameters, target_parameters : (size,), R
        Of both networks; the second ones become the first every `renew` updates.
    exploration : (first, last, steps)
        The probability of a random action falls from first to last in so many steps.
    start, every : steps before the first update, and from one to the next
    alpha, beta, rest : of prioritized replay; beta rises to 1 in `rest` steps
    losses : (2,), float64
        The sum of squared errors, and how many updates there were.

    Returns
    -------
    steps made, and 0 for right, 1 for what is not finite, else 1 + the status of a program
    """  # fmt: skip
    n, actions = now.shape[0], outputs.shape[1]
    for t in range(count):
        made = before + t * n
        share = min(made / exploration[2], 1.0)
        epsilon = exploration[0] + (exploration[1] - exploration[0]) * share
        status = run_program(act, (now, outputs))
        if status != 0:
            return t, 1 + status
        for i in range(n):
            output, observation = outputs[i], worlds.observations[i]
            action = integers(worlds.rng, actions) if random(worlds.rng) < epsilon else _collect._best(output)
            reward, terminated = call_step(step_at, worlds.states[i], np.int64(action), observation, worlds.rngs[i])
            worlds.lengths[i] += 1
            worlds.returns[i] += reward
            if not (_collect.normalise(observation, scale, after[i]) and np.isfinite(reward)):
                return t, 1
            store(replay, now[i], action, reward, terminated, after[i])
            if terminated or worlds.lengths[i] == max_steps:
                ended = episodes.ended[0]
                if ended < episodes.returns.shape[0]:
                    episodes.returns[ended], episodes.lengths[ended] = worlds.returns[i], worlds.lengths[i]
                    episodes.ended[0] = ended + 1
                _collect._started(reset_at, worlds, i)
                _collect.normalise(worlds.observations[i], scale, after[i])
            _collect.copy(after[i], now[i])
        made += n
        if made < start or made // every == (made - n) // every:
            continue
        draw(replay, batch, beta + (1.0 - beta) * min(made / rest, 1.0), worlds.rng)
        status = run_program(target_values, (batch.next_observations, next_target_values))
        if double and status == 0:
            status = run_program(values, (batch.next_observations, next_values))
        if status != 0:
            return t, 1 + status
        for b in range(batch.rows.shape[0]):
            row = batch.rows[b]
            best = _collect._best(next_values[b] if double else next_target_values[b])
            future = 0.0 if replay.terminated[row] else gamma * next_target_values[b, best]
            batch.targets[b] = -(replay.rewards[row] + future)
        status = run_program(update, (batch.observations, batch.actions, batch.targets, batch.weights, batch.losses))
        if status != 0:
            return t, 1 + status
        error = 0.0
        for b in range(batch.rows.shape[0]):
            error += (np.float64(batch.targets[b]) - batch.losses[b]) ** 2
        losses[0] += error / batch.rows.shape[0]
        losses[1] += 1
        if not np.isfinite(error):
            return t, 1
        if alpha > 0.0:
            reprioritize(replay, batch, alpha)
        if (made // every) % renew == 0:
            _collect.copy(parameters, target_parameters)
    return count, 0


class DQN(Agent):
    """Deep Q-learning (Mnih et al. 2015), double (van Hasselt et al. 2016).

    Dueling (Wang et al. 2016) and prioritized replay (Schaul et al. 2016) are options.

    ::

        target = reward + gamma * Q_before(next, argmax_a Q(next, a)) * (1 - terminated)
        loss = mean(weight * huber(Q(observation, action) - target))

    Without `double` the best action is the one that ``Q_before``, the network of some updates ago, takes for it.

    Parameters
    ----------
    environment : Environment
        Compiled, with discrete actions.
    hidden : sequence of int
        The sizes of the hidden layers.
    activation : {"tanh", "relu", "elu", "silu"}
        After each of them.
    network : Module, optional
        One of the user's own instead: (n, O) to values of actions (n, A).
    dtype : numpy.float32 or numpy.float64
        Of networks and of what they are given.
    n_envs : int
        How many environments run at once.
    capacity : int
        How many transitions are kept.
    batch_size : int
        How many an update draws.
    learning_starts, train_every : int
        Steps before the first update, and from one to the next; of all environments together.
    target_every : int
        Updates after which ``Q_before`` becomes ``Q``.
    gamma : float
        The discount.
    double, dueling : bool
        See above; with `dueling` the last layer gives a value and advantages (`Dueling`).
    alpha, beta : float
        Of prioritized replay: what the error counts for the probability of being drawn, 0 for nothing, and how far that
        is made up for, rising to 1 over the steps of a call of `train`.
    epsilon, final_epsilon, exploration_steps : float, float, int
        The probability of a random action falls from the first to the second in so many steps.
    lr : float
        The learning rate.
    max_norm : float or None
        Gradients are scaled so that their norm is at most this.
    seed : int, optional
        The same seed gives the same agent, on any number of threads.

    Raises
    ------
    ValueError, TypeError
        For an option out of its range, an environment that `Environment.check` refuses, a network of other shapes.

    Examples
    --------
    >>> from fastdl import rl
    >>> agent = rl.DQN(rl.make("CartPole-v1"), seed=0)
    >>> history = agent.train(10_000)
    >>> agent.predict([0.0, 0.1, 0.0, 0.1]) in (0, 1)
    True
    """

    def __init__(
        self,
        environment: Environment,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        network: nn.Module | None = None,
        dtype: Any = np.float32,
        n_envs: int = 4,
        capacity: int = 50_000,
        batch_size: int = 64,
        learning_starts: int = 1000,
        train_every: int = 4,
        target_every: int = 250,
        gamma: float = 0.99,
        double: bool = True,
        dueling: bool = False,
        alpha: float = 0.0,
        beta: float = 0.4,
        epsilon: float = 1.0,
        final_epsilon: float = 0.05,
        exploration_steps: int = 10_000,
        lr: float = 1e-3,
        max_norm: float | None = 10.0,
        seed: int | None = None,
    ) -> None:
        options = options_of(locals())
        if not isinstance(environment, Environment):
            raise TypeError(f"environment: found {type(environment).__name__}, expected fastdl.rl.Environment")
        described(environment, options)
        actions, size = environment.n_actions, environment.observation_size
        if actions is None:
            raise TypeError(f"environment: found {environment.action_space}, expected discrete actions")
        if capacity < batch_size or learning_starts < batch_size:
            raise ValueError(
                f"batch_size: found {batch_size}, expected at most capacity ({capacity}) and learning_starts "
                f"({learning_starts})"
            )
        if network is None and dueling:
            rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
            sizes = (size, *hidden, actions + 1)
            network = nn.Sequential(*mlp(sizes, activation, 1.0, np.dtype(dtype), rng), Dueling(actions, dtype))
            super().__init__(environment, options, {"network": (network, actions, 1.0)})
            self._custom = []
        else:
            super().__init__(environment, options, {"network": (network, actions, 1.0)})
        self.worlds = _collect.worlds_of(environment, n_envs, self._seeds["worlds"])
        self.target = copy.deepcopy(self.networks["network"])
        self._target_parameters = Parameters({"network": self.target}, {}, self.dtype)
        self.replay = replay_of(capacity, size, self.dtype, alpha > 0)
        self.optimizer = optim.Adam(self.parameters.named, lr=lr)
        self._batch = batch_of(batch_size, size, self.dtype)
        self._now, self._after = (np.zeros((n_envs, size), self.dtype) for _ in range(2))
        self._episodes = _collect.episodes_of(_SLICE)
        self._started = np.zeros(1, np.int64)
        self._programs: tuple[Any, ...] | None = None

    def _state(self) -> dict[str, Array]:
        return super()._state() | {
            **{f"replay.{name}": array for name, array in self.replay._asdict().items()},
            "target": self._target_parameters.flat,
            "now": self._now,
            "started": self._started,
        }

    def bound(self, name: str, rows: int) -> Bound:
        # Parameters change at almost every step: nothing is packed.
        if (name, rows) not in self._bound:
            example = np.zeros((rows, self.environment.observation_size), self.dtype)
            self._bound[name, rows] = Bound(self.networks[name].bind(example, freeze=False), rows)
        return self._bound[name, rows]

    def train(
        self, steps: int, *, target: float | None = None, callback: Callable[[Any, History], Any] | None = None
    ) -> History:
        """Learn for some steps more.

        Parameters
        ----------
        steps : int
            Of all environments together.
        target : float, optional
            Stop where the mean return of 100 episodes with the best actions reaches it (`evaluate`), which is looked at
            now and then, from where the last 20 episodes of training come within half of it.
        callback : callable, optional
            Called as ``callback(agent, history)`` after every 1,000 steps or so, with their episodes; training ends
            where it returns True.

        Returns
        -------
        History

        Raises
        ------
        DivergedError
            Where a parameter, an observation or a reward is not finite; the agent has its last good parameters.
        """
        begin, end = self.check_steps(steps)
        options, environment = self.options, self.environment
        if self._programs is None:
            self._programs = self._record()
        act, values, target_values, update = self._programs
        reset, step = environment.addresses
        n, rows = options["n_envs"], options["batch_size"]
        outputs = np.zeros((n, environment.n_actions), self.dtype)
        next_values, next_target_values = (np.zeros((rows, environment.n_actions), self.dtype) for _ in range(2))
        exploration = np.array([options["epsilon"], options["final_epsilon"], options["exploration_steps"]], np.float64)
        if not self._started[0]:
            _collect.start(reset, self.worlds, self.scale, self._now)
            self._started[0] = 1
        clock = Clock()
        while self.steps < end:
            losses = np.zeros(2)
            count = -(-min(_SLICE, end - self.steps) // n)
            made, status = _learn(
                count, self.steps, act.code, values.code, target_values.code, update._native[0],
                reset, step, environment.max_steps or 0, self.worlds, self.scale, self._now, self._after, outputs,
                self.replay, self._batch, next_values, next_target_values,
                self.parameters.flat, self._target_parameters.flat,
                exploration, options["learning_starts"], options["train_every"], options["target_every"],
                options["gamma"], options["double"], options["alpha"], options["beta"], end - begin,
                self._episodes, losses,
            )  # fmt: skip
            self.refuse(status, self.steps + made * n)
            self.steps += made * n
            found = {"value": losses[0] / losses[1]} if losses[1] else {}
            if self.noted(clock, self._episodes, found, target, callback):
                break
        return clock.finished()

    def _record(self) -> tuple[Any, ...]:
        network, rows, max_norm = self.networks["network"], self.options["batch_size"], self.options["max_norm"]

        def update(observation: Array, action: Array, negative_target: Array, weight: Array) -> Array:
            # nll_loss without reduction is minus the action's value, and huber_loss is the same of both signs.
            found = network(observation)
            negative = fastdl.nll_loss(found, action, reduction="none")
            grad = fastdl.huber_loss_backward(weight, negative, negative_target, reduction="none")
            network.backward(fastdl.nll_loss_backward(grad, found, action, reduction="none"), input_grad=False)
            grads = {f"network.{name}": array for name, array in network.grads.items()}
            self.optimizer.step(grads, max_norm=max_norm)
            return negative

        b = self._batch
        program = record(update, b.observations, b.actions, b.targets, b.weights, verify=False)
        target = Bound(self.target.bind(b.observations, freeze=False), rows)
        return self.bound("network", self.options["n_envs"]), self.bound("network", rows), target, program
