"""Recording, and the proof that a program computes what its function does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import numpy as np

from fastdl._recording import owner_of
from fastdl.functional.verbs import fail, flag
from fastdl.program.errors import RecordError
from fastdl.program.memory import Range
from fastdl.program.nest import copied, leaves_of, rebuilt
from fastdl.program.passes import FREEZING, PASSES, shorten
from fastdl.program.plan import compare, returned_by
from fastdl.program.program import Program
from fastdl.program.run import Dry, dry_run


def record(
    function: Callable[..., Any],
    *arguments: Any,
    verify: bool = True,
    freeze: bool = False,
    passes: Sequence[str] = tuple(PASSES),
) -> Program:
    """Record what a function does, for calls that cost no more than its kernels.

    The function may be anything over fastdl's functions, layers, losses and optimizers: a network, a training step.
    What it does may depend on shapes, dtypes and options, not on values. It runs several times here, without computing
    anything, and nothing that it would have changed changes: parameters, states, statistics and generators are as
    before.

    Parameters
    ----------
    function : callable
        Takes arrays, or nested tuples, lists and dicts of them, and returns such. Whatever else it uses (parameters,
        an optimizer's states) has to be there before, and is used where it is.
    *arguments
        Examples: later arguments have to have their shapes and dtypes. Their values do not matter, but that integers
        have to be such as may come (class indices, say): they are seen in another order.
    verify : bool
        Whether to compare two calls of the program with two of the function, on the arguments and on others, to the
        last bit; everything is put back after that.
    freeze : bool
        For inference: parameters become part of the program. What is computed from them alone is computed once,
        batch-norms by running statistics become part of the convolution or linear layer before them, and weights of
        linear, convolutions and recurrent cells are packed, so that results differ by rounding. What
        fastdl writes to parameters later (another program or an optimizer that trains them, load_state_dict) is seen:
        the next call packs again. For everything else they are read-only as long as the program lives; views and
        pointers that were made before are not, and what is written through them is not seen. Arrays over memory that
        NumPy does not own are left as they are.
    passes : sequence of str
        What makes the program shorter, in this order, with the same results to the last bit: "unused" leaves out what
        nobody takes (what layers keep for a backward that is not made), "losses" computes a loss and its gradient in
        one kernel, "residuals" adds to a convolution's result within it, "activations" applies activations within the
        products before them. With `freeze`, "constants" and "norms" before residuals, and "weights" in the end, do what
        it says above. () leaves all as it was recorded.

    Returns
    -------
    Program

    Raises
    ------
    RecordError
        A RuntimeError, for a function that cannot be recorded: because of NumPy between two calls of fastdl, a number
        that changes, or control flow that depends on values. It says which kernel and argument, and the likely cause.

    See Also
    --------
    Program : What it returns.

    Examples
    --------
    >>> import numpy as np, fastdl
    >>> from fastdl import nn, optim
    >>> net, loss = nn.Sequential(nn.Linear(4, 8, rng=0), nn.ReLU(), nn.Linear(8, 3, rng=1)), nn.CrossEntropyLoss()
    >>> optimizer = optim.Adam(net.parameters(), lr=0.01)
    >>> def step(x, target):
    ...     value = loss(net(x), target)
    ...     net.backward(loss.backward(), input_grad=False)
    ...     optimizer.step(net.grads)
    ...     return value
    >>> x, target = np.ones((5, 4), np.float32), np.array([0, 1, 2, 0, 1])
    >>> program = fastdl.record(step, x, target)
    >>> losses = [float(program(x, target)) for _ in range(50)]
    >>> losses[-1] < losses[0]
    True
    """
    if not callable(function):
        raise TypeError(f"function: found {type(function).__name__}, expected a function")
    flag(freeze, "freeze")
    for name in passes:
        if name not in PASSES:
            fail("passes", repr(name), f"among {list(PASSES)}")
    names = [name for name in passes if freeze or name not in FREEZING]
    runs: list[Dry] = []
    for seed, scale in enumerate((1e30, -1e30, 1e-30, nan)):
        runs.append(dry_run(function, arguments, scale, seed))
        compare(runs[0], runs[-1])
    starts = [{r.start for r in dry.run.memory.ranges} for dry in runs[:2]]
    runs = runs[:3]  # by a NaN no number can be found again
    for dry in runs:
        given = {a.ctypes.data for a in dry.arguments if a is not None}
        before = starts[0] & starts[1] - given
        kept = frozenset(before.union(given, *returned_by(dry)))
        constant = frozenset(r.start for r in dry.run.memory.ranges if r.start in before and is_own(r))
        dry.run.calls = shorten(dry.run.calls, dry.run.memory, kept, constant, names)
    program = Program(function, arguments, runs)
    if verify:
        compare_calls(program, arguments)
    return program


def is_own(found: Range) -> bool:
    """Whether NumPy arrays own the memory, so that nobody writes to it who does not know them: no other library, no
    other array over the same buffer."""
    owners = [owner_of(array) for array in found.keep.values() if isinstance(array, np.ndarray)]
    return bool(owners) and all(owner.base is None and owner.flags.owndata for owner in owners)


def others(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments with other values: their rows in another order, and floats a little less."""
    leaves = []
    for _, leaf in leaves_of(arguments, ""):
        if isinstance(leaf, np.ndarray) and leaf.size:
            rolled = np.roll(leaf, 1, 0) if leaf.ndim else leaf
            leaves.append((rolled * leaf.dtype.type(0.875)).astype(leaf.dtype) if leaf.dtype.kind == "f" else rolled)
        else:
            leaves.append(leaf)
    return rebuilt(arguments, iter(leaves))  # type: ignore[no-any-return]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return bool(a == b or (a != a and b != b))


def nearly_equal(a: Any, b: Any) -> bool:
    """What rounding may do to results of frozen programs. Of integers nothing is said: where two numbers are nearly
    equal, their order may be another."""
    if not isinstance(a, (np.ndarray, float, np.floating)) or np.asarray(a).dtype.kind != "f":
        return np.asarray(a).dtype.kind in "iu" or equal(a, b)
    a, b = np.asarray(a), np.asarray(b)
    largest = np.max(np.abs(a), where=np.isfinite(a), initial=0) or 1.0
    return np.allclose(b, a, rtol=0, atol=np.sqrt(np.finfo(a.dtype).eps) * largest, equal_nan=True)


def compare_calls(program: Program, arguments: tuple[Any, ...]) -> None:
    """Refuse a program that does not compute, on these arguments and on others, what its function does."""
    states = [(owner, dict(vars(owner))) for owner in program._first.run.owners]
    found = []
    for call in (program.function, program):
        with program.kept() as memories:
            try:
                for owner, state in states:
                    if "_memories" in state:
                        owner.__dict__["_memories"] = type(state["_memories"])()
                outcome: list[Any] = []
                for values in (arguments, others(arguments)):
                    own = copied(values)
                    result = call(*own)
                    outcome += [*leaves_of(result, "result"), *leaves_of(own, "argument")]
                    outcome = [(n, np.array(v) if isinstance(v, np.ndarray) else v) for n, v in outcome]
                outcome += [("a parameter or state", memory.copy()) for memory in memories]
                found.append(outcome)
            finally:
                for owner, state in states:
                    owner.__dict__.clear()
                    owner.__dict__.update(state)
    same = nearly_equal if program.frozen or program._first.run.rounds else equal
    for (name, a), (_, b) in zip(*found, strict=True):
        if not same(a, b):
            raise RecordError(
                f"record: found {name} of the program to differ from the function's"
                f"{' by more than rounding' * (same is nearly_equal)}, expected the same: the function changes "
                "something that fastdl's kernels do not know of"
            )
