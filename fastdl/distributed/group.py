"""The processes of an MPI job as one: what each has to do, and what they have to agree on."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

import fastdl
from fastdl import nn
from fastdl.distributed.steps import Steps
from fastdl.functional.verbs import fail
from fastdl.nn._layer import RandomLayer
from fastdl.optim import Optimizer

__all__ = ["Group"]

Array = np.ndarray[Any, Any]
Self = TypeVar("Self", bound="Group")


class Group:
    """Processes that train one model, each on its share of every batch: `training.fit(..., group=group)`.

    Each rank, as MPI calls them, has the whole model. A step computes gradients of the rank's own rows, adds them up
    over all ranks (MPI_Allreduce, in one block of memory, in place), and updates the parameters everywhere alike, so
    that it is the step of one process on all rows, but for rounding.

    Used as a context, an exception on one rank ends all of them with its message: else they would wait for it for ever.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Whose processes; all that mpiexec started by default.
    overlap : bool
        Whether gradients go on their way layer by layer while backward goes on, or all at its end. docs/distributed.md
        says where that pays.
    threads : int, optional
        Of each rank; by default the cores of a machine are divided among its ranks.

    Attributes
    ----------
    rank, size : int
        Which process this is, and of how many.

    Raises
    ------
    ImportError
        Where mpi4py or an MPI library is not installed.

    Notes
    -----
    Batch-norms normalise by a rank's own rows; their running statistics are averaged after each epoch. Dropout draws
    other masks on each rank. Validation data are shared out too, and metrics computed of all outputs. Losses are taken
    to be means over rows (or sums, by their `reduction`).

    Examples
    --------
    In a script that is started by ``mpiexec -n 4 python script.py``; alone, it is a group of one::

        with distributed.Group() as group:
            training.fit(net, (x, y), loss, optimizer, epochs=10, batch_size=256, group=group)
    """

    def __init__(self, comm: Any = None, *, overlap: bool = False, threads: int | None = None) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:  # or there is no library to be loaded
            raise ImportError(f'mpi4py found no MPI ({error}): pip install "fastdl[mpi]"') from error
        if comm is not None and not isinstance(comm, MPI.Comm):
            raise TypeError(f"comm: found {type(comm).__name__}, expected a communicator of mpi4py.MPI")
        self._mpi: Any = MPI
        self.comm: Any = (MPI.COMM_WORLD if comm is None else comm).Dup()
        self.rank: int = self.comm.Get_rank()
        self.size: int = self.comm.Get_size()
        self.overlap = overlap
        self.interrupted = False
        """Whether this rank was told to end, by Ctrl-C."""
        self.stopped = False
        """Whether all were, and know it."""
        fastdl.set_num_threads(self._threads() if threads is None else threads)

    def _threads(self) -> int:
        """How many a rank may use, of the cores of its machine."""
        own = fastdl.get_num_threads()
        here = self.comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
        everyone = set().union(*here.allgather(cores))
        ranks = int(here.Get_size())
        here.Free()
        return max(1, min(own, len(everyone) // ranks))

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or self.size == 1 or (isinstance(error, SystemExit) and not error.code):
            return
        what = f": {error}" if isinstance(error, SystemExit) else "\n" + "".join(traceback.format_exception(error))
        sys.stderr.write(f"fastdl: rank {self.rank} of {self.size} ends the job{what.rstrip()}\n")
        sys.stderr.flush()
        self.comm.Abort(1)

    def __repr__(self) -> str:
        return f"Group(rank {self.rank} of {self.size})"

    def share(self, rows: Array) -> Array:
        """This rank's part of an array's rows: all parts, in the order of ranks, are the whole.

        Parameters
        ----------
        rows : array
            The same on each rank.

        Returns
        -------
        array
            A view.
        """
        whole, more = divmod(len(rows), self.size)
        begin = self.rank * whole + min(self.rank, more)
        return rows[begin : begin + whole + (self.rank < more)]

    # What fit calls.

    @contextmanager
    def training(self) -> Iterator[None]:
        """Inside of this Ctrl-C, on whichever rank it arrives, ends training on all of them after the same step."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(*_: Any) -> None:
            self.interrupted = True

        self.interrupted = False
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def check_same(self, model: nn.Module, optimizer: Optimizer, **options: Any) -> None:
        """Refuse, on all ranks, what is not the same on all of them: they would wait for each other for ever."""
        for name, array in model.state_dict().items():
            options[f"model: {name}"] = f"{array.dtype} {array.shape}"
        options |= {"optimizer": (type(optimizer).__name__, list(optimizer.params)), "overlap": self.overlap}
        first, *others = self.comm.allgather(options)
        for rank, other in enumerate(others, 1):
            for name in first | other:
                own, found = first.get(name), other.get(name)
                if own != found:
                    fail(name, f"{found} on rank {rank}", f"{own}, as on rank 0")

    def one(self, row: dict[str, float]) -> dict[str, float]:
        """What rank 0 found."""
        return self.comm.bcast(row)  # type: ignore[no-any-return]

    def some(self, true: bool) -> bool:
        """Whether it is so on one of the ranks."""
        return bool(self.comm.allreduce(true, self._mpi.LOR))

    def begin(
        self, model: nn.Module, optimizer: Optimizer, schedule: Any, rng: np.random.Generator, history: Any, best: Any
    ) -> None:
        """Everything as rank 0 has it."""
        self.stopped = False
        layers = [layer for layer in model.modules() if isinstance(layer, RandomLayer)]
        found = None
        if self.rank == 0:
            found = {
                "model": model.state_dict(),
                "random": [(layer.seed, layer.offset) for layer in layers],
                "optimizer": optimizer.state_dict(),
                "schedule": schedule and schedule.state_dict(),
                "rng": rng.bit_generator.state,
                "history": (history.rows, history.best),
                "best": (best.epoch, best.value, best.since, best.state),
            }
        state: Any = self.comm.bcast(found)
        if self.rank:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            if schedule is not None:
                schedule.load_state_dict(state["schedule"])
            rng.bit_generator.state = state["rng"]
            history.rows[:], history.best = state["history"]
            best.epoch, best.value, best.since, best.state = state["best"]
            for layer, (seed, offset) in zip(layers, state["random"], strict=True):
                layer.seed, layer.offset = (seed + self.rank) % 2**63, offset

    def steps(
        self, model: nn.Module, loss: Any, optimizer: Optimizer, max_norm: Any, clip_value: Any, record: bool
    ) -> Steps:
        """What makes training steps."""
        return Steps(self, model, loss, optimizer, max_norm, clip_value, record)

    def agree(self, model: nn.Module, optimizer: Optimizer) -> None:
        """After an epoch: what each rank found for itself becomes one."""
        parameters = {id(array) for array in model.parameters().values()}
        mine = [array for array in model.buffers().values() if array.dtype.kind == "f" and id(array) not in parameters]
        for array in mine:
            self.comm.Allreduce(self._mpi.IN_PLACE, array)
            array /= self.size
        for layer in (m for m in model.modules() if isinstance(m, RandomLayer)):
            layer.offset = self.comm.allreduce(layer.offset, self._mpi.MAX)
        # Where processors differ, so may roundings.
        states = [array for own in optimizer.state.values() for array in own.values()]
        held = [*optimizer.params.values(), *states]
        sums = self.comm.allgather([zlib.crc32(array.tobytes()) for array in held])
        for array, differ in zip(held, [len({*column}) > 1 for column in zip(*sums, strict=True)], strict=True):
            if differ:
                self.comm.Bcast(array)

    def gathered(
        self, total: float, count: int, outputs: list[Any], targets: list[Any]
    ) -> tuple[float, int, list[Any], list[Any]]:
        """Of all ranks: sums, and lists one after another."""
        parts = self.comm.allgather((total, count, outputs, targets))
        outputs, targets = ([item for part in parts for item in part[i]] for i in (2, 3))
        return sum(part[0] for part in parts), sum(part[1] for part in parts), outputs, targets

    def add_up(self, block: Array, wait: bool = True) -> Any:
        """The sum over all ranks, in place: now, or when what is returned has been waited for."""
        if wait:
            self.comm.Allreduce(self._mpi.IN_PLACE, block)
            return None
        return self.comm.Iallreduce(self._mpi.IN_PLACE, block)
