"""A contender in a process of its own, driven through a pipe.

    Workers       on this side: starts one process an implementation, and keeps it for the groups that follow
    python -m bench.worker THREADS LEVEL CORES   on the other: answers pickled requests from its standard input

Between requests a process is stopped (SIGSTOP, where there is that): what spins while it waits for work would take the
core of the one whose turn it is.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PATIENCE = 5
"""Seconds that one may take to end before it is killed. To prepare, it may take what it likes: torch.compile does."""


class Lost(RuntimeError):
    """A process that has ended in the middle of its work."""


class _Worker:
    def __init__(self, implementation: str, threads: int, level: str) -> None:
        from bench.environment import settings

        variables = os.environ | settings(level if level == "v3" else "", threads)
        variables |= {"FASTDL_ISA": level, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else ""
        self.implementation = implementation
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(threads), level, cores],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip

    def ask(self, *request: Any) -> Any:
        """Its answer; what it has raised is raised here."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._signal("SIGCONT")
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            good, answer = pickle.load(self.process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as problem:
            raise Lost(f"the process of {self.implementation} has ended: {self.process.poll()}") from problem
        self._signal("SIGSTOP")
        if good:
            return answer
        raise answer

    def _signal(self, name: str) -> None:
        if hasattr(signal, name):
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(getattr(signal, name))

    def end(self) -> None:
        self._signal("SIGCONT")
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]


class Workers:
    def __init__(self, threads: int, level: str) -> None:
        self.threads, self.level = threads, level
        self.running: dict[str, _Worker] = {}

    def prepare(self, group: Any, implementation: str, seconds: float) -> Any:
        worker = self.running.get(implementation)
        if worker is None or worker.process.poll() is not None:
            worker = self.running[implementation] = _Worker(implementation, self.threads, self.level)
        try:
            return _Apart(worker, worker.ask("prepare", group, implementation, seconds))
        except Lost:
            self._drop(implementation)
            raise

    def clear(self) -> None:
        """What they keep of the last group is let go."""
        for name, worker in list(self.running.items()):
            try:
                worker.ask("clear")
            except Lost:
                self._drop(name)

    def processes(self) -> list[int]:
        return [worker.process.pid for worker in self.running.values()]

    def _drop(self, name: str) -> None:
        self.running.pop(name).end()

    def close(self) -> None:
        for name in list(self.running):
            self._drop(name)


class _Apart:
    """The turns of a contender there."""

    def __init__(self, worker: _Worker, calls: int) -> None:
        self.worker, self.calls = worker, calls

    def __call__(self) -> float:
        return float(self.worker.ask("turn"))


def main() -> None:
    threads, _, cores = sys.argv[1:]
    if cores:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    _end_with_parent()
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print must not come between
    from bench import contest

    here, turn = contest.Here(), None
    while True:
        try:
            what, *given = pickle.load(requests)
        except EOFError:
            return
        try:
            if what == "prepare":
                import fastdl

                fastdl.set_num_threads(int(threads))
                turn = here.prepare(*given)
                found: Any = turn.calls
            elif what == "turn":
                found = turn()
            else:
                turn = found = None
            answer = True, found
        except KeyboardInterrupt:
            return
        except BaseException as problem:
            answer = False, _portable(problem)
        pickle.dump(answer, answers)
        answers.flush()


def _portable(problem: BaseException) -> BaseException:
    """That exception, if it can be told to another process, or its words."""
    try:
        pickle.loads(pickle.dumps(problem))
    except Exception:
        return RuntimeError(f"{type(problem).__name__}: {problem}")
    return problem


def _end_with_parent() -> None:
    """Where the parent is killed, nobody would wake a process that is stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C, too, and closes the pipe
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    main()
