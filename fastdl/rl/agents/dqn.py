"""Deep Q-learning: values of discrete actions by a network, learned from what was seen before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import fastdl
from fastdl import nn, optim, record
from fastdl.rl._numba import borrowing, inlined
from fastdl.rl.agents import _collect
from fastdl.rl.agents._agent import Agent, Clock, described, options_of
from fastdl.rl.agents._gymnasium import GymnasiumWorlds
from fastdl.rl.agents._networks import Parameters, mlp
from fastdl.rl.agents._programs import Bound, run_program
from fastdl.rl.agents._replay import batch_of, draw, replay_of, reprioritize, store
from fastdl.rl.agents.history import History
from fastdl.rl.environment import call_step
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


class Programs(NamedTuple):
    """Addresses of their code."""

    act: int
    """Of N observations."""
    values: int
    target_values: int
    """Of B, by the network and by the one of before."""
    update: int


class Rules(NamedTuple):
    """The options of `DQN` that its loop knows."""

    start: int
    every: int
    renew: int
    gamma: float
    double: bool
    alpha: float
    beta: float
    begin: int
    rest: int
    """Steps until beta rises, and in which it rises to 1."""
    epsilon: float
    final_epsilon: float
    exploration_steps: int


class Memory(NamedTuple):
    """R is float32 or float64."""

    now: Array
    after: Array
    """(N, O), R: normalised observations; those of the environments, and the next ones."""
    outputs: Array
    """(N, A), R: values of actions."""
    next_values: Array
    next_target_values: Array
    """(B, A), R."""
    parameters: Array
    target_parameters: Array
    """(size,), R: of both networks."""
    losses: Array
    """(2,), float64: the sum of squared errors, and how many updates there were."""
    updates: Array
    """(1,), int64: of all of training."""


@inlined
def _choose(rules: Any, output: Any, made: int, rng: Any) -> Any:
    """An action, after so many steps."""
    share = min(made / rules.exploration_steps, 1.0)
    epsilon = rules.epsilon + (rules.final_epsilon - rules.epsilon) * share
    return integers(rng, output.shape[0]) if random(rng) < epsilon else np.int64(_collect._best(output))


@borrowing
def _improve(programs: Any, rules: Any, memory: Any, replay: Any, batch: Any, rng: Any, made: int, n: int) -> Any:
    """Make the updates that are due when `n` steps more have been made: 0 for right, 1 for what is not finite, else
    1 + the status of a program."""
    if made >= rules.start:
        for _ in range(made // rules.every - (made - n) // rules.every):
            status = _update(programs, rules, memory, replay, batch, rng, made)
            if status != 0:
                return status
    return 0


@borrowing
def _update(programs: Any, rules: Any, memory: Any, replay: Any, batch: Any, rng: Any, made: int) -> Any:
    share = min((made - rules.begin) / rules.rest, 1.0)
    draw(replay, batch, rules.beta + (1.0 - rules.beta) * share, rng)
    status = run_program(programs.target_values, (batch.next_observations, memory.next_target_values))
    if rules.double and status == 0:
        status = run_program(programs.values, (batch.next_observations, memory.next_values))
    if status != 0:
        return 1 + status
    rows = batch.rows.shape[0]
    for b in range(rows):
        row = batch.rows[b]
        best = _collect._best(memory.next_values[b] if rules.double else memory.next_target_values[b])
        future = 0.0 if replay.terminated[row] else rules.gamma * memory.next_target_values[b, best]
        batch.targets[b] = -(replay.rewards[row] + future)
    given = batch.observations, batch.actions, batch.targets, batch.weights, batch.losses
    status = run_program(programs.update, given)
    if status != 0:
        return 1 + status
    error = 0.0
    for b in range(rows):
        error += (np.float64(batch.targets[b]) - batch.losses[b]) ** 2
    memory.losses[0] += error / rows
    memory.losses[1] += 1
    if not np.isfinite(error):
        return 1
    if rules.alpha > 0.0:
        reprioritize(replay, batch, rules.alpha)
    memory.updates[0] += 1
    if memory.updates[0] % rules.renew == 0:
        _collect.copy(memory.parameters, memory.target_parameters)
    return 0


@borrowing
def _learn(
    count: int,
    before: int,
    programs: Any,
    rules: Any,
    memory: Any,
    replay: Any,
    batch: Any,
    reset_at: int,
    step_at: int,
    max_steps: int,
    worlds: Any,
    scale: Any,
    episodes: Any,
) -> Any:
    """Take `count` steps in each of N environments, of which `before` were made, and learn on the way; steps made, and
    a status as of `_improve`."""  # fmt: skip
    now, after = memory.now, memory.after
    n = now.shape[0]
    for t in range(count):
        made = before + t * n
        status = run_program(programs.act, (now, memory.outputs))
        if status != 0:
            return t, 1 + status
        for i in range(n):
            observation = worlds.observations[i]
            action = _choose(rules, memory.outputs[i], made, worlds.rng)
            reward, terminated = call_step(step_at, worlds.states[i], action, observation, worlds.rngs[i])
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
        status = _improve(programs, rules, memory, replay, batch, worlds.rng, made + n, n)
        if status != 0:
            return t, status
    return count, 0


@borrowing
def _choose_each(rules: Any, outputs: Any, made: int, rng: Any, actions: Any) -> None:
    for i in range(outputs.shape[0]):
        actions[i] = _choose(rules, outputs[i], made, rng)


@borrowing
def _store_each(replay: Any, now: Any, actions: Any, rewards: Any, terminated: Any, after: Any) -> None:
    for i in range(actions.shape[0]):
        store(replay, now[i], actions[i], rewards[i], terminated[i], after[i])


class DQN(Agent):
    """Deep Q-learning (Mnih et al. 2015), double (van Hasselt et al. 2016).

    Dueling (Wang et al. 2016) and prioritized replay (Schaul et al. 2016) are options.

    ::

        target = reward + gamma * Q_before(next, argmax_a Q(next, a)) * (1 - terminated)
        loss = mean(weight * huber(Q(observation, action) - target))

    Without `double` the best action is the one that ``Q_before``, the network of some updates ago, takes for it.

    Parameters
    ----------
    environment : Environment or str or gymnasium.vector.VectorEnv
        With discrete actions: compiled, or Gymnasium's, by name or a vector, stepped from Python.
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
        environment: Any,
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
        environment = described(environment, options)
        n_envs = options["n_envs"]
        actions, size = environment.n_actions, environment.observation_size
        if actions is None:
            raise TypeError(f"environment: found {environment.action_space}, expected discrete actions")
        if capacity < batch_size or learning_starts < batch_size:
            raise ValueError(
                f"batch_size: found {batch_size}, expected at most capacity ({capacity}) and learning_starts "
                f"({learning_starts})"
            )
        if network is not None:
            if dueling:
                raise ValueError("dueling: found True and a network, expected a network that ends in rl.agents.Dueling")
            buffers = network.state_dict() if isinstance(network, nn.Module) else {}
            if running := [name for name in buffers if "running_" in name]:
                raise TypeError(f"network: found {running}, expected no running statistics: Q_before has none")
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
        self._memory = Memory(
            now=np.zeros((n_envs, size), self.dtype),
            after=np.zeros((n_envs, size), self.dtype),
            outputs=np.zeros((n_envs, actions), self.dtype),
            next_values=np.zeros((batch_size, actions), self.dtype),
            next_target_values=np.zeros((batch_size, actions), self.dtype),
            parameters=self.parameters.flat,
            target_parameters=self._target_parameters.flat,
            losses=np.zeros(2),
            updates=np.zeros(1, np.int64),
        )
        self._episodes = _collect.episodes_of(_SLICE + n_envs)
        self._programs: tuple[Bound, ...] | None = None

    def _state(self) -> dict[str, Array]:
        return super()._state() | {
            **{f"replay.{name}": array for name, array in self.replay._asdict().items()},
            "target": self._target_parameters.flat,
            "now": self._memory.now,
            "updates": self._memory.updates,
        }

    def _actions(self, outputs: Array, deterministic: bool) -> Array:
        best = super()._actions(outputs, True)
        if deterministic:
            return best
        o = self.options
        share = min(self.steps / o["exploration_steps"], 1.0)
        epsilon = o["epsilon"] + (o["final_epsilon"] - o["epsilon"]) * share
        drawn, _ = _collect.choose(np.zeros_like(outputs), None, False, self._predictions)
        explored = [random(self._predictions) < epsilon for _ in best]
        return np.where(explored, drawn, best)

    def bound(self, name: str, rows: int) -> Bound:
        # Parameters change at almost every step: nothing is packed.
        if (name, rows) not in self._bound:
            example = np.zeros((rows, self.environment.observation_size), self.dtype)
            self._bound[name, rows] = Bound(self.networks[name].bind(example, freeze=False))
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
        begin, end = self.check_steps(steps, target)
        options = self.options
        if self._programs is None:
            self._programs = self._record()
        programs, n = Programs(*(program.code for program in self._programs)), options["n_envs"]
        rules = Rules(
            start=options["learning_starts"],
            every=options["train_every"],
            renew=options["target_every"],
            gamma=options["gamma"],
            double=options["double"],
            alpha=options["alpha"],
            beta=options["beta"],
            begin=begin,
            rest=end - begin,
            epsilon=options["epsilon"],
            final_epsilon=options["final_epsilon"],
            exploration_steps=options["exploration_steps"],
        )
        clock = Clock()
        with self.learning():
            while self.steps < end:
                self._memory.losses[...] = 0
                made, status = self._slice(-(-min(_SLICE, end - self.steps) // n), programs, rules)
                self.refuse(status, self.steps + made * n)
                self.steps += made * n
                errors, updates = self._memory.losses
                losses = {"value": float(errors / updates)} if updates else {}
                if self.noted(clock, self._episodes, losses, target, callback):
                    break
        return clock.finished()

    def _slice(self, count: int, programs: Programs, rules: Rules) -> tuple[int, int]:
        """So many steps of each environment: those made, and a status."""
        environment, memory = self.environment, self._memory
        if isinstance(environment, GymnasiumWorlds):
            return self._slice_of_gymnasium(count, programs, rules)
        reset, step = environment.addresses
        if not self._started[0]:
            _collect.start(reset, self.worlds, self.scale, memory.now)
            self._started[0] = 1
        return _learn(  # type: ignore[no-any-return]
            count, self.steps, programs, rules, memory, self.replay, self._batch,
            reset, step, environment.max_steps or 0, self.worlds, self.scale, self._episodes,
        )  # fmt: skip

    def _slice_of_gymnasium(self, count: int, programs: Programs, rules: Rules) -> tuple[int, int]:
        environment, memory, worlds = self.environment, self._memory, self.worlds
        if not self._started[0]:
            environment.start(worlds, self.scale, memory.now, self.vector_seed)
            self._started[0] = 1
        n = len(memory.now)
        act, actions, finals = self.bound("network", n), np.zeros(n, np.int64), np.empty_like(memory.after)
        for t in range(count):
            made = self.steps + t * n
            _choose_each(rules, act(memory.now), made, worlds.rng, actions)
            reward, terminated, _, finite = environment.step(
                actions, worlds, self.scale, memory.after, finals, self._episodes
            )
            if not finite:
                return t, 1
            _store_each(self.replay, memory.now, actions, reward.astype(np.float64), terminated, finals)
            memory.now[...] = memory.after
            status = _improve(programs, rules, memory, self.replay, self._batch, worlds.rng, made + n, n)
            if status:
                return t, status
        return count, 0

    def _record(self) -> tuple[Bound, ...]:
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
        target = Bound(self.target.bind(b.observations, freeze=False))
        return self.bound("network", self.options["n_envs"]), self.bound("network", rows), target, Bound(program)
