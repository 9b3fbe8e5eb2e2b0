"""Programs that train on real data in seconds: `fastdl train`, or python -m fastdl.examples.<name>.

An example is a module here with a docstring, add_arguments(parser) and run(arguments). It imports what
the extra `examples` installs only inside run, so that `fastdl train` can list it without.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

Batch = tuple[Any, Any]


class MissingExtra(ImportError):
    """A package that an extra would have installed is not there."""


def examples() -> dict[str, ModuleType]:
    """Every example by name."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


@contextmanager
def requires(extra: str) -> Iterator[None]:
    """Imports inside the with block, or an error that says how to get what is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f'{error.name} is not installed: pip install "fastdl[{extra}]"') from error


def at_least_one(text: str) -> int:
    """The type of an argument."""
    return _at_least(1, text)


def at_least_zero(text: str) -> int:
    """The type of an argument."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected an integer") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"found {value}, expected at least {least}")
    return value


def rates(steps: dict[str, Callable[[Batch], float]], batches: list[Batch], threads: int) -> dict[str, float]:
    """Targets a second of each training step, the best of three rounds in turns, once all are seen to agree on the loss
    with "fastdl"."""
    from threadpoolctl import threadpool_limits  # which scikit-learn requires

    with threadpool_limits(threads, user_api="blas"):
        losses = {name: [step(batch) for batch in batches[:3]] for name, step in steps.items()}
        for name, values in losses.items():
            np.testing.assert_allclose(values, losses["fastdl"], rtol=1e-3, err_msg=f"{name} trains differently")
        best = dict.fromkeys(steps, 0.0)
        for _ in range(3):
            for name, step in steps.items():
                best[name] = max(best[name], _rate(step, batches))
    return best


def _rate(step: Callable[[Batch], float], batches: list[Batch], seconds: float = 0.15) -> float:
    start = time.perf_counter()
    targets: int = 0
    while True:
        for batch in batches:
            step(batch)
            targets += int(batch[1].size)
            if (elapsed := time.perf_counter() - start) > seconds:
                return targets / elapsed
